"""Voices of every engine by name: the sounds, their times, and what is said where something is missing."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from sodakit.errors import AudioError, ConfigError, MissingExtra
from sodakit.voices import flite, onnx_session
from sodakit.voices.catalogue import SEEN_VOICES, voice
from sodakit.voices.contract import Voice
from sodakit.voices.engines import Synthesizer
from sodakit.voices.espeak import EspeakEngine
from sodakit.voices.flite import installed_voices
from sodakit.voices.names import find_voices, held_apart
from tests.hostile.bad_engines import bad_kokoros, bad_pipers
from tests.voices.onnx_bytes import kokoro_folder, piper_folder

TEXT = "Hello, turn on the lamp."


@pytest.fixture
def piper(tmp_path: Path) -> Path:
    return piper_folder(tmp_path / "piper")


@pytest.fixture
def kokoro(tmp_path: Path) -> Path:
    return kokoro_folder(tmp_path / "kokoro")


def samples(name: str, text: str = TEXT, seed: int = 0) -> np.ndarray:
    with Synthesizer(seed) as synthesizer:
        return synthesizer.speak(text, find_voices([name])[0]).wave.samples_S


def test_espeak_tells_when_each_word_sounds() -> None:
    with Synthesizer() as synthesizer:
        speech = synthesizer.speak("Hello, I have 25 cups.", voice("anna"))
    assert [word.word for word in speech.words] == ["Hello", "I", "have", "25", "cups"]
    ends = [time for word in speech.words for time in (word.start_s, word.end_s)]
    assert ends == sorted(ends) and ends[-1] <= speech.wave.duration_s
    # The comma is a pause, which belongs to no word.
    assert speech.words[1].start_s - speech.words[0].end_s > 0.1


def test_espeak_reads_clauses_with_the_marks_that_end_them() -> None:
    with EspeakEngine() as espeak:
        assert [m for _, m in espeak.clauses("Hello, you. Mr. Smith's 3.5 dogs; why? Go!", "en-us")] == [
            ",", ".", "", ";", "?", "!",
        ]  # fmt: skip
        assert [m for _, m in espeak.clauses("no mark", "en-us")] == [""]


def test_voices_of_several_engines_speak_in_order(piper: Path, kokoro: Path) -> None:
    names = ["anna", f"piper:{piper}", f"kokoro:{kokoro}#af", "espeak:es+m3", "bella"]
    voices = find_voices(names)
    assert all(isinstance(v, Voice) for v in voices)
    with Synthesizer() as together:
        spoken = list(together.speak_many((TEXT, v) for v in voices))
    for name, speech in zip(names, spoken, strict=True):
        assert np.array_equal(samples(name), speech.wave.samples_S), name
    assert [s.wave.sample_rate_hz for s in spoken] == [22050, 22050, 24000, 22050, 22050]


def test_piper_reads_each_sentence_between_begin_and_end(piper: Path) -> None:
    begin, end, pad = 1, 2, 0
    # A thousandth for each id, and noise of a thousandth at most in a tail: the marks around a sentence stay in sight.
    ids = samples(f"piper:{piper}", "Go. Go.") * 1000
    sentence = len(ids) // 2
    assert len(ids) == 2 * sentence > 10
    for first in (0, sentence):
        np.testing.assert_allclose(ids[[first, first + 1, first + sentence - 1]], [begin, pad, end], atol=0.5)
    found = find_voices([f"piper:{piper}"])[0]
    assert found.licence == "CC0" and found.languages == ("en",) and found.name == "piper-voice"


def test_noise_comes_from_the_seed(piper: Path) -> None:
    name = f"piper:{piper}"
    assert np.array_equal(samples(name, seed=3), samples(name, seed=3))
    assert not np.array_equal(samples(name, seed=3), samples(name, seed=4))


def test_a_mixture_of_styles_is_a_voice_between_them(kokoro: Path) -> None:
    af, bf = samples(f"kokoro:{kokoro}#af"), samples(f"kokoro:{kokoro}#bf")
    mixed = samples(f"kokoro:{kokoro}#0.75*af+0.25*bf")
    np.testing.assert_allclose(mixed, 0.75 * af + 0.25 * bf, rtol=1e-4)
    assert [v.name for v in find_voices([f"kokoro:{kokoro}"])] == ["kokoro-af", "kokoro-bf"]
    prints = {v.fingerprint for v in find_voices([f"kokoro:{kokoro}", f"kokoro:{kokoro}#0.5*af+0.5*bf"])}
    assert len(prints) == 3


@pytest.mark.skipif(not installed_voices(), reason="flite is not installed")
def test_flite_is_one_process_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    run = flite._run
    monkeypatch.setattr(flite, "_run", lambda words: calls.append(words) or run(words))
    flite._voices_of.cache_clear()
    (voice,) = find_voices(["flite:slt"])
    with Synthesizer() as synthesizer:
        for speech in synthesizer.speak_many([(text, voice) for text in ("One.", "Two.", "Three.")]):
            assert speech.wave.duration_s > 0.2 and voice.licence == "BSD-like (CMU)"
    assert len(calls) == 4 and sum("-lv" in words for words in calls) == 1


@pytest.mark.skipif(not installed_voices(), reason="flite is not installed")
def test_flite_tells_its_phones() -> None:
    with Synthesizer() as synthesizer:
        speech = synthesizer.speak("Hello there.", find_voices(["flite:slt"])[0])
        assert [span.phone for span in speech.phones if not span.is_pause][:2] == ["hh", "ax"]
        assert speech.phones[-1].end_s == pytest.approx(speech.wave.duration_s, abs=0.05)
        with pytest.raises(AudioError, match="nothing"):
            synthesizer.speak("...", find_voices(["flite:slt"])[0])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nobody", "No voice 'nobody'"),
        ("bark:x", "Engines: espeak, flite, piper, kokoro"),
        ("piper:/nowhere", "is no folder"),
        ("kokoro:/nowhere#af", "no style vectors"),
        ("kokoro:{kokoro}#zz", "Styles: af, bf"),
        ("kokoro:{kokoro}#0.5*af+0.2*bf", "sum to 0.7"),
        ("kokoro:{kokoro}#x*af", "is no weight"),
        ("piper:{piper}#4", "no speaker '4'"),
    ],
)
def test_a_wrong_name_says_what_is_needed(name: str, says: str, piper: Path, kokoro: Path) -> None:
    with pytest.raises(ConfigError, match=says):
        find_voices([name.format(piper=piper, kokoro=kokoro)])


@pytest.mark.parametrize("engine", ["piper", "kokoro"])
def test_a_folder_without_its_parts_says_where_they_are_to_be_had(
    engine: str, tmp_path: Path, piper: Path, kokoro: Path
) -> None:
    whole = {"piper": piper, "kokoro": kokoro}[engine]
    parts = sorted(path.name for path in whole.iterdir() if path.is_file() and "MODEL_CARD" not in path.name)
    (tmp_path / "none").mkdir()
    with pytest.raises(ConfigError, match=r"huggingface\.co"):
        find_voices([f"{engine}:{tmp_path / 'none'}"])
    assert len(parts) >= 2
    for missing in parts:
        shutil.copytree(whole, tmp_path / missing / "voice", ignore=shutil.ignore_patterns(missing))
        with pytest.raises(ConfigError, match=r"huggingface\.co|json does not exist. A Piper voice needs it"):
            find_voices([f"{engine}:{tmp_path / missing / 'voice'}"])


@pytest.mark.parametrize(
    "name",
    [
        "voice.onnx is fake_kokoro",
        "voice.onnx a pipe",
        "audio.sample_rate -1",
        "phoneme_id_map.l 7",
        "num_speakers 5",
    ],
)
def test_a_damaged_piper_folder_is_refused(name: str, piper: Path) -> None:
    """Another network ended in an error of onnxruntime, a pipe in nothing at all."""
    bad_pipers()[name](piper)
    with pytest.raises(ConfigError, match="piper"), Synthesizer() as synthesizer:
        synthesizer.speak(TEXT, find_voices([f"piper:{piper}"])[0])


@pytest.mark.parametrize(
    "name",
    [
        "vocab.json list",
        "vocab {'l': [1]}",
        "voices.npz a pipe",
        "styles of no rows",
        "styles NaN",
        "a style with a path",
    ],
)
def test_a_damaged_kokoro_folder_is_refused(name: str, kokoro: Path) -> None:
    """A style named as a path was written outside of the folder for sounds."""
    bad_kokoros()[name](kokoro)
    with pytest.raises(ConfigError, match="kokoro"), Synthesizer() as synthesizer:
        synthesizer.speak(TEXT, find_voices([f"kokoro:{kokoro}"])[0])


def test_what_is_missing_names_what_to_install(piper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"sodakit\[onnx\]"):
        onnx_session.open_network(piper / "voice.onnx", "A Piper voice")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="apt install flite"):
        find_voices(["flite:slt"])


def test_no_voice_is_named_twice_or_on_both_sides() -> None:
    with pytest.raises(ConfigError, match="named twice"):
        find_voices(["seen", "anna"])
    with pytest.raises(ConfigError, match="trained on and held out"):
        held_apart(SEEN_VOICES, find_voices(["anna"]))


def test_a_voice_of_one_language_refuses_others(piper: Path, kokoro: Path) -> None:
    with pytest.raises(ConfigError, match="speaks en"):
        find_voices([f"piper:{piper}"])[0].in_language("es")
    assert find_voices([f"kokoro:{kokoro}#af"])[0].in_language("es").languages == ("es",)
    assert voice("anna").in_language("de").languages == ("de",)
