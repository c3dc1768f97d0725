"""What every codec promises: sound to codes and back.

A codec is a frame clock, K codes a frame from codebooks of equal size, and two functions. The token layout, the store
and the model follow from `CodecSpec` alone; nothing above this floor asks which codec it is.

Codebooks may differ in rate, coarse ones slower. A frame is then the period of the slowest, and its codes are K rows as
ever: all of codebook 0 in the order of time, then all of codebook 1, and so on. Above this floor every row is a
codebook of its own, with its own ids; only who asks for a codebook's codes in time asks `CodecSpec.rows`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from sodakit.bounds import Bounded, Count
from sodakit.config import later
from sodakit.errors import CodecError


@dataclass(frozen=True, kw_only=True)
class CodecSpec(Bounded):
    """Everything later stages must know of a codec."""

    name: str
    """How it was asked for: `mini`, `toy`, `kyutai/mimi` or a folder's name."""
    sample_rate_hz: Count
    """Rate of the sound it takes and gives."""
    frame_samples: Count
    """Samples per frame."""
    num_codebooks: Count
    """K: codes per frame, each a row of the codes."""
    codebook_size: Count
    """Entries in each codebook."""
    semantic_codebooks: tuple[int, ...] = (0,)
    """Rows that carry what is said rather than how it sounds. Where nobody taught one that, the first stands in: it
    tells most."""
    fingerprint: str
    """Digest of weights, config and revision. Codes of different fingerprints are not comparable."""
    codes_per_frame: tuple[Count, ...] = later(())
    """Where codebooks differ in rate, the codes of each in a frame: (1, 2, 4) are K = 7 rows. Empty: one each."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.codes_per_frame and sum(self.codes_per_frame) != self.num_codebooks:
            raise CodecError(
                f"codes_per_frame={self.codes_per_frame} are {sum(self.codes_per_frame)} codes; "
                f"{self.name} has {self.num_codebooks} a frame."
            )

    @property
    def rows(self) -> tuple[range, ...]:
        """The rows of each codebook, in the order of time."""
        ends = list(accumulate(self.codes_per_frame or (1,) * self.num_codebooks))
        return tuple(range(start, end) for start, end in pairwise([0, *ends]))

    @property
    def codebooks_shown(self) -> str:
        """How many and of what size, for people: `8 x 1024`, or `1+2+4 x 1024` by codes of a frame."""
        counts = "+".join(map(str, self.codes_per_frame)) or str(self.num_codebooks)
        return f"{counts} x {self.codebook_size}"

    def in_time(self, codes_KF: np.ndarray) -> list[np.ndarray]:
        """The codes of each codebook one after the other, as many of each as its rate gives."""
        return [codes_KF[rows.start : rows.stop].T.ravel() for rows in self.rows]

    def semantic_in_time(self, codes_KF: np.ndarray) -> np.ndarray:
        """Of the first semantic codebook, (F,) or more: what tells best what is said."""
        row = self.semantic_codebooks[0]
        number = next(number for number, rows in enumerate(self.rows) if row in rows)
        return self.in_time(codes_KF)[number]

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second."""
        return self.sample_rate_hz / self.frame_samples

    @property
    def bitrate_bps(self) -> float:
        """Bits per second of the codes."""
        return self.frame_rate_hz * self.num_codebooks * float(np.log2(self.codebook_size))

    def num_frames(self, num_samples: int) -> int:
        """Frames that `num_samples` samples give: the last one may be part filled."""
        return -(-num_samples // self.frame_samples)

    def check_codes(self, codes_KF: np.ndarray) -> None:
        """Raise unless the codes have this codec's shape and range.

        Raises:
            CodecError: wrong number of codebooks, not integers, or a code out of range.
        """
        if codes_KF.ndim != 2 or codes_KF.shape[0] != self.num_codebooks:
            raise CodecError(
                f"Codes of shape {codes_KF.shape}; {self.name} needs (K={self.num_codebooks}, F). "
                "Were they made by another codec?"
            )
        if not np.issubdtype(codes_KF.dtype, np.integer):
            raise CodecError(f"Codes are {codes_KF.dtype}; needed: integers.")
        if codes_KF.size and (int(codes_KF.min()) < 0 or int(codes_KF.max()) >= self.codebook_size):
            raise CodecError(
                f"Codes from {codes_KF.min()} to {codes_KF.max()}; {self.name} has entries 0 to {self.codebook_size - 1}."
            )


class StreamingDecoder(ABC):
    """Codes in as they come, sound out as soon as it is certain. Its output, joined, equals `Codec.decode` of all codes."""

    @abstractmethod
    def push(self, codes_KF: np.ndarray) -> np.ndarray:
        """The samples that these frames release: float32, whole frames, of the frames pushed up to `lookahead_frames`
        ago. A causal codec releases each frame at once."""

    def finish(self) -> np.ndarray:
        """The samples that waited for frames which do not come: float32 (S,). Nothing of a causal codec. Nothing may be
        pushed after."""
        return np.zeros(0, np.float32)


class Codec(ABC):
    """Sound to codes and back."""

    spec: CodecSpec
    lookahead_frames: int = 0
    """Frames that must follow a frame before a stream releases its sound, at most. 0: causal."""

    @abstractmethod
    def encode_batch(self, waves_S: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The codes of each mono sound at the codec's rate, equal to those of encoding it alone.

        Args:
            waves_S: float32 samples, any lengths.
        Returns:
            uint16 codes_KF for each, with `F = ceil(S / frame_samples)`.
        """

    @abstractmethod
    def encode_blocks(self, blocks_S: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The codes of one mono sound that comes in parts, for sounds too long to hold: uint16 codes_KF of some frames
        at a time, which joined are those of `encode`.

        Args:
            blocks_S: float32 samples in parts of any lengths.
        """

    @abstractmethod
    def decode(self, codes_KF: np.ndarray) -> np.ndarray:
        """The sound of the codes: float32 samples, `S = F * frame_samples`."""

    @abstractmethod
    def stream(self) -> StreamingDecoder:
        """A fresh decoder for one stream of frames."""

    def encode(self, wave_S: np.ndarray) -> np.ndarray:
        """The codes_KF (uint16) of one mono sound at the codec's rate."""
        return self.encode_batch([wave_S])[0]
