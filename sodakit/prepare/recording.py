"""One thing to be prepared: a file, a part of a file, something held in an archive, a sound in memory, or a text."""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sodakit.audio.files import probe, read_part, resample
from sodakit.audio.wave import Wave
from sodakit.errors import AudioError
from sodakit.files import digest
from sodakit.units import shortened
from sodakit.voices.contract import WordSpan


class Held(Protocol):
    """A sound that is no file of its own: a member of a tar, a cell of a table, a cut of a corpus.

    It pickles as an address of a few words; nothing is read before it is asked for.
    """

    @property
    def name(self) -> str:
        """Where it lies, as a person would look for it."""

    def duration_s(self) -> float:
        """Length of the whole sound. Raises AudioError like `probe`."""

    def read(self, start_s: float | None, end_s: float | None) -> Wave:
        """The sound from `start_s` to `end_s`, mono. Raises AudioError like `read_part`."""

    def codes(self) -> np.ndarray | None:
        """uint16 codes_KF where it holds codes instead of sound."""

    def fingerprint(self) -> str:
        """Digest of what decides its content: names and sizes."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """What becomes one utterance. With neither `audio`, `held` nor `wave` it is a text document.

    Control characters in its names, such as a newline, are kept as escapes. A name that is no UTF-8 makes it an item
    with a `problem`.
    """

    id: str
    """Unique in the job; sources begin it with their name."""
    recording: str = ""
    """What it is cut from; items of one recording form one document. Default: the item's own id."""
    audio: Path | None = None
    """The sound file."""
    wave: Wave | None = field(default=None, repr=False, compare=False)
    """The sound itself, instead of a file."""
    held: Held | None = None
    """The sound inside something else, instead of a file."""
    start_s: float | None = None
    """Where it begins in the file; None is the beginning."""
    end_s: float | None = None
    """Where it ends in the file; None is the end."""
    at_s: float | None = None
    """Where it begins in the recording, if its file is already cut from it; None is `start_s`."""
    told_duration_s: float | None = None
    """Length of its whole sound as its list says; None where it does not. Checked, and else of no effect."""
    text: str | None = None
    """What is said, as supplied; None where nobody wrote it down. What is no string makes it an item with a `problem`."""
    words: tuple[WordSpan, ...] = field(default=(), repr=False)
    """When its words are said, in the time of its file as `start_s` is; empty where nobody knows."""
    words_source: str = ""
    """Who told these times."""
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
    reason: str = "bad row"
    """What the quarantine counts that problem as: a few words, equal for equal causes."""

    def __post_init__(self) -> None:
        if not self.recording:
            object.__setattr__(self, "recording", self.id)
        if self.text is not None and not isinstance(self.text, str):  # as a list may have it
            object.__setattr__(
                self, "problem", self.problem or f"text is {self.text!r:.80}; needed: a string"
            )
            object.__setattr__(self, "text", None)
        wrong = self.problem is None and _wrong_names(self)
        if wrong:
            object.__setattr__(self, "problem", wrong)
        for name in ("id", "recording", "speaker", "language", "source", "licence", "problem"):
            value = getattr(self, name)
            object.__setattr__(self, name, value and _printable(value))

    @property
    def is_text(self) -> bool:
        """Whether there is no sound to it."""
        return self.audio is None and self.wave is None and self.held is None

    @property
    def begins_s(self) -> float:
        """Where it begins in its recording."""
        return (self.start_s or 0.0) if self.at_s is None else self.at_s

    @property
    def place(self) -> str:
        """The file, as a person would look for it."""
        if self.held is not None:
            return _printable(self.held.name)
        return "" if self.audio is None else _printable(shortened(self.audio, 1000))

    def sound_duration_s(self) -> float:
        """Length of the whole sound it is cut from; of a file, as its header says.

        Raises:
            AudioError: missing, empty, or not a sound file.
        """
        if self.wave is not None:
            return self.wave.duration_s
        if self.held is not None:
            return self.held.duration_s()
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
        elif self.held is not None:
            part = self.held.read(self.start_s, self.end_s)
        else:
            part = read_part(self._file(), self.start_s, self.end_s)
        return resample(part, sample_rate_hz or part.sample_rate_hz)

    def fingerprint(self) -> str:
        """Digest of what decides what it becomes. Of a file: its name and size, not its content."""
        words = (self.id, self.recording, self.start_s, self.end_s, self.text, self.speaker, self.language)
        parts: list[bytes | str] = [repr((*words, self.source, self.licence, self.problem))]
        if self.wave is not None:
            parts += [repr(self.wave.sample_rate_hz), np.ascontiguousarray(self.wave.samples_S).tobytes()]
        if self.at_s is not None:
            parts.append(repr(self.at_s))
        if self.words:
            parts.append(repr((self.words, self.words_source)))
        if self.held is not None:
            parts.append(self.held.fingerprint())
        if self.audio is not None:
            # The name without its folders, so that a corpus may move between two runs.
            parts.append(repr((self.audio.name, _size_bytes(self.audio))))
        return digest(*parts)

    def _file(self) -> Path:
        if self.audio is None:
            raise AudioError(f"{self.id} is a text without sound; needed: an audio file or a wave.")
        return self.audio


def told_apart(items: Iterable[Item]) -> Iterator[Item]:
    """The items, each with an id of its own: the second other sound or text that is called `a` becomes `a#2`.

    Names repeat where a corpus numbers sentences and not their readings (FLEURS), where every tar begins at 0, and where
    two folders have one name. The same stretch of one sound keeps its id, and is left out as a duplicate later.
    """
    named: dict[str, dict[object, None]] = {}
    taken: set[str] = set()
    for item in items:
        place = item.place if item.wave is None else id(item.wave)
        places = named.setdefault(item.id, {})
        what = (place, item.start_s, item.end_s, item.text if item.is_text else None)
        if what in places or item.problem is not None:
            yield item
            continue
        places[what] = None
        number, own = len(places), item.id
        while own in taken:
            own, number = f"{item.id}#{number}", number + 1
        taken.add(own)
        yield item if own == item.id else _called(item, own)


def _called(item: Item, own: str) -> Item:
    return replace(item, id=own, recording=own if item.recording == item.id else item.recording)


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return -1


def _wrong_names(item: Item) -> str | None:
    """What no store, table or report could hold."""
    for name in ("id", "recording", "speaker", "language", "source", "licence", "text", "audio"):
        value = str(getattr(item, name) or "")
        if value != value.encode("utf-8", "replace").decode("utf-8"):
            return f"its {name} is no valid UTF-8 ({_printable(value)[:80]})"
    return None


def _printable(name: str) -> str:
    """The name with control characters and broken UTF-8 as escapes."""
    if name.isascii() and name.isprintable():
        return name
    escaped = "".join(ascii(c)[1:-1] if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in name)
    return escaped.encode("utf-8", "backslashreplace").decode("utf-8")
