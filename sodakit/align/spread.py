"""Times of words without a model of any kind: spread over what is loud in a sound, by their letters. A rough guess."""

from collections.abc import Sequence

import numpy as np

from sodakit.audio.levels import PAUSE_DB, frame_powers
from sodakit.audio.wave import Wave
from sodakit.voices.contract import WordSpan

FRAME_S = 0.02


class SpreadAligner:
    """Words one after the other over the loud frames of a sound, each as long as its letters are many."""

    name = "spread"
    fingerprint = "spread-1"

    def align(
        self, waves: Sequence[Wave], texts: Sequence[str], languages: Sequence[str]
    ) -> list[tuple[WordSpan, ...]]:
        """See `contract.Aligner`. Nothing is heard, so nothing is said of how sure the times are."""
        return [_spread(wave, text.split()) for wave, text in zip(waves, texts, strict=True)]


def _spread(wave: Wave, words: Sequence[str]) -> tuple[WordSpan, ...]:
    if not words or not len(wave.samples_S):
        return ()
    power_F = frame_powers(wave, FRAME_S)
    loud_F = power_F >= max(float(power_F.max()), 1e-12) * 10 ** (PAUSE_DB / 10)
    loud = np.flatnonzero(loud_F) if loud_F.any() else np.arange(len(power_F))
    # A word has a little length of its own: short ones are not as short as their letters.
    weights = np.array([len(word) + 1.5 for word in words])
    edges = np.concatenate([[0.0], weights.cumsum() / weights.sum()]) * len(loud)
    first = np.minimum(np.floor(edges[:-1]).astype(int), len(loud) - 1)
    last = np.clip(np.ceil(edges[1:]).astype(int) - 1, first, len(loud) - 1)
    end_s = wave.duration_s
    return tuple(
        WordSpan(word, min(float(loud[a]) * FRAME_S, end_s), min(float(loud[b] + 1) * FRAME_S, end_s))
        for word, a, b in zip(words, first, last, strict=True)
    )
