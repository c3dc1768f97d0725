"""Sound files inside other files: read where they lie, never unpacked to disk."""

from abc import ABC, abstractmethod
from typing import BinaryIO

import numpy as np

from sodakit.audio.files import probe, read_part
from sodakit.audio.wave import Wave


class HeldFile(ABC):
    """The bytes of a sound file inside another file; what `Item.held` asks for follows from `open`."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Where it lies, as a person would look for it."""

    @abstractmethod
    def open(self) -> BinaryIO:
        """The sound file, from its first byte.

        Raises:
            AudioError: it cannot be found where it was.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Digest of names and sizes."""

    def duration_s(self) -> float:
        """Length by its header."""
        with self.open() as handle:
            return probe(handle, self.name).duration_s

    def read(self, start_s: float | None, end_s: float | None) -> Wave:
        """The sound from `start_s` to `end_s`."""
        with self.open() as handle:
            return read_part(handle, start_s, end_s, self.name)

    def codes(self) -> np.ndarray | None:
        """None: it holds sound."""
        return None
