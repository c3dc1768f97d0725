"""Whole documents in windows, padded with EOS: for fine-tuning, where a question must not lose its answer."""

from functools import cached_property

import numpy as np

from sodakit.data.order import derive_key, permute
from sodakit.data.pairs import PairView
from sodakit.errors import ConfigError
from sodakit.tokens.layouts.contract import ABSENT, lay

MAX_DOCUMENTS = 64
"""Documents in a window, at most (the published packing)."""
OPEN_WINDOWS = 8
"""Windows that a document may still go into. More waste less padding, and put the long documents together."""


class PackedStream:
    """All documents of a view, shuffled once, packed greedily into windows of whole documents.

    A document longer than a window is left out and counted. What a window has left is padded with EOS, as a piece of
    its own; `train.scored` knows it and no loss is taken there.
    """

    def __init__(self, view: PairView, window_positions: int, seed: int) -> None:
        self.view = view
        self.window_positions = window_positions
        self.num_tokens = view.num_tokens
        self.num_positions = view.num_positions
        self._seed = seed

    @cached_property
    def _members(self) -> list[list[int]]:
        """The documents of each window."""
        lengths_U = self.view.lengths_U
        order_U = permute(np.arange(len(lengths_U)), len(lengths_U), derive_key("documents", self._seed))
        closed: list[list[int]] = []
        opened: list[tuple[int, list[int]]] = []  # room left, documents
        for document in order_U[lengths_U[order_U] <= self.window_positions].tolist():
            length = int(lengths_U[document])
            fits = next((n for n, (room, _) in enumerate(opened) if room >= length), None)
            room, documents = (self.window_positions, []) if fits is None else opened.pop(fits)
            documents.append(document)
            if len(documents) == MAX_DOCUMENTS:
                closed.append(documents)
            else:
                opened.insert(len(opened) if fits is None else fits, (room - length, documents))
            if len(opened) > OPEN_WINDOWS:
                fullest = min(range(len(opened)), key=lambda n: opened[n][0])
                closed.append(opened.pop(fullest)[1])
        return closed + [documents for _, documents in opened]

    @property
    def num_left_out(self) -> int:
        """Documents longer than a window."""
        return int((self.view.lengths_U > self.window_positions).sum())

    @property
    def packed_positions(self) -> int:
        """Positions of the documents in a pass, without the padding."""
        lengths_U = self.view.lengths_U
        return int(lengths_U[lengths_U <= self.window_positions].sum())

    @property
    def num_windows(self) -> int:
        """Windows in one pass.

        Raises:
            ConfigError: every document is longer than a window.
        """
        if not self._members:
            raise ConfigError(
                f"A window of {self.window_positions} positions holds none of {len(self.view)} documents, the shortest of "
                f"{int(self.view.lengths_U.min())}. Use a longer context."
            )
        return len(self._members)

    def window(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """ids_PW int32 of one window, and the lengths of its documents and padding (int64, summing to the window)."""
        pieces = [lay(self.view.layout, self.view[u]) for u in self._members[index]]
        padding = self.window_positions - sum(len(p) for p in pieces)
        if padding:
            pieces.append(np.full((padding, self.view.layout.width), ABSENT, np.int32))
            pieces[-1][:, 0] = self.view.template.vocabulary.eos
        return np.concatenate(pieces), np.array([len(p) for p in pieces], np.int64)

    def fill(
        self,
        windows_B: np.ndarray,
        ids_BPW: np.ndarray,
        rows_B: np.ndarray,
        epochs_B: np.ndarray | None = None,
    ) -> list[tuple[int, ...]]:
        """Write some windows into rows of a batch, the same in each epoch; the lengths of each."""
        lengths = []
        for window, row in zip(windows_B.tolist(), rows_B.tolist(), strict=True):
            ids_BPW[row], lengths_of = self.window(window)
            lengths.append(tuple(lengths_of.tolist()))
        return lengths
