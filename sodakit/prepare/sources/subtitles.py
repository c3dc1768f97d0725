"""Subtitles, SubRip and WebVTT: what is said in which stretch of a sound, and where the file tells it, each word's time."""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

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


def cues(text: str) -> Iterator[Utterance]:
    """The cues of subtitles. Those of a block without a time, such as notes and styles, are no speech."""
    for block in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n").replace("\r", "\n")):
        lines = block.strip().split("\n")
        place = next((n for n, line in enumerate(lines) if "-->" in line), None)
        if place is None:
            continue
        cue = _CUE.fullmatch(lines[place].strip())
        if cue is None:
            raise ValueError(
                f"{lines[place][:80]!r} is no time of a subtitle; needed: 00:00:01,500 --> 00:00:03,000"
            )
        said = " ".join(lines[place + 1 :])
        voice = _VOICE.search(said)
        timed = _cue_words(said, _clock_s(cue["start"]), _clock_s(cue["end"]))
        words = " ".join(html.unescape(_MARKUP.sub("", said)).split())
        start_s, end_s = _clock_s(cue["start"]), _clock_s(cue["end"])
        if end_s < start_s:
            raise ValueError(f"{lines[place][:80]!r} ends before it begins")
        if words:
            yield Utterance(words, start_s, end_s, voice[1].strip() if voice else "", timed)


def _cue_words(said: str, start_s: float, end_s: float) -> tuple[WordSpan, ...]:
    """The words of a WebVTT cue that tells times inside: each lasts until the next begins."""
    parts = _INNER_TIME.split(said)
    if len(parts) == 1:
        return ()
    borders_s = [start_s, *(_clock_s(clock) for clock in parts[1::2]), end_s]
    if borders_s != sorted(borders_s):
        raise ValueError(f"{said[:80]!r} has times that are not in order")
    written = [" ".join(html.unescape(_MARKUP.sub("", part)).split()) for part in parts[::2]]
    return tuple(
        WordSpan(word, begin_s, stop_s)
        for word, begin_s, stop_s in zip(written, borders_s, borders_s[1:], strict=False)
        if word
    )


def _clock_s(clock: str) -> float:
    *hours, minutes, rest = clock.replace(",", ".").split(":")
    return round(3600 * int(hours[0] if hours else 0) + 60 * int(minutes) + float(rest), 3)
