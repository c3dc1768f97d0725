"""A disk of a few kilobytes, mounted in memory: it needs a Linux and its administrator, as in a container."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class SmallDisk:
    """Mounted at `folder`."""

    folder: Path

    def resize(self, num_bytes: int) -> None:
        """So large from now on; what is there stays."""
        subprocess.run(
            ["mount", "-o", f"remount,size={num_bytes}", str(self.folder)], check=True, capture_output=True
        )


@contextmanager
def small_disk(folder: Path, num_bytes: int = 1 << 20) -> Iterator[SmallDisk]:
    """A disk until the block ends; the test is skipped where none can be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={num_bytes}", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no disk can be mounted here: it needs Linux and its administrator")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)
