"""What a model is: a Qwen3-style decoder, its sizes by name, and the shape rule of the scaling study."""

import math
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Annotated, Any

from sodakit.bounds import Bounded, Bounds, Count, Positive
from sodakit.errors import ConfigError, nearest

SODA_VOCAB_SIZE = 144_644
"""Llama-3 text (128,256), four markers, eight codebooks of 2,048 codes."""


@dataclass(frozen=True, kw_only=True)
class RopeScaling(Bounded):
    """The frequency change of Llama 3.1: slow rotations are slowed by `factor`, fast ones are kept."""

    factor: Annotated[float, Bounds(least=1)] = 8.0
    """How much slower the slowest rotations turn."""
    low_frequency_factor: Positive = 1.0
    """Rotations with fewer turns than this over `original_context` are slowed in full."""
    high_frequency_factor: float = 4.0
    """Rotations with more turns than this over `original_context` are kept."""
    original_context: Count = 8192
    """The context the unscaled frequencies were made for, in tokens."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.low_frequency_factor < self.high_frequency_factor:
            raise ConfigError(
                f"rope_scaling.low_frequency_factor={self.low_frequency_factor} and "
                f"high_frequency_factor={self.high_frequency_factor}; needed: low < high, as 1 and 4."
            )


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Bounded):
    """The shape of a decoder: pre-norm RMSNorm, QK-norm, grouped queries, RoPE, SwiGLU, no biases."""

    vocab_size: int
    """V: ids it reads and predicts."""
    width: int
    """D: numbers per position between blocks."""
    layers: Annotated[int, Bounds(least=1, most=10_000)]
    """L: blocks."""
    heads: int
    """N: query heads."""
    kv_heads: int
    """G: key and value heads; each serves `heads / kv_heads` query heads."""
    head_width: int
    """H: numbers per head; even. `heads * head_width` need not be `width`."""
    ffn_width: int
    """Hidden width of the SwiGLU feed-forward."""
    tied_embeddings: bool = False
    """The head is the embedding, transposed."""
    norm_eps: Positive = 1e-5
    """Added to the mean square in every RMSNorm."""
    rope_theta: Positive = 500_000.0
    """Base of the rotation frequencies."""
    rope_scaling: RopeScaling | None = RopeScaling()
    """Change of the frequencies; None for plain RoPE."""
    context: int = 4096
    """Longest row, in tokens."""
    init_std: Positive = 0.02
    """Standard deviation of every matrix at the start."""
    init_stds: tuple[tuple[str, float], ...] = ()
    """Those of some, by patterns of their names: `(("blocks.*", 0.01), ("head.*", 0.005))`. The first that fits counts."""

    def __post_init__(self) -> None:
        for name in (
            "vocab_size",
            "width",
            "layers",
            "heads",
            "kv_heads",
            "head_width",
            "ffn_width",
            "context",
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"model.{name}={value!r}; needed: a whole number of at least 1.")
        if self.heads % self.kv_heads:
            raise ConfigError(
                f"model.heads={self.heads} is not a multiple of model.kv_heads={self.kv_heads}, so key heads cannot "
                f"be shared evenly. Use kv_heads={math.gcd(self.heads, self.kv_heads)} or change heads."
            )
        if any(not 0 < std < math.inf for _, std in self.init_stds):
            raise ConfigError(f"model.init_stds={self.init_stds}; needed: positive numbers.")
        if self.head_width % 2:
            raise ConfigError(f"model.head_width={self.head_width}; RoPE turns pairs, so it must be even.")
        super().__post_init__()

    @property
    def backbone(self) -> "ModelConfig":
        """The decoder over positions: all of it."""
        return self

    @property
    def query_width(self) -> int:
        """N * H: the width of all queries of a position."""
        return self.heads * self.head_width

    @property
    def key_width(self) -> int:
        """G * H: the width of all keys of a position, and of all values."""
        return self.kv_heads * self.head_width


def _size(
    width: int, layers: int, heads: int, kv_heads: int, head_width: int, ffn_width: int, **more: Any
) -> MappingProxyType[str, Any]:
    shape = {
        "width": width,
        "layers": layers,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_width": head_width,
        "ffn_width": ffn_width,
    }
    return MappingProxyType(shape | more)


MODEL_SIZES: MappingProxyType[str, MappingProxyType[str, Any]] = MappingProxyType(
    {
        # For laptops: names of ours. `nano` is for tests, `tiny` has a body of about 1M, `demo` of about 4M.
        "nano": _size(64, 2, 2, 2, 32, 192, tied_embeddings=True),
        "tiny": _size(128, 5, 4, 4, 32, 384, tied_embeddings=True),
        "demo": _size(256, 5, 4, 4, 64, 704, tied_embeddings=True),
        "small": _size(384, 8, 6, 6, 64, 1024, tied_embeddings=True),
        # The suite of the paper; the names count the body and one embedding, and training was untied.
        "soda_135m": _size(512, 15, 8, 8, 64, 1792),
        "soda_600m": _size(1024, 28, 16, 8, 128, 3072),
        "soda_1.7b": _size(2048, 28, 16, 8, 128, 6144),
        "soda_4b": _size(2560, 36, 32, 8, 128, 9728),
        # The preliminary 600M: heads half as wide as intended, kept because its weights are public.
        "soda_prelim": _size(1024, 28, 16, 8, 64, 3072),
        # The sweeps over data; the names count the body and the one (tied) embedding.
        "sweep_30m": _size(192, 8, 2, 2, 96, 448, tied_embeddings=True),
        "sweep_50m": _size(256, 12, 4, 4, 64, 896, tied_embeddings=True),
        "sweep_75m": _size(336, 16, 4, 4, 84, 1024, tied_embeddings=True),
        "sweep_150m": _size(512, 20, 8, 8, 64, 1792, tied_embeddings=True),
        "sweep_300m": _size(768, 22, 12, 12, 64, 2688, tied_embeddings=True),
    }
)
"""Shapes by name. Source: the public configs of arXiv:2602.16687, except the four for laptops."""


def model_size(name: str, vocab_size: int = SODA_VOCAB_SIZE, **changes: Any) -> ModelConfig:
    """The config of a size by name, with fields changed: `model_size("soda_135m", tied_embeddings=True)`.

    Raises:
        ConfigError: an unknown size or field; the message names the nearest known one.
    """
    if name not in MODEL_SIZES:
        raise ConfigError(f"No model size {name!r}.{nearest(name, MODEL_SIZES, 'Sizes', 0.5)}")
    return _build({"vocab_size": vocab_size, **MODEL_SIZES[name]}, changes)


def soda_grid_shape(width: int, vocab_size: int = SODA_VOCAB_SIZE, **changes: Any) -> ModelConfig:
    """The shape the scaling study gives to a width: deeper as it widens, heads of 128, feed-forward of 4 D.

    Raises:
        ConfigError: a width its heads cannot share evenly, or an unknown field in `changes`.
    """
    if width < 64:
        raise ConfigError(f"width={width}; the rule of the scaling study starts at 64.")
    heads = max(1, width // 128)
    if width % heads:
        raise ConfigError(f"width={width} cannot be shared by {heads} heads. Use a multiple of 128.")
    layers = max(1, round(width / (64 + 4 * math.log2(width) - 7)))
    shape = _size(width, layers, heads, heads, width // heads, 4 * width)
    return _build({"vocab_size": vocab_size, **shape}, changes)


def _build(settings: dict[str, Any], changes: dict[str, Any]) -> ModelConfig:
    known = [field.name for field in fields(ModelConfig)]
    for name in changes:
        if name not in known:
            raise ConfigError(f"A model has no field {name!r}.{nearest(name, known, cutoff=0.5)}")
    return ModelConfig(**settings | changes)
