"""Whisper in CTranslate2 form, as faster-whisper loads it: to be a judge (eval/) or a codec's teacher (codec/fit/)."""

from pathlib import Path
from typing import Any

from sodakit.errors import ConfigError, MissingExtra, first_line


def is_faster_whisper(name: str) -> bool:
    """Whether a folder holds a Whisper in CTranslate2 form, or a hub id is called like one, as
    `Systran/faster-whisper-small.en` is."""
    folder = Path(name)
    if folder.is_dir():
        return (folder / "model.bin").exists() and any(folder.glob("vocabulary.*"))
    return "faster-whisper" in name


def load_faster_whisper(
    model_id: str, *, revision: str | None = None, device: str = "cpu", threads: int = 0
) -> tuple[Any, Path]:
    """The `faster_whisper.WhisperModel` in float32, and the folder it lies in.

    Args:
        model_id: folder, or hub id: one that is not a folder is fetched, or found where it was fetched to.
        revision: branch, tag or commit on the hub.
        threads: of the CPU; 0 is CTranslate2's own choice.
    Raises:
        ConfigError: no such model.
        MissingExtra: faster-whisper is not installed.
    """
    try:
        from faster_whisper import WhisperModel
        from faster_whisper.utils import download_model
    except ImportError as error:
        raise MissingExtra("faster-whisper", "asr", f"{model_id}, a Whisper in CTranslate2 form,") from error
    try:
        folder = Path(model_id if Path(model_id).is_dir() else download_model(model_id, revision=revision))
        return WhisperModel(str(folder), device=device, compute_type="float32", cpu_threads=threads), folder
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{model_id!r} does not load as a Whisper in CTranslate2 form ({first_line(error)}). "
            "Needed: a folder with model.bin, tokenizer.json and vocabulary, or the hub id of one."
        ) from error
