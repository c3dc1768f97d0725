"""Cross-entropy over a large vocabulary without ever holding all logits, with one loss per token.

The head is applied to a chunk of tokens at a time; the gradient of the chunk is formed while its logits are still in
cache, so memory is chunk x V and nothing is recomputed in the backward pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CHUNK_ELEMENTS = {"cpu": 2**21, "cuda": 2**28}
"""Logits held at a time, by device type: a few megabytes stay in a CPU's cache; a GPU wants large products."""

GRANULE = 64
"""Positions are padded to a multiple of this. A CPU's matrix library compiles and keeps a kernel for every shape it
meets: with a new number of text tokens in each step, training slowed by a third within a minute."""


@dataclass(frozen=True)
class Slot:
    """One softmax: which positions it normalises and over which vocabulary rows."""

    positions_T: Tensor | slice
    rows: slice


def chunk_positions(num_rows: int, device_type: str) -> int:
    """Positions whose logits over `num_rows` ids exist at a time."""
    return max(4, CHUNK_ELEMENTS.get(device_type, 2**26) // num_rows // GRANULE) * GRANULE


def _padded(x: Tensor) -> Tensor:
    """With zeros behind, to whole granules; a copy in any case."""
    padded = x.new_zeros(-(-len(x) // GRANULE) * GRANULE, *x.shape[1:])
    padded[: len(x)] = x
    return padded


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
        dx_TD = torch.empty_like(x_TD, dtype=dtype)
        dhead_VD = torch.zeros_like(head_VD, dtype=torch.float32)
        x_low_TD, head_low_VD = x_TD.to(dtype), head_VD.to(dtype)
        for slot in slots:
            rows_RD = head_low_VD[slot.rows]
            chunk_T = chunk_positions(len(rows_RD), x_TD.device.type)
            x_slot, targets, weights = (
                _padded(t[slot.positions_T]) for t in (x_low_TD, targets_T, weights_T)
            )
            num_targets = len(targets_T[slot.positions_T])
            targets[num_targets:] = slot.rows.start or 0  # any legal row; its weight is 0
            nll_slot, dx_slot = torch.empty_like(weights), torch.empty_like(x_slot)
            for start in range(0, len(targets), chunk_T):
                part = slice(start, start + chunk_T)
                logits = (x_slot[part] @ rows_RD.T).float()
                picked = (targets[part] - (slot.rows.start or 0))[:, None]
                lse = torch.logsumexp(logits, dim=1)
                nll_slot[part] = lse - logits.gather(1, picked)[:, 0]
                w = weights[part]
                loss += (w * (nll_slot[part] + z_loss * lse.square())).sum()
                if not with_gradient:
                    continue
                # d loss / d logits = w · (softmax · (1 + 2z·lse) − onehot), written over the logits.
                scale = w * (1 + 2 * z_loss * lse)
                dlogits = logits.sub_(lse[:, None]).exp_().mul_(scale[:, None])
                dlogits.scatter_add_(1, picked, -w[:, None])
                low = dlogits.to(dtype)
                dx_slot[part] = low @ rows_RD
                dhead_VD[slot.rows] += low.T @ x_slot[part]
            nll_T[slot.positions_T] = nll_slot[:num_targets]
            dx_TD[slot.positions_T] = dx_slot[:num_targets]
        ctx.save_for_backward(dx_TD, dhead_VD)
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
