"""The config of a model of any family, and one made around a backbone's shape. Nothing here needs torch."""

from typing import Any, Literal

from sodakit.model.config import ModelConfig
from sodakit.model.frame.config import DepthConfig, FrameConfig
from sodakit.tokens.vocabulary import Vocabulary

AnyConfig = ModelConfig | FrameConfig
"""See `families.py`."""
Family = Literal["flat", "depth", "delay"]


def family_of(config: AnyConfig) -> Family:
    """What kind of model a config describes."""
    if isinstance(config, ModelConfig):
        return "flat"
    return "depth" if config.depth else "delay"


def family_config(family: Family, backbone: ModelConfig, vocabulary: Vocabulary, **depth: Any) -> AnyConfig:
    """A config of a family around a backbone's shape.

    `flat`: the backbone alone. `depth`: a frame is one position, and a depth decoder of half the width and four layers
    writes its codes. `delay`: heads side by side, codebook k late by k frames.

    Args:
        backbone: of as many ids as the vocabulary.
        depth: fields of `DepthConfig` to be otherwise.
    """
    if family == "flat":
        return backbone
    books = vocabulary.num_codebooks
    head_width = min(backbone.head_width, 64)
    # Rows of whole heads, in multiples that compiled decoding takes.
    heads = max(1, round(backbone.width / 2 / head_width))
    width = heads * head_width
    shape: dict[str, Any] = {
        "width": width,
        "heads": heads,
        "kv_heads": heads,
        "head_width": head_width,
        "ffn_width": -(-8 * width // 3 // 64) * 64,
    }
    return FrameConfig(
        backbone=backbone,
        num_codebooks=books,
        codebook_size=vocabulary.codebook_size,
        audio_base=vocabulary.audio_base,
        delays=tuple(range(books)) if family == "delay" else (0,) * books,
        depth=None if family == "delay" else DepthConfig(**shape | depth),
    )
