"""What commands share: options read from the words of a command line, and the options that name judges."""

import inspect
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro

from sodakit.bounds import PositiveShare, check_bounds
from sodakit.checkpoint.shipped import STARTER
from sodakit.errors import ConfigError
from sodakit.generate.defaults import SPEECH
from sodakit.generate.sampling import Sampling
from sodakit.hardware import device_named
from sodakit.log import say

if TYPE_CHECKING:
    from sodakit.eval.judge_folder import JudgeFolder
    from sodakit.eval.judges import Judge
    from sodakit.eval.opinion import OpinionJudge
    from sodakit.eval.voiceprints import SpeakerJudge
    from sodakit.generate.speech_model import SpeechModel

T = TypeVar("T")


def read_options(kind: type[T], verb: str, argv: list[str]) -> T:
    """The options dataclass filled from argv; `--help` shows its docstring, which ends with an example.

    Raises:
        ConfigError: a number that an option cannot have.
    """
    names = {f.name: f.type in (bool, "bool") for f in fields(kind)}  # type: ignore[arg-type]
    flags = {f"--{no}{name.replace('_', '-')}" for name, flag in names.items() if flag for no in ("", "no-")}
    options = tyro.cli(
        kind,
        prog=f"sodakit {verb}",
        args=settings_first(argv, flags) if "settings" in names else argv,
        description=inspect.getdoc(kind),
        config=(tyro.conf.OmitArgPrefixes,),
    )
    check_options(options)
    return options


def run_word(words: Mapping[str, Callable[..., Any]], verb: str, description: str, argv: list[str]) -> None:
    """Run the word of a verb such as `eval`, with the options that follow it.

    Raises:
        ConfigError: a number that an option cannot have, and whatever the word raises.
    """
    chosen = tyro.extras.subcommand_cli_from_dict(
        dict(words), prog=f"sodakit {verb}", description=description, args=argv
    )
    check_options(chosen)
    chosen.run()


def check_options(options: Any) -> None:
    """Raise for a number outside its bounds, a device that is not here, and what is said of a judge that is not named.

    Raises:
        ConfigError: one is; the message names it.
    """
    given = {
        f.name: getattr(options, f.name) for f in fields(options) if getattr(options, f.name) != f.default
    }
    check_bounds(type(options), given, lambda name: f"--{name.replace('_', '-')} ")
    for name in ("device", "judge_device"):
        if given.get(name) not in (None, "cpu"):
            device_named(given[name])
    if isinstance(options, JudgeOptions):
        options.check_used()


_SETTING = re.compile(r"[A-Za-z_][\w.]*=.*", re.DOTALL)


def settings_first(argv: Sequence[str], flags: Collection[str]) -> list[str]:
    """The words with all name=value settings in front, where no option that takes several values can swallow them.

    The word right after an option is that option's value, and the name of something that lies there is a path.

    Args:
        flags: options that take no value.
    """
    settings: list[str] = []
    rest: list[str] = []
    for before, word in zip(["", *argv], argv, strict=False):
        is_value = before.startswith("-") and before not in flags and "=" not in before
        is_setting = _SETTING.fullmatch(word) and not is_value and not os.path.exists(word)
        (settings if is_setting else rest).append(word)
    return settings + rest


def refuse_unused(options: Any, names: Sequence[str], why: str) -> None:
    """What is given and not used is an error, not forgotten.

    Raises:
        ConfigError: one of these options is not as it is by default; the message says why that has no effect.
    """
    defaults = {f.name: f.default for f in fields(options)}
    given = ["--" + name.replace("_", "-") for name in names if getattr(options, name) != defaults[name]]
    if given:
        raise ConfigError(f"{', '.join(given)}: no effect {why}. Leave it out.")


@dataclass(frozen=True, kw_only=True)
class ResumeOptions:
    """How a run is resumed: shared by every command that trains."""

    other_code: bool = False
    """Resume although sodakit's code has changed since the run began."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The model that is used, and where: shared by every command that uses one."""

    model: Annotated[Path, tyro.conf.arg(aliases=["-m"])] = STARTER
    """Checkpoint, or run folder: its best checkpoint where it kept one, else its newest. `starter` comes with sodakit."""
    codec: str | None = None
    """Codec by name, hub id or folder; default: the one the model was trained with."""
    device: str | None = None
    """cpu, cuda, …; default: the GPU where there is one."""

    def speech_model(self, **more: Any) -> "SpeechModel":
        """The model, loaded; which one answers is said where none was named."""
        from sodakit.generate.speech_model import SpeechModel

        model = SpeechModel.load(self.model, codec=self.codec, device=self.device, **more)
        introduce(model, self.model)
        return model


