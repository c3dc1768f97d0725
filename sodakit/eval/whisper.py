"""Whisper in CTranslate2 form, as faster-whisper runs it: on a CPU many times as fast as the same weights in torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.errors import ConfigError, MissingExtra
from sodakit.eval.hub import shown_name
from sodakit.eval.normalisers import normalise
from sodakit.eval.recogniser import RATE_HZ
from sodakit.files import digest, file_sha256


def is_faster_whisper(name: str) -> bool:
    """Whether a folder holds a Whisper in CTranslate2 form, or a hub id is called like one, as
    `Systran/faster-whisper-small.en` is."""
    folder = Path(name)
    if folder.is_dir():
        return (folder / "model.bin").exists() and any(folder.glob("vocabulary.*"))
    return "faster-whisper" in name


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
        try:
            from faster_whisper import WhisperModel
            from faster_whisper.utils import download_model
        except ImportError as error:
            raise MissingExtra(
                "faster-whisper", "asr", f"{model_id}, a Whisper in CTranslate2 form,"
            ) from error
        try:
            # One that is not a folder is fetched, or found where it was fetched to.
            folder = Path(
                model_id if Path(model_id).is_dir() else download_model(model_id, revision=revision)
            )
            model = WhisperModel(str(folder), device=device, compute_type="float32", cpu_threads=threads)
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"{model_id!r} does not load as a Whisper in CTranslate2 form ({str(error).splitlines()[0]}). "
                "Needed: a folder with model.bin, tokenizer.json and vocabulary, or the hub id of one."
            ) from error
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
