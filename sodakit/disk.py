"""Disks that are full, read-only or somebody else's: one sentence with the path, what was needed, and what to do."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sodakit.errors import DiskError, SodakitError
from sodakit.units import format_bytes

REMEDIES = {
    errno.ENOSPC: ("the disk is full", "Make room, or choose another folder"),
    errno.EDQUOT: ("the quota of this user is used up", "Make room, or choose another folder"),
    errno.EFBIG: (
        "the file would be larger than is allowed here",
        "Raise the limit, or choose another folder",
    ),
    errno.EROFS: ("the disk is read-only", "Make it writable, or choose another folder"),
    errno.EACCES: ("no permission", "Give this user the right, or choose another folder"),
    errno.EPERM: ("no permission", "Give this user the right, or choose another folder"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "Choose another folder"),
    errno.EEXIST: ("a part of the path is a file, not a folder", "Choose another folder"),
    errno.EISDIR: ("it is a folder; needed: a file", "Choose another path"),
    errno.ENOENT: ("it does not exist", "Check the path"),
    errno.ENAMETOOLONG: ("its name is too long", "Choose a shorter one"),
    errno.ELOOP: ("its links lead in a circle", "Check the path"),
    errno.EIO: ("the disk cannot be read or written", "Check the disk"),
    errno.EMFILE: ("too many files are open", "Raise the limit (ulimit -n)"),
}
IN_WORDS = re.compile(r"\b(?:os error|errno|code:) ?(\d+)\b", re.IGNORECASE)
"""How libraries in other languages spell an error number in their messages."""
FULL_BELOW_BYTES = 64 << 10
"""Whatever a library says when so little is free, the disk is full."""


@contextmanager
def writing(
    path: Path | str, needed_bytes: int | None = None, temporary: Path | None = None
) -> Iterator[None]:
    """What a disk refuses inside becomes one `DiskError` about `path`.

    Args:
        path: what is being written.
        needed_bytes: how long it will be, where that is known.
        temporary: where it is written first; its length so far is told otherwise.
    Raises:
        DiskError: it cannot be written; other errors pass as they are.
    """
    try:
        yield
    except SodakitError:
        raise
    except Exception as error:
        number = _number(error, Path(path))
        if number is None:
            raise
        raise _disk_error(Path(path), number, needed_bytes, temporary) from error


def disk_error(error: OSError) -> DiskError | None:
    """What to tell the user of an error that no one expected; None where it is not about a file."""
    if error.errno not in REMEDIES or not (error.filename or error.errno in (errno.ENOSPC, errno.EDQUOT)):
        return None
    what, todo = REMEDIES[error.errno]
    # A name that is a number is a file handle.
    name = (
        "A file" if error.filename is None or isinstance(error.filename, int) else os.fsdecode(error.filename)
    )
    return DiskError(f"{name}: {what}. {todo}, then run the same command again: it resumes.")


def _disk_error(path: Path, number: int, needed_bytes: int | None, temporary: Path | None) -> DiskError:
    what, todo = REMEDIES[number]
    size = ""
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        written = _size(temporary) if temporary is not None else 0
        needed = (
            f"needed: {format_bytes(needed_bytes)}"
            if needed_bytes
            else f"needed: more than {format_bytes(written)}"
        )
        free = _free_bytes(path)
        size = f"; {needed}" + (f", free: {format_bytes(free)}" if free is not None else "")
    told = DiskError(
        f"{path} cannot be written: {what}{size}. {todo}, then run the same command again: it resumes, and nothing that "
        "was finished is lost."
    )
    told.errno = number
    return told


def _number(error: Exception, path: Path) -> int | None:
    """The error number behind what a library raised; None where it is about something else."""
    if isinstance(error, OSError) and error.errno in REMEDIES:
        return error.errno
    found = IN_WORDS.search(str(error))
    if found and int(found[1]) in REMEDIES:
        return int(found[1])
    free = _free_bytes(path)
    return errno.ENOSPC if free is not None and free < FULL_BELOW_BYTES else None


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.exists() else 0


def _free_bytes(path: Path) -> int | None:
    for folder in (path, *path.absolute().parents):
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            continue
    return None
