"""A sound: mono samples and their rate."""

from dataclasses import dataclass

import numpy as np

from sodakit.errors import AudioError


@dataclass(frozen=True)
class Wave:
    """A mono sound."""

    samples_S: np.ndarray
    """float32 in about [-1, 1]."""
    sample_rate_hz: int
    """Samples per second."""
    origin: str = ""
    """What its file says of where it comes from (`audio/origin.py`); empty for recordings."""

    def __post_init__(self) -> None:
        if self.samples_S.ndim != 1:
            raise AudioError(f"A Wave is mono, one axis S; got shape {self.samples_S.shape}. Downmix first.")
        if self.samples_S.dtype != np.float32:
            object.__setattr__(self, "samples_S", self.samples_S.astype(np.float32))

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples_S) / self.sample_rate_hz

    def cut(self, start_s: float, end_s: float) -> "Wave":
        """The part from `start_s` to `end_s`."""
        start, end = round(start_s * self.sample_rate_hz), round(end_s * self.sample_rate_hz)
        return Wave(self.samples_S[start:end], self.sample_rate_hz, self.origin)
