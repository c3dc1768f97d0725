"""What the first bytes of a sound file say, where libsndfile is silent about it.

libsndfile shortens a wav that was cut off to what is there, without a word: the transcript would be longer than the
sound. These functions look at the bytes themselves.
"""

import struct
from pathlib import Path
from typing import BinaryIO

from sodakit.audio import mpeg
from sodakit.errors import AudioError

OPEN_ENDED = (0, 0x7FFFFFFF, 0xFFFFFFFF)
"""Lengths that programs write who do not know it yet, such as ffmpeg into a pipe (the last with a header
or two subtracted: `STREAM_SLACK`)."""
STREAM_SLACK = 4096
MAX_CHUNKS = 1000

_LIKE = (
    (0, b"fLaC", "flac"), (0, b"OggS", "ogg"), (0, b".snd", "au"), (0, b"caff", "caf"), (0, b"riff\x2e\x91\xcf\x11", "w64"),
    (0, b"BW64", "bw64"), (8, b"WAVE", "wav"), (8, b"AIFF", "aiff"), (8, b"AIFC", "aiff"), (4, b"ftyp", "mp4"), (0, b"\x1a\x45\xdf\xa3", "webm"),
    (0, b"\x0b\x77", "ac3"), (0, b"#!AMR", "amr"), (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "wma"), (0, b"MAC ", "ape"),
    (0, b"wvpk", "wavpack"), (0, b"TTA1", "tta"), (0, b"DSD ", "dsf"), (0, b"FRM8", "dff"), (0, b"NIST_1A", "sphere"),
    (0, b"\x7f\xfe\x80\x01", "dts"), (0, b"Creative Voice File", "voc"), (0, b"TRUEHD", "truehd"),
    (0, b"MThd", "midi"), (0, b"FLV", "flv"), (8, b"AVI ", "avi"), (0, b"Extended Module", "a tracker module"),
)  # fmt: skip
"""Place, bytes there and the kind of file they mean."""
_DEMUXERS = {"aac": "aac", "mp4": "mov", "webm": "matroska"}
_SPEEX = b"Speex   "

_SAMPLE_CHUNKS = {
    b"RIFF": (b"data", "<I"), b"RIFX": (b"data", ">I"), b"RF64": (b"data", "<I"), b"FORM": (b"SSND", ">I"),
}  # fmt: skip
"""The chunk that holds the sound, and how lengths are written, by the first bytes of the file."""
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"


def kind_of(handle: BinaryIO) -> str | None:
    """What kind of sound file it is by its content: `wav`, `mp3`, `speex`, …; None of what is no sound.

    Kinds that are not read are known too, so that they can be named. Leaves the file at its beginning.
    """
    head = _head(handle, 64)
    for place, mark, kind in _LIKE:
        if head[place : place + len(mark)] == mark:
            return "speex" if kind == "ogg" and _SPEEX in head else kind
    if len(head) >= 4 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0 and head[2] >> 2 & 15 < 13:
        return "aac"  # ADTS: twelve set bits, then layer 00, which no MPEG audio has
    return "mp3" if mpeg.first_frame(handle) is not None else None


def kind_of_file(path: Path) -> str | None:
    """The same of a file by its path; None too of what cannot be opened, and of folders, pipes and devices."""
    try:
        if not path.is_file():
            return None
        with open(path, "rb") as handle:
            return kind_of(handle)
    except OSError:
        return None


def container_of(handle: BinaryIO) -> str | None:
    """The ffmpeg demuxer for a file that libsndfile cannot read, or None. Leaves the file at its beginning."""
    return _DEMUXERS.get(kind_of(handle) or "")


def check_promised_bytes(handle: BinaryIO, name: str) -> None:
    """Raise if a file with uncompressed sound promises more of it than it holds, or much less. Leaves it at its beginning.

    Raises:
        AudioError: it does; the message has both numbers. Or another file was joined to it.
    """
    found = _promised(handle)
    if found is not None:
        promised, place = found
        present = max(0, handle.seek(0, 2) - place)
        if promised < 0 or any(0 <= limit - promised <= STREAM_SLACK for limit in OPEN_ENDED):
            handle.seek(0)
            return
        numbers = f"its header promises {promised} bytes of sound, {present} are there"
        advice = "It is damaged: fetch it again, or leave it out."
        if promised > present:
            raise AudioError(f"{name} breaks off: {numbers}. {advice}")
        after = _after(handle, place + promised)
        if after[:4] in (*_SAMPLE_CHUNKS, b"riff", b".snd", b"caff"):
            raise AudioError(
                f"{name} is several files joined, of which only the first would be read: {numbers}. Cut them apart."
            )
        # Other chunks may follow the sound; more bytes than the sound itself that begin no chunk are sound.
        if present > 2 * promised + 8 and not _is_chunk_name(after[:4]):
            raise AudioError(f"{name} has a wrong length: {numbers}. {advice}")
    handle.seek(0)


def _promised(handle: BinaryIO) -> tuple[int, int] | None:
    """Bytes of sound that the header promises, and where they begin; None where it is not found."""
    head = _head(handle, 40)
    if head[:4] == b".snd" and len(head) >= 12:
        offset, size = struct.unpack(">II", head[4:12])
        return size, offset
    if head[:4] == b"caff":
        place, size = _find_chunk(handle, 8, b"data", ">q", 4)
        return None if place < 0 else (-1 if size < 0 else size - 4, place + 4)  # an edit count comes first
    if head[:4] == b"riff":
        place, size = _find_chunk(handle, 40, _W64_DATA, "<q", 16, counts_itself=True, align=8)
        return None if place < 0 else (size, place)
    if head[:4] not in _SAMPLE_CHUNKS:
        return None
    wanted, length = _SAMPLE_CHUNKS[head[:4]]
    place, size = _find_chunk(handle, 12, wanted, length, 4, align=2)
    if head[:4] == b"RF64" and head[12:16] == b"ds64" and len(head) >= 36 and size == OPEN_ENDED[-1]:
        (size,) = struct.unpack("<q", head[28:36])
    return None if place < 0 else (size, place)


def _find_chunk(
    handle: BinaryIO, place: int, wanted: bytes, length: str, name_bytes: int, *, counts_itself: bool = False,
    align: int = 1,
) -> tuple[int, int]:  # fmt: skip
    """Where the content of a chunk begins, and its size; (-1, 0) if there is none."""
    head_bytes = name_bytes + struct.calcsize(length)
    for _ in range(MAX_CHUNKS):
        handle.seek(place)
        chunk = handle.read(head_bytes)
        if len(chunk) < head_bytes:
            break
        (size,) = struct.unpack(length, chunk[name_bytes:])
        if counts_itself:
            size -= head_bytes
        if chunk[:name_bytes] == wanted:
            return place + head_bytes, size
        if size < 0:
            break
        place += head_bytes + size + -size % align
    return -1, 0


def _after(handle: BinaryIO, place: int) -> bytes:
    """What follows the sound, after a byte or more of filling: chunks begin at even places."""
    handle.seek(place)
    found = handle.read(12)
    if place % 2 and found[:1] == b"\0":
        return found[1:]
    return found if _is_chunk_name(found[:4]) else found[1:]


def _is_chunk_name(found: bytes) -> bool:
    return len(found) == 4 and found.isascii() and found.decode("ascii").isprintable()


def _head(handle: BinaryIO, count: int) -> bytes:
    handle.seek(0)
    head = handle.read(count)
    handle.seek(0)
    return head
