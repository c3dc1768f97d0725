import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sodakit.audio.wave import Wave
from sodakit.codec.toy import ToyCodec
from sodakit.errors import AudioError, ConfigError
from sodakit.generate.engine import Completion
from sodakit.generate.long_form import (
    SLOWEST_LETTERS_PER_S,
    Piece,
    Speaker,
    Transcript,
    context_s,
    continuation,
    encode_pieces,
    longest_piece_s,
    pieces_of,
    speak_long,
    speech,
    transcribe_long,
    transcription,
)
from sodakit.generate.plans import carry_out
from sodakit.generate.sampling import Sampling
from sodakit.generate.segmentation import cut_at_pauses, cut_at_sentences, spoken_letters, stretches
from sodakit.generate.speech_model import SpeechModel, VoiceSample
from sodakit.model.config import model_size
from sodakit.model.transformer import Transformer
from sodakit.tokens.documents import Speech, Text
from sodakit.tokens.frames import codes_to_ids
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


def test_cuts_found_block_by_block_are_those_of_the_whole():
    wave = words([1.3, 0.9, 1.1, 1.4, 0.8, 1.2, 1.0] * 3)
    rng, start, blocks = np.random.default_rng(0), 0, []
    while start < len(wave.samples_S):
        length = int(rng.integers(1, 9000))
        blocks.append(Wave(wave.samples_S[start : start + length], RATE_HZ))
        start += length
    parts = list(stretches(blocks, 4.0))
    assert [(a, b) for a, b, _ in parts] == cut_at_pauses(wave, 4.0)
    np.testing.assert_array_equal(np.concatenate([part.samples_S for _, _, part in parts]), wave.samples_S)


def test_cuts_do_not_drift_at_rates_whose_bins_are_no_whole_samples():
    """At 11,025 Hz 20 ms are 220.5 samples: counted as 20 ms, bins of 220 drift by a second in seven minutes."""
    rate_hz, rng = 11_025, np.random.default_rng(0)
    second_S = np.concatenate([rng.normal(0, 0.2, 6615), np.zeros(4410)]).astype(np.float32)
    wave = Wave(np.tile(second_S, 500), rate_hz)
    late = [start_s for start_s, _ in cut_at_pauses(wave, 4.0) if start_s > 450]
    assert all(0.6 < start_s % 1 < 1 for start_s in late) and late


def test_a_recording_without_samples_is_refused():
    with pytest.raises(AudioError, match="no samples"):
        list(stretches([], 4.0))


def test_digits_signs_and_scripts_are_given_their_time():
    """ "1234567890" is spoken in 5.8 s: ten letters' worth, 4.0 s, cut it off."""
    for text, spoken_s in (("1234567890", 5.8), ("$99.99", 4.0), ("今日は晴れです。", 2.5), ("USA", 1.5)):
        assert 2.0 + spoken_letters(text) / SLOWEST_LETTERS_PER_S > 1.4 * spoken_s
    assert spoken_letters("open the door") == 13


def test_points_before_small_letters_and_of_other_languages_end_no_sentence():
    assert cut_at_sentences("Er kam z. B. mit Nr. 5 und Hr. Wolf. Dann ging er.", shortest=0) == [
        "Er kam z. B. mit Nr. 5 und Hr. Wolf.",
        "Dann ging er.",
    ]
    assert cut_at_sentences("La Sra. Ruiz vive en el núm. 7. Es así.", shortest=0) == [
        "La Sra. Ruiz vive en el núm. 7.",
        "Es así.",
    ]
    assert cut_at_sentences("यह घर है। वह पेड़ है।", shortest=0) == ["यह घर है।", "वह पेड़ है।"]


def test_a_transcript_says_what_was_cut_off(model):
    found = model.transcribe(words([2.0] * 8))
    assert len(found.segments) > 1 and found.ended == all(s.ended for s in found.segments)
    assert len(found.stopped) == sum(not s.ended for s in found.segments)
    piece = Piece(0.0, 2.0, model.encode(tone(2.0)))
    plan = transcription(model, [piece])
    room = next(plan).max_new_tokens
    assert room == round(2.0 * 12) + 16  # follows the length: no 200 for all
    with pytest.raises(StopIteration) as end:
        plan.send(Completion(np.full(room, 65, np.int32), False))
    cut = Transcript(tuple(end.value.value))
    assert not cut.ended and "0.0 to 2.0 s was cut off" in cut.stopped[0]


