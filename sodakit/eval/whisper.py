"""Whisper in CTranslate2 form, as faster-whisper runs it: on a CPU many times as fast as the same weights in torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sodakit.audio.faster_whisper import load_faster_whisper
from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.eval.normalisers import normalise
from sodakit.eval.recogniser import RATE_HZ
from sodakit.files import digest, file_sha256
from sodakit.pretrained import shown_name


@dataclass(frozen=True, eq=False)
class FasterWhisperJudge:
    """Greedy, in float32 and without falling back on higher temperatures, so that a sound always reads the same."""

    model_id: str
    """Hub id or folder."""
    weights: str
    """Digest of the weights."""
    language: str | None
    """Language it is told to expect; None lets a multilingual one guess."""
    model: Any
    limit_s = None
    """It hears sounds of any length, 30 s at a time."""

    @classmethod
    def load(
        cls,
        model_id: str,
        *,
        revision: str | None = None,
        language: str | None = None,
        device: str = "cpu",
        threads: int = 0,
    ) -> "FasterWhisperJudge":
        """The model, ready to listen.

        Args:
            revision: branch, tag or commit on the hub.
            language: for multilingual models, for example `en`.
            threads: of the CPU; 0 is CTranslate2's own choice.
        Raises:
            ConfigError: no such model.
            MissingExtra: faster-whisper is not installed.
        """
        model, folder = load_faster_whisper(model_id, revision=revision, device=device, threads=threads)
        if not model.model.is_multilingual:
            language = "en"  # what such models were trained on; asked otherwise they fail
        return cls(model_id, file_sha256(folder / "model.bin"), language, model)

    @property
    def name(self) -> str:
        """For example `faster-whisper-small.en@b4cfe0a1d2c3`."""
        return shown_name(self.model_id, self.weights)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the weights and the language it was told to expect."""
        return digest(self.weights, self.language or "")

    def transcribe(self, waves: Sequence[Wave]) -> list[str]:
        """What is said in each sound, normalised; '' where nothing was heard."""
        return [normalise(text) for text in self.write(waves)]

    def write(self, waves: Sequence[Wave]) -> list[str]:
        """The same as it writes it, with capitals and marks; one by one, so neighbours do not matter."""
        return [self._write(resample(wave, RATE_HZ)) for wave in waves]

    def _write(self, wave: Wave) -> str:
        segments, _ = self.model.transcribe(
            wave.samples_S,
            language=self.language,
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=wave.duration_s <= 30,  # beyond it, times say where the next piece begins
        )
        return " ".join(segment.text.strip() for segment in segments)
