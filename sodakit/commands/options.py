"""What commands share: options read from the words of a command line, and the options that name judges."""

import dataclasses
import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import tyro

from sodakit.errors import ConfigError

if TYPE_CHECKING:
    from sodakit.eval.judges import Judge
    from sodakit.eval.voiceprints import SpeakerJudge

T = TypeVar("T")


def read_options(kind: type[T], verb: str, argv: list[str]) -> T:
    """The options dataclass filled from argv; `--help` shows its docstring, which ends with an example.

    Raises:
        ConfigError: a number that no option can have (`check_numbers`).
    """
    options = tyro.cli(
        kind,
        prog=f"sodakit {verb}",
        args=argv,
        description=inspect.getdoc(kind),
        config=(tyro.conf.OmitArgPrefixes,),
    )
    check_numbers(options)
    return options


def check_numbers(options: Any) -> None:
    """Raise where an option is NaN, endless, or below 0: all of ours count, measure or share. Only decibels go below.

    Raises:
        ConfigError: one is; the message names it.
    """
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        for number in value if isinstance(value, tuple) else (value,):
            if not isinstance(number, (int, float)) or number == field.default:
                continue
            below = number < 0 and not field.name.endswith("_db")
            if not math.isfinite(number) or below:
                needed = "a number" if field.name.endswith("_db") else "a number from 0 up"
                raise ConfigError(f"--{field.name.replace('_', '-')} {number}; needed: {needed}.")


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """Who listens: shared by every command that scores sound."""

    judge: str | None = None
    """Whisper or Wav2Vec2 by hub id or folder, Whisper also as faster-whisper has it, or a judge's .safetensors;
    default: one made without any download."""
    judge_revision: str | None = None
    """Commit on the hub."""
    judge_language: str | None = None
    """What a multilingual Whisper is told to expect, as en; default: it guesses."""
    speaker_judge: str | None = None
    """WavLM-like speaker verification by hub id or folder; default: a spectral voice print, without download."""
    speaker_judge_revision: str | None = None
    """Commit on the hub."""
    judge_device: str = "cpu"
    """Where judges from the hub or a folder listen: cpu, cuda, …"""

    def named_recogniser(self) -> "Judge | None":
        """The recogniser named; None where none was."""
        from sodakit.eval.judges import named_judge

        if self.judge is None:
            return None
        return named_judge(
            self.judge,
            revision=self.judge_revision,
            language=self.judge_language,
            device=self.judge_device,
        )

    def recogniser(
        self, texts: Sequence[str], out: Path, model: Path | None, speakers: Sequence[str] = ()
    ) -> "Judge":
        """The recogniser named, or the small one beside the model, or one trained on the built-in voices."""
        from sodakit.eval.default_judge import default_judge

        named = self.named_recogniser()
        if named is not None:
            return named
        return default_judge(texts, out / "judge.safetensors", beside=model, speakers=speakers)

    def speakers(self) -> "SpeakerJudge":
        """The speaker judge named, or the one without weights."""
        from sodakit.eval.voiceprints import HubSpeaker, SpectralSpeaker

        if self.speaker_judge is None:
            return SpectralSpeaker()
        return HubSpeaker.load(
            self.speaker_judge, revision=self.speaker_judge_revision, device=self.judge_device
        )
