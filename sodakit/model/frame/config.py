"""What a model of frames is: a backbone with one position a frame, and what writes the codes inside it."""

from dataclasses import dataclass
from typing import Literal

from sodakit.bounds import Bounded, Count, PositiveShare
from sodakit.errors import ConfigError
from sodakit.model.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class DepthConfig(Bounded):
    """The small decoder that writes a frame's codes after the first, one after the other."""

    width: Count
    """Numbers per code between blocks. Half the backbone's is the knee of the published comparison."""
    layers: Count = 4
    """Blocks."""
    heads: Count = 4
    """Query heads."""
    kv_heads: Count = 4
    """Key and value heads."""
    head_width: Count = 64
    """Numbers per head; even."""
    ffn_width: Count = 1024
    """Hidden width of the feed-forward."""
    conditioning: Literal["exact", "shifted"] = "exact"
    """`exact`: codebook k sees codebooks 0 … k-1 of its frame. `shifted`: 0 … k-2, as in the published checkpoints."""
    fed: Literal["sum", "last"] = "sum"
    """What tells of the codes so far: the sum of all their embeddings, or the last one's alone (as published)."""
    share: PositiveShare = 1.0
    """Share of the frames that it is trained on: 1/16 to 1. Its losses stay means over frames."""


@dataclass(frozen=True, kw_only=True)
class FrameConfig(Bounded):
    """A backbone over positions that hold a frame, a text id or a marker each, and how it writes a frame.

    Ids are the vocabulary's: text and markers below `audio_base`, then the codebooks one after the other.
    """

    backbone: ModelConfig
    """The decoder over positions; its context counts them."""
    num_codebooks: Count
    """K: columns of a position."""
    codebook_size: Count
    """Codes of each."""
    audio_base: int
    """Id of code 0 of codebook 0."""
    delays: tuple[int, ...]
    """Of each codebook, in frames; the first 0. With K heads side by side, a codebook that is not delayed cannot see the
    codes beside it."""
    depth: DepthConfig | None = None
    """What writes codebooks 1 … K-1; None for heads side by side on the backbone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.delays) != self.num_codebooks or self.delays[0] or min(self.delays) < 0:
            raise ConfigError(
                f"model.delays={self.delays}; needed: {self.num_codebooks} numbers of frames, the first 0, none negative."
            )
        if self.backbone.vocab_size < self.audio_base + self.num_codebooks * self.codebook_size:
            raise ConfigError(
                f"model.backbone.vocab_size={self.backbone.vocab_size} ends before {self.num_codebooks} codebooks of "
                f"{self.codebook_size} from {self.audio_base}."
            )
        if self.depth is not None:
            if self.num_codebooks == 1:
                raise ConfigError(
                    "model.depth with one codebook: nothing is left to write inside a frame. Set model.depth=null."
                )
            _ = self.depth_shape  # checks it

    @property
    def context(self) -> int:
        """Longest row, in positions."""
        return self.backbone.context

    @property
    def vocab_size(self) -> int:
        """V: ids it reads."""
        return self.backbone.vocab_size

    @property
    def tied_embeddings(self) -> bool:
        """Whether the backbone's head is its embedding, transposed."""
        return self.backbone.tied_embeddings

    @property
    def first_ids(self) -> int:
        """Ids that may stand in column 0: text, markers and codebook 0."""
        return self.audio_base + self.codebook_size

    @property
    def head_ids(self) -> int:
        """Rows of the backbone's head: those, or with heads side by side all codebooks too."""
        return self.first_ids if self.depth else self.audio_base + self.num_codebooks * self.codebook_size

    @property
    def depth_shape(self) -> ModelConfig:
        """The depth decoder's blocks. Its positions are the codes of a frame, so rotations are plain."""
        assert self.depth is not None
        d, b = self.depth, self.backbone
        return ModelConfig(
            vocab_size=self.num_codebooks * self.codebook_size,
            width=d.width,
            layers=d.layers,
            heads=d.heads,
            kv_heads=d.kv_heads,
            head_width=d.head_width,
            ffn_width=d.ffn_width,
            norm_eps=b.norm_eps,
            rope_theta=b.rope_theta,
            rope_scaling=b.rope_scaling,
            context=self.num_codebooks,
            init_std=b.init_std,
        )
