"""One endless-looking token stream per source, cut into windows without padding."""

from functools import cached_property

import numpy as np

from sodakit.data import native
from sodakit.data.native import NativeWindows
from sodakit.data.order import derive_key, permute_all
from sodakit.data.views import DocumentView
from sodakit.errors import ConfigError

STRIDE = 8
"""The stream's index remembers where every 8th document begins and counts on from there: an eighth of the memory."""
TOGETHER = STRIDE * 2**13
"""Documents measured at once, so that what is computed of them stays small."""


class TokenStream:
    """All documents of a view, shuffled once, as one stream of tokens cut every `window_tokens`.

    A window may begin anywhere, in the middle of a document or of a frame (as in SODA); the tokens left over at the
    end of the stream are less than one window and are not seen.
    """

    def __init__(self, view: DocumentView, window_tokens: int, seed: int) -> None:
        self.view = view
        self.window_tokens = window_tokens
        self.num_tokens = view.num_tokens
        if self.num_windows == 0:
            raise ConfigError(
                f"A source has {self.num_tokens} tokens in {len(view)} documents, less than one window of {window_tokens}. "
                "Use a shorter context or more data."
            )
        self._order_U = permute_all(len(view), derive_key("documents", seed))
        # Where each run of STRIDE documents begins in the stream.
        self._begins = np.zeros(-(-len(view) // STRIDE) + 1, np.int64)
        for first in range(0, len(view), TOGETHER):
            lengths_U = view.lengths_of(self._order_U[first : first + TOGETHER])
            runs = np.arange(0, len(lengths_U), STRIDE)
            np.add.reduceat(lengths_U, runs, out=self._begins[first // STRIDE + 1 :][: len(runs)])
        np.cumsum(self._begins, out=self._begins)

    @property
    def num_windows(self) -> int:
        """Whole windows in one pass."""
        return self.num_tokens // self.window_tokens

    @property
    def unseen_tokens(self) -> int:
        """Tokens at the end that fill no window: all that is lost to packing."""
        return self.num_tokens % self.window_tokens

    def window(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The tokens of one window and where its documents end.

        Returns:
            ids_T int32, and the lengths of the document pieces in it (int64, summing to `window_tokens`).
        """
        ids_BT = np.empty((1, self.window_tokens), np.int32)
        lengths = self.fill(np.array([index]), ids_BT, np.array([0]))
        return ids_BT[0], np.array(lengths[0], np.int64)

    def fill(self, windows_B: np.ndarray, ids_BT: np.ndarray, rows_B: np.ndarray) -> list[tuple[int, ...]]:
        """Write the tokens of some windows into rows of a batch. Many at once cost less each.

        Args:
            windows_B: their numbers.
            ids_BT: int32, written to.
            rows_B: which row is for which window.
        Returns:
            For each window, the lengths of the document pieces in it: they sum to `window_tokens`.
        """
        if self._native is not None:
            return self._native.fill(windows_B, ids_BT, rows_B)
        size = self.window_tokens
        row_P, document_P, begin_P, length_P = self._pieces_of(windows_B * size)
        ids_BT[rows_B] = self.view.render(document_P, begin_P, size).reshape(len(windows_B), size)
        seen_P = (np.minimum(begin_P + length_P, size) - np.maximum(begin_P, 0)).tolist()
        ends = np.cumsum(np.bincount(row_P, minlength=len(windows_B))).tolist()
        return [tuple(seen_P[a:b]) for a, b in zip([0, *ends[:-1]], ends, strict=True)]

    @cached_property
    def _native(self) -> NativeWindows | None:
        """The same windows by compiled code, where there is a compiler."""
        library = native.compiled()
        # Compiled code counts documents in 32 bits: two thousand million of them.
        if library is None or self._order_U.dtype != np.int32:
            return None
        view, outline = self.view, self.view.outline
        return NativeWindows(
            library,
            view.shards,
            view.template,
            {
                "begin_M": outline.begin_M,
                "first_G": outline.first_G,
                "plain_G": outline.plain_G,
                "utterance_M": outline.utterance_M,
                "order_U": self._order_U,
                "begins": self._begins,
            },
            num_groups=view.num_groups,
            num_documents=len(self._order_U),
            num_begins=len(self._begins),
            stride=STRIDE,
            size=self.window_tokens,
            stored=view.stored_codebooks,
            has_text=view.config.has_text,
            text_first=view.config.order == "text_first",
        )

    def _pieces_of(self, starts_B: np.ndarray) -> tuple[np.ndarray, ...]:
        """The documents in the windows that begin at `starts_B`: row, document, where it begins in the row, length."""
        run_B = self._begins.searchsorted(starts_B, side="right") - 1
        end_B = self._begins.searchsorted(starts_B + self.window_tokens, side="left")
        first_B, last_B = run_B * STRIDE, np.minimum(end_B * STRIDE, len(self._order_U))
        counts_B = last_B - first_B
        row_P = np.repeat(np.arange(len(starts_B)), counts_B)
        ends_B = np.cumsum(counts_B)
        document_P = self._order_U[np.arange(ends_B[-1]) + np.repeat(first_B - ends_B + counts_B, counts_B)]
        length_P = self.view.lengths_of(document_P)
        # Documents follow each other, so one running sum over all rows serves each of them.
        sums_P = np.cumsum(length_P) - length_P
        offset_B = self._begins[run_B] - starts_B - sums_P[ends_B - counts_B]
        begin_P = sums_P + offset_B[row_P]
        inside_P = (begin_P < self.window_tokens) & (begin_P + length_P > 0)
        return row_P[inside_P], document_P[inside_P], begin_P[inside_P], length_P[inside_P]
