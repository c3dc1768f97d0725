"""What the first bytes of a sound file say, where libsndfile is silent about it.

libsndfile shortens a wav that was cut off to what is there, without a word: the transcript would be longer than the
sound. These functions look at the bytes themselves.
"""

import struct
from typing import BinaryIO

from sodakit.errors import AudioError

OPEN_ENDED = (0, 0x7FFFFFFF, 0xFFFFFFFF)
"""Lengths that programs write who do not know it yet, such as ffmpeg into a pipe (the last with a header
or two subtracted: `STREAM_SLACK`)."""
STREAM_SLACK = 4096
MAX_CHUNKS = 1000

SAMPLE_CHUNKS = {b"RIFF": b"data", b"FORM": b"SSND"}


def container_of(handle: BinaryIO) -> str | None:
    """The ffmpeg demuxer for a file that libsndfile cannot read, or None. Leaves the file at its beginning."""
    head = _head(handle, 12)
    if len(head) >= 2 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "aac"  # ADTS: twelve set bits, then layer 00, which no MPEG audio has
    if head[4:8] == b"ftyp":
        return "mov"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    return None


def has_exact_length(handle: BinaryIO) -> bool:
    """Whether the header counts the samples: lossless formats do, and mp3 with a Xing or Info frame."""
    head = _head(handle, 4096)
    if head[:4] in (b"RIFF", b"RF64", b"FORM", b"fLaC", b"OggS"):
        return True
    return b"Xing" in head or b"Info" in head


def check_promised_bytes(handle: BinaryIO, name: str) -> None:
    """Raise if a wav or aiff promises more sound than the file holds, or much less. Leaves it at its beginning.

    Raises:
        AudioError: it does; the message has both numbers.
    """
    found = _sample_chunk(handle)
    if found is not None and not any(0 <= limit - found[0] <= STREAM_SLACK for limit in OPEN_ENDED):
        promised, present = found
        numbers = f"its header promises {promised} bytes of sound, {present} are there"
        advice = "It is damaged: fetch it again, or leave it out."
        if promised > present:
            raise AudioError(f"{name} breaks off: {numbers}. {advice}")
        # Other chunks may follow the sound; more bytes than the sound itself that begin no chunk are sound.
        if present > 2 * promised + 8 and not _is_chunk_name(handle, promised - present):
            raise AudioError(f"{name} has a wrong length: {numbers}. {advice}")
    handle.seek(0)


def _sample_chunk(handle: BinaryIO) -> tuple[int, int] | None:
    """Bytes that the chunk of samples promises, and bytes that are there; None if it is not found."""
    head = _head(handle, 12)
    wanted = SAMPLE_CHUNKS.get(head[:4])
    if wanted is None:
        return None
    length = "<I" if head[:4] == b"RIFF" else ">I"
    end = handle.seek(0, 2)
    place = 12
    for _ in range(MAX_CHUNKS):
        handle.seek(place)
        chunk = handle.read(8)
        if len(chunk) < 8:
            return None
        (size,) = struct.unpack(length, chunk[4:])
        if chunk[:4] == wanted:
            return size, end - place - 8
        place += 8 + size + size % 2
    return None


def _is_chunk_name(handle: BinaryIO, from_end: int) -> bool:
    # Chunks begin at even places, so one byte of filling may come first.
    handle.seek(from_end, 2)
    found = handle.read(5)
    return any(name.isascii() and name.decode("ascii").isprintable() for name in (found[:4], found[1:]))


def _head(handle: BinaryIO, count: int) -> bytes:
    handle.seek(0)
    head = handle.read(count)
    handle.seek(0)
    return head
