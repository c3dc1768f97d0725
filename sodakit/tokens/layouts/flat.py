"""Every id has a position of its own, the codes of a frame one after the other: SODA's layout."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sodakit.tokens.grammar import FIRST_SLOT, Grammar
from sodakit.tokens.vocabulary import Vocabulary


@dataclass(frozen=True)
class FlatLayout:
    """One id a position. See `contract.Layout`."""

    vocabulary: Vocabulary
    num_codebooks: int
    """Of a frame, in the documents."""

    @property
    def width(self) -> int:
        return 1

    @property
    def delays(self) -> tuple[int, ...]:
        return (0,) * self.num_codebooks

    @property
    def positions_after_end(self) -> int:
        return 0

    @property
    def frame_positions(self) -> int:
        return self.num_codebooks

    @cached_property
    def grammar(self) -> Grammar:
        """Which id may follow which."""
        return Grammar(self.vocabulary, self.num_codebooks)

    def speech_positions(self, frames_N: np.ndarray) -> np.ndarray:
        return frames_N * self.num_codebooks + 2

    def places(self, ids_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.arange(len(ids_T)), np.zeros(len(ids_T), np.int64)

    def flatten(self, ids_PW: np.ndarray) -> np.ndarray:
        return ids_PW[:, 0].astype(np.int32)

    def legal(self, state: int) -> np.ndarray:
        return self.grammar.legal(state)

    def cursor(self, ids_T: np.ndarray) -> "FlatCursor":
        return FlatCursor(self.grammar, self.grammar.state_after(ids_T))


class FlatCursor:
    """A state of the grammar. See `contract.Cursor`."""

    is_tail = False

    def __init__(self, grammar: Grammar, state: int) -> None:
        self._grammar, self.state = grammar, state

    @property
    def at_boundary(self) -> bool:
        return self.state <= FIRST_SLOT

    def due(self, first: int) -> dict[int, int | None]:
        return {}

    def take(self, ids_W: Sequence[int]) -> list[int]:
        state = self._grammar.advance(self.state, ids_W[0])
        assert state is not None, "only legal ids are offered"
        self.state = state
        return [ids_W[0]]
