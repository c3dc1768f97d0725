"""Where the documents of a view lie among the utterances of a store: all that is held of ten million of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from sodakit.store.flat import FlatShard, with_borders


@dataclass(frozen=True)
class Outline:
    """The utterances that a view uses, and the documents they make."""

    begin_M: np.ndarray
    """int64 (M + 1): positions before each utterance, its own markers counted, BOS and EOS not."""
    first_G: np.ndarray
    """int32 (G + 1): the first utterance of each document."""
    plain_G: np.ndarray
    """bool (G): a single utterance without speech is plain text, without the two markers that `begin_M` counts."""
    utterance_M: np.ndarray | None
    """int32 (M): the number of each utterance in the store; None where all are used."""
    num_frames: int
    num_text_tokens: int
    num_markers: int
    """That open and close spans, BOS and EOS not."""


def outline_of(
    shards: Iterable[FlatShard],
    num_utterances: int,
    frames_and_text: Callable[[FlatShard], tuple[np.ndarray, np.ndarray]],
    speech_positions: Callable[[np.ndarray], np.ndarray],
    most: int | None = None,
) -> Outline:
    """The outline of some shards, made one after the other: beside the result it takes the memory of one.

    Args:
        shards: read once, in order.
        num_utterances: in all of them.
        frames_and_text: frames and text ids of each utterance of a shard, as far as the view uses them.
        speech_positions: positions of spans of so many frames, with both markers; text has one for each id.
        most: utterances of a document, at most; None: whole recordings.
    """
    # As large as they can be: memory that is never written to is none.
    begin_M = np.zeros(num_utterances + 1, np.int64)
    utterance_M = np.empty(num_utterances, np.int32)
    first_G = np.empty(num_utterances + 1, np.int32)
    plain_G = np.empty(num_utterances, bool)
    cut = _Cutter(most)
    rows = used = documents = num_frames = num_text = num_markers = 0
    for shard, begins_N in with_borders(shards):
        frames_N, text_N = frames_and_text(shard)
        num_frames += int(frames_N.sum(dtype=np.int64))
        num_text += int(text_N.sum(dtype=np.int64))
        speech_N = np.where(frames_N > 0, speech_positions(frames_N), 0)
        lengths_N = speech_N + np.where(text_N > 0, text_N + 2, 0)
        num_markers += 2 * int(np.count_nonzero(frames_N) + np.count_nonzero(text_N))
        usable = np.flatnonzero(lengths_N)
        after = used + len(usable)
        np.cumsum(lengths_N[usable], out=begin_M[used + 1 : after + 1])
        begin_M[used + 1 : after + 1] += begin_M[used]
        utterance_M[used:after] = usable + rows
        first = np.flatnonzero(cut.begins(begins_N, usable))
        first_G[documents : documents + len(first)] = first + used
        plain_G[documents : documents + len(first)] = frames_N[usable[first]] == 0
        rows, used, documents = rows + len(shard), after, documents + len(first)
    first_G[documents] = used
    first_G, plain_G = first_G[: documents + 1], plain_G[:documents]
    plain_G &= np.diff(first_G) == 1
    numbers = None if used == num_utterances else utterance_M[:used]
    # A plain text stands without its two.
    num_markers -= 2 * int(np.count_nonzero(plain_G))
    return Outline(begin_M[: used + 1], first_G, plain_G, numbers, num_frames, num_text, num_markers)


class _Cutter:
    """Cuts usable utterances into documents, shard after shard; a recording may go on in the next."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._recordings = 0
        """Begun so far."""
        self._last = -1
        """The recording of the last usable utterance."""
        self._run = 0
        """Usable utterances of that recording so far."""

    def begins(self, begins_N: np.ndarray, usable: np.ndarray) -> np.ndarray:
        """bool: whether each usable utterance of the next shard begins a document."""
        recording = self._recordings + np.cumsum(begins_N, dtype=np.int32)[usable]
        self._recordings += int(np.count_nonzero(begins_N))
        if not len(usable):
            return np.zeros(0, bool)
        begins = np.diff(recording, prepend=np.int32(self._last)) != 0
        self._last = int(recording[-1])
        if self._most is None:
            return begins
        place = np.arange(len(usable))
        place -= np.maximum.accumulate(np.where(begins, place, -self._run))
        self._run = int(place[-1]) + 1
        return place % self._most == 0
