"""Which process this is among those that train together, and how it ends with the one that started it."""

import os
import threading
from multiprocessing import connection, parent_process


def rank() -> int:
    """This process's number, 0 where there is only one (torchrun sets RANK)."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes train together (torchrun sets WORLD_SIZE)."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def end_with_parent() -> None:
    """From now on this process ends when the one that started it does, however that ends.

    A worker of a killed job would wait for work for ever.
    """
    threading.Thread(target=_wait_for_parent, name="sodakit-parent", daemon=True).start()


def _wait_for_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
