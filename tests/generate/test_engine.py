import numpy as np
import pytest
import torch

from sodakit.errors import ConfigError
from sodakit.generate.engine import Engine, Request
from sodakit.generate.sampling import GREEDY, Sampling, choose
from sodakit.model.config import model_size
from sodakit.model.transformer import Transformer
from sodakit.tokens.documents import Template
from sodakit.tokens.grammar import Grammar
from sodakit.tokens.vocabulary import Vocabulary

V = Vocabulary.layout(text_size=50, bos=0, eos=1, num_codebooks=4, codebook_size=16)
TEMPLATE = Template(V, 4)
FREE = Sampling(temperature=1.0)


@pytest.fixture(scope="module")
def model():
    config = model_size("nano", V.size, context=256, init_std=0.2)
    return Transformer(config, seed=3).double()


def codes(frames, seed=0):
    return np.random.default_rng(seed).integers(0, 16, (4, frames)).astype(np.uint16)


def requests():
    speak = [
        Request(
            prompt_T=TEMPLATE.speak_prompt(np.arange(2, 2 + n, dtype=np.int32)),
            closing=V.audio_end,
            max_new_tokens=90,
            semantic=FREE,
            acoustic=FREE,
            seed=n,
        )
        for n in (3, 9, 17)
    ]
    listen = [
        Request(
            prompt_T=TEMPLATE.transcribe_prompt(codes(n)),
            closing=V.text_end,
            max_new_tokens=40,
            text=FREE,
            seed=n,
        )
        for n in (2, 11)
    ]
    return [*speak, *listen]


def full_head_reference(model, request):
    """One request at a time, no cache, all logits, illegal ids masked with -inf."""
    grammar, random = Grammar(V, 4), torch.Generator().manual_seed(request.seed)
    ids, state, out = request.prompt_T.tolist(), grammar.state_after(request.prompt_T), []
    while len(out) < request.max_new_tokens:
        with torch.inference_mode():
            logits = model.logits(model(torch.tensor([ids]))[:, -1])
        masked = torch.full_like(logits, -torch.inf)
        legal = torch.from_numpy(grammar.legal(state))
        masked[:, legal] = logits[:, legal]
        sampling = request.text if state < 6 else request.semantic if state == 6 else request.acoustic
        uniform = torch.rand((), generator=random, dtype=torch.float64)
        token = int(choose(masked, uniform[None], sampling))
        if token == request.closing:
            break
        ids.append(token)
        out.append(token)
        state = grammar.advance(state, token)
    return out


def test_sliced_head_with_cache_and_batch_equals_masked_full_head_alone(model):
    """Same seed, same tokens: the shortcut draws from exactly the masked distribution."""
    completions = Engine(model, V, 4).generate(requests())
    for request, completion in zip(requests(), completions, strict=True):
        expected = full_head_reference(model, request)
        assert completion.ids_T.tolist() == expected[: len(completion.ids_T)]
        assert len(expected) - len(completion.ids_T) < 4  # only a part frame at the limit may be dropped


def test_batch_equals_single_for_every_batch_size(model):
    engine = Engine(model, V, 4)
    alone = [engine.generate([r])[0].ids_T.tolist() for r in requests()]
    for batch in (2, 5):
        together = engine.generate(requests(), batch=batch)
        assert [c.ids_T.tolist() for c in together] == alone


def test_a_random_model_cannot_make_a_malformed_frame(model):
    spoken = [
        Request(prompt_T=TEMPLATE.speak_prompt(np.array([5], np.int32)), closing=V.audio_end, max_new_tokens=150, semantic=FREE, acoustic=FREE, seed=s)
        for s in range(24)
    ]  # fmt: skip
    grammar = Grammar(V, 4)
    for request, completion in zip(spoken, Engine(model, V, 4).generate(spoken), strict=True):
        assert len(completion.ids_T) % 4 == 0
        whole = np.concatenate([request.prompt_T, completion.ids_T, [V.audio_end, V.eos]])
        assert grammar.first_error(whole) is None


def test_greedy_float32_batches_agree_with_single(model):
    engine = Engine(Transformer(model.config, seed=3), V, 4)
    greedy = [
        Request(prompt_T=TEMPLATE.speak_prompt(np.arange(2, 2 + n, dtype=np.int32)), closing=V.audio_end, max_new_tokens=64, semantic=GREEDY, acoustic=GREEDY)
        for n in (1, 4, 30)
    ]  # fmt: skip
    alone = [engine.generate([r])[0].ids_T.tolist() for r in greedy]
    assert [c.ids_T.tolist() for c in engine.generate(greedy)] == alone


def test_the_context_bounds_the_answer(model):
    prompt_T = TEMPLATE.continue_prompt(codes(60))
    request = Request(prompt_T=prompt_T, closing=V.eos, max_new_tokens=10_000, semantic=FREE, acoustic=FREE)
    completion = Engine(model, V, 4).generate([request])[0]
    assert len(prompt_T) + len(completion.ids_T) <= 256
    with pytest.raises(ConfigError, match="context 256"):
        Engine(model, V, 4).generate(
            [Request(prompt_T=TEMPLATE.continue_prompt(codes(64)), closing=V.eos, max_new_tokens=1)]
        )


def test_a_prompt_that_breaks_the_grammar_is_refused(model):
    with pytest.raises(ValueError, match="position 1"):
        Engine(model, V, 4).generate(
            [Request(prompt_T=np.array([V.bos, V.audio_end]), closing=V.eos, max_new_tokens=1)]
        )
