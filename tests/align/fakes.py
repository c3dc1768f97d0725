"""An aligner of known ways, and small sounds, for tests of what is done with alignments."""

from collections.abc import Sequence

import numpy as np

from sodakit.audio.wave import Wave
from sodakit.voices.contract import WordSpan


class EvenAligner:
    """Spreads the words evenly over the sound; sure of them but where the text says `wrong`; finds none of `silent`."""

    name = "even"
    fingerprint = "even-1"

    def __init__(self, stop_after: int | None = None) -> None:
        self.heard: list[str] = []
        self._stop_after = stop_after

    def align(
        self, waves: Sequence[Wave], texts: Sequence[str], languages: Sequence[str]
    ) -> list[tuple[WordSpan, ...]]:
        if self._stop_after is not None and len(self.heard) >= self._stop_after:
            raise KeyboardInterrupt
        self.heard += texts
        return [self._words(wave, text) for wave, text in zip(waves, texts, strict=True)]

    def _words(self, wave: Wave, text: str) -> tuple[WordSpan, ...]:
        words = text.split()
        if "silent" in words:
            return ()
        each_s, sure = wave.duration_s / len(words), 0.1 if "wrong" in words else 0.9
        return tuple(WordSpan(word, n * each_s, (n + 1) * each_s, sure) for n, word in enumerate(words))


def noise(seconds: float, rate_hz: int = 16_000, seed: int = 0) -> Wave:
    samples_S = np.random.default_rng(seed).normal(0, 0.1, round(seconds * rate_hz))
    return Wave(samples_S.astype(np.float32), rate_hz)
