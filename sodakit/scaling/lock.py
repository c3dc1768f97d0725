"""Whose a folder of the queue is: a lock file that its holder touches while it works.

Looking at that file and changing it is one step, under the kernel's lock (flock) on `.lock` beside it: else two that find
the same dead lock would both take it. The kernel drops it when a process dies. It holds between machines on NFS 4 (NFS 3
with lockd), GPFS, CephFS, Lustre mounted with `flock` and BeeGFS with global file locks. Where it holds within a machine
only (`localflock`), two machines must not look at a dead lock in the same few milliseconds; nothing else is weaker there.
"""

import errno
import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO

from sodakit.files import read_json
from sodakit.log import say

BEAT_EVERY_S = 60.0
"""Between touches of the lock file."""
STALE_AFTER_S = 10 * 60.0
"""A lock that was not touched for so long belongs to a machine that is gone, or to a process whose number another one
has now."""


@contextmanager
def lock(folder: Path) -> Iterator[bool]:
    """Whether this process now holds the folder; a lock of a process that is gone is taken over."""
    folder.mkdir(parents=True, exist_ok=True)
    # Whose lock it is: a process that stood still for too long finds another's in its place.
    token = secrets.token_hex(8)
    if not _take(folder, token):
        yield False
        return
    released = threading.Event()
    heart = threading.Thread(target=_beat, args=(folder, token, released), name="sodakit-lock", daemon=True)
    heart.start()
    try:
        yield True
    finally:
        released.set()
        heart.join()
        _if_ours(folder, token, os.unlink)


def holder(folder: Path) -> str | None:
    """Who works in this folder now, or None."""
    path = folder / "lock.json"
    try:
        if time.time() - path.stat().st_mtime > STALE_AFTER_S:
            return None
        held = read_json(path)
    except FileNotFoundError:
        return None
    except ValueError:
        return "somebody"
    if held["host"] != socket.gethostname():
        return str(held["host"])
    try:
        os.kill(held["pid"], 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return f"process {held['pid']}"


def _take(folder: Path, token: str) -> bool:
    """Write the lock file, unless somebody living holds the folder; whether it was written."""
    path = folder / "lock.json"
    with _alone(folder):
        if holder(folder) is not None:
            return False
        path.unlink(missing_ok=True)
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:  # where flock does nothing
            return False
        with os.fdopen(handle, "w") as file:
            json.dump({"pid": os.getpid(), "host": socket.gethostname(), "token": token}, file)
    return True


def _beat(folder: Path, token: str, released: threading.Event) -> None:
    while not released.wait(BEAT_EVERY_S):
        if not _if_ours(folder, token, os.utime):
            say(
                f"{folder} is no longer held by this process: its lock was deleted, or taken when it stood still."
            )
            return


def _if_ours(folder: Path, token: str, change: Callable[[Path], None]) -> bool:
    """Change the lock file if it is still the one with our token; whether it was."""
    path = folder / "lock.json"
    try:
        with _alone(folder):
            if read_json(path).get("token") != token:
                return False
            change(path)
    except (FileNotFoundError, ValueError):
        return False
    return True


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Meanwhile no other process looks at the folder's lock file to change it."""
    with open(folder / ".lock", "a") as file:
        _flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # Closing would not do: a worker that was forked meanwhile has the same file open.
            _flock(file, fcntl.LOCK_UN)


def _flock(file: IO[str], operation: int) -> None:
    try:
        fcntl.flock(file, operation)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        _say_without(os.strerror(error.errno))


@cache
def _say_without(why: str) -> None:
    say(
        f"This file system locks no files ({why}): do not start several queues at the same moment after a crash."
    )
