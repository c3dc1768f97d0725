"""Weights in few bits, for models that are shipped: stored small, computed with in float32.

`float16` rounds every weight. `int8` keeps every matrix as 8-bit integers with a float32 scale for each row, its largest
weight / 127, and all else in float32. Opened, both are float32 weights like any others: to speak with, to train from.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

Stored = Literal["float32", "float16", "int8"]
SCALE = ".row_scale"
"""Ends the name of the scales of a matrix in 8 bits."""
_LARGEST = 127


def narrowed(weights: Mapping[str, Tensor], stored: Stored) -> dict[str, Tensor]:
    """The tensors that are stored for these weights."""
    if stored == "float32":
        return {name: weight.float() for name, weight in weights.items()}
    if stored == "float16":
        return {name: weight.half() for name, weight in weights.items()}
    small: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight.ndim != 2:
            small[name] = weight.float()
            continue
        scale_R = weight.float().abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / _LARGEST
        small[name] = (weight.float() / scale_R[:, None]).round().to(torch.int8)
        small[name + SCALE] = scale_R
    return small


def widened(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that were stored: those in 8 or 16 bits come back in float32, others as they are."""
    weights = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALE):
            continue
        if tensor.dtype == torch.int8 and (scale_R := tensors.get(name + SCALE)) is not None:
            tensor = tensor.float() * scale_R[:, None]
        weights[name] = tensor.float() if tensor.dtype == torch.float16 else tensor
    return weights
