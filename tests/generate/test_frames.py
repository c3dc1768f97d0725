"""Answers of models with one position a frame: what teacher forcing says, alone, together, streamed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sodakit.generate.engine import Batch, Engine, Request
from sodakit.generate.sampling import GREEDY, Sampling
from sodakit.model.compiled import supports
from sodakit.model.config import model_size
from sodakit.model.families import targets_of
from sodakit.model.frame.config import DepthConfig, FrameConfig
from sodakit.model.frame.network import FrameTransformer
from sodakit.tokens.documents import Template
from sodakit.tokens.grammar import Grammar
from sodakit.tokens.layouts.contract import lay
from sodakit.tokens.vocabulary import Vocabulary

V = Vocabulary.layout(text_size=50, bos=0, eos=1, num_codebooks=4, codebook_size=16)
TEMPLATE = Template(V, 4)
FREE = Sampling(temperature=1.0)
FAMILIES = {
    "depth": {},
    "depth, shifted": {"conditioning": "shifted", "fed": "last"},
    "depth, delayed": {"delays": (0, 2, 2, 2)},
    "delay": {"depth": None, "delays": (0, 1, 2, 3)},
}


def network(name: str, seed: int = 3) -> FrameTransformer:
    kind = dict(FAMILIES[name])
    delays = kind.pop("delays", (0, 0, 0, 0))
    shape = {"width": 32, "layers": 2, "heads": 2, "kv_heads": 2, "head_width": 32, "ffn_width": 64}
    config = FrameConfig(
        backbone=model_size("nano", V.size, context=256, init_std=0.2),
        num_codebooks=4,
        codebook_size=16,
        audio_base=V.audio_base,
        delays=delays,
        depth=None if "depth" in kind else DepthConfig(**shape | kind),
    )
    return FrameTransformer(config, seed=seed)


def requests(sampling: Sampling = FREE) -> list[Request]:
    codes_KF = np.random.default_rng(0).integers(0, 16, (4, 9)).astype(np.uint16)
    how = {"semantic": sampling, "acoustic": sampling, "text": sampling}
    speak = [
        Request(prompt_T=TEMPLATE.speak_prompt(np.arange(2, 2 + n)), closing=V.audio_end, max_new_tokens=90, seed=n, **how)
        for n in (3, 17)
    ]  # fmt: skip
    more = Request(
        prompt_T=TEMPLATE.continue_prompt(codes_KF), closing=V.audio_end, max_new_tokens=61, seed=5, **how
    )
    listen = Request(
        prompt_T=TEMPLATE.transcribe_prompt(codes_KF), closing=V.text_end, max_new_tokens=40, seed=6, **how
    )
    return [*speak, more, listen]


def likeliest(model: FrameTransformer, ids_PW: np.ndarray) -> dict[int, set[int]]:
    """By teacher forcing, for each cell of a row the legal ids that score within rounding of the best."""
    targets = targets_of(model.config, ids_PW[None], np.ones((1, len(ids_PW)), bool))
    grammar, best = Grammar(V, 1), {}
    states = [grammar.state_after(ids_PW[:p, 0][ids_PW[:p, 0] >= 0]) for p in range(len(ids_PW))]
    groups = model.told(model(torch.from_numpy(ids_PW.astype(np.int64))[None]), targets)
    cells = targets.cells_T.split([len(told.targets_T) for told in groups])
    for told, cells_T in zip(groups, cells, strict=True):
        scores_TV = (told.x_TD @ told.head_VD.T).double().numpy()
        for scores_V, cell, target in zip(scores_TV, cells_T.tolist(), told.targets_T.tolist(), strict=True):
            position, column = divmod(cell, 4)
            shift = int(ids_PW[position, column]) - target
            legal = np.arange(*V.codebook_range(column)) if column else grammar.legal(states[position])
            legal_scores = scores_V[legal - shift]
            best[cell] = set(legal[legal_scores > legal_scores.max() - 1e-4].tolist())
    return best


@torch.inference_mode()
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_decoding_is_the_likeliest_under_teacher_forcing(name, compiled) -> None:
    model = network(name)
    if not compiled:
        model = model.double()
    elif not supports(model.config.backbone):
        pytest.skip("needs a C++ compiler")
    engine = Engine(model, V, 4)
    for request, answer in zip(requests(GREEDY), engine.generate(requests(GREEDY)), strict=True):
        whole_T = np.concatenate([request.prompt_T, answer.ids_T, [request.closing] if answer.ended else []])
        ids_PW = lay(engine.layout, whole_T.astype(np.int64))
        best = likeliest(model, ids_PW)
        begun = len(lay(engine.layout, request.prompt_T))
        fixed = lay(engine.layout, request.prompt_T)
        for position in range(begun, len(ids_PW)):
            for column in range(4):
                token = int(ids_PW[position, column])
                told_by_prompt = column and token in request.prompt_T and engine.layout.delays[column]
                if token >= 0 and not told_by_prompt:
                    assert token in best[4 * position + column]
        assert len(answer.ids_T) and len(fixed) == begun


@pytest.mark.parametrize("name", FAMILIES)
def test_answers_are_the_same_alone_together_and_as_they_come(name) -> None:
    engine = Engine(network(name).double(), V, 4)
    alone = [engine.generate([r])[0].ids_T.tolist() for r in requests()]
    assert [c.ids_T.tolist() for c in engine.generate(requests())] == alone
    batch, given_out = Batch(engine, capacity=3), {}
    waiting = [replace(r, shared_tokens=2) for r in requests()]
    rows = {}
    while waiting or batch.rows:
        while waiting and batch.free:
            row = batch.admit(waiting.pop(0))
            rows[id(row)] = row
            given_out[id(row)] = []
        for row, tokens in batch.step():
            given_out[id(row)] += tokens
    for key, row in rows.items():
        answer = row.completion().ids_T.tolist()
        assert given_out[key] == answer + ([row.request.closing] if row.ended else [])
        assert answer in alone


@pytest.mark.parametrize("name", FAMILIES)
def test_no_frame_is_malformed(name) -> None:
    engine = Engine(network(name), V, 4, "int8" if supports(network(name).config.backbone) else None)
    asked = [replace(requests()[0], seed=s, max_new_tokens=100 + s) for s in range(40)]
    ended = 0
    for request, answer in zip(asked, engine.generate(asked), strict=True):
        assert len(answer.ids_T) % 4 == 0 and len(answer.ids_T) <= request.max_new_tokens
        whole = np.concatenate([request.prompt_T, answer.ids_T, [V.audio_end, V.eos]])
        assert Grammar(V, 4).first_error(whole) is None
        ended += answer.ended
    assert ended


def test_the_context_counts_positions() -> None:
    engine = Engine(network("depth"), V, 4)
    request = replace(requests()[0], closing=V.eos, max_new_tokens=10_000, text=FREE)
    answer = engine.generate([request])[0]
    assert 256 < len(request.prompt_T) + len(answer.ids_T) <= 4 * 256
