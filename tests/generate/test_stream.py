from dataclasses import replace

import numpy as np
import pytest
import torch

from sodakit.codec.toy import ToyCodec
from sodakit.errors import ConfigError
from sodakit.generate.engine import Batch, Engine, Request
from sodakit.generate.sampling import Sampling
from sodakit.generate.speech_model import SpeechModel
from sodakit.generate.stream import Endings, SpeechStream, is_loop, stream_speech
from sodakit.model.config import model_size
from sodakit.model.transformer import Transformer
from sodakit.tokens.documents import Speech, Template, Text
from sodakit.tokens.frames import codes_to_ids, ids_to_codes
from sodakit.tokens.text import train_bpe
from sodakit.tokens.vocabulary import Vocabulary
from tests.late_codec import Late

V = Vocabulary.layout(text_size=50, bos=0, eos=1, num_codebooks=4, codebook_size=16)
TEMPLATE = Template(V, 4)
FREE = Sampling(temperature=1.0)
NEVER = Endings(silence_s=None, loop_s=None)


@pytest.fixture(scope="module")
def engine():
    """In float64: a step of another shape rounds differently, and must still choose the same id."""
    config = model_size("nano", V.size, context=256, init_std=0.2)
    return Engine(Transformer(config, seed=3).double(), V, 4)


def speak(text_tokens, seed, new_tokens=60, **more):
    return Request(
        prompt_T=TEMPLATE.speak_prompt(np.arange(2, 2 + text_tokens, dtype=np.int32)),
        closing=V.audio_end,
        max_new_tokens=new_tokens,
        semantic=FREE,
        acoustic=FREE,
        seed=seed,
        **more,
    )


def cloned(text_tokens, seed):
    codes_KF = np.random.default_rng(5).integers(0, 16, (4, 20)).astype(np.uint16)
    voice = [Text(np.arange(20, 30, dtype=np.int32)), Speech(codes_KF)]
    prompt_T = TEMPLATE.speak_prompt(np.arange(2, 2 + text_tokens, dtype=np.int32), voice)
    shared = 1 + sum(len(TEMPLATE.span(span)) for span in voice)
    return replace(speak(text_tokens, seed), prompt_T=prompt_T, shared_tokens=shared)


def run(batch, arrivals):
    """Completions, with `arrivals[n]` joining before step n (or as soon as there is room)."""
    rows, waiting = [], dict(arrivals)
    for step in range(500):
        for when in sorted(w for w in waiting if w <= step):
            if batch.free:
                rows.append(batch.admit(waiting.pop(when)))
        batch.step()
        if not batch.rows and not waiting:
            return [row.completion().ids_T.tolist() for row in rows]
    raise AssertionError("the batch never ended")


def test_requests_that_come_and_go_get_the_tokens_they_get_alone(engine):
    """Places in the cache are reused and moved while others decode: a mix-up would change somebody's answer."""
    requests = [speak(3, 1), speak(9, 2, 17), speak(17, 3), cloned(4, 4), speak(1, 5, 33), cloned(8, 6)]
    alone = [engine.generate([r])[0].ids_T.tolist() for r in requests]
    assert run(Batch(engine, capacity=3), enumerate(requests)) == alone
    assert run(Batch(engine, capacity=8), [(7 * n, r) for n, r in enumerate(requests)]) == alone


def test_a_row_taken_out_leaves_the_others_as_they_were(engine):
    batch = Batch(engine, capacity=3)
    rows = [batch.admit(speak(n, n)) for n in (2, 5, 8)]
    for step in range(60):
        if step == 10:
            batch.retire(rows[0])
        batch.step()
    assert len(rows[0].ids) == 10
    for row, n in zip(rows[1:], (5, 8), strict=True):
        assert row.completion().ids_T.tolist() == engine.generate([speak(n, n)])[0].ids_T.tolist()


def test_a_shared_voice_is_read_once_and_changes_nothing(engine, monkeypatch):
    requests = [cloned(n, n) for n in (2, 3, 4)]
    expected = [c.ids_T.tolist() for c in engine.generate(requests)]
    batch, read = Batch(engine, capacity=2, prefixes=1), []
    original = batch._read
    monkeypatch.setattr(batch, "_read", lambda place, ids: (read.append(len(ids)), original(place, ids))[1])
    assert run(batch, enumerate(requests)) == expected
    shared = requests[0].shared_tokens
    assert sum(read) == shared + sum(len(r.prompt_T) - shared for r in requests)


def test_a_full_store_of_voices_forgets_the_oldest(engine):
    batch = Batch(engine, capacity=1, prefixes=1)
    first, second = cloned(2, 1), replace(speak(9, 2), shared_tokens=6)
    expected = [c.ids_T.tolist() for c in engine.generate([first, second, first])]
    assert run(batch, enumerate([first, second, first])) == expected


def test_a_full_batch_says_so(engine):
    batch = Batch(engine, capacity=1)
    batch.admit(speak(3, 1))
    with pytest.raises(ConfigError, match="1 rows are taken"):
        batch.admit(speak(3, 2))


def codec():
    return ToyCodec(num_codebooks=4, codebook_size=16)


def pushed(codes_KF, endings=NEVER):
    stream = SpeechStream(codec(), V, 4, endings)
    chunks = [stream.push(int(token)) for token in codes_to_ids(codes_KF, V)]
    return stream, [c for c in [*chunks, stream.flush()] if c]


