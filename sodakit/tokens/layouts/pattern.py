"""Which layout a family of models reads, whatever the vocabulary: what a config, a loader and a checkpoint agree on."""

from dataclasses import dataclass

from sodakit.tokens.layouts.contract import Layout
from sodakit.tokens.layouts.flat import FlatLayout
from sodakit.tokens.layouts.frame import FrameLayout
from sodakit.tokens.vocabulary import Vocabulary


@dataclass(frozen=True)
class Pattern:
    """How documents are laid along positions."""

    delays: tuple[int, ...] | None = None
    """Frames by which each codebook is late, where a frame is a position; None: every id has a position of its own."""

    def layout(self, vocabulary: Vocabulary, num_codebooks: int) -> Layout:
        """The layout of documents with so many codebooks a frame."""
        if self.delays is None:
            return FlatLayout(vocabulary, num_codebooks)
        return FrameLayout(vocabulary, num_codebooks, self.delays)


FLAT = Pattern()
