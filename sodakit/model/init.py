"""Weights at the start: the same on every device and whatever else the model holds."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from sodakit.files import digest

Stds = Sequence[tuple[str, float]]
"""Standard deviations by patterns of names; the first that fits counts."""


def initialise(model: nn.Module, *, std: float, seed: int, stds: Stds = ()) -> None:
    """Fill every matrix from a normal of deviation `std`, or that of the pattern its name fits, and every vector (the norms)
    with ones.

    Each parameter has a generator of its own, seeded by `seed` and its name: adding a layer, freezing one or
    building on another device leaves all other weights as they were.
    """
    if any(parameter.is_meta for parameter in model.parameters()):
        return
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, values in first_values(model, std=std, seed=seed, stds=stds):
            own[name].copy_(values)


def first_values(model: nn.Module, *, std: float, seed: int, stds: Stds = ()) -> Iterator[tuple[str, Tensor]]:
    """What `initialise` puts into each parameter, by name, one after the other: on the host, where only one lies at a time."""
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            yield name, torch.ones(parameter.shape, device="cpu")
        else:
            generator = _generator(seed, name)
            own = std_of(name, std, stds)
            yield name, torch.randn(parameter.shape, generator=generator, device="cpu").mul_(own)


def std_of(name: str, std: float, stds: Stds) -> float:
    """The standard deviation of a matrix at the start."""
    return next((own for pattern, own in stds if fnmatchcase(name, pattern)), std)


def _generator(seed: int, name: str) -> torch.Generator:
    # 63 bits of the digest: torch takes signed 64-bit seeds.
    return torch.Generator().manual_seed(int(digest(str(seed), name), 16) >> 1)
