"""The config of a model of any family, and one made around a backbone's shape. Nothing here needs torch."""

from dataclasses import replace
from typing import Any, Literal

from sodakit.errors import ConfigError
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


def codes_at_a_position(config: AnyConfig) -> int:
    """How many codes a position holds where it is sound: one, or a whole frame's."""
    return config.num_codebooks if isinstance(config, FrameConfig) else 1


def is_shifted(config: AnyConfig) -> bool:
    """Whether each code inside a frame is told without the one before it, as the published models do."""
    depth = config.depth if isinstance(config, FrameConfig) else None
    return depth is not None and depth.conditioning == "shifted"


def read_widths(config: AnyConfig) -> dict[str, int]:
    """How many numbers the matrices of a model read, by patterns of their names; embeddings read one id each and are not among
    them. What is proportional to it serves, so a feed-forward's second matrix is counted as its first."""
    width = config.backbone.width
    found = {"blocks.*": width, "head.*": width}
    if isinstance(config, FrameConfig) and config.depth:
        inner = config.depth.width
        found |= {"depth.project.*": width, "depth.blocks.*": inner, "depth.head.*": inner}
    return found


def with_init_stds(config: AnyConfig, stds: tuple[tuple[str, float], ...]) -> AnyConfig:
    """The same model with other first deviations, by patterns of names (`ModelConfig.init_stds`)."""
    shape = replace(config.backbone, init_stds=stds)
    return replace(config, backbone=shape) if isinstance(config, FrameConfig) else shape


def check_vocabulary(config: AnyConfig, vocabulary: Vocabulary, where: str) -> None:
    """That a model reads the ids of a vocabulary as what they are.

    Raises:
        ConfigError: another number of ids, or other codebooks.
    """
    if config.vocab_size != vocabulary.size:
        raise ConfigError(
            f"model.vocab_size={config.vocab_size}; the vocabulary of {where} has {vocabulary.size} ids. "
            f"Set model.vocab_size={vocabulary.size}, or name stores of the vocabulary that the model was made for."
        )
    if isinstance(config, FrameConfig):
        given = (config.num_codebooks, config.codebook_size, config.audio_base)
        needed = (vocabulary.num_codebooks, vocabulary.codebook_size, vocabulary.audio_base)
        if given != needed:
            raise ConfigError(
                "model.num_codebooks, codebook_size, audio_base = {}, {}, {}; ".format(*given)
                + "{} has {}, {}, {}. Set them so, or name stores of that codec.".format(where, *needed)
            )


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
        # With one codebook a frame is written when its first code is.
        depth=None if family == "delay" or books == 1 else DepthConfig(**shape | depth),
    )
