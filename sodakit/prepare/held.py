"""Sound files inside other files: read where they lie, never unpacked to disk."""

import io
from abc import ABC, abstractmethod
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sodakit.audio.files import probe, read_part
from sodakit.audio.wave import Wave


class HeldFile(ABC):
    """The bytes of a sound file inside another file; what `Item.held` asks for follows from `open`."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Where it lies, as a person would look for it."""

    @abstractmethod
    def open(self) -> BinaryIO:
        """The sound file, from its first byte.

        Raises:
            AudioError: it cannot be found where it was.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Digest of names and sizes."""

    def duration_s(self) -> float:
        """Length by its header."""
        with self.open() as handle:
            return probe(handle, self.name).duration_s

    def read(self, start_s: float | None, end_s: float | None) -> Wave:
        """The sound from `start_s` to `end_s`."""
        with self.open() as handle:
            return read_part(handle, start_s, end_s, self.name)

    def codes(self) -> np.ndarray | None:
        """None: it holds sound."""
        return None


class Window(io.RawIOBase):
    """A stretch of a file, as a file of its own."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        self._handle = open(path, "rb")  # noqa: SIM115 - closed with this window
        self._offset, self._size, self._place = offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        count = max(0, min(len(buffer), self._size - self._place))
        self._handle.seek(self._offset + self._place)
        read = self._handle.readinto(memoryview(buffer)[:count])
        self._place += read
        return read

    def close(self) -> None:
        self._handle.close()
        super().close()


def open_window(path: Path, offset: int, size: int) -> BinaryIO:
    """`size` bytes of a file from `offset`, as a file that closes it."""
    return io.BufferedReader(Window(path, offset, size))
