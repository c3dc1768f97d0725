"""Sequences in rows, with what they have in common only once.

Two sides of a pair share their first half, four endings their context, all questions of a task its examples. A state
depends on what came before it and on nothing else, so a common beginning needs one forward pass. In order, each
sequence goes on from the one before it: no other begins with more of the same ids.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from sodakit.model.attention import Packing

FEWEST_SHARED = 4
"""A shorter beginning is computed again: fetching its keys costs as much. (At 4 sharing still gains 6 to 10 %.)"""

Stretches = tuple[tuple[int, int], ...]
"""First position of a row and one past the last, one stretch after another."""


@dataclass(frozen=True, eq=False)
class Row:
    """Some of the sequences, laid along P positions of one forward pass."""

    numbers: tuple[int, ...]
    """Which sequences."""
    paths: tuple[Stretches, ...]
    """Of each, where in P its tokens lie."""
    lengths: tuple[int, ...]
    """Tokens that each adds to the row: 0 where another begins with all of it."""
    ids_PW: np.ndarray
    """int64, -1 where a position has no id in a column."""

    @property
    def places(self) -> list[np.ndarray]:
        """Of each sequence, the place in P of each of its tokens: int64 (T,)."""
        return [np.concatenate([np.arange(*stretch) for stretch in path]) for path in self.paths]

    def packing(self, device: torch.device | str) -> Packing:
        """A document for each sequence that adds something, going on from where its beginning lies."""
        adding = [(length, path) for length, path in zip(self.lengths, self.paths, strict=True) if length]
        given = tuple(path[:-1] for _, path in adding)
        return Packing.from_lengths([length for length, _ in adding], device, given if any(given) else ())


def rows_of(sequences: Sequence[np.ndarray], row_tokens: int) -> Iterator[Row]:
    """Every sequence in exactly one row, next to those with which it shares most.

    Args:
        sequences: ids_PW of each, all different.
        row_tokens: most positions of a row; a longer sequence has a row of its own. Sequences that share more than
            one row holds go on in the next, which computes their beginning again.
    """
    row: list[tuple[int, int]] = []
    filled = 0
    for family in _families(sequences, row_tokens):
        tokens = sum(len(sequences[n]) - shared for n, shared in family)
        if row and filled + tokens > row_tokens:
            yield _laid(sequences, row)
            row, filled = [], 0
        row += family
        filled += tokens
    if row:
        yield _laid(sequences, row)


def _families(sequences: Sequence[np.ndarray], row_tokens: int) -> Iterator[list[tuple[int, int]]]:
    """Sequences that stay together, as numbers in order, and how many tokens each shares with the one before it."""
    keys = [ids_T.tobytes() for ids_T in sequences]
    # Backwards: those that begin with all of another come before it, and it adds nothing.
    order = sorted(range(len(keys)), key=keys.__getitem__, reverse=True)
    family = [(n, 0) for n in order[:1]]
    filled = len(sequences[order[0]]) if order else 0
    for before, n in pairwise(order):
        ids_T = sequences[n]
        shared = _num_shared(sequences[before], ids_T)
        shared = shared if shared >= min(FEWEST_SHARED, len(ids_T)) else 0
        if not shared or filled + len(ids_T) - shared > row_tokens:
            yield family
            family, filled, shared = [], 0, 0
        family.append((n, shared))
        filled += len(ids_T) - shared
    if family:
        yield family


def _laid(sequences: Sequence[np.ndarray], members: list[tuple[int, int]]) -> Row:
    paths: list[Stretches] = []
    filled = 0
    for n, shared in members:
        stop = filled + len(sequences[n]) - shared
        given = _cut(paths[-1], shared) if shared else ()
        paths.append((*given, (filled, stop)) if stop > filled else given)
        filled = stop
    return Row(
        numbers=tuple(n for n, _ in members),
        paths=tuple(paths),
        lengths=tuple(len(sequences[n]) - shared for n, shared in members),
        ids_PW=np.concatenate([sequences[n][shared:] for n, shared in members]).astype(np.int64),
    )


def _cut(path: Stretches, tokens: int) -> Stretches:
    """The first so many positions of a path."""
    kept: list[tuple[int, int]] = []
    for start, stop in path:
        if tokens <= 0:
            break
        kept.append((start, min(stop, start + tokens)))
        tokens -= stop - start
    return tuple(kept)


def _num_shared(one_T: np.ndarray, other_T: np.ndarray) -> int:
    length = min(len(one_T), len(other_T))
    differs_T = (one_T[:length] != other_T[:length]).reshape(length, -1).any(1)
    return int(differs_T.argmax()) if differs_T.any() else length
