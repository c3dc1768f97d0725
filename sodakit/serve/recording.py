"""A recording that a client sends along: on disk until its turn comes, then decoded within limits."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from sodakit.audio.files import probe, read_blocks
from sodakit.audio.wave import Wave
from sodakit.errors import AudioError, TooLong
from sodakit.serve.problems import Problem

NAME = "The upload"
"""What errors of the reader call it."""
MAX_CHANNELS = 8
MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 192_000


@dataclass
class Recording:
    """An upload that is not decoded yet."""

    handle: BinaryIO
    longest_s: float
    """A longer one is refused, whatever its header promises."""
    first_s: float | None = None
    """Only its beginning is wanted; default: all of it."""
    duration_s: float = 0.0
    """Known once it has been read."""
    given_up: bool = False
    """Nobody waits for it any more: reading ends at the next block, encoding at the next piece."""

    def read(self, sample_rate_hz: int, after_block: Callable[[], None] = lambda: None) -> Wave:
        """The sound, mono, decoded in blocks.

        Raises:
            Problem: 400 not sound, damaged or empty; 413 longer than `longest_s`.
        """
        if not self.handle.seek(0, 2):
            raise Problem(400, "The upload is empty. Send a sound file.", code="empty_file", param="file")
        try:
            self._check_shape()
            wave = self._read(sample_rate_hz, after_block)
        except TooLong as error:
            raise Problem(413, str(error), code="recording_too_long", param="file") from error
        except AudioError as error:
            raise Problem(400, str(error), code="unreadable_audio", param="file") from error
        self.duration_s = wave.duration_s
        return wave

    def _check_shape(self) -> None:
        info = probe(self.handle, NAME)
        if info.channels > MAX_CHANNELS or not MIN_RATE_HZ <= info.sample_rate_hz <= MAX_RATE_HZ:
            raise Problem(
                400,
                f"{info.channels} channels at {info.sample_rate_hz} Hz; needed: at most {MAX_CHANNELS} channels and "
                f"{MIN_RATE_HZ} to {MAX_RATE_HZ} Hz. Convert the recording.",
                code="unsupported_format",
                param="file",
            )

    def _read(self, sample_rate_hz: int, after_block: Callable[[], None]) -> Wave:
        parts, read_s = [np.zeros(0, np.float32)], 0.0
        with closing(read_blocks(self.handle, sample_rate_hz, NAME, self.longest_s)) as blocks:
            for block in blocks:
                parts.append(block.samples_S)
                read_s += block.duration_s
                after_block()
                if self.given_up or (self.first_s is not None and read_s >= self.first_s):
                    break
        wave = Wave(np.concatenate(parts), sample_rate_hz)
        return wave if self.first_s is None else wave.cut(0, min(self.first_s, wave.duration_s))
