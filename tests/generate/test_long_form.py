from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sodakit.audio.wave import Wave
from sodakit.codec.toy import ToyCodec
from sodakit.errors import ConfigError
from sodakit.generate.engine import Completion
from sodakit.generate.long_form import (
    Speaker,
    carry_out,
    context_s,
    cut_at_pauses,
    cut_at_sentences,
    encode_pieces,
    longest_piece_s,
    speak_long,
    speech,
    transcribe_long,
    transcription,
)
from sodakit.generate.speech_model import SpeechModel, VoiceSample
from sodakit.model.config import model_size
from sodakit.model.transformer import Transformer
from sodakit.tokens.text import train_bpe
from sodakit.tokens.vocabulary import Vocabulary

RATE_HZ = 8000


@pytest.fixture(scope="module")
def model():
    """The toy codec makes 50 tokens a second, so a context of 500 is 10 s."""
    tokenizer = train_bpe(["open the door"], 280)
    vocabulary = Vocabulary.layout(
        text_size=tokenizer.size, bos=tokenizer.bos, eos=tokenizer.eos, num_codebooks=4, codebook_size=16
    )
    network = Transformer(model_size("nano", vocabulary.size, context=500, init_std=0.2), seed=1)
    return SpeechModel(network.to(torch.float64), vocabulary, tokenizer, ToyCodec(4, 16))


def words(lengths_s, pause_s=0.4):
    """Bursts of noise with silence between."""
    rng = np.random.default_rng(0)
    parts = [
        np.concatenate([rng.normal(0, 0.2, round(s * RATE_HZ)), np.zeros(round(pause_s * RATE_HZ))])
        for s in lengths_s
    ]
    return Wave(np.concatenate(parts).astype(np.float32), RATE_HZ)


def tone(duration_s):
    return Wave(np.sin(np.arange(round(duration_s * RATE_HZ)) * 0.3).astype(np.float32) * 0.3, RATE_HZ)


def test_cuts_lie_in_pauses():
    wave = words([1.3, 0.9, 1.1, 1.4, 0.8, 1.2, 1.0])
    cuts = [start for start, _ in cut_at_pauses(wave, 4.0)[1:]]
    assert cuts
    for cut_s in cuts:
        assert np.abs(wave.cut(cut_s - 0.05, cut_s + 0.05).samples_S).max() == 0


@settings(deadline=None, max_examples=40)
@given(st.floats(0.01, 60), st.floats(0.5, 12))
def test_pieces_join_to_the_whole_and_none_is_too_long(duration_s, longest_s):
    wave = tone(duration_s)
    pieces = cut_at_pauses(wave, longest_s)
    assert pieces[0][0] == 0 and pieces[-1][1] == wave.duration_s
    assert all(a[1] == b[0] for a, b in pairwise(pieces))
    assert all(end - start <= longest_s + 1e-9 for start, end in pieces)
    assert all(end - start >= longest_s / 2 - 1e-9 for start, end in pieces[:-1])


def test_pieces_too_short_for_a_word_are_refused():
    with pytest.raises(ConfigError, match=r"at least 0\.5 s"):
        cut_at_pauses(tone(3.0), 0.2)


def test_sentences_end_where_sentences_end():
    text = "Dr. Smith paid 3.50 for it. “Really?” said J. Doe in wonder! The rest\nis on a new line"
    assert cut_at_sentences(text, shortest=0) == [
        "Dr. Smith paid 3.50 for it.",
        "“Really?”",
        "said J. Doe in wonder!",
        "The rest",
        "is on a new line",
    ]
    assert cut_at_sentences("今日は晴れです。明日は雨でしょう。", shortest=0) == [
        "今日は晴れです。",
        "明日は雨でしょう。",
    ]


def test_short_sentences_are_joined_and_long_ones_cut_at_commas():
    assert cut_at_sentences("Yes. No. Perhaps it is so.") == ["Yes. No. Perhaps it is so."]
    long = "a sentence that goes on, and on, and on without an end in sight, until it stops at last"
    parts = cut_at_sentences(long, longest=40)
    assert all(len(p) <= 40 for p in parts) and all(p.endswith(",") for p in parts[:-1])


@settings(deadline=None)
@given(st.text(alphabet="ab .,!?\n'\"。", max_size=200), st.integers(5, 40))
def test_no_character_is_lost_or_moved(text, longest):
    parts = cut_at_sentences(text, longest=longest)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(0 < len(p) <= longest for p in parts)


def test_a_recording_longer_than_the_context_is_transcribed_in_pieces(model):
    wave = words([2.0] * 12)
    segments = transcribe_long(model, wave)
    assert wave.duration_s > 2 * context_s(model) and len(segments) >= 4
    assert segments[0].start_s == 0 and segments[-1].end_s == wave.duration_s


def test_the_longest_piece_fits_the_context_with_its_transcript(model):
    pieces = encode_pieces(model, tone(3 * longest_piece_s(model)))
    plan = transcription(model, pieces)
    request = next(plan)
    assert len(request.prompt_T) + request.max_new_tokens <= model.model.config.context


def test_a_piece_and_its_transcript_lead_to_the_next(model):
    pieces = encode_pieces(model, words([1.5] * 4), longest_s=2.5)
    plan = transcription(model, pieces)
    first = next(plan)
    answer = Completion(np.array(model.tokenizer.encode("open the door"), np.int32), True)
    second = plan.send(answer)
    led = np.concatenate([first.prompt_T, answer.ids_T, [model.vocabulary.text_end]])
    np.testing.assert_array_equal(second.prompt_T[: len(led)], led)
    third = plan.send(Completion(answer.ids_T, False))  # it did not end by itself: no example to follow
    assert third.prompt_T[1] == model.vocabulary.audio_start and len(third.prompt_T) < len(second.prompt_T)


def test_the_first_sentence_gives_its_voice_to_the_others(model):
    speaker = Speaker(model)
    plan = speech(speaker, "Open the door, please. Close the window, please. Turn on the radio now.")
    first = next(plan)
    assert first.shared_tokens == 0
    ids_T = np.array([model.vocabulary.codebook_range(k)[0] for k in range(4)] * 5, np.int32)
    second = plan.send(Completion(ids_T, True))
    third = plan.send(Completion(ids_T, True))
    said = np.concatenate([first.prompt_T, ids_T, [model.vocabulary.audio_end]])
    for later in (second, third):
        assert later.shared_tokens == len(said)
        np.testing.assert_array_equal(later.prompt_T[: len(said)], said)


def test_a_given_voice_stays_the_reference(model):
    voice = VoiceSample(tone(1.0), "open")
    speaker = Speaker(model, voice)
    before = speaker.request("Open the door.").prompt_T[: speaker.request("x y z").shared_tokens]
    speaker.spoke("Open the door.", Completion(np.zeros(0, np.int32), True))
    after = speaker.request("Close it.").prompt_T
    np.testing.assert_array_equal(after[: len(before)], before)


def test_speech_stops_at_its_limit_in_seconds(model):
    wave = speak_long(model, "A sentence that is long enough to last. " * 10, max_s=3.0, seed=4)
    assert 0 < wave.duration_s <= 3.0


def test_a_voice_sample_that_fills_the_context_is_refused(model):
    with pytest.raises(ConfigError, match="shorter voice sample"):
        carry_out(speech(Speaker(model, VoiceSample(tone(9.0), "open")), "Open the door."), model.engine)
