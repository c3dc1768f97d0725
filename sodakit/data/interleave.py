"""Words of a document drawn as text or as speech: which spans, and where they are cut.

Spans of text and speech alternate. Their lengths in words come from two distributions, and a document begins somewhere
inside a span, as if the spans had gone on for ever (a stationary renewal process). So every word is speech with the
probability asked for, however short the document is.

The draws are a pure function of seed, epoch, document and block of `BLOCK` utterances, with which they begin anew, so a
window in the middle of a long recording needs nothing that stands before. `native.cpp` does the same, quicker.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sodakit.data.config import InterleaveConfig
from sodakit.tokens.words import TimedWord

BLOCK = 8
"""Utterances after which the drawing begins anew."""
LONGEST = 1 << 14
"""Longest span that is ever drawn, in words."""
_STEP, _MASK = 0x9E3779B97F4A7C15, 2**64 - 1


@dataclass(frozen=True)
class SpanLaw:
    """How long spans are, as tables of thresholds: the first one above a random 64-bit number tells the length."""

    share: float
    """Of the words that are speech."""
    lengths: tuple[np.ndarray, np.ndarray]
    """Probability of 1, 2, … words, of a span of text and of one of speech."""

    @property
    def threshold(self) -> int:
        """A document begins with speech where a random number lies below."""
        return min(round(self.share * 2.0**64), _MASK)

    def tables(self) -> list[np.ndarray]:
        """uint64 thresholds of the lengths of text, of speech, and of what is left of a first span of either."""
        return [_thresholds(p) for p in self.lengths] + [_thresholds(_rest(p)) for p in self.lengths]


def span_law(config: InterleaveConfig) -> SpanLaw:
    """The law that the settings ask for."""
    if config.spans == "poisson":
        text, speech = _poisson(config.mean_text_words), _poisson(config.mean_words)
    elif config.spans == "fixed":
        text, speech = _certain(round(config.mean_text_words)), _certain(round(config.mean_words))
    elif config.spans == "alternate":
        text, speech = _even(*config.text_words), _even(*config.speech_words)
    else:
        text, speech = _geometric(config.speech_share), _geometric(1 - config.speech_share)
    mean_text, mean_speech = (float(p @ np.arange(1, len(p) + 1)) for p in (text, speech))
    return SpanLaw(mean_speech / (mean_speech + mean_text), (text, speech))


def _poisson(mean: float) -> np.ndarray:
    """A Poisson number that is not 0, of this mean."""
    if mean <= 1:
        return np.ones(1)
    low, high = 0.0, mean
    for _ in range(200):  # rate / (1 - e^-rate) grows with the rate
        rate = (low + high) / 2
        low, high = (rate, high) if rate < mean * -math.expm1(-rate) else (low, rate)
    counts = np.arange(1, min(LONGEST, round(mean + 12 * math.sqrt(mean) + 20)) + 1)
    logs = counts * math.log(rate) - np.array([math.lgamma(n + 1) for n in counts.tolist()])
    p = np.exp(logs - logs.max())
    return p / p.sum()


def _certain(words: int) -> np.ndarray:
    p = np.zeros(words)
    p[-1] = 1.0
    return p


def _even(fewest: int, most: int) -> np.ndarray:
    p = np.zeros(most)
    p[fewest - 1 :] = 1 / (most - fewest + 1)
    return p


def _geometric(stop: float) -> np.ndarray:
    """Words until a coin that ends the span with probability `stop`."""
    count = min(LONGEST, math.ceil(45 / -math.log1p(-stop)) + 1)
    p = stop * (1 - stop) ** np.arange(count)
    return p / p.sum()


def _rest(p: np.ndarray) -> np.ndarray:
    """How many words are left of the span that a word is in, its own among them, where nothing else is known of it."""
    longer = p[::-1].cumsum()[::-1]
    return longer / longer.sum()


def _thresholds(p: np.ndarray) -> np.ndarray:
    shares = np.minimum(p.cumsum(), 1.0)
    return np.array([min(int(share * 2.0**64), _MASK) for share in shares.tolist()], np.uint64)


class Spans:
    """Spans of text and speech in turn, from somewhere inside the first."""

    def __init__(self, law: SpanLaw, key: int, document: int, block: int) -> None:
        self._tables = law.tables()
        self._state = _mix(_mix(key ^ (document + 1) * _STEP & _MASK) ^ (block + 1) * _STEP & _MASK)
        self.is_speech = self._next() < law.threshold
        """Whether the next word is."""
        self.left = self._length(2 + self.is_speech)
        """Words until the span ends, the next one among them."""

    def advance(self, words: int) -> None:
        """Go on by so many words."""
        while words >= self.left:
            words -= self.left
            self.is_speech = not self.is_speech
            self.left = self._length(int(self.is_speech))
        self.left -= words

    def _next(self) -> int:
        self._state = (self._state + _STEP) & _MASK
        return _mix(self._state)

    def _length(self, table: int) -> int:
        return int(self._tables[table][:-1].searchsorted(np.uint64(self._next()), side="right")) + 1


@dataclass(frozen=True)
class Stretch:
    """A part of an utterance that is text or speech."""

    is_speech: bool
    ids: slice
    """Of the text, whichever it is written as."""
    frames: slice
    """Of the sound, likewise."""


def stretches(
    words: tuple[TimedWord, ...], num_ids: int, num_frames: int, frame_rate_hz: float, spans: Spans
) -> Iterator[Stretch]:
    """The parts of an utterance whose words have times, in order; together they are all of it.

    A cut lies between two words, in the middle of the pause. A part ends where the draw says, or at the first word after
    that which begins with an id and a frame of its own; every part has both.
    """
    word = first_id = first_frame = 0
    is_speech = spans.is_speech
    while (n := word + spans.left) < len(words):
        cut = None
        while n < len(words):
            cut = _cut(words[n - 1], words[n], frame_rate_hz)
            if first_id < words[n].id_at < num_ids and cut is not None and first_frame < cut < num_frames:
                break
            n += 1
        if n == len(words) or cut is None:
            break
        spans.advance(n - word)
        word = n
        if spans.is_speech != is_speech:
            yield Stretch(is_speech, slice(first_id, words[n].id_at), slice(first_frame, cut))
            is_speech, first_id, first_frame = spans.is_speech, words[n].id_at, cut
    yield Stretch(is_speech, slice(first_id, num_ids), slice(first_frame, num_frames))
    spans.advance(len(words) - word)


def _cut(before: TimedWord, after: TimedWord, frame_rate_hz: float) -> int | None:
    if before.end_s is None or after.start_s is None:
        return None
    # A sum, then a product, then rounding to even: compiled code has the same bits.
    return int(np.rint((before.end_s + after.start_s) * (frame_rate_hz / 2)))


def coin(key: int, member: int) -> bool:
    """Whether an utterance without times is written text first, where either order is as likely."""
    return bool(_mix(key ^ _mix((member + 1) * _STEP & _MASK)) & 1)


def _mix(x: int) -> int:
    # The finaliser of splitmix64: every input bit reaches every output bit.
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _MASK
    return x ^ (x >> 31)
