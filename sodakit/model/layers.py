"""The parts of a block that look at one position at a time: RMSNorm, rotary positions, SwiGLU.

Norms and rotations are computed in float32 at least, whatever comes in, and leave in the dtype that the next
matrix product wants.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sodakit.hardware import has_slow_float32_blas
from sodakit.model.config import ModelConfig


class Linear(nn.Linear):
    """A matrix product without bias. `init.initialise` fills the weight; torch filling it first costs seconds."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__(width_in, width_out, bias=False)

    def reset_parameters(self) -> None:
        """Nothing: see the class."""

    def whole_weight(self) -> Tensor:
        """The matrix that `forward` multiplies with, (width_out, width_in)."""
        return self.weight

    def forward(self, x: Tensor) -> Tensor:
        return product(x, self.weight)


class FeedForward(nn.Module):
    """SwiGLU: `down(silu(gate(x)) * up(x))`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = Linear(config.width, config.ffn_width)
        self.up = Linear(config.width, config.ffn_width)
        self.down = Linear(config.ffn_width, config.width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x_BTD)) * self.up(x_BTD))


class RMSNorm(nn.Module):
    """Vectors scaled to a root mean square of one, times a learned weight; then turned, if angles are given."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor, cos: Tensor | None = None, sin: Tensor | None = None) -> Tensor:
        dtype = compute_dtype(x)
        if x.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return _LeanNorm.apply(x, self.weight, cos, sin, self.eps, dtype)
        normed = F.rms_norm(wide(x), self.weight.shape, self.weight.to(wide(x).dtype), self.eps)
        return (normed if cos is None or sin is None else turned(normed, cos, sin)).to(dtype)


class _LeanNorm(torch.autograd.Function):
    """RMSNorm and rotation with the fewest passes over memory.

    Outside a compiler, torch differentiates both operation by operation, and on a CPU each operation reads and
    writes the whole tensor. The gradient is written out here instead, with `n = x * scale` and `g` turned back:
    `scale * (g * weight - n * mean(g * weight * n))`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        cos: Tensor | None,
        sin: Tensor | None,
        eps: float,
        dtype: torch.dtype,
    ) -> Tensor:
        x_wide = wide(x)
        mean_square = torch.linalg.vector_norm(x_wide, dim=-1, keepdim=True).square_().div_(x.shape[-1])
        scale = mean_square.add_(eps).rsqrt_()
        ctx.save_for_backward(x, scale, weight, cos, sin)
        out = (x_wide * scale).mul_(weight)
        return (out if cos is None or sin is None else turned(out, cos, sin)).to(dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, weight, cos, sin = ctx.saved_tensors
        width = x.shape[-1]
        grad = wide(grads[0])
        if cos is not None:
            grad = turned(grad, cos, -sin)
        normed = wide(x) * scale
        product = (grad * normed).reshape(-1, width)
        along = torch.mv(product, weight.to(product.dtype)).view(scale.shape)
        grad_x = (grad * weight).addcmul_(normed, along, value=-1 / width).mul_(scale)
        return grad_x.to(x.dtype), product.sum(0).to(weight.dtype), None, None, None, None


def rotary_frequencies(config: ModelConfig) -> Tensor:
    """Radians per position of each pair of a head: float64, `H / 2` of them, Llama-3 scaling included."""
    exponent = torch.arange(0, config.head_width, 2, dtype=torch.float64) / config.head_width
    frequency = config.rope_theta**-exponent
    scaling = config.rope_scaling
    if scaling is None:
        return frequency
    turns = scaling.original_context * frequency / (2 * math.pi)
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return frequency * (kept + (1 - kept) / scaling.factor)


def rotary_table(config: ModelConfig, num_positions: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """What `turned` needs for positions 0 to `num_positions`: cos and sin, float32 of shape (T, 1, H).

    Both halves of a head share their angles; the sines of the first half carry a minus.
    """
    angle = torch.arange(num_positions, dtype=torch.float64)[:, None, None] * rotary_frequencies(config)
    cos, sin = angle.cos(), angle.sin()
    return (
        torch.cat((cos, cos), dim=-1).to(device, torch.float32),
        torch.cat((-sin, sin), dim=-1).to(device, torch.float32),
    )


def turned(x_BTNH: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Each pair (i, i + H/2) of every head turned by its position's angle: the "rotate half" layout.

    Args:
        cos, sin: from `rotary_table`, (T, 1, H) where rows share positions, else (B, T, 1, H). With `-sin` it
            turns back.
    """
    return torch.addcmul(x_BTNH * cos, x_BTNH.roll(x_BTNH.shape[-1] // 2, dims=-1), sin)


FEWEST_ROWS = 4
"""Below this a product is a matter of reading the weight once, and torch's own is as fast."""


def product(x: Tensor, weight: Tensor) -> Tensor:
    """`x @ weight.T`: `F.linear`, by oneDNN where nobody wants gradients and torch's BLAS is slow in float32.

    Both add up in float32. The operation is the one that torch's compiler calls when it has packed no weights.
    """
    if (
        torch.is_grad_enabled()
        or x.device.type != "cpu"
        or not x.dtype == weight.dtype == torch.float32
        or x.numel() < FEWEST_ROWS * x.shape[-1]
        or torch.compiler.is_compiling()
        or torch.is_autocast_enabled("cpu")
        or not has_slow_float32_blas()
    ):
        return F.linear(x, weight)
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")


def wide(x: Tensor) -> Tensor:
    """`x` in float32, or in float64 where it is that already."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def compute_dtype(x: Tensor) -> torch.dtype:
    """What the next matrix product will use: autocast's dtype inside autocast, else the dtype of `x`."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
