"""Ogg files of several sounds in a row, of which libsndfile reads the first and is silent about the others."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from sodakit.audio.mpeg import MOST_PASSED_BYTES
from sodakit.audio.window import open_part
from sodakit.errors import AudioError

_MARK = b"OggS"
_SOUNDS = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ")
_FIRST_PAGE = 2
_HEAD_BYTES = 27
_BLOCK_BYTES = 1 << 16


def links(handle: BinaryIO, name: str) -> list[BinaryIO]:
    """The sounds that are joined in an Ogg file, each as a file; for most files, the file itself.

    Raises:
        AudioError: it ends within a page, holds several sounds side by side, or its pages lie about how long it is.
    """
    size = handle.seek(0, 2)
    starts, in_headers, sounds = [0], True, 0
    reached: dict[int, int] = {}
    for page in _pages(handle, size, name):
        if page.end > size:
            raise AudioError(
                f"{name} breaks off: its last page promises {page.end - page.place} bytes, {size - page.place} are "
                "there. It is damaged: fetch it again, or leave it out."
            )
        # Several streams side by side begin together: their first pages stand next to each other.
        if page.is_first:
            if not in_headers:
                starts.append(page.place)
                sounds = 0
            sounds += page.is_sound
            if sounds > 1:
                raise AudioError(
                    f"{name} holds several sounds side by side, of which only the first would be read. Keep one, for "
                    "example with `ffmpeg -map 0:a:0`."
                )
            reached[page.stream] = 0
        if page.granule < reached.get(page.stream, 0) if page.granule != -1 else page.ends_packet:
            raise AudioError(
                f"{name} has a wrong length: the page at byte {page.place} counts {page.granule} samples, one before "
                f"it {reached.get(page.stream, 0)}. It is damaged: fetch it again, or leave it out."
            )
        reached[page.stream] = max(page.granule, reached.get(page.stream, 0))
        in_headers = page.is_first
    handle.seek(0)
    if len(starts) == 1:
        return [handle]
    return [
        open_part(handle, start, stop - start)
        for start, stop in zip(starts, [*starts[1:], size], strict=True)
    ]


@dataclass(frozen=True)
class _Page:
    place: int
    end: int
    """By its header; it may be beyond the file's."""
    is_first: bool = False
    """Whether a stream begins with it."""
    stream: int = 0
    granule: int = 0
    """Samples of its stream up to its last packet's end; -1 where none ends."""
    ends_packet: bool = False
    is_sound: bool = False
    """Whether a stream of sound begins with it."""


def _pages(handle: BinaryIO, size: int, name: str) -> Iterator[_Page]:
    """Every page. What is none is passed over, unless there is much of it."""
    place = passed_bytes = 0
    while place < size:
        handle.seek(place)
        head = handle.read(_HEAD_BYTES)
        if head[: len(_MARK)] != _MARK[: len(head)]:
            after = _next_mark(handle, place + 1, min(size, place + MOST_PASSED_BYTES + 2))
            passed_bytes, place = passed_bytes + after - place, after
            if passed_bytes > MOST_PASSED_BYTES:
                raise AudioError(
                    f"{name} holds more than {MOST_PASSED_BYTES >> 20} MiB that are no sound. It is damaged: fetch it "
                    "again, or leave it out."
                )
            continue
        if len(head) < _HEAD_BYTES:
            yield _Page(place, place + _HEAD_BYTES)
            return
        flags, granule, stream, segments = struct.unpack("<5xBqI8xB", head)
        lengths = handle.read(segments)
        end = place + _HEAD_BYTES + segments + sum(lengths)
        is_first = bool(flags & _FIRST_PAGE)
        yield _Page(
            place,
            end,
            is_first,
            stream,
            granule,
            ends_packet=any(length < 255 for length in lengths),
            is_sound=is_first and handle.read(8).startswith(_SOUNDS),
        )
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
