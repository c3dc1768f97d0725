"""How long an mp3 is: counted frame by frame, where its header does not say it or says it wrongly.

mpg123 (in libsndfile) estimates the length of a file without an Info frame from the size of the first frames, believes
an Info frame that speaks of the first of several joined files, and stops there in both cases. So the frames are counted
here, and a stream whose count is missing or wrong is read with a right Info frame put before it.
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO

from sodakit.audio.window import open_part
from sodakit.errors import AudioError

_KBITS = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates by (MPEG version, 2.5 counted as 2; layer) and index."""
_RATES_HZ = (44_100, 48_000, 32_000)
MOST_PASSED_BYTES = 1 << 24
"""So much of a file that is no frame of sound and no tag is passed over, as decoders do."""
_WINDOW_BYTES = 1 << 18
_SEARCH_BYTES = 1 << 16
"""Between tags and the first frame there may be filling, at most this."""
_BYTES_SLACK = 1024
"""An Info frame counts bytes; tags before and after the sound are not always counted."""


@dataclass(frozen=True)
class Frame:
    """What the four bytes at the head of a frame say."""

    version: int
    layer: int
    sample_rate_hz: int
    channels: int
    size_bytes: int
    samples: int

    def alike(self, other: "Frame") -> bool:
        """Whether both can belong to one stream."""
        mine, others = ((f.version, f.layer, f.sample_rate_hz) for f in (self, other))
        return mine == others


