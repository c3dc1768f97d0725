from dataclasses import replace

import numpy as np
import pytest
import torch

from sodakit.errors import CheckpointError, ConfigError
from sodakit.generate.engine import Batch, Engine, Request, Row
from sodakit.generate.sampling import GREEDY, Sampling, choose
from sodakit.model.compiled import supports
from sodakit.model.config import model_size
from sodakit.model.cpu_decoder import CpuDecoder
from sodakit.model.transformer import Transformer
from sodakit.tokens.documents import Template
from sodakit.tokens.grammar import Grammar
from sodakit.tokens.layouts.flat import FlatLayout
from sodakit.tokens.layouts.frame import FrameLayout
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


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_sliced_head_chooses_what_the_masked_full_head_chooses(model, dtype):
    """From the same states, in every state of the grammar, for the same random number; greedy too."""
    network = Transformer(model.config, seed=3).to(dtype)
    engine, random = Engine(network, V, 4), torch.Generator().manual_seed(0)
    x_BD = torch.randn(64, network.config.width, generator=random).to(dtype)
    uniform_B = torch.rand(64, generator=random, dtype=torch.float64)
    for state in range(1, 10):
        if state == 5:  # after EOS there is one id, and no choice
            continue
        legal = torch.from_numpy(engine.layout.legal(state))
        full_BV = engine.decoder.logits(x_BD, rows=slice(0, V.size))
        masked_BV = torch.full_like(full_BV, -torch.inf)
        masked_BV[:, legal] = full_BV[:, legal]
        for sampling in (FREE, GREEDY, Sampling(temperature=0.7, top_p=0.8, top_k=9)):
            sliced_B = legal[choose(engine._logits(x_BD, state), uniform_B, sampling)]
            assert torch.equal(sliced_B, choose(masked_BV, uniform_B, sampling))


@pytest.fixture
def exact(model) -> Engine:
    """One that decodes a row to the same bits, whatever stands beside it."""
    engine = Engine(Transformer(model.config, seed=3), V, 4)
    if not isinstance(engine.decoder, CpuDecoder):
        pytest.skip("needs a C++ compiler; torch rounds by the shape of the batch")
    return engine


def answers_alone(engine, max_new_tokens: int) -> tuple[list, list[list[int]]]:
    """Two of each request with seeds of their own, and what each gets when nothing stands beside it."""
    many = [
        replace(r, seed=r.seed + 100 * n, max_new_tokens=max_new_tokens) for n in range(2) for r in requests()
    ]
    return many, [engine.generate([r])[0].ids_T.tolist() for r in many]


def answers_as_places_fall_free(batch: Batch, many: list, step) -> list[list[int]]:
    rows, waiting = [], list(many)
    while waiting or batch.rows:
        if waiting and batch.free:
            rows.append(batch.admit(waiting.pop(0)))
        step(batch)
    return [row.completion().ids_T.tolist() for row in rows]


def test_float32_answers_are_the_same_alone_and_in_any_batch(exact):
    """Sampled, over hundreds of ids: one number off in its last bit would sooner or later change an answer."""
    many, alone = answers_alone(exact, 120)
    for size in (3, 10):
        assert [c.ids_T.tolist() for c in exact.generate(many, batch=size)] == alone
    assert answers_as_places_fall_free(Batch(exact, capacity=4), many, Batch.step) == alone


def test_rows_that_wait_while_others_go_on_get_the_answers_they_get_alone(exact):
    """Which rows go on changes at every step: they change places, and some join or end in between."""
    many, alone = answers_alone(exact, 60)
    rng = np.random.default_rng(0)

    def step(batch: Batch) -> None:
        chosen = [row for row in batch.rows if rng.random() < 0.5]
        stood = {id(row): len(row.ids) for row in batch.rows if row not in chosen}
        batch.step(chosen)
        assert {id(row): len(row.ids) for row in batch.rows if id(row) in stood} == stood

    assert answers_as_places_fall_free(Batch(exact, capacity=4), many, step) == alone


def test_a_voice_read_before_changes_no_bit(exact):
    """The prompt cut in two, its first part copied from another row: in float32, the same ids as in one go."""
    request = replace(requests()[2], shared_tokens=11, max_new_tokens=200)
    batch, found = Batch(exact, capacity=1, prefixes=1), []
    for _ in range(2):
        row = batch.admit(request)
        while batch.rows:
            batch.step()
        found.append(row.completion().ids_T.tolist())
    assert found == 2 * [exact.generate([request])[0].ids_T.tolist()]


def test_repetition_is_held_down_in_the_kind_that_asks_for_it(model):
    """Greedy and heavily penalised, no id comes twice within the window; without, the model repeats itself."""
    engine = Engine(model, V, 4)
    prompt_T = TEMPLATE.speak_prompt(
        np.arange(2, 17, dtype=np.int32)
    )  # a prompt after which it does not soon stop
    plain = replace(requests()[0], prompt_T=prompt_T, semantic=GREEDY, acoustic=GREEDY, max_new_tokens=160)
    apart = replace(plain, semantic=Sampling(temperature=0.0, repeat_penalty=1e6, repeat_window=8))

    def repeats(request: Request) -> list[bool]:
        slots_KF = engine.generate([request])[0].ids_T.reshape(-1, 4).T
        semantic = slots_KF[0].tolist()
        return [semantic[n] in semantic[max(0, n - 8) : n] for n in range(len(semantic))]

    assert any(repeats(plain))
    held_down = repeats(apart)
    assert len(held_down) > 9 and not any(held_down)


