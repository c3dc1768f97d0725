"""Ogg files of several sounds in a row, of which libsndfile reads the first and is silent about the others."""

import struct
from collections.abc import Iterator
from typing import BinaryIO

from sodakit.audio.window import open_part
from sodakit.errors import AudioError

_MARK = b"OggS"
_FIRST_PAGE = 2
_HEAD_BYTES = 27
_BLOCK_BYTES = 1 << 16


def links(handle: BinaryIO, name: str) -> list[BinaryIO]:
    """The sounds that are joined in an Ogg file, each as a file; for most files, the file itself.

    Raises:
        AudioError: it ends within a page.
    """
    size = handle.seek(0, 2)
    starts = [0]
    in_headers = True
    for place, is_first, end in _pages(handle, size):
        if end > size:
            raise AudioError(
                f"{name} breaks off: its last page promises {end - place} bytes, {size - place} are there. It is "
                "damaged: fetch it again, or leave it out."
            )
        # Several streams side by side begin together: their first pages stand next to each other.
        if is_first and not in_headers:
            starts.append(place)
        in_headers = is_first
    handle.seek(0)
    if len(starts) == 1:
        return [handle]
    return [
        open_part(handle, start, stop - start)
        for start, stop in zip(starts, [*starts[1:], size], strict=True)
    ]


def _pages(handle: BinaryIO, size: int) -> Iterator[tuple[int, bool, int]]:
    """Where each page begins, whether a stream begins with it, and where it should end. What is no page is passed over."""
    place = 0
    while place < size:
        handle.seek(place)
        head = handle.read(_HEAD_BYTES)
        if head[: len(_MARK)] != _MARK[: len(head)]:
            place = _next_mark(handle, place + 1, size)
            continue
        if len(head) < _HEAD_BYTES:
            yield place, False, place + _HEAD_BYTES
            return
        flags, segments = struct.unpack("<5xB20xB", head)
        end = place + _HEAD_BYTES + segments + sum(handle.read(segments))
        yield place, bool(flags & _FIRST_PAGE), end
        place = end


def _next_mark(handle: BinaryIO, place: int, size: int) -> int:
    while place < size:
        handle.seek(place)
        data = handle.read(_BLOCK_BYTES)
        found = data.find(_MARK)
        if found >= 0:
            return place + found
        place += max(1, len(data) - len(_MARK) + 1)
    return size
