"""A stretch of a file as a file of its own: a member of a tar, one of several joined sounds."""

import io
from pathlib import Path
from typing import BinaryIO


class Window(io.RawIOBase):
    """`size` bytes of a file from `offset`, after the bytes of `head`."""

    def __init__(
        self, handle: BinaryIO, offset: int, size: int, head: bytes = b"", owns: bool = False
    ) -> None:
        self._handle, self._offset, self._head, self._owns = handle, offset, head, owns
        self._size, self._place = len(head) + size, 0

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
        if self._place < len(self._head):
            data = self._head[self._place : self._place + count]
        else:
            self._handle.seek(self._offset + self._place - len(self._head))
            data = self._handle.read(count)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def close(self) -> None:
        if self._owns:
            self._handle.close()
        super().close()


def open_window(path: Path, offset: int, size: int) -> BinaryIO:
    """`size` bytes of the file at a path, as a file that closes it."""
    return io.BufferedReader(Window(open(path, "rb"), offset, size, owns=True))


def open_part(handle: BinaryIO, offset: int, size: int, head: bytes = b"") -> BinaryIO:
    """`size` bytes of an open file, after `head`, as a file that leaves it open."""
    return io.BufferedReader(Window(handle, offset, size, head))
