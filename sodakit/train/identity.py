"""Whose a run folder is: the config, data and code that a run may be resumed with."""

import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sodakit
from sodakit.config import config_digest, to_plain
from sodakit.errors import ConfigError
from sodakit.files import digest, read_json, write_json
from sodakit.train.config import TrainConfig

LAYOUT = ("parallel", "micro_rows", "compile_blocks")
"""How a run is computed, not what: these may change when it is resumed."""
NUMERIC_PACKAGES = ("tokens", "store", "data", "model", "train")
"""The code that decides the numbers of a run."""


def code_digest() -> str:
    """A fingerprint of the source that decides a run's numbers."""
    root = Path(sodakit.__file__).parent
    found = (p for name in NUMERIC_PACKAGES for p in (root / name).rglob("*"))
    files = sorted(p for p in found if p.suffix in (".py", ".cpp"))
    return digest(*(part for p in files for part in (p.relative_to(root).as_posix(), p.read_bytes())))


def claim_folder(folder: Path, config: TrainConfig, *, other_code: bool = False) -> None:
    """Make the run folder ours, or check that it is.

    Args:
        other_code: go on although the code has changed since the run began; noted in `config.json`.
    Raises:
        ConfigError: it holds a run of another config, other data or other code; the message names what differs.
    """
    path = folder / "config.json"
    ours = _identity(config)
    if not path.exists():
        write_json(path, ours)
        return
    theirs = read_json(path)
    changed = _differences(theirs, ours)
    if changed:
        raise ConfigError(
            f"{folder} holds a run with other settings or data ({'; '.join(changed[:5])}). "
            "Resume with its own, or choose another folder."
        )
    codes = theirs.get("code", [])
    if codes and codes[-1] == ours["code"][0]:
        return
    if not other_code:
        raise ConfigError(
            f"{folder} was trained by other code than this (its digest is {codes[-1] if codes else 'unknown'}, ours "
            f"{ours['code'][0]}), so it may not go on as it began. Use that version, or --other-code to go on anyway."
        )
    write_json(path, theirs | {"code": [*codes, ours["code"][0]]})


def write_environment(folder: Path, device: torch.device, num_ranks: int) -> None:
    """Write `environment.json`: the versions and the machine of the latest start."""
    write_json(
        folder / "environment.json",
        {
            "sodakit": sodakit.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "device": device_name(device),
            "ranks": num_ranks,
            "threads": torch.get_num_threads(),
        },
    )


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's architecture."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()


def _identity(config: TrainConfig) -> dict[str, Any]:
    plain = {name: value for name, value in to_plain(config).items() if name not in LAYOUT}
    # store.json holds the digest of every shard, so its own digest stands for the data.
    stores = {s.store: digest((Path(s.store) / "store.json").read_bytes()) for s in config.data.sources}
    return {"digest": config_digest(plain), "train": plain, "stores": stores, "code": [code_digest()]}


def _differences(old: Any, new: Any, name: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            d
            for key in sorted({*old, *new})
            for d in _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
        ]
    # The digest differs whenever anything does, and tells a reader nothing; code has a message of its own.
    return [] if old == new or name in ("digest", "code") else [f"{name}: {old} there, {new} now"]
