import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sodakit.audio.files import read_wave, resample
from sodakit.audio.wave import Wave
from sodakit.errors import CheckpointError, ConfigError
from sodakit.eval.default_judge import default_judge
from sodakit.eval.judges import CtcJudge, HubJudge, heard_texts, train_judge
from sodakit.eval.recogniser import Lexicon, Recogniser, greedy, log_mels
from sodakit.eval.words import word_errors
from sodakit.files import read_json_lines
from sodakit.hardware import torch_threads
from sodakit.voices.catalogue import SEEN_VOICES, voice
from sodakit.voices.engines import Synthesizer
from tests.eval.small_judges import small_wav2vec2, small_whisper
from tests.recordings import real_recordings

LETTERS = " adeno"
WORDS = ("add", "and", "dane", "no", "node", "one")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small matrices gain nothing from a second thread, and tests share the machine."""
    with torch_threads(1):
        yield


def _digits(takes: range) -> tuple[list[Wave], list[str]]:
    folder = real_recordings("fsdd")
    rows = [row for row in read_json_lines(folder / "manifest.jsonl") if row["take"] in takes]
    return [read_wave(folder / row["audio"]) for row in rows], [row["text"] for row in rows]


def _untrained(seed: int = 0) -> CtcJudge:
    torch.manual_seed(seed)
    return CtcJudge(Recogniser(len(LETTERS)).eval(), LETTERS, WORDS)


def _tones(count: int, seconds: float = 0.6) -> list[Wave]:
    """Sounds that differ clearly: each a different falling or rising tone in faint noise."""
    random = np.random.default_rng(0)
    time_S = np.arange(round(seconds * 16_000)) / 16_000
    return [
        Wave(
            0.4 * np.sin(2 * np.pi * (300 + 500 * (i % 4)) * time_S * (1 + 0.3 * time_S * (-1) ** (i // 4)))
            + 0.002 * random.standard_normal(len(time_S)),
            16_000,
        )
        for i in range(count)
    ]


def _spoken(letters: str, confidence: float = 0.9) -> np.ndarray:
    """Log-probabilities that spell `letters`, one frame each, `_` for the CTC blank."""
    size = len(LETTERS) + 1
    probs_FV = np.full((len(letters), size), (1 - confidence) / (size - 1))
    for frame, letter in enumerate(letters):
        probs_FV[frame, 0 if letter == "_" else LETTERS.index(letter) + 1] = confidence
    return np.log(probs_FV)


def _collapse(path: tuple[int, ...]) -> str:
    return "".join(LETTERS[i - 1] for i, _ in itertools.groupby(path) if i)


def test_the_lexicon_search_finds_what_trying_every_path_finds() -> None:
    """Otherwise a transcript is not the likeliest one, and nobody would notice."""
    lexicon, random = Lexicon(("no", "on", "noon"), " no"), np.random.default_rng(0)
    allowed = {
        " ".join(words) for n in range(4) for words in itertools.product(("no", "on", "noon"), repeat=n)
    }
    for _ in range(15):
        log_probs_FV = np.log(random.dirichlet(np.full(4, 0.5), size=7))
        best, best_score = "", -np.inf
        for path in itertools.product(range(4), repeat=7):
            text = "".join(" no"[i - 1] for i, _ in itertools.groupby(path) if i)
            score = float(log_probs_FV[np.arange(7), list(path)].sum())
            if score > best_score and text.strip() in allowed and not text.startswith(" "):
                best, best_score = text.strip(), score
        assert lexicon.search(log_probs_FV) == best


@pytest.mark.parametrize(
    ("letters", "text"),
    [
        ("ad_d", "add"),
        ("no__nod_e_", "nonode"),
        ("_one_ _and_ __no", "one and no"),
        ("__ _no _ ", "no"),
        ("______", ""),
    ],
)
def test_greedy_writes_the_letters_as_heard(letters: str, text: str) -> None:
    assert greedy(_spoken(letters), LETTERS) == text


def test_the_lexicon_needs_a_blank_between_equal_letters_and_corrects_spelling() -> None:
    lexicon = Lexicon(WORDS, LETTERS)
    assert lexicon.search(_spoken("ad_d")) == "add"
    assert lexicon.search(_spoken("noddee and")) == "node and"
    assert lexicon.search(_spoken("_oone_ _anb_ __no_ ".replace("b", "n"))) == "one and no"
    assert lexicon.search(_spoken("______")) == ""


def test_hearing_does_not_depend_on_gain_or_rate() -> None:
    wave = _tones(1)[0]
    assert torch.allclose(log_mels(wave), log_mels(Wave(wave.samples_S * 0.1, 16_000)), atol=1e-4)
    at_24_khz = log_mels(resample(wave, 24_000))
    assert at_24_khz.shape == log_mels(wave).shape
    assert (at_24_khz - log_mels(wave)).abs().mean() < 0.02


@pytest.mark.parametrize(
    "wave", [Wave(np.zeros(0, np.float32), 16_000), Wave(np.zeros(9000, np.float32), 8_000)]
)
def test_silence_and_nothing_at_all_are_heard_as_silence(wave: Wave) -> None:
    assert float(log_mels(wave).abs().max()) == 0.0
    assert len(_untrained().transcribe([wave])) == 1


def test_a_transcript_does_not_depend_on_its_neighbours() -> None:
    judge = _untrained()
    waves = [wave.cut(0, 0.2 + 0.1 * i) for i, wave in enumerate(_tones(5))]
    together = list(judge.listen(waves))
    for wave, log_probs_FV in zip(waves, together, strict=True):
        alone_FV = next(judge.listen([wave]))
        assert alone_FV.shape == log_probs_FV.shape
        np.testing.assert_allclose(alone_FV, log_probs_FV, atol=1e-4)


def test_a_judge_survives_the_disk_and_its_fingerprint_follows_what_it_writes(tmp_path: Path) -> None:
    judge = _untrained()
    judge.save(tmp_path / "judge.safetensors")
    loaded = CtcJudge.load(tmp_path / "judge.safetensors")
    assert (loaded.fingerprint, loaded.name) == (judge.fingerprint, judge.name)
    assert loaded.transcribe(_tones(3)) == judge.transcribe(_tones(3))
    assert dataclasses.replace(judge, decoding="greedy").fingerprint != judge.fingerprint
    assert _untrained(seed=1).fingerprint != judge.fingerprint
    assert judge.unknown_words(["No, one node!", "add two"]) == ["two"]


def test_a_file_that_is_no_judge_is_explained(tmp_path: Path) -> None:
    (tmp_path / "judge").write_bytes(b"not weights")
    judge = _untrained()
    for parameter in judge.recogniser.parameters():
        parameter.data.fill_(float("nan"))
    judge.save(tmp_path / "diverged")
    for path in (tmp_path / "judge", tmp_path / "absent", tmp_path / "diverged"):
        with pytest.raises(CheckpointError, match="not a readable judge"):
            CtcJudge.load(path)


def test_training_repeats_and_learns_sounds_it_was_given() -> None:
    """Eight tones, eight names: enough to see that audio, targets and search fit together."""
    waves, texts = _tones(8), ["add", "and", "dane", "no", "node", "one", "no one", "add dane"]
    losses: list[float] = []
    judge = train_judge(waves * 2, texts * 2, seed=3, epochs=60, progress=lambda _, x: losses.append(x))
    assert losses[-1] < 0.2 * losses[0]
    assert word_errors(texts, judge.transcribe(waves)).wer <= 0.2
    short = [train_judge(waves, texts, seed=3, epochs=2).fingerprint for _ in range(2)]
    assert short[0] == short[1]
    assert train_judge(waves, texts, seed=4, epochs=2).fingerprint != short[0]


def test_the_default_judge_is_not_taught_the_voice_it_will_be_asked_about_and_never_watches_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its own error would be that of what it has heard before, and a busy machine would make another judge."""
    taught: dict[str, Any] = {}

    def train(waves: list[Wave], texts: list[str], **settings: Any) -> CtcJudge:
        taught.update(settings, clips=[(t, w.samples_S.tobytes()) for t, w in zip(texts, waves, strict=True)])
        return _untrained()

    monkeypatch.setattr("sodakit.eval.default_judge.train_judge", train)
    texts = ["The lamp is on.", "The radio is off."]
    speakers = [SEEN_VOICES[0].name, SEEN_VOICES[4].name]
    judge = default_judge(texts, tmp_path / "judge.safetensors", speakers=speakers)
    assert taught["max_steps"] is None and "no download" in judge.name
    with Synthesizer() as synthesizer:
        for text, name in zip(texts, speakers, strict=True):
            own = synthesizer.speak(text, voice(name)).wave.samples_S.tobytes()
            clips = [sound for said, sound in taught["clips"] if said == text]
            assert len(set(clips)) == len(SEEN_VOICES) - 1 and own not in clips