@pytest.mark.parametrize("frames", [1, 2, 30])
def test_streamed_sound_equals_the_sound_of_all_codes(frames):
    codes_KF = np.random.default_rng(0).integers(0, 16, (4, frames)).astype(np.uint16)
    _, chunks = pushed(codes_KF)
    np.testing.assert_array_equal(np.concatenate([c.codes_KF for c in chunks], axis=1), codes_KF)
    np.testing.assert_array_equal(np.concatenate([c.samples_S for c in chunks]), codec().decode(codes_KF))


def test_a_codec_that_looks_ahead_loses_nothing_at_the_end_of_pieces():
    """Pieces of one sound: what the first still holds comes with the second, and the end with `finish`."""
    late = Late(num_codebooks=4, codebook_size=16)
    pieces = [np.random.default_rng(n).integers(1, 16, (4, n)).astype(np.uint16) for n in (2, 7, 1)]
    stream = SpeechStream(late, V, 4, NEVER)
    chunks = []
    for codes_KF in pieces:
        stream.begin()
        chunks += stream.push_codes(codes_KF)
    assert sum(len(c.samples_S) for c in chunks) == 7 * late.spec.frame_samples
    chunks.append(stream.finish())
    whole_KF = np.concatenate(pieces, axis=1)
    np.testing.assert_array_equal(np.concatenate([c.codes_KF for c in chunks], axis=1), whole_KF)
    np.testing.assert_array_equal(np.concatenate([c.samples_S for c in chunks]), late.decode(whole_KF))


def test_the_first_chunk_is_one_frame_and_later_ones_are_longer():
    _, chunks = pushed(np.ones((4, 40), np.uint16))
    assert [c.codes_KF.shape[1] for c in chunks] == [1, 2, 3, 4, 6, 8, 8, 8]


def test_markers_and_part_frames_make_no_sound():
    stream = SpeechStream(codec(), V, 4)
    assert all(stream.push(t) is None for t in (V.audio_start, V.audio_base, V.audio_end))
    assert stream.flush() is None


def test_silence_after_speech_ends_it_and_a_pause_does_not():
    speech_KF = np.random.default_rng(0).integers(10, 16, (4, 25)).astype(np.uint16)
    pause_KF, silence_KF = np.zeros((4, 15), np.uint16), np.zeros((4, 40), np.uint16)
    # Two pauses of 1.2 s are no silence of 2.
    twice_KF = np.concatenate([speech_KF, pause_KF, speech_KF, pause_KF, speech_KF], axis=1)
    assert pushed(twice_KF, Endings(silence_s=2.0))[0].stopped is None
    ended, _ = pushed(np.concatenate([speech_KF, silence_KF], axis=1), Endings(silence_s=2.0, loop_s=None))
    assert ended.stopped == "silence"
    never_begun, _ = pushed(silence_KF, Endings(silence_s=2.0, loop_s=None))
    assert never_begun.stopped == "silence"


def test_a_phrase_that_comes_again_and_again_ends_it():
    phrase_KF = np.random.default_rng(1).integers(8, 16, (4, 13)).astype(np.uint16)
    noisy_KF = np.tile(phrase_KF, 8)
    noisy_KF[1:] = np.random.default_rng(2).integers(8, 16, noisy_KF[1:].shape)  # acoustic codes differ
    assert pushed(noisy_KF, Endings(loop_s=4.0))[0].stopped == "loop"
    twice_KF = noisy_KF[:, :26]
    assert pushed(twice_KF, Endings(loop_s=4.0))[0].stopped is None


def test_is_loop_needs_the_whole_length_to_repeat():
    assert is_loop([7] * 21, 20, 5) and not is_loop([7] * 20, 20, 5)
    assert not is_loop(list(range(100)), 20, 5)
    assert is_loop([9, 8, *[1, 2, 3] * 8], 20, 5)
    # The share asked for is enough.
    assert is_loop([7] * 9, 8, 4, agreement=1.0) and is_loop([7] * 5 + [3] * 4, 8, 1, agreement=7 / 8)


def test_loops_are_looked_for_up_to_the_longest_period_and_half_the_length():
    five, ten, eleven = (list(range(n)) * 5 for n in (5, 10, 11))
    assert is_loop(five, 20, 5) and not is_loop(five, 20, 4)
    assert is_loop(ten, 20, 15) and not is_loop(eleven, 20, 15)


def test_endings_of_no_length_are_refused():
    with pytest.raises(ConfigError, match="silence_s=0"):
        Endings(silence_s=0)


def test_stream_speech_yields_what_generate_answers():
    tokenizer = train_bpe(["open the door"], 280)
    vocabulary = Vocabulary.layout(
        text_size=tokenizer.size, bos=tokenizer.bos, eos=tokenizer.eos, num_codebooks=4, codebook_size=16
    )
    network = Transformer(model_size("nano", vocabulary.size, context=256, init_std=0.2), seed=1)
    model = SpeechModel(network.to(torch.float64), vocabulary, tokenizer, codec())
    request = Request(
        prompt_T=model.template.speak_prompt(np.array(tokenizer.encode("open"), np.int32)),
        closing=vocabulary.audio_end,
        max_new_tokens=81,
        seed=2,
    )
    chunks = list(stream_speech(model, request, NEVER))
    expected_KF = ids_to_codes(model.engine.generate([request])[0].ids_T, vocabulary, 4)
    np.testing.assert_array_equal(np.concatenate([c.codes_KF for c in chunks], axis=1), expected_KF)
    np.testing.assert_array_equal(
        np.concatenate([c.samples_S for c in chunks]), model.codec.decode(expected_KF)
    )
