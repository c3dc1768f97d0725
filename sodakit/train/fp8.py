"""The matrix products of blocks in 8-bit floats, which recent GPUs multiply at twice the rate of bfloat16.

Each product rounds both of its matrices just before it: activations and weights to e4m3, gradients to e5m2, each matrix
times one scale that its largest value decides ("tensorwise, dynamic"). Weights and moments stay float32, and so do the
gradients of weights. Scales are powers of two, so they change no digit and what a row becomes hardly depends on the rows
beside it: a run may still change its `micro_rows` or its ranks.

Where nothing is differentiated (validation, samples) a matrix multiplies as ever: what is measured there are the
weights that are saved, used as they will be. Head, embedding and norms are left alone.

Source of the formats: Micikevicius et al. 2022, arXiv 2209.05433. Not yet measured on a GPU.
"""

from typing import Any

import torch
from torch import Tensor, nn

from sodakit.errors import ConfigError
from sodakit.model.layers import Linear
from sodakit.train.config import TrainConfig

GRANULE = 16
"""The kernels take matrices whose sides are multiples of this."""
CAPABILITY = (8, 9)
"""The oldest NVIDIA GPUs with these products: Ada; then Hopper."""
_SMALLEST = 2.0**-100
"""A matrix of nothing but zeros is scaled as if its largest value were this."""


class Fp8Linear(Linear):
    """A matrix whose products, forward and backward, are made in 8-bit floats. It shares the weight of a plain one."""

    def __init__(self, plain: Linear) -> None:
        with torch.device("meta"):
            super().__init__(plain.in_features, plain.out_features)
        self.weight = plain.weight

    def forward(self, x_BTD: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return super().forward(x_BTD)
        return _Product.apply(x_BTD.flatten(0, -2), self.weight).unflatten(0, x_BTD.shape[:-1])


class _Product(torch.autograd.Function):
    """`x @ weight.T` with P positions, I numbers in and O numbers out."""

    @staticmethod
    def forward(ctx: Any, x_PI: Tensor, weight_OI: Tensor) -> Tensor:
        x_low, x_unit = rounded(x_PI, torch.float8_e4m3fn)
        w_low, w_unit = rounded(weight_OI, torch.float8_e4m3fn)
        # The weight itself is kept, not its copy: under FSDP it comes back with the block, and costs no memory before.
        ctx.save_for_backward(x_low, x_unit, weight_OI)
        # Sums of fewer bits are faster and good enough here; gradients get the full ones.
        return torch._scaled_mm(x_low, w_low.T, x_unit, w_unit, out_dtype=x_PI.dtype, use_fast_accum=True)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor]:
        x_low, x_unit, weight_OI = ctx.saved_tensors
        grad_PO = grads[0]
        g_low, g_unit = rounded(grad_PO, torch.float8_e5m2)
        dx_PI = None
        if ctx.needs_input_grad[0]:
            w_low, w_unit = rounded(weight_OI, torch.float8_e4m3fn)
            dx_PI = torch._scaled_mm(g_low, _by_columns(w_low), g_unit, w_unit, out_dtype=grad_PO.dtype)
        g_rows = g_low.T.contiguous()
        dw_OI = torch._scaled_mm(g_rows, _by_columns(x_low), g_unit, x_unit, out_dtype=weight_OI.dtype)
        return dx_PI, dw_OI


def rounded(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A matrix in an 8-bit format, and what one of its units stands for: `x ≈ low * unit`.

    The largest value lies in the top octave of the format. Values that are not finite stay so, in `low` or in `unit`,
    and the optimizer leaves such a step out.
    """
    room = torch.finfo(dtype).max / x.detach().abs().amax().float().clamp(min=_SMALLEST)
    # A float32 without its digits is the power of two below it.
    scale = (room.view(torch.int32) & 0x7F800000).view(torch.float32)
    return (x * scale).to(dtype).contiguous(), scale.reciprocal()


def _by_columns(matrix: Tensor) -> Tensor:
    """The same matrix, stored column after column, as the kernels take their second one."""
    return matrix.T.contiguous().T


def use_fp8(model: nn.Module, from_width: int) -> int:
    """Let the blocks' matrices with both sides of at least `from_width` multiply in 8 bits, in place; how many do.

    Names and weights stay as they are, so a checkpoint does not show it. Do it before blocks are compiled or sharded.

    Raises:
        ConfigError: no matrix is that large, or the sides of one are not multiples of `GRANULE`.
    """
    matrices = [
        (n, m) for n, m in model.named_modules() if isinstance(m, Linear) and "blocks" in n.split(".")
    ]
    chosen = [(n, m) for n, m in matrices if min(m.weight.shape) >= from_width]
    if not chosen:
        largest = max(min(m.weight.shape) for _, m in matrices)
        raise ConfigError(
            f"fp8_from_width={from_width}, and no matrix of the blocks has both sides that long (the largest: {largest}). "
            "Lower it, or leave fp8 off: small products are slower in 8 bits."
        )
    for name, plain in chosen:
        if any(side % GRANULE for side in plain.weight.shape):
            raise ConfigError(
                f"{name} is {' x '.join(map(str, plain.weight.shape))}; fp8 needs sides that are multiples of {GRANULE}. "
                "Change the model's widths, or leave fp8 off."
            )
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, Fp8Linear(plain))
    return len(chosen)


def check_fp8(config: TrainConfig, device: torch.device) -> None:
    """Say at the start what would fail in the first step.

    Raises:
        ConfigError: a GPU without 8-bit products, or rows that they do not take. A CPU makes them slowly: for tests.
    """
    if config.data.context % GRANULE:
        raise ConfigError(
            f"data.context={config.data.context}; fp8 needs a multiple of {GRANULE}. Use {-(-config.data.context // GRANULE) * GRANULE}."
        )
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < CAPABILITY:
        have, need = (".".join(map(str, c)) for c in (torch.cuda.get_device_capability(device), CAPABILITY))
        raise ConfigError(
            f"fp8 on {torch.cuda.get_device_name(device)}, whose compute capability is {have}; needed: {need} (Ada, Hopper "
            "or newer). Set fp8_from_width=null."
        )
    if device.type not in ("cuda", "cpu"):
        raise ConfigError(f"fp8 on {device.type!r}; needed: a CUDA GPU. Set fp8_from_width=null.")
