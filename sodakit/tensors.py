"""What weights read from a file may not be."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch costs a second, and this is the ground floor
    from torch import Tensor


def broken_weight(
    weights: "Mapping[str, Tensor]", begin_at_zero: tuple[str, ...] = ("lora_b",)
) -> str | None:
    """What no trained model holds, in words: a weight that is not finite, or a matrix of zeros; None if all are sound.

    Values are read once; nothing is copied.

    Args:
        begin_at_zero: parts of names of matrices that an untrained model has at zero, as an adapter's second one.
    """
    for name, weight in weights.items():
        if not weight.is_floating_point() or weight.numel() == 0:
            continue
        low, high = (float(value) for value in weight.detach().aminmax())
        if not (abs(low) < float("inf") and abs(high) < float("inf")):  # NaN compares false
            return f"weight {name!r} holds NaN or infinity"
        if low == high == 0 and weight.ndim > 1 and not any(part in name for part in begin_at_zero):
            return f"weight {name!r} ({' x '.join(map(str, weight.shape))}) is zero throughout"
    return None


def odd_kind(weights: "Mapping[str, Tensor]") -> str | None:
    """A weight that is no matrix of floating-point numbers of 16 bits or more, in words; None if all are."""
    for name, weight in weights.items():
        if not weight.is_floating_point() or weight.element_size() < 2:
            kind = str(weight.dtype).removeprefix("torch.")
            return f"weight {name!r} holds {kind}; needed: floating-point numbers of 16 bits or more"
    return None
