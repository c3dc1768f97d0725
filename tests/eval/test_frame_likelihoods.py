"""Likelihoods of models with one position a frame: one for each id of the document, in its order."""

import numpy as np
import pytest
import torch

from sodakit.eval.logprobs import TokenItem, score_items, score_targets
from sodakit.model.families import targets_of
from sodakit.tokens.documents import Speech, Text
from sodakit.tokens.layouts.contract import lay
from sodakit.tokens.layouts.frame import FrameLayout
from tests.generate.test_frames import FAMILIES, TEMPLATE, V, network


def documents() -> list[np.ndarray]:
    """Some begin alike; one is cut inside its speech, at a whole frame, as pair tasks have them."""
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 16, (4, n)).astype(np.uint16) for n in (6, 9))
    text, other = Text(np.arange(5, 12)), Text(np.arange(30, 33))
    whole = [
        TEMPLATE.document([Speech(first), text]),
        TEMPLATE.document([Speech(first), other]),
        TEMPLATE.document([text, Speech(second)]),
        TEMPLATE.plain_text(np.arange(3, 20)),
    ]
    return [*whole, np.concatenate([[V.bos], TEMPLATE.span(Speech(second), opened=True)])]


def by_definition(model, ids_T: np.ndarray) -> np.ndarray:
    """The whole document alone, each softmax made whole in float64, laid back in the order of the ids."""
    layout = FrameLayout(V, 4, model.config.delays)
    # Late codes of speech that is cut off stand beyond its last frame: the document is closed to hold them.
    closed_T = ids_T if ids_T[-1] == V.eos else np.concatenate([ids_T, [V.audio_end, V.eos]])
    ids_PW = lay(layout, closed_T)
    targets = targets_of(model.config, ids_PW[None], np.ones((1, len(ids_PW)), bool))
    groups = model.told(model(torch.from_numpy(ids_PW.astype(np.int64))[None]), targets)
    nll_C = torch.zeros(ids_PW.size, dtype=torch.float64)
    for told, cells_T in zip(groups, targets.cells_T.split([len(g.targets_T) for g in groups]), strict=True):
        scores_TV = told.x_TD @ told.head_VD.T
        for slot in told.slots or ():
            other = torch.ones(scores_TV.shape[1], dtype=torch.bool)
            other[slot.rows] = False
            scores_TV[slot.positions_T] = scores_TV[slot.positions_T].masked_fill(other, -torch.inf)
        nll_C[cells_T] = -scores_TV.log_softmax(1).gather(1, told.targets_T[:, None])[:, 0]
    position_T, column_T = layout.places(closed_T)
    return nll_C.view(ids_PW.shape).numpy()[position_T, column_T][: len(ids_T)]


@torch.inference_mode()
@pytest.mark.parametrize("name", [n for n in FAMILIES if n not in ("depth, delayed", "delay")])
def test_every_id_has_the_likelihood_of_its_conditional(name) -> None:
    model = network(name).double()
    items = [TokenItem(f"item {n}", ids_T) for n, ids_T in enumerate(documents())]
    table = score_items(model, V, items)
    for n, item in enumerate(items):
        mine = table.item_P == n
        assert np.array_equal(table.token_id_P[mine], item.ids_T[1:])
        assert np.abs(-table.logprob_P[mine] - by_definition(model, item.ids_T)[1:]).max() < 1e-5
        inside = table.codebook_P[mine] > 0
        assert (table.logprob_P[mine][inside] == table.logprob_slot_P[mine][inside]).all()
        assert (table.logprob_slot_P[mine] >= table.logprob_P[mine] - 1e-6).all()


@torch.inference_mode()
@pytest.mark.parametrize("name", ["depth, delayed", "delay"])
def test_late_codes_count_once_and_speech_that_is_cut_off_is_taken_to_end_there(name) -> None:
    model = network(name).double()
    items = [TokenItem(f"item {n}", ids_T) for n, ids_T in enumerate(documents())]
    table = score_items(model, V, items)
    for n, item in enumerate(items):
        mine = table.item_P == n
        assert np.abs(-table.logprob_P[mine] - by_definition(model, item.ids_T)[1:]).max() < 1e-5


@torch.inference_mode()
@pytest.mark.parametrize("name", FAMILIES)
def test_company_changes_no_score(name) -> None:
    """Shared beginnings are computed once; alone, in small rows and together the numbers are the same."""
    model = network(name).double()
    items = [TokenItem(f"item {n}", ids_T) for n, ids_T in enumerate(documents())]
    together = score_items(model, V, items).logprob_P
    small = score_items(model, V, items, row_tokens=24).logprob_P
    alone = np.concatenate([score_items(model, V, [item]).logprob_P for item in items])
    assert np.abs(together - alone).max() < 1e-5 and np.abs(small - alone).max() < 1e-5


@torch.inference_mode()
def test_the_likelihood_of_a_text_is_that_of_its_last_ids() -> None:
    model = network("depth").double()
    text_T = TEMPLATE.plain_text(np.arange(3, 20))[:-1]
    ((logprob_P, best_P),) = score_targets(model, V, [text_T], [5])
    table = score_items(model, V, [TokenItem("text", text_T)])
    assert np.abs(logprob_P - table.logprob_P[-5:]).max() < 1e-5 and best_P.shape == (5,)
