"""Cross-entropy over a large vocabulary without ever holding all logits, with one loss per token.

Logits are made block by block of ids, and each block becomes exponentials, relative to the block's own largest logit,
while it is in cache. These are kept in the precision of the products until the block's share of the
whole sum is known; that share is a number per position and block, so it multiplies hidden states and sums of rows, which
are narrow, and never the exponentials, which are wide. The one-hot part of the gradient is rows added and taken.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sodakit.model.contract import Slot

CHUNK_ELEMENTS = {"cpu": 2**26, "cuda": 2**30}
"""Exponentials kept at a time, by device type: 128 MiB in bfloat16 on a CPU, 2 GiB on a GPU. Every chunk reads and writes the
gradient of the whole head, which 7,400 positions of the published vocabulary make a twentieth of a GPU's products."""

BLOCK_ELEMENTS = {"cpu": 2**20, "cuda": 2**28}
"""Logits in float32 at a time: 4 MiB stay in a CPU's cache; a GPU wants large products."""

BLOCK_IDS = 2048
"""Ids of a block at least, where there are as many."""

MOST_POSITIONS = {"cpu": 512, "cuda": 2**16}
"""Positions of a chunk, however few the ids."""

GRANULE = 64
"""Positions are padded to a multiple of this. A CPU's matrix library compiles and keeps a kernel for every shape it
meets: with a new number of text tokens in each step, training slowed by a third within a minute."""


