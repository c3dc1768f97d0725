"""One process a folder: a lock of the kernel, which a process that has died does not hold.

It holds between machines where the file system locks files (`scaling/lock.py` lists them). The queue's own lock is another
thing: it says to those who only look whether a point is being trained.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from sodakit.disk import writing
from sodakit.errors import ConfigError
from sodakit.log import say

NAME = ".running"
"""The file that is locked, and says by whom."""


@contextmanager
def hold(folder: Path, done: str) -> Iterator[None]:
    """Hold a folder inside the block. Nothing of it is left behind, and a folder that stays empty is not either.

    Args:
        folder: made if it is not there.
        done: what is done with it, as "trained", for the message.
    Raises:
        ConfigError: another process holds it; the message names it.
    """
    path, new = folder / NAME, not folder.exists()
    file = _locked(path, done)
    with file:
        with writing(path):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        try:
            yield
        finally:
            with suppress(OSError):  # a disk that is gone, or a folder that was
                path.unlink()
                if new:
                    folder.rmdir()


def _locked(path: Path, done: str) -> IO[str]:
    """The file, locked. One that its holder removed meanwhile is nobody's lock: it is made again."""
    while True:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(path, "a+", encoding="utf-8")  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read() or "another process"
            file.close()
            raise ConfigError(
                f"{path.parent} is being {done} by {holder}. Wait for it, stop it, or choose another folder."
            ) from error
        except OSError as error:  # a file system that locks no files
            say(f"{path.parent} cannot be locked ({error.strerror}): start no second process in it.")
            return file
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
        file.close()