@dataclass(frozen=True, kw_only=True)
class SpeechOptions(ModelOptions):
    """How speech is drawn: shared by every command that makes it."""

    temperature: float = SPEECH.temperature
    """Variety of the sound; 0 for the most likely codes."""
    top_p: PositiveShare = SPEECH.top_p
    """Sample from the most likely codes with this share of the probability."""
    seed: int = 0
    """Same seed, same sound; another is another reading."""
    consent: str | None = None
    """A note of who agreed to the use of the voice that is imitated, and how. Files of speech say whether there is one."""
    watermark: str | None = None
    """Put a watermark into the sound: name of an installed one, or package.module:function."""

    def speech_model(self, **more: Any) -> "SpeechModel":
        """The model, loaded, with the watermark."""
        return super().speech_model(watermark=self.watermark, **more)

    @property
    def sampling(self) -> Sampling:
        """How codes are drawn."""
        return Sampling(temperature=self.temperature, top_p=self.top_p)


def introduce(model: "SpeechModel", path: Path) -> None:
    """Say which model answers, and what it can and cannot do, where nobody named one."""
    if path == STARTER and model.about is not None:
        say(f"{model.about.introduction()} Name another with --model.")


def ask_for_consent(consent: str | None) -> None:
    """Ask whoever uses the voice of recordings without a note of consent for one: it works without, and is marked so."""
    if not (consent and consent.strip()):
        say(
            'Marked "consent unstated": this is the voice of recordings, and nobody said who agreed to its use. Say it with '
            '--consent "Anna B., by e-mail on 3 May".'
        )


def shown(text: Path | str) -> str:
    """A name or text on one line, whatever characters it holds."""
    safe = str(text).encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else " " if c.isspace() else ascii(c)[1:-1] for c in safe)


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
    """WavLM-like speaker verification by hub id or folder, or Resemblyzer's pretrained.pt; default: a spectral voice
    print, without download."""
    speaker_judge_revision: str | None = None
    """Commit on the hub."""
    judges: Path | None = None
    """Folder that holds judges, each in a folder of its own: a Whisper, a speaker encoder, DNSMOS. Those named one by one
    come first; what is not there stays as it is by default."""
    judge_device: str = "cpu"
    """Where judges from the hub or a folder listen: cpu, cuda, …"""

    def check_used(self) -> None:
        """Nothing is said of a judge that is not named.

        Raises:
            ConfigError: something is.
        """
        found = self._found
        if self.judge is None:
            refuse_unused(self, ("judge_revision",), "without --judge")
        if self.judge is None and found.recogniser is None:
            refuse_unused(self, ("judge_language",), "without --judge")
        if self.speaker_judge is None:
            refuse_unused(self, ("speaker_judge_revision",), "without --speaker-judge")
        if not any((self.judge, self.speaker_judge, found.recogniser, found.speakers)):
            refuse_unused(self, ("judge_device",), "without --judge, --speaker-judge or --judges")

    @property
    def expected_language(self) -> str | None:
        """What a multilingual judge is told to expect; None lets it guess."""
        return self.judge_language

    @property
    def _found(self) -> "JudgeFolder":
        from sodakit.eval.judge_folder import JudgeFolder, find_judges

        return JudgeFolder() if self.judges is None else find_judges(self.judges)

    def named_recogniser(self) -> "Judge | None":
        """The recogniser named; None where none was."""
        from sodakit.eval.judges import named_judge

        name = self.judge or self._found.recogniser
        if name is None:
            return None
        return named_judge(
            str(name),
            revision=self.judge_revision,
            language=self.expected_language,
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
        from sodakit.eval.judge_folder import named_speaker_judge
        from sodakit.eval.voiceprints import SpectralSpeaker

        name = self.speaker_judge or self._found.speakers
        if name is None:
            return SpectralSpeaker()
        return named_speaker_judge(str(name), revision=self.speaker_judge_revision, device=self.judge_device)


@dataclass(frozen=True, kw_only=True)
class MosOptions(JudgeOptions):
    """Judges, and one of quality: shared by the commands with columns of mean opinions."""

    mos_judge: Path | None = None
    """Folder of DNSMOS (sig_bak_ovr.onnx, model_v8.onnx) for columns of mean opinions, 1 to 5; default: none."""

    def mos(self) -> "OpinionJudge | None":
        """The judge of quality named; None where none was."""
        from sodakit.eval.opinion import DnsMos

        folder = self.mos_judge or self._found.mos
        return None if folder is None else DnsMos.load(folder)


@dataclass(frozen=True, kw_only=True)
class LanguageOptions(MosOptions):
    """Judges of sound in a language: shared by the evaluations of speech."""

    language: str | None = None
    """ISO 639 code of what is said, as es: texts are compared as that language speaks them, and a multilingual judge is
    told to expect it. Recordings that name another are left out. Default: as the recordings say."""

    @property
    def expected_language(self) -> str | None:
        """The judge's own, else that of what is said."""
        return self.judge_language or self.language
