"""Models of random weights, made where they will work: drawn on the host, those of the 4B take half a minute each time."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def made_on(
    device: torch.device, make: Callable[[], M], dtype: torch.dtype = torch.float32, std: float = 0.02
) -> M:
    """What `make` makes, never whole on the host: norms are ones, matrices drawn from a normal."""
    with torch.device("meta"):
        model = make()
    model = model.to(dtype).to_empty(device=device)
    for parameter in model.parameters():
        parameter.fill_(1) if parameter.ndim < 2 else parameter.normal_(std=std)
    return model