def chunk_positions(num_rows: int, device_type: str) -> int:
    """Positions whose exponentials over `num_rows` ids exist at a time."""
    most = min(CHUNK_ELEMENTS.get(device_type, 2**26) // num_rows, MOST_POSITIONS.get(device_type, 512))
    return max(most // GRANULE, 1) * GRANULE


def _blocks(rows: slice, num_positions: int, device_type: str) -> list[slice]:
    """Ranges of ids whose logits at so many positions fit the cache."""
    ids = max(BLOCK_ELEMENTS.get(device_type, 2**20) // num_positions, BLOCK_IDS)
    return [slice(at, min(at + ids, rows.stop)) for at in range(rows.start or 0, rows.stop, ids)]


def _padded(x: Tensor) -> Tensor:
    """With zeros behind, to whole granules; a copy in any case."""
    padded = x.new_zeros(-(-len(x) // GRANULE) * GRANULE, *x.shape[1:])
    padded[: len(x)] = x
    return padded


@dataclass(frozen=True)
class _Exponentials:
    """Of the logits of M positions over the ids of B blocks."""

    kept: Sequence[Tensor]
    """exp(logit - largest of the block), (M, ids) each; none where there is to be no gradient."""
    largest_MB: Tensor
    sum_MB: Tensor
    picked_M: Tensor
    """The target's logit."""

    @property
    def logsumexp_M(self) -> Tensor:
        """Over all blocks."""
        return (self.largest_MB + self.sum_MB.log()).logsumexp(1)


def _exponentials(
    x_MD: Tensor, rows_VD: Tensor, targets_M: Tensor, blocks: Sequence[slice], keep: bool
) -> _Exponentials:
    kept, largest, sums = [], [], []
    picked_M = torch.zeros(len(x_MD), dtype=torch.float32, device=x_MD.device)
    for block in blocks:
        logits = x_MD @ rows_VD[block].to(x_MD.dtype).T
        place_M = targets_M - block.start
        own = logits.gather(1, place_M.clamp(0, logits.shape[1] - 1)[:, None])[:, 0].float()
        picked_M = torch.where((place_M >= 0) & (place_M < logits.shape[1]), own, picked_M)
        # In float32 first: an operation on two dtypes is ten times slower on a CPU.
        powers = logits.float()
        largest.append(powers.amax(1, keepdim=True))
        powers.sub_(largest[-1]).exp_()
        sums.append(powers.sum(1, keepdim=True))
        if keep:
            kept.append(powers.to(x_MD.dtype))
    return _Exponentials(kept, torch.cat(largest, 1), torch.cat(sums, 1), picked_M)


def _chunks(num_positions: int, num_ids: int, device_type: str) -> Iterator[slice]:
    """The positions, as many at a time as fit; the last chunk may be shorter."""
    step = chunk_positions(num_ids, device_type)
    return (slice(at, min(at + step, num_positions)) for at in range(0, num_positions, step))


class _RowSums:
    """Sums for the rows of a head, block by block. The first part of a block is written, not added: filling all rows with
    zeros and reading them again are passes over V x D."""

    def __init__(self, head_VD: Tensor) -> None:
        self.values_VD = torch.empty_like(head_VD, dtype=torch.float32)
        self._begun = 0
        """Rows before it have values."""

    def add(self, block: slice, part: Tensor) -> None:
        """Add to the rows of a block, whatever the dtype of the part."""
        if block.start >= self._begun:
            self.begin(block.start)
            self.values_VD[block] = part
        else:
            self.begin(block.stop)
            self.values_VD[block] += part.float()
        self._begun = max(self._begun, block.stop)

    def begin(self, end: int) -> None:
        """Zeros in all rows before `end` that have nothing yet."""
        if end > self._begun:
            self.values_VD[self._begun : end] = 0
            self._begun = end


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_TD: Tensor,
        head_VD: Tensor,
        targets_T: Tensor,
        weights_T: Tensor,
        slots: Sequence[Slot],
        z_loss: float,
        dtype: torch.dtype,
        with_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        nll_T = torch.zeros(len(targets_T), dtype=torch.float32, device=x_TD.device)
        loss = torch.zeros((), dtype=torch.float32, device=x_TD.device)
        dx_TD = torch.empty_like(x_TD, dtype=torch.float32)
        dhead = _RowSums(head_VD)
        device_type = x_TD.device.type
        x_low_TD = x_TD.to(dtype)
        # A copy of the whole head is memory that a CPU would miss; a block's copy, made anew, stays in its cache.
        rows_VD = head_VD if device_type == "cpu" else head_VD.to(dtype)
        for slot in slots:
            first = slot.rows.start or 0
            x_slot, targets, weights = (
                _padded(t[slot.positions_T]) for t in (x_low_TD, targets_T, weights_T)
            )
            num_targets = len(targets_T[slot.positions_T])
            targets[num_targets:] = first  # any legal row; its weight is 0
            nll_slot = torch.empty_like(weights)
            dx_slot = torch.empty_like(x_slot, dtype=torch.float32)
            for part in _chunks(len(targets), slot.rows.stop - first, device_type):
                x_MD, w_M, targets_M = x_slot[part], weights[part], targets[part]
                blocks = _blocks(slot.rows, len(w_M), device_type)
                powers = _exponentials(x_MD, rows_VD, targets_M, blocks, with_gradient)
                lse_M = powers.logsumexp_M
                nll_slot[part] = lse_M - powers.picked_M
                loss += (w_M * (nll_slot[part] + z_loss * lse_M.square())).sum()
                if not with_gradient:
                    continue
                # d loss / d logits = w · (softmax · (1 + 2z·lse) − onehot).
                scale_M1 = (w_M * (1 + 2 * z_loss * lse_M))[:, None]
                share_MB = (powers.largest_MB - lse_M[:, None]).exp() * scale_M1
                x_wide_MD = x_MD.float()
                dx_MD = rows_VD[targets_M].to(dtype).float() * -w_M[:, None]
                for number, (block, power) in enumerate(zip(blocks, powers.kept, strict=True)):
                    share_M1 = share_MB[:, number, None]
                    dx_MD += (power @ rows_VD[block].to(dtype)) * share_M1
                    dhead.add(block, power.T @ (x_wide_MD * share_M1).to(dtype))
                dhead.values_VD.index_add_(0, targets_M, x_wide_MD * -w_M[:, None])
                dx_slot[part] = dx_MD
            nll_T[slot.positions_T] = nll_slot[:num_targets]
            dx_TD[slot.positions_T] = dx_slot[:num_targets]
        if with_gradient:
            dhead.begin(len(head_VD))
        ctx.save_for_backward(dx_TD, dhead.values_VD)
        ctx.x_dtype, ctx.head_dtype = x_TD.dtype, head_VD.dtype
        ctx.mark_non_differentiable(nll_T)
        return loss, nll_T

    @staticmethod
    def backward(ctx: Any, dloss: Tensor, _: Tensor) -> tuple[Any, ...]:
        dx_TD, dhead_VD = ctx.saved_tensors
        # A pass over V x D for a factor of 1 would show on a CPU; a GPU must not be asked what it is.
        if not (dloss.device.type == "cpu" and dloss == 1):
            dx_TD, dhead_VD = dx_TD * dloss, dhead_VD * dloss
        return (
            dx_TD.to(ctx.x_dtype),
            dhead_VD.to(ctx.head_dtype),
            None,
            None,
            None,
            None,
            None,
            None,
        )


def cross_entropy(
    x_TD: Tensor,
    head_VD: Tensor,
    targets_T: Tensor,
    weights_T: Tensor,
    *,
    slots: Sequence[Slot] | None = None,
    z_loss: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """The weighted sum of losses, differentiable, and every token's negative log-likelihood.

    Args:
        x_TD: hidden states.
        head_VD: output rows; logits are `x @ head.T`.
        targets_T: int64 ids.
        weights_T: float32 weight of each token, already divided by whatever the mean is over.
        slots: restrict each position's softmax to some rows; None for one softmax over all of them.
        z_loss: weight of the squared log-partition.
        dtype: of the matrix products; sums are float32.
    Returns:
        loss, a float32 scalar `Σ w·(nll + z·lse²)`; nll_T float32, in nats, without gradient.
    """
    slots = slots or [Slot(slice(None), slice(0, len(head_VD)))]
    with_gradient = torch.is_grad_enabled()
    return _ChunkedCrossEntropy.apply(
        x_TD, head_VD, targets_T, weights_T, slots, z_loss, dtype, with_gradient
    )
