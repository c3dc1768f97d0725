"""One endless-looking token stream per source, cut into windows without padding."""

import numpy as np

from sodakit.data.order import derive_key, permute_all
from sodakit.data.views import DocumentView
from sodakit.errors import ConfigError

STRIDE = 8
"""The stream's index remembers where every 8th document begins and counts on from there: an eighth of the memory."""


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
        lengths_U = view.lengths_of(self._order_U)
        ends = np.cumsum(np.add.reduceat(lengths_U, np.arange(0, len(lengths_U), STRIDE), dtype=np.int64))
        self._begins = np.concatenate([np.zeros(1, np.int64), ends])

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
        ids_T = np.empty(self.window_tokens, np.int32)
        return ids_T, np.array(self.write(index, ids_T), np.int64)

    def write(self, index: int, out_T: np.ndarray) -> list[int]:
        """Write the tokens of one window into `out_T`; the lengths of the document pieces in it."""
        start, size = index * self.window_tokens, self.window_tokens
        run = int(self._begins.searchsorted(start, side="right")) - 1
        at, place = int(self._begins[run]) - start, run * STRIDE
        lengths = []
        while at < size:
            document = int(self._order_U[place])
            length = self.view.length_of(document)
            if at + length > 0:
                self.view.write(document, at, out_T)
                lengths.append(min(at + length, size) - max(at, 0))
            at += length
            place += 1
        return lengths
