"""Blocks and matrices of a model behind `native.cpp`, as they are or in fewer bits, for decoding on a CPU."""

import ctypes
from collections.abc import Sequence
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from sodakit.errors import ConfigError
from sodakit.model import native
from sodakit.model.config import ModelConfig
from sodakit.model.kv_cache import KVCache
from sodakit.model.layers import RMSNorm
from sodakit.model.transformer import Block

Precision = Literal["float32", "bfloat16", "int8"]
"""How weights are kept. Products and sums are float32 in any case; keys and values are kept in bfloat16 where
the weights are not float32."""

WORK_PER_THREAD = 1_000_000
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


class CompiledMatrix:
    """A matrix at a precision; slices of its rows multiply without copies.

    Args:
        weight_RC: on a CPU; copied unless it is float32 already.
        precision: of its numbers.
    """

    def __init__(self, weight_RC: Tensor, precision: Precision) -> None:
        self._kind = get_args(Precision).index(precision)
        self.scale_R: Tensor | None = None
        if precision == "int8":
            self.weight_RC, self.scale_R = quantised(weight_RC.detach())
        else:
            self.weight_RC = weight_RC.detach().to(getattr(torch, precision)).contiguous()

    def rows(self, first: int = 0, last: int | None = None) -> native.Matrix:
        """Some of its rows as compiled code sees them. What it points to must live as long."""
        num_rows, columns = self.weight_RC.shape
        last = num_rows if last is None else last
        address = self.weight_RC.data_ptr() + first * columns * self.weight_RC.element_size()
        scales = None if self.scale_R is None else self.scale_R.data_ptr() + 4 * first
        return native.Matrix(address, scales, last - first, columns)

    def product(self, x_BC: Tensor, first: int = 0, last: int | None = None) -> Tensor:
        """`x_BC` times some of the rows: out_BR, float32."""
        part, x_BC = self.rows(first, last), x_BC.contiguous()
        out_BR = torch.empty(len(x_BC), part.rows)
        call(
            "sodakit_linear",
            ctypes.byref(part),
            self._kind,
            len(x_BC),
            ctypes.c_void_p(x_BC.data_ptr()),
            ctypes.c_void_p(out_BR.data_ptr()),
            threads_for(out_BR.numel() * part.columns),
        )
        return out_BR


