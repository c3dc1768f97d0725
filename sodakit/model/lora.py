"""Low-rank adapters beside the matrices of every block: `W x + scale * B (A x)`, with W frozen.

Source: Hu et al. 2021, arXiv 2106.09685. B begins at zero, so an adapted model begins as the model it adapts. A
checkpoint holds W, A, B and the scale; opening it adds them up, so nobody else needs to know of adapters.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sodakit.files import digest
from sodakit.model.layers import Linear

_PARTS = ("lora_a", "lora_b", "lora_scale")


class AdaptedLinear(Linear):
    """A frozen matrix with an adapter."""

    lora_scale: Tensor

    def __init__(self, frozen: Linear, rank: int, scale: float, generator: torch.Generator) -> None:
        super().__init__(frozen.in_features, frozen.out_features)
        self.weight = frozen.weight
        self.weight.requires_grad_(False)
        a_RD = torch.randn(rank, frozen.in_features, generator=generator) * frozen.in_features**-0.5
        self.lora_a = nn.Parameter(a_RD.to(frozen.weight))
        self.lora_b = nn.Parameter(frozen.weight.new_zeros(frozen.out_features, rank))
        self.register_buffer("lora_scale", torch.tensor(scale).to(frozen.weight.device))

    def whole_weight(self) -> Tensor:
        return self.weight + self.lora_scale * (self.lora_b @ self.lora_a)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return super().forward(x_BTD) + self.lora_scale * F.linear(F.linear(x_BTD, self.lora_a), self.lora_b)


def add_adapters(model: nn.Module, rank: int, alpha: float, seed: int) -> int:
    """Put an adapter beside every matrix of every block and freeze all else, in place; the number of trained weights.

    Args:
        model: a `Transformer`.
        rank: width of the adapters.
        alpha: they are added `alpha / rank` times.
        seed: of A, keyed by the name of each matrix.
    """
    model.requires_grad_(False)
    places = [(n, m) for n, m in model.named_modules() if isinstance(m, Linear) and "blocks" in n.split(".")]
    for name, frozen in places:
        generator = torch.Generator().manual_seed(int(digest("lora", str(seed), name), 16) >> 1)
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, AdaptedLinear(frozen, rank, alpha / rank, generator))
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def merge_adapters(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a plain model: each adapter added to its matrix. Without adapters, the same dict."""
    adapted = [name.removesuffix("lora_a") for name in weights if name.endswith(".lora_a")]
    if not adapted:
        return weights
    merged = {name: w for name, w in weights.items() if not name.endswith(_PARTS)}
    for place in adapted:
        a_RD, b_DR, scale = (weights[place + part].float() for part in _PARTS)
        merged[place + "weight"] = (weights[place + "weight"].float() + scale * (b_DR @ a_RD)).to(
            weights[place + "weight"]
        )
    return merged
