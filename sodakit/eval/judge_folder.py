"""Judges by name or place: a speaker judge of either kind, and a folder that holds judges for all commands."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sodakit.audio.faster_whisper import is_faster_whisper
from sodakit.errors import ConfigError
from sodakit.eval.ge2e import FILE as GE2E_FILE
from sodakit.eval.ge2e import Ge2eSpeaker
from sodakit.eval.voiceprints import HubSpeaker, SpeakerJudge
from sodakit.files import read_json

_SOURCES = "Systran/faster-whisper-base on the hub is a Whisper, the package Resemblyzer brings pretrained.pt, speechmos DNSMOS."


@dataclass(frozen=True)
class JudgeFolder:
    """What a folder of judges holds; None for what it does not."""

    recogniser: Path | None = None
    speakers: Path | None = None
    mos: Path | None = None


def find_judges(folder: Path) -> JudgeFolder:
    """The judges in the folders of a folder, known by their files; other folders are left alone.

    Raises:
        ConfigError: no such folder, no judge in it, or two of a kind.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"{folder} is no folder. --judges needs one that holds judges, each in a folder of its own. {_SOURCES}"
        )
    inside = sorted(path for path in folder.iterdir() if path.is_dir())
    found = JudgeFolder(
        _one(inside, _is_recogniser, "recognisers", "--judge", folder),
        _one(inside, _tells_speakers, "speaker judges", "--speaker-judge", folder),
        _one(inside, _rates, "judges of quality", "--mos-judge", folder),
    )
    if found == JudgeFolder():
        raise ConfigError(
            f"{folder} holds no judge. Needed in it: a folder of a Whisper (model.bin, or config.json with weights), of a "
            f"speaker encoder ({GE2E_FILE}, or an x-vector model) or of DNSMOS (sig_bak_ovr.onnx, model_v8.onnx). {_SOURCES}"
        )
    return found


def named_speaker_judge(name: str, *, revision: str | None = None, device: str = "cpu") -> SpeakerJudge:
    """A GE2E encoder in a `.pt` file or a folder with `pretrained.pt`, else the x-vector model of that hub id or folder.

    Raises:
        CheckpointError: the file is no encoder.
        ConfigError: no such model, or a revision of a file.
    """
    path = Path(name)
    if path.suffix == ".pt" or (path / GE2E_FILE).is_file():
        if revision is not None:
            raise ConfigError(f"{name} is a file here and has no revision {revision!r}. Leave it out.")
        return Ge2eSpeaker.load(path, device)
    return HubSpeaker.load(name, revision=revision, device=device)


def _one(
    folders: list[Path], is_kind: Callable[[Path], bool], kind: str, option: str, around: Path
) -> Path | None:
    found = [folder for folder in folders if is_kind(folder)]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ConfigError(f"{around} holds several {kind} ({names}). Name one with {option}.")
    return found[0] if found else None


def _is_recogniser(folder: Path) -> bool:
    return is_faster_whisper(str(folder)) or any(
        "Whisper" in name or name.endswith("ForCTC") for name in _architectures(folder)
    )


def _tells_speakers(folder: Path) -> bool:
    return (folder / GE2E_FILE).is_file() or any(
        name.endswith("ForXVector") for name in _architectures(folder)
    )


def _rates(folder: Path) -> bool:
    return (folder / "sig_bak_ovr.onnx").is_file()


def _architectures(folder: Path) -> list[str]:
    try:
        config = read_json(folder / "config.json")
    except (OSError, ConfigError):
        return []
    names = config.get("architectures") if isinstance(config, dict) else None
    return [str(name) for name in names] if isinstance(names, list) else []
