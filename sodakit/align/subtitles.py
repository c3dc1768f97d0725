"""When each word of a transcript is said, for those who read it: every word has times, and lines are short enough to read."""

from collections.abc import Sequence
from dataclasses import dataclass

from sodakit.align.contract import Aligner
from sodakit.audio.wave import Wave
from sodakit.generate.long_form import Segment
from sodakit.tokens.words import pieces_of, shifted, timed_words
from sodakit.voices.contract import WordSpan

LINE_CHARACTERS = 42
"""A line of subtitles is at most so long, as broadcasters have it."""
LINE_S = 6.0
"""And is seen for at most so long."""
PAUSE_S = 0.6
"""A pause that ends it."""


@dataclass(frozen=True)
class Line:
    """A line of subtitles."""

    start_s: float
    end_s: float
    text: str


def words_of(segments: Sequence[Segment], wave: Wave, aligner: Aligner, language: str = "") -> list[WordSpan]:
    """Every word of a transcript, in the time of the recording.

    Args:
        segments: the transcript, in order.
        wave: the recording.
        aligner: who finds the words; those that it does not find are spread between their neighbours.
        language: ISO 639 code of what is said; empty where nobody knows.
    """
    spoken = [s for s in segments if s.text.strip()]
    waves = [wave.cut(min(s.start_s, wave.duration_s), min(s.end_s, wave.duration_s)) for s in spoken]
    found = aligner.align(waves, [s.text for s in spoken], [language] * len(spoken))
    words: list[WordSpan] = []
    for segment, part, times in zip(spoken, waves, found, strict=True):
        words += shifted(_every_word(segment.text, times, part.duration_s), segment.start_s)
    return words


def _every_word(text: str, spoken: Sequence[WordSpan], duration_s: float) -> list[WordSpan]:
    """The words of a text as they are written, those without times between those that have them."""
    timed = timed_words(text, spoken, duration_s)
    if not timed:
        return _between(text.split(), 0.0, duration_s)
    pieces = pieces_of(text, timed)
    found: list[WordSpan] = []
    at = 0
    while at < len(timed):
        stop = at
        while stop < len(timed) - 1 and (timed[stop].end_s is None or timed[stop + 1].start_s is None):
            stop += 1
        start_s, end_s = timed[at].start_s, timed[stop].end_s
        first_s = start_s if start_s is not None else (found[-1].end_s if found else 0.0)
        last_s = end_s if end_s is not None else duration_s
        run = _between(pieces[at : stop + 1], first_s, max(first_s, last_s))
        if at == stop:
            run = [WordSpan(run[0].word, run[0].start_s, run[0].end_s, timed[at].confidence)]
        found += run
        at = stop + 1
    return found


def _between(words: Sequence[str], start_s: float, end_s: float) -> list[WordSpan]:
    """Words one after the other in a stretch, by their letters."""
    letters = [len(word) for word in words]
    total, at = sum(letters), 0
    found: list[WordSpan] = []
    for word, count in zip(words, letters, strict=True):
        begin_s, stop_s = (start_s + (end_s - start_s) * n / total for n in (at, at + count))
        found.append(WordSpan(word, begin_s, stop_s))
        at += count
    return found


def lines_of(words: Sequence[WordSpan]) -> list[Line]:
    """The words as lines: broken where a line is full, long enough on the screen, or a pause follows."""
    lines: list[list[WordSpan]] = []
    for word in words:
        line = lines[-1] if lines else []
        length = len(" ".join(w.word for w in (*line, word)))
        fits = length <= LINE_CHARACTERS and line and word.end_s - line[0].start_s <= LINE_S
        if fits and word.start_s - line[-1].end_s < PAUSE_S:
            line.append(word)
        else:
            lines.append([word])
    return [Line(line[0].start_s, line[-1].end_s, " ".join(w.word for w in line)) for line in lines]
