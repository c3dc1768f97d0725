"""Weights at the start: the same on every device and whatever else the model holds."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sodakit.files import digest


def initialise(model: nn.Module, *, std: float, seed: int) -> None:
    """Fill every matrix from a normal of deviation `std`, and every vector (the norms) with ones.

    Each parameter has a generator of its own, seeded by `seed` and its name: adding a layer, freezing one or
    building on another device leaves all other weights as they were.
    """
    if any(parameter.is_meta for parameter in model.parameters()):
        return
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, values in first_values(model, std=std, seed=seed):
            own[name].copy_(values)


def first_values(model: nn.Module, *, std: float, seed: int) -> Iterator[tuple[str, Tensor]]:
    """What `initialise` puts into each parameter, by name, one after the other: on the host, where only one lies at a time."""
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            yield name, torch.ones(parameter.shape, device="cpu")
        else:
            generator = _generator(seed, name)
            yield name, torch.randn(parameter.shape, generator=generator, device="cpu").mul_(std)


def _generator(seed: int, name: str) -> torch.Generator:
    # 63 bits of the digest: torch takes signed 64-bit seeds.
    return torch.Generator().manual_seed(int(digest(str(seed), name), 16) >> 1)
