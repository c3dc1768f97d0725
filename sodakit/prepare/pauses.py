"""Where a long recording is cut: from the probability of speech in each frame to utterances between pauses."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sodakit.bounds import Bounded
from sodakit.errors import ConfigError

RATE_HZ = 16_000
"""What the detector hears."""
FRAME_S = 512 / RATE_HZ
"""One probability of the detector covers 32 ms."""
SHARED_FRACTION = 1 / 4
"""A cut of speech without a pause leaves at least this share of the longest utterance on both sides."""

Span = tuple[int, int]
"""First frame, and the one after the last."""


@dataclass(frozen=True, kw_only=True)
class PauseRule(Bounded):
    """What is an utterance, and what a pause between two."""

    longest_s: float = 30.0
    """No utterance is longer, padding included: longer speech is cut at its longest silence. Recognisers of the
    Whisper kind hear 30 seconds at once."""
    least_silence_s: float = 0.5
    """Shorter silences are no pause."""
    least_speech_s: float = 0.25
    """Shorter speech is none: a click, a cough."""
    padding_s: float = 0.2
    """Kept before and after; two neighbours share what is between them."""
    speech_probability: float = 0.5
    """From here a frame begins speech."""
    silence_probability: float = 0.35
    """Below this a frame ends it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.silence_probability <= self.speech_probability < 1:
            raise ConfigError(
                f"silence_probability={self.silence_probability} and speech_probability={self.speech_probability}; "
                "needed: 0 < silence <= speech < 1. Swap or move them."
            )
        shortest_s = max(1.0, 2 * (self.least_speech_s + self.padding_s))
        if not shortest_s <= self.longest_s:
            raise ConfigError(
                f"longest_s={self.longest_s}; needed: at least {shortest_s:g} s, for speech and the padding around it. "
                "Allow longer utterances, or less padding."
            )

    @property
    def longest_frames(self) -> int:
        """Frames of speech that fit with their padding into `longest_s`."""
        return int((self.longest_s - 2 * self.padding_s) / FRAME_S + 1e-6)


def utterance_times(
    probabilities_F: np.ndarray, duration_s: float, rule: PauseRule
) -> list[tuple[float, float]]:
    """Begin and end of each utterance in seconds: in order, apart, inside the sound, at most `longest_s` long.

    Args:
        probabilities_F: of speech, one per `FRAME_S` from the beginning.
        duration_s: of the sound; its last frame may be part filled.
        rule: what is an utterance.
    """
    spans = [
        part
        for span in speech_spans(probabilities_F, rule)
        for part in _cut_long(probabilities_F, span, rule)
    ]
    edges_s = [(begin * FRAME_S, min(end * FRAME_S, duration_s)) for begin, end in spans]
    times = []
    for place, (begin_s, end_s) in enumerate(edges_s):
        before_s = edges_s[place - 1][1] if place else -math.inf
        after_s = edges_s[place + 1][0] if place + 1 < len(edges_s) else math.inf
        begin_s = max(0.0, begin_s - min(rule.padding_s, (begin_s - before_s) / 2))
        end_s = min(duration_s, end_s + min(rule.padding_s, (after_s - end_s) / 2))
        # To milliseconds, inwards: rounding makes no two overlap and none too long.
        times.append((math.ceil(begin_s * 1000 - 1e-6) / 1000, math.floor(end_s * 1000 + 1e-6) / 1000))
    return [(begin_s, end_s) for begin_s, end_s in times if end_s > begin_s]


def speech_spans(probabilities_F: np.ndarray, rule: PauseRule) -> list[Span]:
    """Frames of speech between pauses, of any length: what silero-vad's own rule gives without a limit."""
    least_silence, least_speech = rule.least_silence_s / FRAME_S, rule.least_speech_s / FRAME_S
    spans = []
    begin = silent_since = -1
    for frame, probability in enumerate(probabilities_F):
        if probability >= rule.speech_probability:
            begin, silent_since = (frame if begin < 0 else begin), -1
        elif probability < rule.silence_probability and begin >= 0:
            silent_since = frame if silent_since < 0 else silent_since
            if frame - silent_since >= least_silence:
                spans.append((begin, silent_since))
                begin = silent_since = -1
    if begin >= 0:
        spans.append((begin, silent_since if silent_since >= 0 else len(probabilities_F)))
    return [(begin, end) for begin, end in spans if end - begin > least_speech]


def _cut_long(probabilities_F: np.ndarray, span: Span, rule: PauseRule) -> Iterator[Span]:
    """The span in parts of at most `rule.longest_frames`, without the silences they are cut at."""
    begin, end = span
    while end - begin > rule.longest_frames:
        least = max(1, int(SHARED_FRACTION * rule.longest_frames))
        first, last = begin + least, min(begin + rule.longest_frames, end - least)
        silent_from, silent_to = _longest_silence(probabilities_F[first:last], rule)
        yield begin, first + silent_from
        begin = first + silent_to
    yield begin, end


def _longest_silence(probabilities_F: np.ndarray, rule: PauseRule) -> Span:
    """The longest silent stretch; where there is none, the frame least like speech, and nothing is left out."""
    silent_F = np.concatenate([[False], probabilities_F < rule.silence_probability, [False]])
    borders = np.flatnonzero(silent_F[1:] != silent_F[:-1]).reshape(-1, 2)
    if len(borders) == 0:
        least = int(np.argmin(probabilities_F))
        return least, least
    begin, end = borders[np.argmax(borders[:, 1] - borders[:, 0])]
    return int(begin), int(end)
