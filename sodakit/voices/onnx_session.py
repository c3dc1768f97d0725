"""Networks in ONNX form, the same numbers on every run."""

from pathlib import Path
from typing import Any

from sodakit.errors import ConfigError, MissingExtra


def open_session(path: Path, purpose: str, seed: int = 0) -> Any:
    """The network, on one thread of the CPU: sums in another order would give other numbers.

    Args:
        path: an .onnx file.
        purpose: what needs it, for the message where the package is missing.
        seed: of the noise that the network draws, from its first run on.
    Raises:
        MissingExtra: the package onnxruntime is not installed.
        ConfigError: no such file, or no network.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnxruntime", "onnx", purpose) from error
    if not path.is_file():
        raise ConfigError(f"{path} does not exist; {purpose} needs it.")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    onnxruntime.set_seed(seed)
    try:
        return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own that share no parent
        raise ConfigError(f"{path} is no ONNX network ({str(error).splitlines()[0]:.160}).") from error


def only_file(folder: Path, ending: str, purpose: str, source: str = "") -> Path:
    """The one file of a folder with that ending.

    Args:
        purpose: what needs it.
        source: where such folders are to be had.

    Raises:
        ConfigError: no such folder, none, or several.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"{folder} is no folder. {purpose} needs a folder with one {ending} file. {source}".strip()
        )
    found = sorted(p for p in folder.iterdir() if p.name.endswith(ending))
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise ConfigError(
            f"{folder} has {len(found)} {ending} files ({names}). {purpose} needs one. {source}".strip()
        )
    return found[0]
