"""A layout lays the ids of a document along positions: what a model sees at once, W ids wide.

    flat     one id a position                       BOS  text_start  …  audio_start  c0 c1 … c7  c0 c1 … c7  audio_end
    frame    one frame a position, text in column 0  BOS  text_start  …  audio_start  [c0 … c7]   [c0 … c7]   audio_end

Documents stay what they are (`tokens/documents.py`): a row of ids. Positions are what attention, cache and context
count; ids (predictions) are what losses and likelihoods count; seconds are what people count.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from sodakit.tokens.vocabulary import Vocabulary

ABSENT = -1
"""Stands where a position has no id in a column."""


class Cursor(Protocol):
    """Where an answer stands while it is made, position by position."""

    @property
    def state(self) -> int:
        """Which ids may come next in column 0: a state of the layout's grammar."""

    @property
    def is_tail(self) -> bool:
        """Whether the next position has nothing in column 0: delayed codes are still due."""

    @property
    def at_boundary(self) -> bool:
        """Whether the ids so far are whole frames."""

    def due(self, first: int) -> dict[int, int | None]:
        """The columns after 0 of the next position, if column 0 is `first`: the id that a prompt has fixed, or None."""

    def take(self, ids_W: Sequence[int]) -> list[int]:
        """Go on by one position. Returns the ids of the document that are complete now, in its order."""


class Layout(Protocol):
    """How documents of one vocabulary and number of codebooks lie along positions."""

    @property
    def vocabulary(self) -> Vocabulary:
        """What the ids mean."""

    @property
    def num_codebooks(self) -> int:
        """Of a frame, in the documents."""

    @property
    def width(self) -> int:
        """W: ids of a position, at most."""

    @property
    def delays(self) -> tuple[int, ...]:
        """Positions by which each codebook is late; none where every id has a position of its own."""

    @property
    def positions_after_end(self) -> int:
        """Positions that a span of speech takes after its `audio_end`, for codes that are late."""

    @property
    def frame_positions(self) -> int:
        """Positions of a frame."""

    def speech_positions(self, frames_N: np.ndarray) -> np.ndarray:
        """Positions of spans of so many frames, each with both its markers."""

    def places(self, ids_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Position and column of each id of a document, or of a prompt that ends with a whole frame: int64 (T,) each."""

    def flatten(self, ids_PW: np.ndarray) -> np.ndarray:
        """The ids of whole documents laid along positions, as they follow each other: the inverse of `lay`, int32."""

    def legal(self, state: int) -> np.ndarray:
        """The ids allowed in column 0 in a state, ascending (int64)."""

    def cursor(self, ids_T: np.ndarray) -> Cursor:
        """The place after a prompt.

        Raises:
            ValueError: the prompt breaks the grammar; the message names the position.
        """


def lay(layout: Layout, ids_T: np.ndarray) -> np.ndarray:
    """A document along positions: int32 ids_PW, `ABSENT` where a position has no id.

    A prompt that ends within speech is laid as far as its frames go; codes that a delay puts beyond are left to the
    `Cursor`.
    """
    position_T, column_T = layout.places(ids_T)
    if not len(position_T):
        return np.full((0, layout.width), ABSENT, np.int32)
    # The last id of a whole frame may be delayed past the position that comes next.
    end = int(position_T[column_T == 0].max() if column_T[-1] else position_T.max()) + 1
    seen_T = position_T < end
    ids_PW = np.full((end, layout.width), ABSENT, np.int32)
    ids_PW[position_T[seen_T], column_T[seen_T]] = np.asarray(ids_T)[seen_T]
    return ids_PW
