"""One endless-looking stream of positions per source, cut into windows without padding."""

from functools import cached_property

import numpy as np

from sodakit.data import native
from sodakit.data.native import NativeWindows
from sodakit.data.order import derive_key, permute_all
from sodakit.data.views import DocumentView
from sodakit.errors import ConfigError
from sodakit.tokens.layouts.contract import lay

STRIDE = 8
"""The stream's index remembers where every 8th document begins and counts on from there: an eighth of the memory."""
TOGETHER = STRIDE * 2**13
"""Documents measured at once, so that what is computed of them stays small."""


class TokenStream:
    """All documents of a view, shuffled once, as one stream of positions cut every `window_positions`.

    A window may begin anywhere in a document, with flat frames also in the middle of a frame (as in SODA); the
    positions left over at the end of the stream are less than one window and are not seen.
    """

    def __init__(self, view: DocumentView, window_positions: int, seed: int) -> None:
        self.view = view
        self.window_positions = window_positions
        self.num_tokens = view.num_tokens
        self.num_positions = view.num_positions
        if self.num_windows == 0:
            raise ConfigError(
                f"A source has {self.num_positions} positions in {len(view)} documents, less than one window of "
                f"{window_positions}. Use a shorter context or more data."
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
        return self.num_positions // self.window_positions

    @property
    def unseen_positions(self) -> int:
        """Positions at the end that fill no window: all that is lost to packing."""
        return self.num_positions % self.window_positions

    def window(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """One window and where its documents end.

        Returns:
            ids_PW int32, and the lengths of the document pieces in it (int64, summing to `window_positions`).
        """
        ids_BPW = np.empty((1, self.window_positions, self.view.layout.width), np.int32)
        lengths = self.fill(np.array([index]), ids_BPW, np.array([0]))
        return ids_BPW[0], np.array(lengths[0], np.int64)

    def fill(
        self,
        windows_B: np.ndarray,
        ids_BPW: np.ndarray,
        rows_B: np.ndarray,
        epochs_B: np.ndarray | None = None,
    ) -> list[tuple[int, ...]]:
        """Write some windows into rows of a batch. Many at once cost less each.

        Args:
            windows_B: their numbers.
            ids_BPW: int32, written to.
            rows_B: which row is for which window.
            epochs_B: taken and not used: a window is the same in each.
        Returns:
            For each window, the lengths of the document pieces in it: they sum to `window_positions`.
        """
        if self._native is not None:
            return self._native.fill(windows_B, ids_BPW, rows_B)
        return [self._write(int(window), ids_BPW[row]) for window, row in zip(windows_B, rows_B, strict=True)]

    def _write(self, window: int, ids_PW: np.ndarray) -> tuple[int, ...]:
        """One window by the definition, document by document: what machines without a compiler do."""
        start, size = window * self.window_positions, self.window_positions
        run = int(self._begins.searchsorted(start, side="right")) - 1
        at, lengths = int(self._begins[run]) - start, []
        for document in self._order_U[run * STRIDE :].tolist():
            if at >= size:
                break
            length = int(self.view.lengths_of(np.array([document]))[0])
            if at + length > 0:
                seen = slice(max(at, 0), min(at + length, size))
                ids_PW[seen] = lay(self.view.layout, self.view[document])[seen.start - at : seen.stop - at]
                lengths.append(seen.stop - seen.start)
            at += length
        return tuple(lengths)

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
            view.layout,
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
            size=self.window_positions,
            stored=view.stored_codebooks,
            has_text=view.config.has_text,
            text_first=view.config.order == "text_first",
            more_bos=view.more_bos,
        )
