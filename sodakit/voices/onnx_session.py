"""Networks in ONNX form, the same numbers on every run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sodakit.errors import ConfigError, MissingExtra, first_line


@dataclass(frozen=True, eq=False)
class Network:
    """One that is open."""

    path: Path
    purpose: str
    """What needs it, for messages."""
    session: Any

    @property
    def first_input(self) -> str:
        """The name of its first input."""
        return self.session.get_inputs()[0].name

    def run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Its first output.

        Raises:
            ConfigError: it does not take these inputs: it is another kind of network.
        """
        try:
            return np.asarray(self.session.run(None, dict(inputs))[0])
        except Exception as error:  # as in `open_network`
            raise ConfigError(
                f"{self.path} does not work as {self.purpose} needs it ({first_line(error)}). Copy it again; is it the "
                "network that belongs there?"
            ) from error


def open_network(path: Path, purpose: str, seed: int = 0) -> Network:
    """The network, on one thread of the CPU: sums in another order would give other numbers.

    Args:
        path: an .onnx file.
        purpose: what needs it, for messages.
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
        session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own that share no parent
        raise ConfigError(f"{path} is no ONNX network ({first_line(error)}). Copy it again.") from error
    return Network(path, purpose, session)


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
    found = sorted(p for p in folder.iterdir() if p.name.endswith(ending) and p.is_file())
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise ConfigError(
            f"{folder} has {len(found)} {ending} files ({names}). {purpose} needs one. {source}".strip()
        )
    return found[0]
