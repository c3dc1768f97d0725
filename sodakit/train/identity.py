"""Whose a run folder is: the config, data and code that a run may be resumed with."""

import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sodakit
from sodakit.ceilings import device_name
from sodakit.checkpoint.load import find_checkpoint
from sodakit.config import config_digest, from_plain, to_plain
from sodakit.errors import ConfigError
from sodakit.files import digest, read_json, write_json
from sodakit.train.code import code_digest
from sodakit.train.config import TrainConfig

LAYOUT = ("parallel", "micro_rows", "compile_blocks", "attention")
"""How a run is computed, not what: these may change when it is resumed."""


def claim_folder(folder: Path, config: TrainConfig, *, other_code: bool = False) -> None:
    """Make the run folder ours, or check that it is.

    A run is its config without paths, the digests of its data and first weights, and the code that computes: stores may
    move, and be named in another way.

    Args:
        other_code: resume although the code has changed since the run began; noted in `config.json`.
    Raises:
        ConfigError: it holds a run of another config, other data or other code, or is no run folder; the message names
            what differs.
    """
    check_is_run_folder(folder)
    path = folder / "config.json"
    ours = _identity(config)
    if not path.exists():
        write_json(path, ours)
        return
    theirs = _read_identity(path)
    try:
        known = _without_paths(theirs | {"train": _with_new_fields(theirs["train"])})
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} is damaged ({error}). Delete it and run the same command again: it is written anew."
        ) from error
    changed = _differences(known, _without_paths(ours))
    if changed:
        raise ConfigError(
            f"{folder} holds a run with other settings or data ({'; '.join(changed[:5])}). "
            "Resume with its own, or choose another folder."
        )
    codes = theirs.get("code", [])
    if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
        codes = []  # as of a code that is not known
    if not codes or codes[-1] != ours["code"][0]:
        if not other_code:
            raise ConfigError(
                f"Run {folder} was started with a different version of sodakit (code {codes[-1] if codes else 'unknown'}, "
                f"now {ours['code'][0]}); resuming may not reproduce it. Use that version, or pass --other-code "
                "to resume anyway."
            )
        codes = [*codes, ours["code"][0]]
    now = ours | {"code": codes, "init": theirs.get("init") or ours["init"]}
    if now != theirs:  # what is said of paths is what they are now
        write_json(path, now)


def check_is_run_folder(folder: Path) -> None:
    """Refuse a folder in which no run can be.

    Raises:
        ConfigError: it is a file, a store or a checkpoint; the message says which.
    """
    kinds = {
        "store.json": "a store",
        "contents.json": "a checkpoint",
        "tokenizer_config.json": "an exported model",
    }
    found = next((what for name, what in kinds.items() if (folder / name).exists()), None)
    if folder.exists() and not folder.is_dir():
        found = "a file"
    if found:
        raise ConfigError(
            f"{folder} is {found}; needed: a folder of its own for the run. Choose another --out."
        )


def _read_identity(path: Path) -> dict[str, Any]:
    advice = (
        f"Delete {path} and run the same command with the settings the run began with: it is written again, and the "
        "run resumes from its checkpoints."
    )
    try:
        found = read_json(path)
    except ConfigError as error:
        raise ConfigError(f"{error} {advice}") from error
    if not isinstance(found, dict) or not isinstance(found.get("train"), dict) or "stores" not in found:
        raise ConfigError(
            f"{path} is not the config of a run of sodakit. Choose another folder. If it was one: {advice}"
        )
    return found


def _with_new_fields(train: dict[str, Any]) -> dict[str, Any]:
    """A config as it was written, with the defaults of fields that there were not yet: they change no run."""
    try:
        plain = to_plain(from_plain(TrainConfig, train))
    except ConfigError:  # a field that is no more: said as a difference
        return train
    return {name: value for name, value in plain.items() if name not in LAYOUT}


def write_environment(
    folder: Path, device: torch.device, num_ranks: int, attention: dict[str, Any] | None = None
) -> None:
    """Write `environment.json`: the versions and the machine of the latest start, and the attention chosen there."""
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
            "attention": attention,
        },
    )


def _identity(config: TrainConfig) -> dict[str, Any]:
    plain = {name: value for name, value in to_plain(config).items() if name not in LAYOUT}
    # store.json holds the digest of every shard, so its own digest stands for the data.
    stores = {
        s.store: digest((Path(s.store) / "store.json").read_bytes())
        for s in (*config.data.sources, *config.validation)
    }
    return {
        "digest": config_digest(_without_stores(plain, stores)),
        "train": plain,
        "stores": stores,
        "init": None if config.init_from is None else _digest_of_weights(config.init_from),
        "code": [code_digest()],
    }


def _digest_of_weights(origin: str) -> str | None:
    """What tells first weights from others; None where they are not here (any more)."""
    found = find_checkpoint(origin)
    folder = Path(origin) if found is None else found
    files = sorted(p for p in folder.glob("*") if p.suffix in (".json", ".safetensors"))
    # Sizes, not bytes, of the weights: a start does not read gigabytes to learn that nothing has changed.
    return (
        digest(*(str(p.stat().st_size) if p.suffix != ".json" else p.read_bytes() for p in files))
        if files
        else None
    )


def _without_paths(identity: dict[str, Any]) -> dict[str, Any]:
    """What two starts of one run have in common, wherever its data lie."""
    return {"train": _without_stores(identity["train"], identity["stores"])} | (
        {"init": identity["init"]} if identity.get("init") else {}
    )


def _without_stores(train: dict[str, Any], stores: dict[str, str]) -> dict[str, Any]:
    def named(sources: list[dict[str, Any]]) -> list[dict[str, Any]]:
        # A name is a path's last part where none was given; phases were checked against it.
        return [s | {"store": stores.get(s["store"], s["store"])} for s in sources]

    data = train["data"] | {"sources": named(train["data"]["sources"])}
    given = None if train["init_from"] is None else "given"
    return train | {"data": data, "validation": named(train["validation"]), "init_from": given}


def _differences(old: Any, new: Any, name: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            d
            for key in sorted({*old, *new})
            for d in _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            d
            for n, (a, b) in enumerate(zip(old, new, strict=True))
            for d in _differences(a, b, f"{name}[{n}]")
        ]
    # First weights that are gone since cannot be compared, nor are they needed.
    return (
        [] if old == new or (name == "init" and None in (old, new)) else [f"{name}: {old} there, {new} now"]
    )
