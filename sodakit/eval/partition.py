"""Softmax denominators of many positions, block of ids by block of ids, without ever holding a row of logits.

The head is the largest matrix of a small model: at 144,644 ids the logits of one clip are hundreds of megabytes,
written and read several times over. Here a block of ids meets a block of positions, and of its
logits, which fit a processor's cache, only the sum of exponentials, the largest, and the target's own are kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sodakit.model.layers import product, wide

BLOCK_IDS = 4096
"""Ids at a time."""
CHUNK_ELEMENTS = {"cpu": 2**20, "cuda": 2**27}
"""Logits held at a time, by device type: 4 MiB stay in a CPU's cache; a GPU wants large products."""


@dataclass(frozen=True)
class Partition:
    """What is needed of the logits of P positions. R ranges of ids, as asked for."""

    picked_P: Tensor
    """The target's logit."""
    logsumexp_PR: Tensor
    """log of the summed exponentials over each range."""
    largest_P: Tensor
    """The largest logit over all ranges: the target is the likeliest id where it equals this."""


def partition(
    x_PD: Tensor, head_VD: Tensor, targets_P: Tensor, ranges: Sequence[tuple[int, int]]
) -> Partition:
    """The denominators of softmaxes over ranges of ids, in float32 at least.

    Args:
        x_PD: final states.
        head_VD: what turns them into logits.
        targets_P: the id that came next at each, inside one of the ranges.
        ranges: first id and one past the last; together they should hold every id that counts.
    """
    blocks = [
        (place, at, min(at + BLOCK_IDS, stop))
        for place, (start, stop) in enumerate(ranges)
        for at in range(start, stop, BLOCK_IDS)
    ]
    widest = max(stop - start for _, start, stop in blocks)
    chunk = max(16, CHUNK_ELEMENTS.get(x_PD.device.type, 2**24) // widest)
    parts = [
        _chunk(head_VD, x_PD[at : at + chunk], targets_P[at : at + chunk], blocks, len(ranges))
        for at in range(0, len(targets_P), chunk)
    ]
    return Partition(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def _chunk(
    head_VD: Tensor, x_PD: Tensor, targets_P: Tensor, blocks: Sequence[tuple[int, int, int]], num_ranges: int
) -> tuple[Tensor, Tensor, Tensor]:
    # One product for the targets alone: cheaper than looking for them in every block. The same rounding is not
    # needed of it: it is compared with nothing but the largest, within a tolerance.
    picked_P = (wide(x_PD) * wide(head_VD[targets_P])).sum(-1)
    largest, sums = [], []
    for _, start, stop in blocks:
        logits_PN = wide(product(x_PD, head_VD[start:stop]))
        most_P1 = logits_PN.amax(1, keepdim=True)
        largest.append(most_P1)
        sums.append(logits_PN.sub_(most_P1).exp_().sum(1, keepdim=True))
    largest_PN, block_PN = torch.cat(largest, 1), torch.cat(sums, 1).log() + torch.cat(largest, 1)
    members = [[n for n, block in enumerate(blocks) if block[0] == place] for place in range(num_ranges)]
    logsumexp_PR = torch.stack([block_PN[:, own].logsumexp(1) for own in members], dim=1)
    return picked_P, logsumexp_PR, largest_PN.amax(1)


def is_likeliest(found: Partition) -> Tensor:
    """Whether each target is the likeliest id: bool (P,)."""
    return found.picked_P >= found.largest_P - 1e-4
