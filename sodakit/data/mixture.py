"""Which source each row comes from: exact shares in every block, the same on any number of workers."""

import numpy as np

from sodakit.data.order import derive_key, permute
from sodakit.errors import ConfigError


class Mixture:
    """Row numbers to (source, n-th row of that source).

    Every block of `block_rows` rows holds the same number of rows of each source, in an order keyed by the block, so
    shares are exact to 1/block_rows at any time of the run. As rows are windows of equal length, the weights are
    ratios of tokens.
    """

    def __init__(self, weights: list[float], seed: int, block_rows: int = 2048) -> None:
        if not weights or min(weights) < 0 or sum(weights) <= 0:
            raise ConfigError(
                f"Mixture weights {weights}; needed: at least one, none negative, not all zero."
            )
        self._seed = seed
        self._block_rows = block_rows
        exact = np.array(weights, np.float64) / sum(weights) * block_rows
        counts = np.floor(exact).astype(np.int64)
        counts[np.argsort(counts - exact, kind="stable")[: block_rows - int(counts.sum())]] += 1
        if any(w > 0 and c == 0 for w, c in zip(weights, counts, strict=True)):
            raise ConfigError(
                f"Mixture weights {weights}: the smallest is under 1/{block_rows} of the whole. Raise it or drop it."
            )
        self.counts = counts
        """Rows of each source in a block."""
        self._latest: tuple[int, np.ndarray, np.ndarray] = (-1, counts, counts)
        self._ends = np.cumsum(counts)

    def locate(self, row: int) -> tuple[int, int]:
        """The source of a row, and which of that source's rows it is: 0, 1, 2, … in the order of the rows."""
        block, place = divmod(row, self._block_rows)
        sources, ranks = self._layout(block)
        source = int(sources[place])
        return source, block * int(self.counts[source]) + int(ranks[place])

    def _layout(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        # Rows are asked for in order, so the layout of the last block is kept; it is replaced as a whole, so a
        # loader thread never sees half of one.
        if self._latest[0] != block:
            key = derive_key("block", self._seed, block)
            slots = permute(np.arange(self._block_rows), self._block_rows, key)
            sources = np.searchsorted(self._ends, slots, side="right")
            ranks = np.zeros(self._block_rows, np.int64)
            for source in range(len(self.counts)):
                members = np.flatnonzero(sources == source)
                ranks[members] = np.arange(len(members))
            self._latest = (block, sources, ranks)
        return self._latest[1:]
