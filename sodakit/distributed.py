"""Which process this is among those that train together."""

import os


def rank() -> int:
    """This process's number, 0 where there is only one (torchrun sets RANK)."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes train together (torchrun sets WORLD_SIZE)."""
    return int(os.environ.get("WORLD_SIZE", "1"))
