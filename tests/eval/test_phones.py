"""What codes tell of phones: labels where the words are, and a probe that cannot be fooled by speakers it knows."""

import importlib.util
import json

import numpy as np
import pytest

from sodakit.align import phones as align_phones
from sodakit.align.phones import label_sets
from sodakit.audio.wave import Wave
from sodakit.codec.toy import ToyCodec
from sodakit.eval.codecs import as_text, measure_codec, page
from sodakit.eval.copies import Recording, SoundSet
from sodakit.eval.phones import Labelled, labelled_codes, probe_phones, recorded_phones, spoken_phones
from sodakit.eval.voiceprints import SpectralSpeaker
from sodakit.voices.catalogue import SEEN_VOICES
from sodakit.voices.contract import PhoneSpan, Speech, WordSpan
from sodakit.voices.engines import Synthesizer
from tests.align.fakes import EvenAligner

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="espeakng-loader is not installed"
)
TEXT = "please open the lamp in the kitchen and close the window"


def spoken(voice: int) -> Speech:
    with Synthesizer() as synthesizer:
        return synthesizer.speak(TEXT, SEEN_VOICES[voice])


def agreement(label: Labelled, truth: Speech) -> tuple[float, float]:
    """Shares of the times: whose phone is told, and of those whose phone is that which sounds."""
    times_s = np.arange(0.005, truth.wave.duration_s, 0.01)
    told = label.at(times_s)
    meant = Labelled(truth.wave, truth.phones, "").at(times_s)
    known = [(a, b) for a, b in zip(told, meant, strict=True) if a is not None]
    return len(known) / len(times_s), float(np.mean([a == b for a, b in known]))


def test_a_time_has_the_phone_that_sounds_then_and_none_in_gaps() -> None:
    spans = (PhoneSpan("'a", 0.1, 0.2), PhoneSpan("t", 0.2, 0.3), PhoneSpan("_:", 0.5, 0.6))
    label = Labelled(Wave(np.zeros(8000, np.float32), 8000), spans, "s")
    found = label.at(np.array([0.05, 0.1, 0.199, 0.2, 0.3, 0.4, 0.55, 0.6]))
    assert found == [None, "a", "a", "t", None, None, "_", None]


@needs_espeak
def test_phones_of_a_recording_sound_where_its_words_are() -> None:
    """In the voice of somebody else, faster and with other pauses, as recordings are."""
    truth = spoken(7)
    (label,) = recorded_phones([Recording(truth.wave, TEXT, "henry")], [truth.words])
    told, right = agreement(label, truth)
    assert told > 0.8 and right > 0.75 and label.group == "henry"


@needs_espeak
def test_what_lies_between_words_that_were_not_found_is_not_told() -> None:
    truth = spoken(0)
    missing = next(word for word in truth.words if word.word == "kitchen")
    words = [word for word in truth.words if word is not missing]
    wrong = [WordSpan("zebra", w.start_s, w.end_s) if w.word == "lamp" else w for w in words]
    (label,) = recorded_phones([Recording(truth.wave, TEXT, "")], [wrong])
    for word in (missing, next(word for word in truth.words if word.word == "lamp")):
        assert set(label.at(np.linspace(word.start_s + 0.01, word.end_s - 0.01, 5))) == {None}
    told, right = agreement(label, truth)
    assert 0.5 < told < 0.85 and right > 0.9 and label.group == "sound 0"
    silent = recorded_phones([Recording(truth.wave, TEXT, "")], [()])
    assert silent == []


def test_a_probe_reads_phones_off_neighbours_and_not_off_noise() -> None:
    random = np.random.default_rng(0)
    phones = [random.integers(0, 6, 400) for _ in range(6)]
    names = [[f"p{number}" for number in sound] for sound in phones]
    groups = [f"speaker {i // 2}" for i in range(6)]
    # The code of the next frame says what sounds now.
    shifted = [np.concatenate([[7], sound[:-1]]) for sound in phones]
    told = probe_phones(shifted, names, groups, 8)
    noise = probe_phones([random.integers(0, 8, 400) for _ in range(6)], names, groups, 8)
    assert told is not None and told.accuracy.value > 0.98
    assert noise is not None and abs(noise.accuracy.value - 1 / 6) < 0.06
    assert 1 / 6 <= noise.most_frequent < 0.2
    assert probe_phones(shifted, names, ["one"] * 6, 8) is None


def test_a_probe_is_never_taught_the_speakers_it_is_tested_on() -> None:
    """Each speaker has codes of his own for the phones: among himself they tell all, of others nothing."""
    random = np.random.default_rng(1)
    phones = [random.integers(0, 4, 300) for _ in range(6)]
    names = [[f"p{number}" for number in sound] for sound in phones]
    codes = [4 * (i // 2) + sound for i, sound in enumerate(phones)]
    alone = probe_phones(codes, names, [str(i) for i in range(6)], 12)
    apart = probe_phones(codes, names, [str(i // 2) for i in range(6)], 12)
    assert alone is not None and alone.accuracy.value > 0.95
    assert apart is not None and apart.accuracy.value < 0.45


def test_phones_nobody_knows_do_not_count() -> None:
    codec = ToyCodec()
    wave = Wave((0.1 * np.random.default_rng(0).standard_normal(8000)).astype(np.float32), 8000)
    found = labelled_codes(codec, [Labelled(wave, (PhoneSpan("a", 0.0, 0.4),), "s")])
    assert [len(codes) for codes in found.codes[0]] == [13]
    assert found.phones[0][0] == ["a"] * 5 + [None] * 8
    assert all(use.phone_purity == 1 for use in found.uses(32))


@needs_espeak
def test_a_report_tells_of_recordings_and_reads_alike_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(align_phones, "aligner_of", lambda judge: EvenAligner() if judge else None)
    voices = [spoken(n) for n in (0, 5)]
    recordings = tuple(
        Recording(speech.wave, TEXT, name) for speech, name in zip(voices, ("anna", "frank"), strict=True)
    )
    sets = [SoundSet("one", recordings, None, "no judge asked for")]
    assert label_sets(sets) == ([], "")
    recorded, words_by = label_sets([SoundSet("one", recordings, object())])  # type: ignore[arg-type]
    assert words_by == "even" and len(recorded) == 2
    report, copies = measure_codec(
        ToyCodec(), sets, SpectralSpeaker(), phone_sentences=2, recorded=recorded, words_by=words_by
    )
    assert report.recorded is not None and report.recorded.probe is not None
    plain = json.loads(json.dumps(report.plain(), allow_nan=False))
    assert plain["recorded_phones"]["probe"]["accuracy"]["num_items"] == 2
    for text in (as_text(report), page(report, sets, copies).html()):
        assert "A linear probe of its codes tells" in text and "words in time by even" in text


@needs_espeak
def test_synthetic_voices_have_a_phone_at_every_time() -> None:
    for sound in spoken_phones(2):
        assert None not in sound.at(np.arange(0, sound.wave.duration_s + 0.1, 0.01))
