"""Subtitles, SubRip and WebVTT: what is said in which stretch of a sound, and where the file tells it, each word's time."""

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from sodakit.prepare.sources.columns import clock_s
from sodakit.voices.contract import WordSpan


@dataclass(frozen=True)
class Utterance:
    """What is said in a stretch of a sound."""

    text: str
    start_s: float | None = None
    """None: from the beginning of the sound."""
    end_s: float | None = None
    """None: to its end."""
    speaker: str = ""
    words: tuple[WordSpan, ...] = field(default=(), repr=False)
    """Where the file tells their times, from the beginning of the sound."""
    words_source: str = ""
    """What kind of file tells them."""


_CUE = re.compile(
    r"(?P<start>(\d+:)?\d{1,2}:\d{2}[.,]\d{1,3})\s*-->\s*(?P<end>(\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}).*"
)
_MARKUP = re.compile(r"</?[^<>\n]*>|\{\\[^{}\n]*\}")
_INNER_TIME = re.compile(r"<((?:\d+:)?\d{2}:\d{2}\.\d{3})>")
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]+)>")


def cues(text: str) -> list[Utterance]:
    """The cues of subtitles, in order. Notes and styles of WebVTT are no speech.

    Captions that roll, as those made by machines do, say each line again while the next appears above or below it; here
    each line is said once, by the cue that brings it.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    places = [n for n, line in enumerate(lines) if "-->" in line]
    found = []
    for place, after in pairwise([*places, len(lines)]):
        body = lines[place + 1 : after - 1] if _is_name(lines, place, after) else lines[place + 1 : after]
        if text.startswith("WEBVTT"):
            body = _without_notes(body)
        found.append(_Cue(*_times(lines[place]), tuple(line.strip() for line in body if line.strip())))
    return [u for cue in (_unrolled(found) if _rolls(found) else found) if (u := _utterance(cue)) is not None]


@dataclass(frozen=True)
class _Cue:
    start_s: float
    end_s: float
    lines: tuple[str, ...]


def _times(line: str) -> tuple[float, float]:
    cue = _CUE.fullmatch(line.strip())
    if cue is None:
        raise ValueError(f"{line[:80]!r} is no time of a subtitle; needed: 00:00:01,500 --> 00:00:03,000")
    start_s, end_s = clock_s(cue["start"]), clock_s(cue["end"])
    if end_s < start_s:
        raise ValueError(f"{line[:80]!r} ends before it begins")
    return start_s, end_s


def _is_name(lines: list[str], place: int, after: int) -> bool:
    """Whether the line before the next cue's time is that cue's number or name, and not said in this one."""
    last = lines[after - 1].strip() if after - 1 > place and after < len(lines) else ""
    named = lines[0].startswith("WEBVTT") and not lines[after - 2].strip()
    return bool(last) and (last.isdecimal() or named)


def _without_notes(body: list[str]) -> list[str]:
    """The lines of a WebVTT cue: an empty one ends it, but not one of spaces."""
    end = next((n for n, line in enumerate(body) if not line or line.split()[:1] == ["NOTE"]), len(body))
    return body[:end]


def _repeated(before: _Cue, cue: _Cue) -> int:
    """How many lines at the end of a cue the next one begins with."""
    old, new = _written(before.lines), _written(cue.lines)
    sizes = range(min(len(old), len(new)), 0, -1)
    return next((size for size in sizes if old[-size:] == new[:size]), 0)


def _rolls(cues: list[_Cue]) -> bool:
    """Whether at least half of the cues begin with what was just said: nobody repeats himself so often."""
    repeats = sum(bool(_repeated(one, other)) for one, other in pairwise(cues))
    return repeats >= 2 and 2 * repeats >= len(cues) - 1


def _unrolled(cues: list[_Cue]) -> Iterator[_Cue]:
    for place, cue in enumerate(cues):
        new = cue.lines[_repeated(cues[place - 1], cue) if place else 0 :]
        begins_s = cues[place + 1].start_s if place + 1 < len(cues) else cue.end_s
        yield _Cue(cue.start_s, max(cue.start_s, min(cue.end_s, begins_s)), new)


def _utterance(cue: _Cue) -> Utterance | None:
    said = " ".join(cue.lines)
    voice = _VOICE.search(said)
    timed = _cue_words(said, cue.start_s, cue.end_s)
    (words,) = _written((said,))
    speaker = voice[1].strip() if voice else ""
    return Utterance(words, cue.start_s, cue.end_s, speaker, timed) if words else None


def _written(lines: Iterable[str]) -> tuple[str, ...]:
    """Lines without their markup."""
    return tuple(" ".join(html.unescape(_MARKUP.sub("", line)).split()) for line in lines)


def _cue_words(said: str, start_s: float, end_s: float) -> tuple[WordSpan, ...]:
    """The words of a WebVTT cue that tells times inside: each lasts until the next begins."""
    parts = _INNER_TIME.split(said)
    if len(parts) == 1:
        return ()
    borders_s = [start_s, *(clock_s(clock) for clock in parts[1::2]), end_s]
    if borders_s != sorted(borders_s):
        raise ValueError(f"{said[:80]!r} has times that are not in order")
    written = _written(parts[::2])
    return tuple(
        WordSpan(word, begin_s, stop_s)
        for word, begin_s, stop_s in zip(written, borders_s, borders_s[1:], strict=False)
        if word
    )
