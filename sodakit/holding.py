"""One process a folder: a lock of the kernel, which a process that has died does not hold.

It holds between machines where the file system locks files (`scaling/lock.py` lists them). The queue's own lock is another
thing: it says to those who only look whether a point is being trained.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sodakit.disk import writing
from sodakit.errors import ConfigError
from sodakit.log import say

NAME = ".running"
"""The file that is locked, and says by whom."""


@contextmanager
def hold(folder: Path, done: str) -> Iterator[None]:
    """Hold a folder inside the block.

    Args:
        folder: made if it is not there.
        done: what is done with it, as "trained", for the message.
    Raises:
        ConfigError: another process holds it; the message names it.
    """
    path = folder / NAME
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise ConfigError(
                f"{folder} is being {done} by {file.read() or 'another process'}. Wait for it, stop it, or choose another "
                "folder."
            ) from error
        except OSError as error:  # a file system that locks no files
            say(f"{folder} cannot be locked ({error.strerror}): start no second process in it.")
        with writing(path):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        yield
