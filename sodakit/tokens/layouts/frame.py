"""A frame is one position, its codes side by side; text and markers stand in column 0.

Codebooks may be delayed: with delays 0, 1, 2 column k of a position holds codebook k of the frame k positions before.

    column 0   audio_start   a0   b0   c0   audio_end               EOS
    column 1                      a1   b1   c1
    column 2                           a2   b2          c2

`audio_end` follows the last frame's first code at once, and what is delayed beyond it gets positions of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sodakit.errors import VocabularyError
from sodakit.tokens.grammar import BETWEEN, FIRST_SLOT, Grammar
from sodakit.tokens.layouts.contract import ABSENT
from sodakit.tokens.vocabulary import Vocabulary


@dataclass(frozen=True)
class FrameLayout:
    """One frame a position. See `contract.Layout`."""

    vocabulary: Vocabulary
    num_codebooks: int
    """Of a frame, in the documents; the other columns stay empty."""
    delays: tuple[int, ...]
    """Of each codebook of the vocabulary, in frames; codebook 0 is never delayed."""

    def __post_init__(self) -> None:
        if len(self.delays) != self.vocabulary.num_codebooks or self.delays[0] or min(self.delays) < 0:
            raise VocabularyError(
                f"delays={self.delays}; needed: one for each of {self.vocabulary.num_codebooks} codebooks, the first 0, "
                "none negative."
            )

    @property
    def width(self) -> int:
        return self.vocabulary.num_codebooks

    @property
    def frame_positions(self) -> int:
        return 1

    @property
    def longest_delay(self) -> int:
        """Frames between the first and the last code of a frame."""
        return max(self.delays[: self.num_codebooks])

    @property
    def positions_after_end(self) -> int:
        return max(0, self.longest_delay - 1)

    @cached_property
    def grammar(self) -> Grammar:
        """Which id may follow which in column 0."""
        return Grammar(self.vocabulary, 1)

    def speech_positions(self, frames_N: np.ndarray) -> np.ndarray:
        return frames_N + 2 + self.positions_after_end

    def places(self, ids_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        v, ids_T = self.vocabulary, np.asarray(ids_T, np.int64)
        book_T = np.where(v.is_audio(ids_T), (ids_T - v.audio_base) // v.codebook_size, 0)
        ended_T = np.cumsum(ids_T == v.audio_end) - (ids_T == v.audio_end)
        delays_K = np.array(self.delays)
        return np.cumsum(book_T == 0) - 1 + self.positions_after_end * ended_T + delays_K[book_T], book_T

    def flatten(self, ids_PW: np.ndarray) -> np.ndarray:
        position_N, column_N = np.nonzero(ids_PW != ABSENT)
        ids_N = ids_PW[position_N, column_N]
        v = self.vocabulary
        due_N = np.where(v.is_audio(ids_N), (ids_N - v.audio_base) // v.codebook_size, 0)
        wrong = np.flatnonzero(due_N != column_N)
        if len(wrong):
            n = wrong[0]
            raise VocabularyError(f"Id {ids_N[n]} in column {column_N[n]} of position {position_N[n]}.")
        frame_N = position_N - np.array(self.delays)[column_N]
        return ids_N[np.lexsort((column_N, frame_N))].astype(np.int32)

    def legal(self, state: int) -> np.ndarray:
        return self.grammar.legal(state)

    def cursor(self, ids_T: np.ndarray) -> "FrameCursor":
        # The whole grammar checks the prompt; column 0 alone says where it ends.
        Grammar(self.vocabulary, self.num_codebooks).state_after(ids_T)
        cursor = FrameCursor(self)
        v = self.vocabulary
        codes_T = v.is_audio(np.asarray(ids_T))
        for token, is_code in zip(np.asarray(ids_T).tolist(), codes_T.tolist(), strict=True):
            cursor.read(token, (token - v.audio_base) // v.codebook_size if is_code else 0)
        return cursor


class FrameCursor:
    """The codes of the frames that are not complete yet. See `contract.Cursor`."""

    def __init__(self, layout: FrameLayout) -> None:
        self._layout = layout
        self._delays = layout.delays[: layout.num_codebooks]
        self.state = 0
        self._frames: list[list[int | None]] = []
        """Of the span that is open, codes by codebook; those before `_complete` are given out and let go."""
        self._complete = 0
        self._place = 0
        """Which position of the span comes next."""
        self._closed = False

    @property
    def is_tail(self) -> bool:
        return self._closed

    @property
    def at_boundary(self) -> bool:
        return True

    def read(self, token: int, codebook: int) -> None:
        """Take up one id of a prompt, in the order of the document."""
        if codebook:
            self._frames[-1][codebook] = token
            return
        state = self._layout.grammar.advance(self.state, token)
        assert state is not None
        was, self.state = self.state, state
        if was < FIRST_SLOT:
            self._frames, self._complete, self._place, self._closed = [], 0, 0, False
        elif state == FIRST_SLOT:
            self._begin_frame(token)
            self._place += 1
            self._complete = len(self._frames)

    def due(self, first: int) -> dict[int, int | None]:
        if self.state != FIRST_SLOT and not self._closed:
            return {}
        opened = not self._closed and first != self._layout.vocabulary.audio_end
        num_frames = len(self._frames) + opened
        frames = {k: self._place - delay for k, delay in enumerate(self._delays) if k}
        return {
            k: self._frames[f][k] if f < len(self._frames) else None
            for k, f in frames.items()
            if 0 <= f < num_frames
        }

    def take(self, ids_W: Sequence[int]) -> list[int]:
        first = ids_W[0]
        if self.state != FIRST_SLOT and not self._closed:
            self.read(first, 0)
            return [first]
        ends, due = first == self._layout.vocabulary.audio_end, self.due(first)
        if first != ABSENT and not ends:
            self._begin_frame(first)
        for k in due:
            self._frames[self._place - self._delays[k]][k] = ids_W[k]
        self._place += 1
        self._closed = self._closed or ends
        return self._finished()

    def _begin_frame(self, first: int) -> None:
        self._frames.append([first, *[None] * (len(self._delays) - 1)])

    def _finished(self) -> list[int]:
        longest = self._layout.longest_delay
        done: list[int] = []
        while self._complete < min(len(self._frames), self._place - longest):
            done += [token for token in self._frames[self._complete] if token is not None]
            self._complete += 1
        if self._closed and self._place >= len(self._frames) + max(longest, 1):
            self._closed, self.state = False, BETWEEN
            done.append(self._layout.vocabulary.audio_end)
        return done
