"""One thing to be prepared: a file, a part of a file, a sound in memory, or a text."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sodakit.audio.files import probe, read_part, resample
from sodakit.audio.wave import Wave
from sodakit.errors import AudioError
from sodakit.files import digest


@dataclass(frozen=True, kw_only=True)
class Item:
    """What becomes one utterance. With neither `audio` nor `wave` it is a text document."""

    id: str
    """Unique in the job; sources begin it with their name."""
    recording: str = ""
    """What it is cut from; items of one recording form one document. Default: the item's own id."""
    audio: Path | None = None
    """The sound file."""
    wave: Wave | None = field(default=None, repr=False, compare=False)
    """The sound itself, instead of a file."""
    start_s: float | None = None
    """Where it begins in the file; None is the beginning."""
    end_s: float | None = None
    """Where it ends in the file; None is the end."""
    text: str | None = None
    """What is said, as supplied; None where nobody wrote it down."""
    speaker: str = ""
    """Unique in the source; empty if unknown."""
    language: str = ""
    """ISO 639 code; empty if unknown."""
    source: str = ""
    """Which corpus."""
    licence: str = ""
    """SPDX id or the licence's name; empty if unknown."""
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """Whatever else the source says of it, for split rules."""
    problem: str | None = None
    """Why its row in the source cannot be used; such an item goes to quarantine."""

    def __post_init__(self) -> None:
        if not self.recording:
            object.__setattr__(self, "recording", self.id)

    @property
    def is_text(self) -> bool:
        """Whether there is no sound to it."""
        return self.audio is None and self.wave is None

    @property
    def place(self) -> str:
        """The file, as a person would look for it."""
        return "" if self.audio is None else str(self.audio)

    def sound_duration_s(self) -> float:
        """Length of the whole sound it is cut from; of a file, as its header says.

        Raises:
            AudioError: missing, empty, or not a sound file.
        """
        if self.wave is not None:
            return self.wave.duration_s
        return probe(self._file()).duration_s

    def read(self, sample_rate_hz: int | None = None) -> Wave:
        """The sound from `start_s` to `end_s`, mono; it may be empty, silent or hold NaN.

        Args:
            sample_rate_hz: of the result; default: its own.

        Raises:
            AudioError: the file cannot be decoded.
        """
        if self.wave is not None:
            whole = self.wave
            start_s, end_s = self.start_s or 0.0, whole.duration_s if self.end_s is None else self.end_s
            part = whole if (self.start_s, self.end_s) == (None, None) else whole.cut(start_s, end_s)
        else:
            part = read_part(self._file(), self.start_s, self.end_s)
        return resample(part, sample_rate_hz or part.sample_rate_hz)

    def fingerprint(self) -> str:
        """Digest of what decides what it becomes. Of a file: its name and size, not its content."""
        words = (self.id, self.recording, self.start_s, self.end_s, self.text, self.speaker, self.language)
        parts: list[bytes | str] = [repr((*words, self.source, self.licence, self.problem))]
        if self.wave is not None:
            parts += [repr(self.wave.sample_rate_hz), np.ascontiguousarray(self.wave.samples_S).tobytes()]
        if self.audio is not None:
            # The name without its folders, so that a corpus may move between two runs.
            parts.append(repr((self.audio.name, _size_bytes(self.audio))))
        return digest(*parts)

    def _file(self) -> Path:
        if self.audio is None:
            raise AudioError(f"{self.id} is a text without sound; needed: an audio file or a wave.")
        return self.audio


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
