"""Logits to choices: pure functions, one uniform number per choice, so a row's result never depends on its neighbours."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sodakit.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to choose among the legal ids of one kind of token."""

    temperature: float = 1.0
    """0 takes the most likely id."""
    top_p: float = 1.0
    """Keep the smallest set of ids with at least this probability."""
    top_k: int = 0
    """Keep this many of the most likely ids; 0 keeps all."""
    repeat_penalty: float = 0.0
    """Taken from the score of an id for each time it is among the last `repeat_window` of its kind in the answer.
    Text is a kind, and each codebook is one."""
    repeat_window: int = 32
    """How far back repetition is looked for, in ids of the kind."""

    def __post_init__(self) -> None:
        # Asked so that NaN, which compares as neither, is refused too.
        if not 0 <= self.temperature < math.inf or not 0 < self.top_p <= 1 or self.top_k < 0:
            raise ConfigError(f"{self}; needed: temperature ≥ 0, 0 < top_p ≤ 1, top_k ≥ 0.")
        if not 0 <= self.repeat_penalty < math.inf or self.repeat_window < 1:
            raise ConfigError(f"{self}; needed: repeat_penalty ≥ 0, repeat_window ≥ 1.")


GREEDY = Sampling(temperature=0.0)
COLDEST = 1e-30
"""Below it scores over temperature are beyond float32; the softmax has long been all on the likeliest id."""


def choose(logits_BR: "Tensor", uniform_B: "Tensor", sampling: Sampling) -> "Tensor":
    """The chosen column of each row: int64 (B,), -1 where scores are NaN or infinite.

    On a CPU the scores are not sorted but selected from, in compiled code, which takes a tenth of the time.

    Args:
        logits_BR: scores of R candidates in each row.
        uniform_B: one number in [0, 1) per row.
        sampling: how.
    """
    import torch  # here: settings are read by commands that print their help without it

    if logits_BR.device.type == "cpu" and logits_BR.dtype == torch.float32:
        from sodakit.model.compiled import chosen

        how = (sampling.temperature, sampling.top_p, sampling.top_k)
        if (places_B := chosen(logits_BR, uniform_B, how)) is not None:
            return places_B
    return torch.where(logits_BR.amax(dim=1).isfinite(), choose_by_torch(logits_BR, uniform_B, sampling), -1)


def choose_by_torch(logits_BR: "Tensor", uniform_B: "Tensor", sampling: Sampling) -> "Tensor":
    """The definition of `choose`, where scores are numbers."""
    import torch

    if sampling.temperature < COLDEST:
        return logits_BR.argmax(dim=1)
    logits_BR = logits_BR.float() / sampling.temperature
    sorted_BR, order_BR = torch.sort(logits_BR, dim=1, descending=True, stable=True)
    if sampling.top_k:
        sorted_BR[:, sampling.top_k :] = -torch.inf
    probabilities_BR = sorted_BR.softmax(dim=1)
    cumulative_BR = probabilities_BR.cumsum(dim=1)
    if sampling.top_p < 1:
        # An id stays if the ids before it have not reached top_p yet: the first always does, even where a tiny top_p is
        # nothing in 32 bits.
        stays_BR = cumulative_BR - probabilities_BR < sampling.top_p
        stays_BR[:, 0] = True
        probabilities_BR = probabilities_BR * stays_BR
        cumulative_BR = probabilities_BR.cumsum(dim=1)
    target_B1 = uniform_B[:, None].to(cumulative_BR) * cumulative_BR[:, -1:]
    ranks_B1 = torch.searchsorted(cumulative_BR, target_B1, right=True)
    # Rounding may land one past the last id that has probability.
    last_B1 = ((probabilities_BR > 0).sum(dim=1, keepdim=True) - 1).clamp(min=0)
    return order_BR.gather(1, torch.minimum(ranks_B1, last_B1))[:, 0]
