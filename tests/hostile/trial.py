"""What the trials of bad inputs share: a command in this process, held to its status and its words."""

import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from sodakit.cli import main as sodakit

PREPARE = ("--codec", "toy", "--validation", "0", "--test", "0", "--max-failed-fraction", "1")
CPU = ("--device", "cpu")
Trial = Callable[[Path, Path], int]
"""From the folder of whole things and an empty one to the number of bad inputs that ended as they should; raises otherwise."""


def run(*words: object) -> tuple[int, str]:
    """Status of a command and everything it said, by whatever library."""
    with tempfile.TemporaryFile() as said:
        sys.stdout.flush()
        sys.stderr.flush()
        kept = os.dup(1), os.dup(2)
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        try:
            sodakit([str(word) for word in words])
            status = 0
        except SystemExit as stopped:
            status = stopped.code if isinstance(stopped.code, int) else int(bool(stopped.code))
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, handle in zip((1, 2), kept, strict=True):
                os.dup2(handle, number)
                os.close(handle)
        said.seek(0)
        return status, said.read().decode("utf-8", "replace")


def expect(status: int, says: str, words: list[object]) -> str:
    """Run it and hold it to a status and to words that it says, on lines that may be broken anywhere."""
    found, said = run(*words)
    assert found == status, f"status {found}, not {status}: {said[-600:]}"
    assert "Traceback" not in said, said[-2000:]
    flat = re.sub(r"\s+", " ", said)
    assert says in flat, f"{says!r} is not in: {flat[-600:]}"
    return said
