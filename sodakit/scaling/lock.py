"""Whose a folder of the queue is: a lock file that its holder touches while it works."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sodakit.files import read_json

BEAT_EVERY_S = 60.0
"""Between touches of the lock file."""
STALE_AFTER_S = 10 * 60.0
"""A lock that was not touched for so long belongs to a machine that is gone, or to a process whose number another one
has now."""


@contextmanager
def lock(folder: Path) -> Iterator[bool]:
    """Whether this process now holds the folder; a lock of a process that is gone is taken over."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lock.json"
    if holder(folder) is None:
        path.unlink(missing_ok=True)
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        yield False
        return
    with os.fdopen(handle, "w") as file:
        file.write(f'{{"pid": {os.getpid()}, "host": "{socket.gethostname()}"}}\n')
    released = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, released), name="sodakit-lock", daemon=True)
    heart.start()
    try:
        yield True
    finally:
        released.set()
        heart.join()
        path.unlink(missing_ok=True)


def _beat(path: Path, released: threading.Event) -> None:
    while not released.wait(BEAT_EVERY_S):
        # Somebody may have deleted the folder; the holder will notice when it writes.
        if path.exists():
            os.utime(path)


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