def frame_at(data: bytes | memoryview, place: int) -> Frame | None:
    """The frame that begins there; None if none does (or one of free format, whose size it does not say)."""
    if place + 4 > len(data) or data[place] != 0xFF or data[place + 1] & 0xE0 != 0xE0:
        return None
    version_bits, layer_bits = data[place + 1] >> 3 & 3, data[place + 1] >> 1 & 3
    bitrate, rate, padding = data[place + 2] >> 4, data[place + 2] >> 2 & 3, data[place + 2] >> 1 & 1
    if version_bits == 1 or layer_bits == 0 or bitrate in (0, 15) or rate == 3:
        return None
    version, layer = (1 if version_bits == 3 else 2), 4 - layer_bits
    rate_hz = _RATES_HZ[rate] // {3: 1, 2: 2, 0: 4}[version_bits]
    samples = 384 if layer == 1 else 576 if (layer, version) == (3, 2) else 1152
    bits = _KBITS[version, layer][bitrate] * 1000
    size = (12 * bits // rate_hz + padding) * 4 if layer == 1 else samples // 8 * bits // rate_hz + padding
    return Frame(version, layer, rate_hz, 1 if data[place + 3] >> 6 == 3 else 2, size, samples)


def first_frame(handle: BinaryIO) -> int | None:
    """Where the first frame of an mp3 begins, after its tags; None of another file. Leaves it at its beginning."""
    place = _after_tags(handle, 0)
    handle.seek(place)
    head = handle.read(_SEARCH_BYTES if place else 8192)
    handle.seek(0)
    found = frame_at(head, 0)
    # A text in UTF-16 begins like a frame of layer I.
    if found is not None and (found.layer > 1 or _is_followed(head, 0, found)):
        return place
    if place == 0 or head[:4] == b"fLaC":
        return None
    at = head.find(b"\xff", 1)
    while at >= 0:
        found = frame_at(head, at)
        if found is not None and _is_followed(head, at, found):
            return place + at
        at = head.find(b"\xff", at + 1)
    return None


def _is_followed(data: bytes, at: int, frame: Frame) -> bool:
    after = frame_at(data, at + frame.size_bytes)
    return after is not None and after.alike(frame)


def counted(handle: BinaryIO, name: str) -> BinaryIO:
    """The mp3 as a file whose Info frame tells its length.

    It is the file itself where it has such a frame and as many bytes as that counts.

    Raises:
        AudioError: it holds fewer frames than its Info frame counts, or changes its rate or channels.
    """
    first_byte = first_frame(handle)
    assert first_byte is not None, "only an mp3 is counted"
    handle.seek(first_byte)
    head = handle.read(4096)
    frame = frame_at(head, 0)
    assert frame is not None
    promised, num_bytes, end_byte = *_info(head[: frame.size_bytes], frame), handle.seek(0, 2)
    handle.seek(0)
    if promised and num_bytes and abs(end_byte - first_byte - num_bytes) <= _BYTES_SLACK:
        return handle
    if promised is not None:
        first_byte += frame.size_bytes
    frames = _count(handle, first_byte, end_byte, frame, name)
    if promised and frames < promised - 1:
        seconds = [f"{n * frame.samples / frame.sample_rate_hz:.2f} s" for n in (frames, promised)]
        raise AudioError(
            f"{name} breaks off after {seconds[0]}; its header promises {seconds[1]}. It is damaged: fetch it again, "
            "or leave it out."
        )
    if frame.layer != 3:
        return handle  # an Info frame would be none; the reader says if it comes to another length
    handle.seek(first_byte)
    header = handle.read(4)
    if frame_at(header, 0) is None:
        header = head[:4]
    return open_part(handle, first_byte, end_byte - first_byte, info_frame(header, frames))


def tagged(handle: BinaryIO) -> BinaryIO:
    """The mp3 with a tag before it, if it has none: by that libsndfile knows it at once. Without one it first looks for
    files of its own choice beside it."""
    handle.seek(0)
    has_tag = handle.read(3) == b"ID3"
    size = handle.seek(0, 2)
    handle.seek(0)
    return handle if has_tag else open_part(handle, 0, size, b"ID3\4\0\0\0\0\0\n" + bytes(10))


def info_frame(header: bytes, frames: int) -> bytes:
    """A frame that is silent and says how many follow, for a layer III stream whose frames have this header."""
    plain = bytes([header[0], header[1] | 1, 0, header[3]])  # without a checksum
    for bitrate in range(1, 15):
        found = plain[:2] + bytes([bitrate << 4 | header[2] & 0x0C]) + plain[3:]
        frame = frame_at(found, 0)
        assert frame is not None
        place = _info_place(frame)
        if frame.size_bytes >= place + 16:
            body = bytearray(frame.size_bytes)
            body[:4] = found
            body[place : place + 12] = struct.pack(">4sII", b"Xing", 1, frames)
            return bytes(body)
    raise AssertionError("every rate has a frame of 100 bytes")


def _info_place(frame: Frame) -> int:
    return 4 + {(1, 1): 17, (1, 2): 32, (2, 1): 9, (2, 2): 17}[frame.version, frame.channels]


def _info(frame_bytes: bytes, frame: Frame) -> tuple[int | None, int | None]:
    """Frames and bytes by an Info frame: None where it does not say; (None, None) too where it is none."""
    place = _info_place(frame)
    if frame.layer != 3 or frame_bytes[place : place + 4] not in (b"Xing", b"Info"):
        return None, None
    if len(frame_bytes) < place + 16:
        return 0, None
    flags, first, second = struct.unpack(">III", frame_bytes[place + 4 : place + 16])
    frames = first if flags & 1 else 0
    return frames, (second if flags & 1 else first) if flags & 2 else None


def _after_tags(handle: BinaryIO, place: int) -> int:
    """Where the ID3v2 tags that begin there end."""
    while True:
        handle.seek(place)
        head = handle.read(10)
        if len(head) < 10 or head[:3] != b"ID3" or max(head[6:10]) > 127:
            return place
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        place += 10 + size + (10 if head[5] & 0x10 else 0)


def _count(handle: BinaryIO, place: int, end_byte: int, like: Frame, name: str) -> int:
    """Frames from `place`. What is no frame is passed over, as decoders do, unless there is much of it."""
    frames, window, window_at, passed_bytes = 0, b"", 0, 0
    while place + 4 <= end_byte:
        if not window_at <= place <= window_at + len(window) - 16:
            handle.seek(place)
            window, window_at = handle.read(_WINDOW_BYTES), place
        at = place - window_at
        frame = frame_at(window, at)
        if frame is None:
            after = _next_place(handle, window, at, place)
            passed_bytes += 0 if window[at : at + 3] == b"ID3" else after - place
            if passed_bytes > MOST_PASSED_BYTES:
                raise AudioError(
                    f"{name} holds more than {MOST_PASSED_BYTES >> 20} MiB that are no sound. It is damaged: fetch it "
                    "again, or leave it out."
                )
            place = after
            continue
        if not frame.alike(like):
            # Bytes that look like a frame are found in tags and damage: only one with another after it counts.
            after = place + frame.size_bytes
            handle.seek(after)
            second = frame_at(handle.read(4), 0)
            if second is None or not second.alike(frame):
                place += 1
                continue
            raise AudioError(
                f"{name} changes from {like.sample_rate_hz} Hz to {frame.sample_rate_hz} Hz on its way. Several files "
                "were joined: cut them apart, or convert it, for example with ffmpeg."
            )
        if place + frame.size_bytes > end_byte:
            break  # the last one is cut off
        frames += 1
        place += frame.size_bytes
    return frames


def _next_place(handle: BinaryIO, window: bytes, at: int, place: int) -> int:
    if window[at : at + 3] == b"ID3":
        return max(place + 1, _after_tags(handle, place))
    found = window.find(b"\xff", at + 1)
    return place + (found if found >= 0 else len(window)) - at
