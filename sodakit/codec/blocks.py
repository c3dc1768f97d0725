"""Causal layers with a memory, so that a stream in pieces gives what the whole gives.

Every layer takes x_BTD and an optional `Memory`. Without one, the sound before the first step is silence and
nothing is kept. With one, each layer finds in it the inputs that came before and leaves those the next piece needs.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

Memory = dict[nn.Module, Tensor]
"""What each causal layer has seen last. A fresh stream starts with an empty one."""


def with_past(layer: nn.Module, x_BTD: Tensor, steps: int, memory: Memory | None) -> Tensor:
    """`x_BTD` with the `steps` inputs before it in front: (B, steps + T, D); zeros at the start of a stream."""
    if memory is not None and layer in memory:
        joined = torch.cat([memory[layer], x_BTD], dim=1)
    else:
        joined = functional.pad(x_BTD, (0, 0, steps, 0))
    if memory is not None:
        memory[layer] = joined[:, joined.shape[1] - steps :].clone()
    return joined


class ConvNextBlock(nn.Module):
    """Mix over time by a causal depthwise convolution, then over channels by a two-layer network.

    Source: arXiv:2201.03545, made causal and one-dimensional as in Vocos, arXiv:2306.00814.
    """

    def __init__(self, width: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.depthwise = nn.Conv1d(width, width, kernel, groups=width)
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, expansion * width)
        self.narrow = nn.Linear(expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x_BTD: Tensor, memory: Memory | None = None) -> Tensor:
        past = with_past(self, x_BTD, self.kernel - 1, memory)
        mixed = self.depthwise(past.transpose(1, 2)).transpose(1, 2)
        return x_BTD + self.scale * self.narrow(functional.gelu(self.widen(self.norm(mixed))))


class Downsample(nn.Module):
    """Every `factor` steps joined into one."""

    def __init__(self, width_in: int, width_out: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.norm = nn.LayerNorm(width_in)
        self.join = nn.Linear(factor * width_in, width_out)

    def forward(self, x_BTD: Tensor, memory: Memory | None = None) -> Tensor:
        return self.join(self.norm(x_BTD).unflatten(1, (-1, self.factor)).flatten(2))


class Upsample(nn.Module):
    """Every step split into `factor`."""

    def __init__(self, width_in: int, width_out: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.norm = nn.LayerNorm(width_in)
        self.split = nn.Linear(width_in, factor * width_out)

    def forward(self, x_BTD: Tensor, memory: Memory | None = None) -> Tensor:
        return self.split(self.norm(x_BTD)).unflatten(2, (self.factor, -1)).flatten(1, 2)
