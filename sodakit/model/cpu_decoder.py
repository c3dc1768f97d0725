"""Decoding on a CPU: the model's weights, as they are or in fewer bits, behind `native.cpp`."""

import ctypes
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from sodakit.errors import ConfigError
from sodakit.model import native
from sodakit.model.config import ModelConfig
from sodakit.model.kv_cache import KVCache
from sodakit.model.transformer import Block, Transformer

Precision = Literal["float32", "bfloat16", "int8"]
"""How weights are kept. Products and sums are float32 in any case; keys and values are kept in bfloat16 where
the weights are not float32."""

WORK_PER_THREAD = 2_000_000
"""Multiplications that pay for another thread: with fewer, waiting for each other costs more than it saves."""
_HEAD_WIDTHS = (32, 64, 96, 128)


def supports(config: ModelConfig) -> bool:
    """Whether the compiled step takes models of this shape on this machine."""
    wholes = (config.width, config.ffn_width)
    fits = all(width % 16 == 0 for width in wholes) and config.head_width in _HEAD_WIDTHS
    return fits and native.compiled() is not None


def quantised(weight_RC: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix in int8 and the float32 scale of each row: `weight ≈ ids * scale`, off by half a scale at most."""
    scale_R = (weight_RC.float().abs().amax(dim=1) / 127).clamp(min=1e-12)
    return (weight_RC.float() / scale_R[:, None]).round().to(torch.int8), scale_R


class CpuDecoder:
    """A model that only decodes: called as a `Transformer` with a cache, and many times faster at small batches.

    The numbers of a row do not depend on the rows beside it, nor on how its tokens were shared among calls: they are
    equal to the last bit. They agree with `Transformer` to rounding.

    Args:
        model: on a CPU. Its embedding is used, its other weights are copied unless they are float32 already.
        precision: of the weights.
    Raises:
        ConfigError: a shape that the compiled step does not take, or no compiler.
    """

    def __init__(self, model: Transformer, precision: Precision = "float32") -> None:
        if precision not in get_args(Precision):
            raise ConfigError(f"precision={precision!r}; needed: one of {', '.join(get_args(Precision))}.")
        if not supports(model.config.backbone):
            raise ConfigError(
                f"No compiled decoding step for {model.config.backbone.width} wide models with heads of "
                f"{model.config.backbone.head_width} here; needed: a C++ compiler, widths in multiples of 16 and heads of "
                f"{', '.join(map(str, _HEAD_WIDTHS))}. Leave precision at the model's own to decode with torch."
            )
        self.config, self.precision = model.config.backbone, precision
        self.cache_dtype = torch.float32 if precision == "float32" else torch.bfloat16
        self._kept: list[Tensor] = []  # what the pointers point to
        self._embedding = model.embedding.weight.detach()
        self._head_VD, self._head_scale_V = self._weights(model.head_VD)
        self._model = self._laid_out(model)
        self._body_weights = sum(weight.numel() for weight in model.blocks.parameters())

    def __call__(self, ids_BT: Tensor, cache: KVCache) -> Tensor:
        """The final states of new tokens, normed: x_BTD, float32. See `Transformer.forward`.

        Raises:
            ConfigError: another number of rows than the cache has, or no room in it.
        """
        batch, tokens = ids_BT.shape
        cache.check_room(batch, tokens)
        if cache.k_LBGTH.dtype != self.cache_dtype:
            raise ConfigError(f"A cache in {cache.k_LBGTH.dtype}; needed: {self.cache_dtype}.")
        starts_B1 = torch.tensor(cache.lengths, dtype=torch.int32)[:, None]
        positions_BT = (starts_B1 + torch.arange(tokens, dtype=torch.int32)).contiguous()
        rows_BT = torch.arange(batch, dtype=torch.int32)[:, None].expand(batch, tokens).contiguous()
        x_BTD = self._embedding[ids_BT].float().contiguous()
        stride = cache.k_LBGTH.stride()
        _call(
            "sodakit_step",
            ctypes.byref(self._model),
            ctypes.byref(native.Cache(cache.k_LBGTH.data_ptr(), cache.v_LBGTH.data_ptr(), *stride[:3])),
            ctypes.byref(native.Tokens(batch * tokens, rows_BT.data_ptr(), positions_BT.data_ptr())),
            self._kind,
            int(self.cache_dtype == torch.bfloat16),
            ctypes.c_void_p(x_BTD.data_ptr()),
            _threads(self._body_weights * batch * tokens),
        )
        cache.advance(tokens)
        return x_BTD

    def logits(self, x_BD: Tensor, rows: slice) -> Tensor:
        """Scores of the ids in `rows`: logits_BR, float32."""
        first, last, _ = rows.indices(self.config.vocab_size)
        step = self._head_VD.stride(0) * self._head_VD.element_size()
        part = native.Matrix(
            self._head_VD.data_ptr() + first * step,
            None if self._head_scale_V is None else self._head_scale_V.data_ptr() + 4 * first,
            last - first,
            self.config.width,
        )
        x_BD = x_BD.contiguous()
        out_BR = torch.empty(len(x_BD), last - first)
        _call(
            "sodakit_linear",
            ctypes.byref(part),
            self._kind,
            len(x_BD),
            ctypes.c_void_p(x_BD.data_ptr()),
            ctypes.c_void_p(out_BR.data_ptr()),
            _threads(out_BR.numel() * self.config.width),
        )
        return out_BR

    @property
    def _kind(self) -> int:
        return get_args(Precision).index(self.precision)

    def _weights(self, weight_RC: Tensor) -> tuple[Tensor, Tensor | None]:
        """The matrix at this precision and, in int8, the scale of each row."""
        if self.precision == "int8":
            return quantised(weight_RC.detach())
        return weight_RC.detach().to(getattr(torch, self.precision)).contiguous(), None

    def _matrix(self, weight_RC: Tensor) -> native.Matrix:
        kept_RC, scale_R = self._weights(weight_RC)
        self._kept += [kept_RC] if scale_R is None else [kept_RC, scale_R]
        scales = None if scale_R is None else scale_R.data_ptr()
        return native.Matrix(kept_RC.data_ptr(), scales, *kept_RC.shape)

    def _vector(self, weight: Tensor) -> int:
        self._kept.append(weight.detach().float().contiguous())
        return self._kept[-1].data_ptr()

    def _laid_out(self, model: Transformer) -> native.Model:
        config, cos_sin = model.config.backbone, model.rotary_tables()
        layers = (native.Layer * config.layers)()
        for layer, module in zip(layers, model.blocks, strict=True):
            block = cast(Block, module)
            attention, feed_forward = block.attention, block.feed_forward
            layer.attention_norm = self._vector(block.attention_norm.weight)
            layer.feed_forward_norm = self._vector(block.feed_forward_norm.weight)
            for name in ("query_norm", "key_norm"):
                setattr(layer, name, self._vector(getattr(attention, name).weight))
            for name in ("query", "key", "value", "out"):
                setattr(layer, name, self._matrix(getattr(attention, name).whole_weight()))
            for name in ("gate", "up", "down"):
                setattr(layer, name, self._matrix(getattr(feed_forward, name).whole_weight()))
        self._layers = layers
        return native.Model(
            config.layers,
            config.width,
            config.heads,
            config.kv_heads,
            config.head_width,
            config.ffn_width,
            config.norm_eps,
            self._vector(model.final_norm.weight),
            *(self._vector(table) for table in cos_sin),
            layers,
        )


def _threads(work: int) -> int:
    return max(1, min(torch.get_num_threads(), work // WORK_PER_THREAD))


def _call(name: str, *arguments: object) -> None:
    library = native.compiled()
    assert library is not None, "checked when the decoder was made"
    function = getattr(library, name)
    function.restype = None
    function(*arguments)