class CompiledBlocks:
    """Blocks and their final norm, in one call for new positions of every row.

    The numbers of a row do not depend on the rows beside it, nor on how its positions were shared among calls: they are
    equal to the last bit. They agree with torch's to rounding.

    Args:
        shape: of the blocks.
        blocks: on a CPU.
        final_norm: what follows them.
        rotary: cos and sin of every position.
        precision: of the weights.
    Raises:
        ConfigError: a shape that the compiled step does not take, or no compiler.
    """

    def __init__(
        self,
        shape: ModelConfig,
        blocks: nn.ModuleList,
        final_norm: RMSNorm,
        rotary: Sequence[Tensor],
        precision: Precision,
    ) -> None:
        if precision not in get_args(Precision):
            raise ConfigError(f"precision={precision!r}; needed: one of {', '.join(get_args(Precision))}.")
        if not supports(shape):
            raise ConfigError(
                f"No compiled decoding step for {shape.width} wide models with heads of {shape.head_width} here; needed: "
                f"a C++ compiler, widths in multiples of 16 and heads of {', '.join(map(str, _HEAD_WIDTHS))}. "
                "Leave precision at the model's own to decode with torch."
            )
        self.shape, self.precision = shape, precision
        self.kind = get_args(Precision).index(precision)
        """The precision as compiled code counts it."""
        self.cache_dtype = torch.float32 if precision == "float32" else torch.bfloat16
        self._kept: list[Tensor | CompiledMatrix] = []  # what the pointers point to
        self.model = self._laid_out(blocks, final_norm, rotary)
        """As compiled code sees it."""
        self.num_weights = sum(weight.numel() for weight in blocks.parameters())

    def __call__(self, x_BTD: Tensor, cache: KVCache) -> Tensor:
        """The final states of new positions, normed: x_BTD, float32.

        Args:
            x_BTD: what they begin with; float32 and contiguous, it is overwritten.
            cache: earlier positions of each row, to which these are added.
        Raises:
            ConfigError: another number of rows than the cache has, no room in it, or another dtype.
        """
        batch, tokens, _ = x_BTD.shape
        cache.check_room(batch, tokens)
        if cache.k_LBGTH.dtype != self.cache_dtype:
            raise ConfigError(f"A cache in {cache.k_LBGTH.dtype}; needed: {self.cache_dtype}.")
        starts_B1 = torch.tensor(cache.lengths, dtype=torch.int32)[:, None]
        positions_BT = (starts_B1 + torch.arange(tokens, dtype=torch.int32)).contiguous()
        rows_BT = torch.arange(batch, dtype=torch.int32)[:, None].expand(batch, tokens).contiguous()
        call(
            "sodakit_step",
            ctypes.byref(self.model),
            ctypes.byref(cache_of(cache)),
            ctypes.byref(native.Tokens(batch * tokens, rows_BT.data_ptr(), positions_BT.data_ptr())),
            self.kind,
            int(self.cache_dtype == torch.bfloat16),
            ctypes.c_void_p(x_BTD.data_ptr()),
            threads_for(self.num_weights * batch * tokens),
        )
        cache.advance(tokens)
        return x_BTD

    def _matrix(self, weight_RC: Tensor) -> native.Matrix:
        matrix = CompiledMatrix(weight_RC, self.precision)
        self._kept.append(matrix)
        return matrix.rows()

    def _vector(self, weight: Tensor) -> int:
        kept = weight.detach().float().contiguous()
        self._kept.append(kept)
        return kept.data_ptr()

    def _laid_out(self, blocks: nn.ModuleList, final_norm: RMSNorm, rotary: Sequence[Tensor]) -> native.Model:
        shape = self.shape
        layers = (native.Layer * shape.layers)()
        for layer, module in zip(layers, blocks, strict=True):
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
            shape.layers,
            shape.width,
            shape.heads,
            shape.kv_heads,
            shape.head_width,
            shape.ffn_width,
            shape.norm_eps,
            self._vector(final_norm.weight),
            *(self._vector(table) for table in rotary),
            layers,
        )


def chosen(scores_BR: Tensor, uniform_B: Tensor, how: tuple[float, float, int]) -> Tensor | None:
    """The place of each row's choice, int64 (B,), -1 where scores are no numbers; None where there is no compiler.

    Args:
        scores_BR: float32, on a CPU.
        uniform_B: a number in [0, 1) for each row.
        how: temperature, top_p and top_k, as `generate.sampling` means them.
    """
    if native.compiled() is None:
        return None
    scores_BR, uniform_B = scores_BR.contiguous(), uniform_B.double().contiguous()
    places_B = torch.empty(len(scores_BR), dtype=torch.int64)
    call(
        "sodakit_choose",
        ctypes.c_void_p(scores_BR.data_ptr()),
        *scores_BR.shape,
        ctypes.c_void_p(uniform_B.data_ptr()),
        ctypes.byref(native.Sampling(*how)),
        ctypes.c_void_p(places_B.data_ptr()),
    )
    return places_B


def cache_of(cache: KVCache) -> native.Cache:
    """A cache as compiled code sees it."""
    return native.Cache(cache.k_LBGTH.data_ptr(), cache.v_LBGTH.data_ptr(), *cache.k_LBGTH.stride()[:3])


def threads_for(work: int) -> int:
    """Threads that so many multiplications pay for."""
    return max(1, min(torch.get_num_threads(), work // WORK_PER_THREAD))


def call(name: str, *arguments: object) -> int:
    library = native.compiled()
    assert library is not None, "checked when the decoder was made"
    return getattr(library, name)(*arguments)
