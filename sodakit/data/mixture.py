"""Which source each row comes from: exact shares in every block, the same on any number of workers."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sodakit.data.order import derive_key, permute
from sodakit.errors import ConfigError

BLOCK_ROWS = 2048


@dataclass(frozen=True)
class Stretch:
    """Rows over which the shares do not change."""

    first_row: int
    """Where it begins."""
    counts: np.ndarray
    """Rows of each source in a block."""
    seen: np.ndarray
    """Rows of each source before it."""
    rows: int
    """Rows of a block."""


class Mixture:
    """Row numbers to (source, n-th row of that source).

    Every block of `block_rows` rows holds the same number of rows of each source, in an order keyed by the block, so
    shares are exact to 1/block_rows at any time of the run. As rows are windows of equal length, the weights are
    ratios of tokens.

    Args:
        weights: of each source, from row 0.
        seed: keys the order.
        block_rows: rows over which shares are exact.
        changes: (row, weights) where a cooldown or another phase begins, in order.
        limits: most rows of each source (None: any number). All of them are read: in its last block a source has what
            is left of it, and from then on the others share its place in proportion to their weights.
    """

    def __init__(
        self,
        weights: Sequence[float],
        seed: int,
        block_rows: int = BLOCK_ROWS,
        changes: Sequence[tuple[int, Sequence[float]]] = (),
        limits: Sequence[int | None] | None = None,
    ) -> None:
        self._seed = seed
        self._block_rows = block_rows
        self._limits = list(limits or [None] * len(weights))
        self.end_row: int | None = None
        """Where every source has reached its limit; None: never."""
        self._stretches: list[Stretch] = []
        self._latest = ((-1, -1), np.zeros(0, np.int64), np.zeros(0, np.int64))
        phases = [(0, weights), *changes]
        ends = [row for row, _ in changes]
        if any(later <= earlier for (earlier, _), later in zip(phases, ends, strict=False)):
            raise ConfigError(f"Phases of the mixture begin at rows {ends}; needed: after row 0 and rising.")
        for (first_row, phase_weights), last_row in zip(phases, [*ends, None], strict=True):
            self._add_phase(first_row, last_row, np.array(phase_weights, np.float64))

    @property
    def counts(self) -> np.ndarray:
        """Rows of each source in a block at the beginning."""
        return self._stretches[0].counts

    def locate(self, row: int) -> tuple[int, int]:
        """The source of a row, and which of that source's rows it is: 0, 1, 2, … in the order of the rows.

        Raises:
            ConfigError: every source has reached its limit before this row.
        """
        sources, nths = self.locate_rows(range(row, row + 1))
        return int(sources[0]), int(nths[0])

    def locate_rows(self, rows: range) -> tuple[np.ndarray, np.ndarray]:
        """`locate` of each of some rows that follow each other: int64."""
        parts = []
        row = rows.start
        while row < rows.stop:
            number, block, place = self._find(row)
            stretch = self._stretches[number]
            last = min(rows.stop - row + place, stretch.rows)
            if number + 1 < len(self._stretches):
                last = min(last, self._stretches[number + 1].first_row - row + place)
            sources, ranks = (column[place:last] for column in self._layout(number, block))
            parts.append((sources, stretch.seen[sources] + block * stretch.counts[sources] + ranks))
            row += last - place
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def rows_before(self, row: int) -> np.ndarray:
        """How many of the rows before `row` each source gives: int64."""
        number, block, place = self._find(row, end=True)
        stretch = self._stretches[number]
        partial = np.bincount(self._layout(number, block)[0][:place], minlength=len(stretch.counts))
        return stretch.seen + block * stretch.counts + partial

    def _add_phase(self, row: int, last_row: int | None, weights: np.ndarray) -> None:
        while self.end_row is None and (last_row is None or row < last_row):
            seen = self.rows_before(row) if self._stretches else np.zeros(len(weights), np.int64)
            counts = self._counts_left(weights, seen)
            size = int(counts.sum())
            if not size:
                self.end_row = row
                return
            self._stretches.append(Stretch(row, counts, seen, size))
            blocks = self._blocks_left(counts, seen)
            if blocks is None or (last_row is not None and row + blocks * size >= last_row):
                return
            row += blocks * size

    def _counts_left(self, weights: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Rows of each source in the next block; the last one of all may be smaller, and one of no rows is none.

        A source that cannot fill its share gives what is left of it, and the others fill the block.
        """
        left, rest = weights.copy(), np.zeros(len(weights), np.int64)
        counts = self._counts(left, self._block_rows)
        while short := [
            source
            for source, limit in enumerate(self._limits)
            if limit is not None and left[source] > 0 and limit - seen[source] < counts[source]
        ]:
            for source in short:
                rest[source] = self._limits[source] - seen[source]
                left[source] = 0
            if left.sum() <= 0:
                return rest
            counts = self._counts(left, self._block_rows - int(rest.sum()), whole=not rest.any())
        return counts + rest

    def _counts(self, weights: np.ndarray, size: int, *, whole: bool = True) -> np.ndarray:
        listed = weights.tolist()
        if not listed or min(listed) < 0 or sum(listed) <= 0:
            raise ConfigError(f"Mixture weights {listed}; needed: at least one, none negative, not all zero.")
        exact = weights / weights.sum() * size
        counts = np.floor(exact).astype(np.int64)
        counts[np.argsort(counts - exact, kind="stable")[: size - int(counts.sum())]] += 1
        if whole and any(w > 0 and c == 0 for w, c in zip(listed, counts, strict=True)):
            raise ConfigError(
                f"Mixture weights {listed}: the smallest is under 1/{self._block_rows} of the whole. Raise it or drop it."
            )
        return counts

    def _blocks_left(self, counts: np.ndarray, seen: np.ndarray) -> int | None:
        """Whole blocks until the first source reaches its limit; None: no limit applies."""
        blocks = [
            int((limit - seen[source]) // counts[source])
            for source, limit in enumerate(self._limits)
            if limit is not None and counts[source]
        ]
        return min(blocks) if blocks else None

    def _find(self, row: int, end: bool = False) -> tuple[int, int, int]:
        """The stretch of a row, the block in it and the place in that; with `end`, of the row after the last, too."""
        if self.end_row is not None and row >= self.end_row + end:
            raise ConfigError(
                f"Every source has given all its epochs after {self.end_row} rows; row {row} was asked for. "
                "Raise max_epochs, add a source, or take fewer steps."
            )
        number = 0
        if len(self._stretches) > 1:
            number = bisect_right(self._stretches, row, key=lambda stretch: stretch.first_row) - 1
        block, place = divmod(row - self._stretches[number].first_row, self._stretches[number].rows)
        return number, block, place

    def _layout(self, number: int, block: int) -> tuple[np.ndarray, np.ndarray]:
        # Rows are asked for in order, so the layout of the last block is kept; it is replaced as a whole, so a
        # loader thread never sees half of one.
        latest = self._latest
        if latest[0] != (number, block):
            counts, size = self._stretches[number].counts, self._stretches[number].rows
            # The first stretch keeps the key it had before there were others: a run without phases is not reordered.
            words = (number, block) if number else (block,)
            slots = permute(np.arange(size), size, derive_key("block", self._seed, *words))
            sources = np.searchsorted(np.cumsum(counts), slots, side="right")
            ranks = np.zeros(size, np.int64)
            for source in range(len(counts)):
                members = np.flatnonzero(sources == source)
                ranks[members] = np.arange(len(members))
            latest = ((number, block), sources, ranks)
            self._latest = latest
        return latest[1], latest[2]