def test_a_piece_that_just_fits_the_context_is_led_to_and_one_more_id_is_not(model):
    codes_KF = model.encode(tone(2.0))
    piece = Piece(0.0, 2.0, codes_KF)
    room = round(2.0 * 12) + 16
    speech_positions = codes_KF.size + 2
    fitting = model.context_positions - room - 2 - 2 * speech_positions - 2
    for more, led in ((0, True), (1, False)):
        plan = transcription(model, [piece, piece])
        first = next(plan)
        second = plan.send(Completion(np.full(fitting + more, 65, np.int32), True))
        assert (len(second.prompt_T) > len(first.prompt_T)) == led
        if led:
            assert len(second.prompt_T) + second.max_new_tokens == model.context_positions


def test_a_speaker_says_what_was_stopped_and_what_was_not_spoken(model):
    text = "Open the door, please. Close the window, please. Turn on the radio now."
    spoken = model.speak(text, max_s=3.0, seed=4)
    assert (
        not spoken.ended
        and "('Close the window, please.') was stopped at the end of the time" in spoken.stopped[-1]
    )
    assert spoken.unspoken and text.endswith(spoken.unspoken)
    assert 0 < spoken.wave.duration_s <= 3.0
    for bad in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="max_s"):
            Speaker(model, max_s=bad)


def test_our_own_first_sentence_makes_way_where_it_leaves_no_room(model):
    speaker = Speaker(model)
    ids_T = np.array([model.vocabulary.codebook_range(k)[0] for k in range(4)] * 100, np.int32)
    speaker.spoke("Open the door, please.", Completion(ids_T, True))
    assert speaker.reference
    assert len(speaker.request("Close the window, please.").prompt_T) < 100 and not speaker.reference


def test_several_texts_are_asked_together_and_each_is_what_it_is_alone(model, monkeypatch):
    texts = ["Open the door, please. Close the window, please.", "Turn on the radio now."]
    alone = [model.speak_many([t], max_s=2.0, seed=7 + n)[0].codes_KF for n, t in enumerate(texts)]
    asked, generate = [], model.engine.generate
    monkeypatch.setattr(
        model.engine, "generate", lambda requests: (asked.append(len(requests)), generate(requests))[1]
    )
    together = model.speak_many(texts, max_s=2.0, seed=7)
    assert asked[0] == 2
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.codes_KF, other)


def test_a_continuation_hears_the_end_of_a_long_recording_and_goes_past_the_context(model):
    codes_KF = model.encode(words([2.0] * 8))
    plan = continuation(model, codes_KF, max_s=12.0)
    first = next(plan)
    heard = (len(first.prompt_T) - 2) // 4
    np.testing.assert_array_equal(
        first.prompt_T[2:], codes_to_ids(codes_KF[:, codes_KF.shape[1] - heard :], model.vocabulary)
    )
    made = model.continue_speech(words([2.0] * 8), max_s=12.0, sampling=Sampling(temperature=1.0))
    assert heard == made.heard_s * 12.5 and made.heard_s >= model.context_s / 2 - 0.16
    assert made.wave.duration_s <= 12.0


def test_counts_agree_with_the_context(model):
    assert model.positions_per_s == 50 and model.context_s == 10 and model.frames(1.0) == 12
    prompt_T = model.template.speak_prompt(model.text_ids("open"))
    request = model.speech_request(prompt_T, max_s=1e6)
    assert len(prompt_T) + model.room_frames(prompt_T) * 4 + 1 <= model.context_positions
    assert request.max_new_tokens == model.room_frames(prompt_T) * 4 + 1
    assert model.speech_request(prompt_T, max_s=15.0 / 12.5).max_new_tokens == 15 * 4 + 1
    spans = [Text(model.text_ids("open")), Speech(np.zeros((4, 3), np.uint16))]
    assert model.prompt_positions(spans) == len(model.template.prompt(spans, model.vocabulary.audio_start))


def test_each_sentence_has_a_seed_of_its_own(model):
    """The same sentence twice would else be the same sound twice."""
    plan = speech(
        Speaker(model, seed=7), "Open the door, please. Close the window, please. Turn on the radio now."
    )
    ids_T = np.array([model.vocabulary.codebook_range(k)[0] for k in range(4)] * 5, np.int32)
    asked = [next(plan), plan.send(Completion(ids_T, True)), plan.send(Completion(ids_T, True))]
    assert [request.seed for request in asked] == [7, 8, 9]


def test_an_hour_is_cut_into_pieces_without_being_held(model):
    """What a recording adds to memory is one piece, however long it is."""

    def peak_bytes(minutes: int) -> int:
        tracemalloc.start()
        seconds = (Wave(np.zeros(8000, np.float32), 8000) for _ in range(60 * minutes))
        assert sum(1 for _ in pieces_of(model, seconds)) > minutes
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_bytes(1)
    assert peak_bytes(30) - peak_bytes(3) < 1 << 20  # of 50 MB