def test_training_ends_after_so_many_steps_whatever_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The learning rate has fallen by then; a busy machine makes the same judge, later."""
    fractions: list[float] = []
    settings = {"epochs": 10_000, "max_steps": 7}
    made = []
    for hours_a_look in (0.0, 1.0):
        clock = itertools.count(step=3600 * hours_a_look)
        monkeypatch.setattr("time.monotonic", lambda clock=clock: float(next(clock)))
        fractions.clear()
        judge = train_judge(
            _tones(8), ["no"] * 8, **settings, progress=lambda done, _: fractions.append(done)
        )
        made.append(judge.fingerprint)
        assert fractions == [step / 7 for step in range(7)]
    assert made[0] == made[1]


def test_training_says_what_it_needs() -> None:
    waves, texts = _tones(8), ["no"] * 8
    with pytest.raises(ConfigError, match="8 recordings and 8 texts, 1 of them without words"):
        train_judge(waves, [*texts[:7], "?!"])
    with pytest.raises(ConfigError, match="0 recordings"):
        train_judge([], [])


@pytest.mark.parametrize("build", [small_wav2vec2, small_whisper])
def test_hub_models_listen_by_name_and_revision(build, tmp_path: Path) -> None:
    torch.manual_seed(0)
    build(tmp_path / "tiny")
    judge = HubJudge.load(str(tmp_path / "tiny"))
    waves = [_tones(2)[0], resample(_tones(2)[1], 24_000)]
    heard = judge.transcribe(waves)
    assert len(heard) == 2
    assert all(set(text) <= set("abcde ") for text in heard)
    assert judge.transcribe(waves[1:]) == heard[1:]
    assert judge.name == f"tiny@{judge.revision[:12]}"
    assert HubJudge.load(str(tmp_path / "tiny")).fingerprint == judge.fingerprint
    if build is small_whisper:
        long = _tones(1, 3.0)
        with pytest.raises(ConfigError, match="hears 2 s at once"):
            judge.transcribe(long)
        assert heard_texts(judge, long) == judge.write([long[0].cut(0, 2)])


def test_a_folder_without_a_recogniser_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not load as a speech recogniser"):
        HubJudge.load(str(tmp_path))


@pytest.mark.slow
def test_a_judge_of_digits_makes_few_errors_on_new_takes() -> None:
    waves, texts = _digits(range(10, 50))
    judge = train_judge(waves, texts, seed=0)
    new_waves, new_texts = _digits(range(10))
    assert word_errors(new_texts, judge.transcribe(new_waves)).wer <= 0.05


@pytest.mark.slow
def test_a_judge_of_household_sentences_understands_new_sentences() -> None:
    pytest.importorskip("espeakng_loader")
    from sodakit.voices.household import sentences

    texts = sentences(660, seed=0)
    with Synthesizer() as synthesizer:
        items = [(text, SEEN_VOICES[i % len(SEEN_VOICES)]) for i, text in enumerate(texts)]
        waves = [speech.wave for speech in synthesizer.speak_many(items)]
    judge = train_judge(waves[:600], texts[:600], seed=0)
    assert word_errors(texts[600:], judge.transcribe(waves[600:])).wer < 0.03