@pytest.mark.slow
def test_a_hundred_thousand_frames_hold_no_malformed_one():
    """As the server makes them: int8 where it can be, rows coming and going, every id at its place."""
    config = model_size("nano", V.size, context=2048, init_std=0.2)
    network = Transformer(config, seed=5)
    engine = Engine(network, V, 4, "int8" if supports(config) else None)
    batch, frames, seed = Batch(engine, capacity=64), 0, 0
    while frames < 100_000:
        while batch.free:
            prompt_T = TEMPLATE.speak_prompt(np.arange(2, 3 + seed % 40, dtype=np.int32))
            batch.admit(replace(requests()[0], prompt_T=prompt_T, max_new_tokens=4000, seed=seed))
            seed += 1
        rows = list(batch.rows)
        batch.step()
        for row in rows:
            if row.done:
                ids_T = row.completion().ids_T
                assert len(ids_T) % 4 == 0
                whole = np.concatenate([row.request.prompt_T, ids_T, [V.audio_end, V.eos]])
                assert engine.layout.grammar.first_error(whole) is None
                frames += len(ids_T) // 4


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


def test_the_answer_may_fill_the_context_to_its_last_place(model):
    layout = FlatLayout(V, 4)
    request = replace(requests()[0], max_new_tokens=10_000)
    assert Row(request, layout, 256).most_positions == 256 - len(request.prompt_T)
    assert Row(replace(request, max_new_tokens=7), layout, 256).most_positions == 7


def test_a_prompt_leaves_one_place_at_least_and_the_last_is_used(model):
    layout = FlatLayout(V, 4)

    def row(length: int) -> Row:
        prompt_T = TEMPLATE.plain_text(np.full(length - 1, 5, np.int32))[:-1]
        assert len(prompt_T) == length
        return Row(Request(prompt_T=prompt_T, closing=V.eos, max_new_tokens=10), layout, 32)

    for length in (32, 33, 34):
        with pytest.raises(ConfigError, match=f"{length} positions and the model's context 32"):
            row(length)
    two_left = row(30)
    assert [two_left.done, two_left.take([5]), two_left.done] == [False, [5], False]
    assert [two_left.take([6]), two_left.done, two_left.ids] == [[6], True, [5, 6]]


@pytest.mark.parametrize(("budget", "kept"), [(4, 4), (5, 4), (7, 4), (8, 8)])
def test_a_frame_that_exceeds_the_ids_asked_for_is_left_out_whole(budget, kept):
    """A model of frames completes four ids at once."""
    layout = FrameLayout(V, 4, (0, 0, 0, 0))
    prompt_T = TEMPLATE.speak_prompt(np.array([5, 6], np.int32))
    row = Row(Request(prompt_T=prompt_T, closing=V.audio_end, max_new_tokens=budget), layout, 64)
    frame = [V.codebook_range(k)[0] for k in range(4)]
    for _ in range(8 // 4):
        row.take(frame)
    assert len(row.ids) == kept and row.done and not row.ended


def test_no_ids_wanted_are_no_ids(model):
    engine = Engine(model, V, 4)
    nothing = replace(requests()[0], max_new_tokens=0)
    first, empty = engine.generate([requests()[1], nothing])
    assert len(empty.ids_T) == 0 and not empty.ended and len(first.ids_T)
    batch = Batch(engine, capacity=1)
    assert batch.admit(nothing).done and batch.free == 1
    with pytest.raises(ConfigError, match="max_new_tokens=-1"):
        replace(nothing, max_new_tokens=-1)
    with pytest.raises(ConfigError, match="seed"):
        replace(nothing, seed=2**70)


def test_a_prompt_that_is_shared_whole_changes_nothing(model):
    engine = Engine(model, V, 4)
    request = replace(requests()[0], shared_tokens=len(requests()[0].prompt_T))
    for _ in range(2):
        batch = Batch(engine, capacity=1, prefixes=1)
        row = batch.admit(request)
        while batch.rows:
            batch.step()
        assert row.completion().ids_T.tolist() == engine.generate([request])[0].ids_T.tolist()


def test_scores_that_are_no_numbers_are_an_error(model):
    broken = Transformer(model.config, seed=3)
    with torch.no_grad():
        broken.final_norm.weight[0] = float("nan")
    for sampling in (FREE, GREEDY):
        request = replace(requests()[0], semantic=sampling, acoustic=sampling)
        with pytest.raises(CheckpointError, match="NaN"):
            Engine(broken, V, 4).generate([request])


def test_the_penalty_of_a_row_is_its_own_and_counts_each_time(model):
    """Against a loop over rows and ids."""
    engine = Engine(model, V, 4)
    sampling = Sampling(temperature=0.0, repeat_penalty=0.5, repeat_window=3)
    rows = [Row(r, engine.layout, 256) for r in requests()[:2]]
    said = [[0, 5, 5], [7, 1, 2, 3]]
    first = V.codebook_range(0)[0]
    for row, codes_F in zip(rows, said, strict=True):
        row._kinds[row.cursor.state] = [first + c for c in codes_F]
    logits_BR = torch.zeros(2, len(engine.layout.legal(rows[0].cursor.state)), dtype=torch.float64)
    engine._penalise(logits_BR, rows, sampling, rows[0].cursor.state)
    expected_BR = torch.zeros_like(logits_BR)
    legal = engine.layout.legal(rows[0].cursor.state).tolist()
    for number, codes_F in enumerate(said):
        for c in codes_F[-3:]:
            expected_BR[number, legal.index(first + c)] -= 0.5
    assert torch.equal(logits_BR, expected_BR) and expected_BR.min() == -1.0
