"""Which checkpoint a folder means, and opening it, with its damage found before anything is computed from it."""

import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from sodakit.checkpoint.contents import (
    BEST,
    CODEC,
    CONFIG,
    CONTENTS,
    FORMAT_VERSION,
    OF_RUN,
    STATE,
    WEIGHTS,
    Checkpoint,
)
from sodakit.checkpoint.shipped import NAMES, absent, named_folder
from sodakit.config import from_plain
from sodakit.distributed import rank
from sodakit.errors import CheckpointError, ConfigError, DamagedCheckpoint
from sodakit.files import file_sha256, read_json
from sodakit.log import say
from sodakit.model.any_config import AnyConfig

_STEP_NAME = re.compile(r"step_(\d+)")
Which = Literal["best", "last"]


def find_checkpoint(path: Path | str, which: Which = "best") -> Path | None:
    """The one checkpoint that a folder means; None if there is none. What is chosen is said.

    A checkpoint is itself. A run means the `best/` it kept, as `sodakit finetune` does, unless `which` is "last"; a run
    without one means its newest. So does a folder of checkpoints, as `RUN/checkpoints` is, whatever lies beside it. The
    name of a model that is shipped means that one (`shipped.py`).
    """
    folder = named_folder(path)
    if (folder / CONTENTS).exists():
        return folder
    has_best = which == "best" and (folder / BEST / CONTENTS).exists()
    found = folder / BEST if has_best else latest_checkpoint(folder / OF_RUN) or latest_checkpoint(folder)
    if found is not None and rank() == 0:
        say(f"{folder}: its {'best' if has_best else 'newest'} checkpoint, {found.relative_to(folder)}.")
    return found


def load_checkpoint(path: Path | str, which: Which = "best") -> Checkpoint:
    """The checkpoint that a folder means: itself, or a run's, as `find_checkpoint` chooses.

    Raises:
        CheckpointError: none there, made by a later version, or a part missing or damaged; the message names it.
    """
    folder = find_checkpoint(path, which)
    if folder is None and str(path) in NAMES:
        raise CheckpointError(absent(str(path)))
    if folder is None:
        what = "is no checkpoint, and holds none named step_..." if Path(path).is_dir() else "does not exist"
        raise CheckpointError(
            f"{path} {what}. Needed: a folder written by `sodakit train`, with {CONTENTS} and {WEIGHTS}. "
            "Commands take it by --model."
        )
    _check_files(folder)
    plain = _read_object(folder / CONFIG)
    if "model" not in plain:
        raise DamagedCheckpoint(f"{folder / CONFIG} has no 'model'. {_REMEDY}")
    try:
        model_config = from_plain(AnyConfig, plain["model"], "model")
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{folder / CONFIG} describes no model: {error}") from error
    return Checkpoint(
        folder=folder,
        model_config=model_config,
        config=plain.get("run", {}),
        state=_read_object(folder / STATE),
        codec=_read_object(folder / CODEC) if (folder / CODEC).exists() else None,
    )


def latest_checkpoint(run_folder: Path | str) -> Path | None:
    """The folder of the highest step in a run (`step_00001234`); None if there is no finished one."""
    return next(iter(checkpoints_of(run_folder)), None)


def checkpoints_of(run_folder: Path | str) -> list[Path]:
    """The finished checkpoints of a run, the newest first."""
    found = {
        int(match[1]): path
        for path in (Path(run_folder).iterdir() if Path(run_folder).is_dir() else ())
        if (match := _STEP_NAME.fullmatch(path.name)) and (path / CONTENTS).exists()
    }
    return [found[step] for step in sorted(found, reverse=True)]


_REMEDY = "The checkpoint is damaged: copy it again, or delete the folder to go on from an earlier one."


def _check_files(folder: Path) -> None:
    contents = _read_object(folder / CONTENTS)
    if contents.get("format") != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has format {contents.get('format')!r}; this sodakit reads {FORMAT_VERSION}. Update sodakit."
        )
    files = contents.get("files")
    if not isinstance(files, dict) or not isinstance(contents.get("sha256", {}), dict):
        raise DamagedCheckpoint(f"{folder / CONTENTS} lists no files. {_REMEDY}")
    for name, size in files.items():
        path = folder / name
        if not path.exists():
            raise DamagedCheckpoint(f"{folder} has lost {name}. {_REMEDY}")
        # Text may be edited by hand, and says itself when it is broken.
        if path.suffix != ".json" and path.stat().st_size != size:
            raise DamagedCheckpoint(
                f"{folder / name} has {path.stat().st_size} bytes; it was written with {size}. {_REMEDY}"
            )
        if path.suffix == ".safetensors":
            _check_tensors(path)
    if rank() == 0:  # every rank reads the same files
        _check_digests(folder, contents.get("sha256"))


def _check_digests(folder: Path, digests: dict[str, str] | None) -> None:
    if digests is None:
        say(
            f"{folder} has no digests of its weights (an older sodakit wrote it): they are taken as they are."
        )
        return
    for name, expected in digests.items():
        if not (folder / name).is_file():
            raise DamagedCheckpoint(f"{folder} has lost {name}. {_REMEDY}")
        found = (folder / name).stat()
        if _sha256_of(folder / name, found.st_size, found.st_mtime_ns) != expected:
            raise DamagedCheckpoint(
                f"{folder / name} has changed since it was written: its SHA-256 is not the one in {CONTENTS}. {_REMEDY}"
            )


@lru_cache(maxsize=64)
def _sha256_of(path: Path, size: int, mtime_ns: int) -> str:
    """Read once a process: a resumed run opens its checkpoint twice."""
    return file_sha256(path)


def _check_tensors(path: Path) -> None:
    try:
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise DamagedCheckpoint(f"{path} cannot be read ({error}). {_REMEDY}") from error


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
    except FileNotFoundError as error:
        raise DamagedCheckpoint(f"{path} is missing. {_REMEDY}") from error
    except ConfigError as error:
        raise DamagedCheckpoint(f"{error} {_REMEDY}") from error
    if not isinstance(value, dict):
        raise DamagedCheckpoint(f"{path} holds a {type(value).__name__}; needed: an object. {_REMEDY}")
    return value
