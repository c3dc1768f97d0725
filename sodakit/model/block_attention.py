"""Packed attention for processors without a fused kernel: matrix products, block by block.

Each document is cut into blocks of queries, and a block meets only the keys up to its own end, so most of the
upper triangle is never computed. On a CPU this beats torch's fused attention, which multiplies small tiles,
while large products run at the full speed of the BLAS, which in bfloat16 is twice as high. The attention weights
are kept for the backward pass, which is what makes it cheap; `weights_bytes` says what that costs.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

BLOCK = 160
"""Queries per block, about. Smaller blocks skip more of the triangle, larger ones multiply faster."""


@lru_cache(maxsize=16)
def weights_bytes(lengths: tuple[int, ...], heads: int, itemsize: int) -> int:
    """Memory that `block_attention` holds until its backward pass, in bytes."""
    return heads * itemsize * sum((end - start) * end for length in lengths for start, end in _blocks(length))


def block_attention(q_PNH: Tensor, k_PGH: Tensor, v_PGH: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """Causal attention inside each of the documents that lie one after another along P: out_PNH.

    Scores and softmax are float32 at least; weights and values are multiplied in the dtype of `v_PGH`.
    """
    return _BlockAttention.apply(q_PNH, k_PGH, v_PGH, lengths)


class _BlockAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_PNH: Tensor, k_PGH: Tensor, v_PGH: Tensor, lengths: tuple[int, ...]) -> Tensor:
        out_PNH = torch.empty_like(q_PNH)
        wide = torch.promote_types(q_PNH.dtype, torch.float32)
        groups = k_PGH.shape[1]
        q, out = (_by_key_head(x, groups) for x in (q_PNH.to(wide), out_PNH))
        k, v = k_PGH.to(wide).transpose(0, 1), v_PGH.transpose(0, 1)
        weights = []
        for queries, keys in _spans(lengths):
            scores = _causal_scores(q[:, queries], k[:, keys])
            p = scores.softmax(-1).to(v.dtype)
            out[:, queries] = torch.bmm(p, v[:, keys]).view(out[:, queries].shape)
            weights.append(p)
        ctx.lengths = lengths
        ctx.save_for_backward(q_PNH, k_PGH, v_PGH, *weights)
        return out_PNH

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q_PNH, k_PGH, v_PGH, *weights = ctx.saved_tensors
        grad_q, grad_k, grad_v = torch.empty_like(q_PNH), torch.zeros_like(k_PGH), torch.zeros_like(v_PGH)
        q, grad_out, dq = (_by_key_head(x, k_PGH.shape[1]) for x in (q_PNH, grads[0].contiguous(), grad_q))
        k, v, dk, dv = (x.transpose(0, 1) for x in (k_PGH, v_PGH, grad_k, grad_v))
        for (queries, keys), p in zip(_spans(ctx.lengths), weights, strict=True):
            g = _fold(grad_out[:, queries])
            dv[:, keys] += torch.bmm(p.transpose(1, 2), g)
            dp = torch.bmm(g, v[:, keys].transpose(1, 2))
            # The backward of softmax in one pass: p * (dp - sum(p * dp)).
            ds = torch._softmax_backward_data(dp, p, -1, p.dtype)
            dq[:, queries] = torch.bmm(ds, k[:, keys]).view(dq[:, queries].shape)
            dk[:, keys] += torch.bmm(ds.transpose(1, 2), _fold(q[:, queries]))
        scale = q_PNH.shape[-1] ** -0.5
        return grad_q.mul_(scale), grad_k.mul_(scale), grad_v, None


def _blocks(length: int) -> Iterator[tuple[int, int]]:
    """Blocks of equal size, give or take one, near BLOCK: a short last block would waste a call."""
    num = max(1, round(length / BLOCK))
    for index in range(num):
        yield index * length // num, (index + 1) * length // num


def _spans(lengths: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """The positions of each block of queries, and those of the keys it may see."""
    first = 0
    for length in lengths:
        for start, end in _blocks(length):
            yield slice(first + start, first + end), slice(first, first + end)
        first += length


def _by_key_head(x_PNH: Tensor, groups: int) -> Tensor:
    """A view with the key head first: (G, P, R, H), R the query heads that share a key head."""
    positions, heads, width = x_PNH.shape
    return x_PNH.view(positions, groups, heads // groups, width).transpose(0, 1)


def _fold(x_GMRH: Tensor) -> Tensor:
    """Query heads that share keys, as more queries of one head: (G, M * R, H)."""
    groups, _, _, width = x_GMRH.shape
    return x_GMRH.reshape(groups, -1, width)


def _causal_scores(q_GMRH: Tensor, k_GSH: Tensor) -> Tensor:
    """Scaled scores of the last M of S positions against all S: (G, M * R, S), -inf where a key is later."""
    groups, num_queries, shared, width = q_GMRH.shape
    span = k_GSH.shape[1]
    # With beta=0 the first argument only names the dtype, and the scaling costs no pass of its own.
    scores = torch.baddbmm(
        q_GMRH.new_empty(1), _fold(q_GMRH), k_GSH.transpose(1, 2), beta=0, alpha=width**-0.5
    )
    own = scores.view(groups, num_queries, shared, span)[..., span - num_queries :]
    own += _later_keys(q_GMRH.dtype, q_GMRH.device)[:num_queries, None, :num_queries]
    return scores


@lru_cache(maxsize=8)
def _later_keys(dtype: torch.dtype, device: torch.device) -> Tensor:
    """-inf above the diagonal, zero on and below it, for the largest block there can be."""
    size = 2 * BLOCK
    return torch.full((size, size), float("-inf"), dtype=dtype, device=device).triu(1)
