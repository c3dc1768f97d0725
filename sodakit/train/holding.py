"""One process a run folder: a lock of the kernel, which a process that has died does not hold.

It holds between machines where the file system locks files (`scaling/lock.py` lists them). The queue's own lock is another
thing: it says to those who only look whether a point is being trained.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sodakit.errors import ConfigError
from sodakit.log import say
from sodakit.train.identity import check_is_run_folder


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold a run folder inside the block.

    Raises:
        ConfigError: another process trains in it; the message names it. Or no run can be in this folder.
    """
    check_is_run_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".running", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise ConfigError(
                f"{folder} is being trained by {file.read() or 'another process'}. Wait for it, stop it, or choose another "
                "folder."
            ) from error
        except OSError as error:  # a file system that locks no files
            say(f"{folder} cannot be locked ({error.strerror}): start no second run in it.")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
