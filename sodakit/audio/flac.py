"""Whether a flac's sound is the one it was made from: its header keeps the MD5 of the samples."""

import hashlib
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import soundfile

from sodakit.audio.window import open_part
from sodakit.errors import AudioError

_MARK = b"fLaC"
_SECOND = b"fLaC\0\0\0\x22"
_BLOCK_BYTES = 1 << 20
_MORE_SAMPLES = 1 << 16
_MOST_MORE_BYTES = 1 << 26
"""For tags and pictures; a picture has at most 16 MiB."""


@dataclass
class FlacCheck:
    """The samples of a whole flac, in order, against its MD5."""

    head: bytes
    """The file's first 42 bytes: the mark, and STREAMINFO."""
    _digest: Any = field(default_factory=lambda: hashlib.md5(usedforsecurity=False))

    @property
    def bits(self) -> int:
        """Of a sample."""
        return ((self.head[20] & 1) << 4 | self.head[21] >> 4) + 1

    @property
    def total(self) -> int:
        """Samples by the header; 0 where it does not say."""
        return (self.head[21] & 15) << 32 | int.from_bytes(self.head[22:26], "big")

    @property
    def md5(self) -> bytes:
        """Of the samples; zeros where the encoder did not say."""
        return self.head[26:42]

    @property
    def has_md5(self) -> bool:
        """Whether the header says it."""
        return any(self.md5)

    def floats(self, block_SC: np.ndarray) -> np.ndarray:
        """Samples that libsndfile gave as int32, as the float32 it would have given; and taken note of."""
        if self.has_md5:
            plain_SC = block_SC >> (32 - self.bits)
            size = (self.bits + 7) // 8
            self._digest.update(
                plain_SC.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :size].tobytes()
                if size == 3
                else plain_SC.astype(f"<i{size}").tobytes()
            )
        return block_SC.astype(np.float32) * np.float32(2.0**-31)

    def check_size(self, handle: BinaryIO, name: str) -> None:
        """Raise where the file is much larger than its samples would be as they are. Moves the handle.

        Raises:
            AudioError: it is.
        """
        channels, size = (self.head[20] >> 1 & 7) + 1, handle.seek(0, 2)
        if self.total > 0 and size > _MOST_MORE_BYTES + 2 * self.total * channels * 4:
            raise AudioError(
                f"{name} has a wrong length: {size} bytes for {self.total} samples of {channels} channels. It is damaged: "
                "fetch it again, or leave it out."
            )

    def check(self, handle: BinaryIO, name: str) -> None:
        """Raise unless the samples were those, and as many as the header says. Moves the handle.

        Raises:
            AudioError: they are others, or more.
        """
        if self.has_md5 and self._digest.digest() != self.md5:
            raise AudioError(
                f"{name} does not hold the sound that its header has the checksum (MD5) of: it is damaged, or its "
                "header's length is wrong. Fetch it again, or leave it out."
            )
        if not self.has_md5 and self._has_more(handle):
            raise AudioError(
                f"{name} has a wrong length: its header promises {self.total} samples, more are there. It is damaged: "
                "fetch it again, or leave it out."
            )

    def _has_more(self, handle: BinaryIO) -> bool:
        """Whether samples follow those that the header counts: read with a header that counts more."""
        more = min(self.total + _MORE_SAMPLES, (1 << 36) - 1)
        head = bytearray(self.head)
        head[21] = head[21] & 0xF0 | more >> 32
        head[22:26] = (more & 0xFFFFFFFF).to_bytes(4, "big")
        size = handle.seek(0, 2)
        try:
            with soundfile.SoundFile(open_part(handle, len(head), size - len(head), bytes(head))) as file:
                file.seek(self.total - 1)
                return len(file.read(3)) > 1
        except (soundfile.SoundFileError, RuntimeError, OSError, ValueError):
            return False  # so soundfile says that this is the end


def flac_check(handle: BinaryIO) -> FlacCheck | None:
    """What a flac's header says of its samples; None of another file, or of samples no float32 can hold."""
    handle.seek(0)
    head = handle.read(42)
    handle.seek(0)
    if head[:4] != _MARK or len(head) < 42:
        return None
    check = FlacCheck(head)
    return check if 8 <= check.bits <= 24 else None


def check_single(handle: BinaryIO, name: str) -> None:
    """Raise if another flac follows in the file, which a decoder would not read. Moves the handle.

    Raises:
        AudioError: one does.
    """
    handle.seek(len(_MARK))
    before = b""
    while data := handle.read(_BLOCK_BYTES):
        if _SECOND in before + data:
            raise AudioError(
                f"{name} is several flac files joined, of which only the first would be read. Cut them apart."
            )
        before = data[-len(_SECOND) :]
