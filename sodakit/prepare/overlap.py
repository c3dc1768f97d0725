"""What two collections have in common: runs of codes, and runs of words.

The same sound gives the same codes, and nearly the same sound (another bit rate, another container) gives codes that
agree for stretches; so do the words of a transcript. Both are compared as sets of hashed runs. A copy that begins
elsewhere inside a codec frame is not found: its frames cut the sound at other places.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

RUN_FRAMES = 5
"""Frames in a run: 0.4 s at 12.5 Hz."""
STILL_RUNS = 2
"""A run must hold more than so many different codes: silence and hum are alike everywhere."""


def code_runs(codes_F: np.ndarray) -> np.ndarray:
    """Hashes of all runs of `RUN_FRAMES` codes of one codebook, each once: uint64."""
    codes_F = np.asarray(codes_F, np.uint64)
    if len(codes_F) < RUN_FRAMES:
        return np.zeros(0, np.uint64)
    runs_RN = np.lib.stride_tricks.sliding_window_view(codes_F, RUN_FRAMES)
    sorted_RN = np.sort(runs_RN, axis=1)
    lively_R = (np.diff(sorted_RN, axis=1) != 0).sum(1) >= STILL_RUNS
    hashes_R = np.zeros(len(runs_RN), np.uint64)
    for place in range(RUN_FRAMES):
        # FNV-1a with 64 bits over whole codes.
        hashes_R = (hashes_R ^ (runs_RN[:, place] + np.uint64(1))) * np.uint64(0x100000001B3)
        hashes_R ^= hashes_R >> np.uint64(29)
    return np.unique(hashes_R[lively_R])


def thinned(hashes_R: np.ndarray) -> list[int]:
    """A quarter of the hashes, the same of equal sounds: enough to compare by, and a quarter of the memory."""
    return hashes_R[hashes_R % np.uint64(4) == 0].tolist()


def word_runs(text: str, length: int) -> list[str]:
    """All runs of `length` words, in lower case and without punctuation; a shorter text is one run."""
    words = re.findall(r"\w+", text.casefold())
    if len(words) < length:
        return [" ".join(words)] if words else []
    return [" ".join(words[i : i + length]) for i in range(len(words) - length + 1)]


class RunIndex:
    """Which items hold a run."""

    def __init__(self) -> None:
        self._holders: dict[int | str, list[int]] = {}
        self.names: list[str] = []
        """Of each item."""

    def add(self, name: str, runs: Iterable[int | str]) -> None:
        """Remember an item's runs."""
        number = len(self.names)
        self.names.append(name)
        for run in runs:
            self._holders.setdefault(run, []).append(number)

    def most_like(self, runs: Sequence[int | str]) -> tuple[str, float]:
        """The item that holds most of the runs, and the share it holds; ("", 0.0) where none does."""
        counts: Counter[int] = Counter()
        for run in runs:
            counts.update(self._holders.get(run, ()))
        if not counts or not runs:
            return "", 0.0
        number, count = min(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        return self.names[number], count / len(runs)
