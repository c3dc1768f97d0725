"""Whether a flac's sound is the one it was made from: its header keeps the MD5 of the samples."""

import hashlib
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from sodakit.errors import AudioError

_MARK = b"fLaC"
_SECOND = b"fLaC\0\0\0\x22"
_BLOCK_BYTES = 1 << 20


@dataclass
class FlacCheck:
    """The samples of a whole flac, in order, against its MD5."""

    bits: int
    """Of a sample."""
    md5: bytes
    """Of the samples; zeros where the encoder did not say."""
    _digest: Any = field(default_factory=lambda: hashlib.md5(usedforsecurity=False))

    def floats(self, block_SC: np.ndarray) -> np.ndarray:
        """Samples that libsndfile gave as int32, as the float32 it would have given; and taken note of."""
        if any(self.md5):
            plain_SC = block_SC >> (32 - self.bits)
            size = (self.bits + 7) // 8
            self._digest.update(
                plain_SC.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :size].tobytes()
                if size == 3
                else plain_SC.astype(f"<i{size}").tobytes()
            )
        return block_SC.astype(np.float32) * np.float32(2.0**-31)

    def check(self, name: str) -> None:
        """Raise unless the samples were those.

        Raises:
            AudioError: they are others, more or fewer.
        """
        if any(self.md5) and self._digest.digest() != self.md5:
            raise AudioError(
                f"{name} does not hold the sound that its header has the checksum (MD5) of: it is damaged, or its "
                "header's length is wrong. Fetch it again, or leave it out."
            )


def flac_check(handle: BinaryIO) -> FlacCheck | None:
    """What a flac's header says of its samples; None of another file, or of samples no float32 can hold."""
    handle.seek(0)
    head = handle.read(42)
    handle.seek(0)
    if head[:4] != _MARK or len(head) < 42:
        return None
    bits = ((head[20] & 1) << 4 | head[21] >> 4) + 1
    return FlacCheck(bits, head[26:42]) if 8 <= bits <= 24 else None


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
