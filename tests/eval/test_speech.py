"""What `sodakit demo` and its kin say of answers is what `sodakit eval` says of the same answers."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sodakit.audio.files import write_wave
from sodakit.audio.wave import Wave
from sodakit.eval.cases import Recording, VoiceCase
from sodakit.eval.outputs import Output
from sodakit.eval.speech import Case, score_speaking, score_transcription, score_voices, second_opinion
from sodakit.eval.spoken_scores import speech_result, transcription_result
from sodakit.generate.speech_model import Spoken, VoiceSample
from sodakit.prepare.recording import Item
from tests.eval.recordings import TEXTS
from tests.eval.small_model import noise
from tests.eval.test_spoken_scores import Parrot

WRITTEN = ["a dog ran home", "", "the cats and dogs", "the mat", "a rat", "go home now"]
LENGTHS_S = [0.5, 0.0, 0.6, 0.03, 0.7, 0.8]
"""Of what is said: one sound is none, one is too short to be heard."""
JUDGE = Parrot(
    {0.5: "a dog ran home", 0.6: "dogs and cats too", 0.7: "a cat", 0.8: "home", 1.0: "the cat sat"}
)


class Answering:
    """A model whose answers are known."""

    codec = SimpleNamespace(spec=SimpleNamespace(sample_rate_hz=8000), decode=lambda _: np.ones(8000))

    def transcribe_codes(self, codes: list[np.ndarray]) -> list[Any]:
        return [SimpleNamespace(text=text) for text in WRITTEN]

    def speak_many(self, texts: list[str], **settings: Any) -> list[Spoken]:
        return [Spoken(wave, np.zeros((1, 1)), True) for wave in _said()]


def _said() -> list[Wave]:
    return [noise(n, s) if s else Wave(np.zeros(0, np.float32), 8000) for n, s in enumerate(LENGTHS_S)]


def _cases() -> list[Case]:
    return [Case(f"c{n}", text, f"s{n % 3}", noise(n, 1.0), np.zeros((1, 1))) for n, text in enumerate(TEXTS)]


def _figures(plain: dict[str, Any]) -> tuple[float, float, float]:
    return plain["value"], plain["low"], plain["high"]


def test_transcripts_score_the_same_in_the_demo_and_in_eval() -> None:
    ours = score_transcription(Answering(), _cases())  # type: ignore[arg-type]
    recordings = [Recording(id=c.id, item=Item(id=c.id), text=c.text, speaker=c.speaker) for c in _cases()]
    outputs = [Output(id=c.id, text=text) for c, text in zip(_cases(), WRITTEN, strict=True)]
    theirs = transcription_result({}, recordings, outputs, "sodakit")
    assert _figures(theirs["scores"]["wer_micro"]) == (ours.wer, *ours.interval)
    assert theirs["scores"]["reference_words"] == ours.reference_words
    assert theirs["items"][1]["errors"] == ours.items[1].errors == 3 and ours.num_empty == 1


def test_speech_scores_the_same_in_the_demo_and_in_eval(tmp_path: Path) -> None:
    ours = score_speaking(Answering(), _cases(), JUDGE)  # type: ignore[arg-type]
    for case in _cases():
        write_wave(tmp_path / f"{case.id}.wav", case.original)
    cases = [
        VoiceCase(id=c.id, text=c.text, prompt=Path(c.id), prompt_text="", original=tmp_path / f"{c.id}.wav")
        for c in _cases()
    ]
    outputs = [Output(id=c.id, wave=wave) for c, wave in zip(cases, _said(), strict=True)]
    theirs = speech_result({}, cases, outputs, JUDGE, None, "sodakit")["scores"]
    assert _figures(theirs["wer_micro"]) == (ours.heard.wer, *ours.heard.interval)
    assert _figures(theirs["originals"]["wer_micro"]) == (
        ours.heard_original.wer,
        *ours.heard_original.interval,
    )
    assert ours.heard.wer == pytest.approx(7 / 16) and ours.heard.num_empty == 2


def test_a_second_judge_hears_the_same_sounds() -> None:
    model, cases = Answering(), _cases()
    first = score_speaking(model, cases, JUDGE)  # type: ignore[arg-type]
    second = second_opinion(model, cases, first.spoken, JUDGE)  # type: ignore[arg-type]
    assert second.places == list(range(len(cases)))
    for name in ("heard", "heard_codec", "heard_original"):
        assert getattr(second, name).items == getattr(first, name).items
    few = second_opinion(model, cases, first.spoken, JUDGE, most=2)  # type: ignore[arg-type]
    assert few.heard.items == tuple(first.heard.items[n] for n in few.places) and len(few.places) == 2


class Loudest:
    """Tells voices by their first samples: two directions."""

    name = "first samples"

    def embed(self, waves: list[Wave]) -> np.ndarray:
        rows = np.stack([wave.samples_S[:2].astype(np.float64) for wave in waves])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_failed_output_in_a_given_voice_counts_nothing() -> None:
    def tone(first: float) -> Wave:
        return Wave(np.array([first, 1 - first] * 4000, np.float32), 8000)

    class Copying(Answering):
        def speak_many(self, texts: list[str], **settings: Any) -> list[Spoken]:
            waves = [voice.wave for voice in settings["voices"]]
            waves[0] = Wave(np.zeros(0, np.float32), 8000)
            return [Spoken(wave, np.zeros((1, 1)), True) for wave in waves]

    cases = [Case(f"c{n}", "a", f"s{n % 2}", tone(n % 2), np.zeros((1, 1))) for n in range(4)]
    given = [VoiceSample(tone(n % 2), "b") for n in range(3)] + [None]
    scores = score_voices(Copying(), cases, given, Loudest())  # type: ignore[arg-type]
    assert scores is not None and scores.similarity.value == pytest.approx(2 / 3)
    assert (scores.originals.value, scores.equal_error_rate) == (1.0, 0.0)
    assert score_voices(Copying(), cases, [None] * 4, Loudest()) is None  # type: ignore[arg-type]
