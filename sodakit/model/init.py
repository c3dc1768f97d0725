"""Weights at the start: the same on every device and whatever else the model holds."""

import torch
from torch import nn

from sodakit.files import digest


def initialise(model: nn.Module, *, std: float, seed: int) -> None:
    """Fill every matrix from a normal of deviation `std`, and every vector (the norms) with ones.

    Each parameter has a generator of its own, seeded by `seed` and its name: adding a layer, freezing one or
    building on another device leaves all other weights as they were.
    """
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            continue
        with torch.no_grad():
            if parameter.ndim < 2:
                parameter.fill_(1.0)
            else:
                parameter.copy_(torch.randn(parameter.shape, generator=_generator(seed, name)).mul_(std))


def _generator(seed: int, name: str) -> torch.Generator:
    # 63 bits of the digest: torch takes signed 64-bit seeds.
    return torch.Generator().manual_seed(int(digest(str(seed), name), 16) >> 1)
