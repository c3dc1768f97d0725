"""One endless-looking token stream per source, cut into windows without padding."""

import numpy as np

from sodakit.data.order import derive_key, permute
from sodakit.data.views import DocumentView
from sodakit.errors import ConfigError


class TokenStream:
    """All documents of a view, shuffled once, as one stream of tokens cut every `window_tokens`.

    A window may begin anywhere, in the middle of a document or of a frame (as in SODA); the tokens left over at the
    end of the stream are less than one window and are not seen.
    """

    def __init__(self, view: DocumentView, window_tokens: int, seed: int) -> None:
        self.view = view
        self.window_tokens = window_tokens
        self._order_U = permute(np.arange(len(view)), len(view), derive_key("documents", seed))
        self._ends_U = np.cumsum(view.lengths_U[self._order_U])
        self.num_tokens = int(view.lengths_U.sum())
        if self.num_windows == 0:
            raise ConfigError(
                f"A source has {self.num_tokens} tokens in {len(view)} documents, less than one window of {window_tokens}. "
                "Use a shorter context or more data."
            )

    @property
    def num_windows(self) -> int:
        """Whole windows in one pass."""
        return self.num_tokens // self.window_tokens

    def window(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The tokens of one window and where its documents end.

        Returns:
            ids_T int32, and the lengths of the document pieces in it (int64, summing to `window_tokens`).
        """
        start = index * self.window_tokens
        stop = start + self.window_tokens
        first = int(np.searchsorted(self._ends_U, start, side="right"))
        pieces, position, document = [], start, first
        while position < stop:
            begin = int(self._ends_U[document - 1]) if document else 0
            ids_T = self.view[int(self._order_U[document])][position - begin : stop - begin]
            pieces.append(ids_T)
            position += len(ids_T)
            document += 1
        return np.concatenate(pieces), np.array([len(p) for p in pieces], np.int64)
