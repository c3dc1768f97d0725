"""Packed attention for processors without a fused kernel: matrix products, block by block.

Each document is padded to whole granules and cut into blocks of queries, and a block meets only the keys up to its own
end, so most of the upper triangle is never computed. On a CPU this beats torch's fused attention, which multiplies small
tiles, while large products run at the full speed of the BLAS, which in bfloat16 is twice as high. The attention weights
are kept for the backward pass, which is what makes it cheap; `weights_bytes` says what that costs.

The padding bounds the number of different shapes: a CPU's matrix library compiles and keeps a kernel for every shape it
meets, and documents of all lengths slowed training by a third within a minute. It needs no mask of its own: padded keys
come after every real query, and the rows of padded queries are dropped.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

BLOCK = 128
"""Queries per block. Smaller blocks skip more of the triangle, larger ones multiply faster."""
GRANULE = 32
"""Documents are padded to a multiple of this: longer pads waste work, shorter ones bring more shapes."""


@lru_cache(maxsize=16)
def weights_bytes(lengths: tuple[int, ...], heads: int, itemsize: int) -> int:
    """Memory that `block_attention` holds until its backward pass, in bytes."""
    spans = _layout(lengths).spans
    return heads * itemsize * sum((q.stop - q.start) * (k.stop - k.start) for q, k in spans)


def block_attention(q_PNH: Tensor, k_PGH: Tensor, v_PGH: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """Causal attention inside each of the documents that lie one after another along P: out_PNH.

    Scores and softmax are float32 at least; weights and values are multiplied in the dtype of `v_PGH`.
    """
    return _BlockAttention.apply(q_PNH, k_PGH, v_PGH, lengths)


class _BlockAttention(torch.autograd.Function):
    """A is a position after padding; queries that share a key head lie side by side, as A * R rows of one matrix."""

    @staticmethod
    def forward(ctx: Any, q_PNH: Tensor, k_PGH: Tensor, v_PGH: Tensor, lengths: tuple[int, ...]) -> Tensor:
        layout, groups = _layout(lengths), k_PGH.shape[1]
        q, k, v = (layout.pad(x, groups) for x in (q_PNH, k_PGH, v_PGH))
        wide = torch.promote_types(q_PNH.dtype, torch.float32)
        q_wide, k_wide = q.to(wide), k.to(wide)
        out = torch.empty_like(q)
        shared = q_PNH.shape[1] // groups
        weights = []
        for queries, keys in layout.spans:
            rows = _rows(queries, shared)
            p = _causal_scores(q_wide[:, rows], k_wide[:, keys], shared).softmax(-1).to(v.dtype)
            out[:, rows] = torch.bmm(p, v[:, keys])
            weights.append(p)
        ctx.layout, ctx.shared = layout, shared
        ctx.save_for_backward(q, k, v, *weights)
        return layout.take(out, shared)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *weights = ctx.saved_tensors
        grad_out = ctx.layout.pad(grads[0], len(k))
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for (queries, keys), p in zip(ctx.layout.spans, weights, strict=True):
            rows = _rows(queries, ctx.shared)
            g = grad_out[:, rows]
            dv[:, keys] += torch.bmm(p.transpose(1, 2), g)
            dp = torch.bmm(g, v[:, keys].transpose(1, 2))
            # The backward of softmax in one pass: p * (dp - sum(p * dp)).
            ds = torch._softmax_backward_data(dp, p, -1, p.dtype)
            dq[:, rows] = torch.bmm(ds, k[:, keys])
            dk[:, keys] += torch.bmm(ds.transpose(1, 2), q[:, rows])
        scale = q.shape[-1] ** -0.5
        take = ctx.layout.take
        return take(dq.mul_(scale), ctx.shared), take(dk.mul_(scale), 1), take(dv, 1), None


@dataclass(frozen=True)
class _Layout:
    """Documents padded to whole granules, and the blocks they are cut into."""

    documents: tuple[tuple[slice, slice], ...]
    """Where each document lies along P, and where along A."""
    spans: tuple[tuple[slice, slice], ...]
    """The padded positions of each block of queries, and those of the keys it may see."""

    def pad(self, x_PNH: Tensor, groups: int) -> Tensor:
        """Key head first, zeros between documents: (G, A * R, H), R the heads of x that share a key head."""
        _, heads, width = x_PNH.shape
        x_GPRH = x_PNH.view(-1, groups, heads // groups, width).transpose(0, 1)
        padded = x_PNH.new_zeros(groups, self.documents[-1][1].stop, heads // groups, width)
        for real, place in self.documents:
            padded[:, place.start : place.start + real.stop - real.start] = x_GPRH[:, real]
        return padded.flatten(1, 2)

    def take(self, padded: Tensor, shared: int) -> Tensor:
        """Back to one position after another, without the padding: x_PNH."""
        padded_GARH = padded.unflatten(1, (-1, shared))
        parts = [
            padded_GARH[:, place.start : place.start + real.stop - real.start]
            for real, place in self.documents
        ]
        return torch.cat([part.transpose(0, 1).flatten(1, 2) for part in parts])


@lru_cache(maxsize=16)
def _layout(lengths: tuple[int, ...]) -> _Layout:
    documents, spans, first, padded_first = [], [], 0, 0
    for length in lengths:
        padded = -(-length // GRANULE) * GRANULE
        documents.append((slice(first, first + length), slice(padded_first, padded_first + padded)))
        for start, end in _blocks(padded):
            keys = slice(padded_first, padded_first + end)
            spans.append((slice(padded_first + start, padded_first + end), keys))
        first, padded_first = first + length, padded_first + padded
    return _Layout(tuple(documents), tuple(spans))


def _blocks(length: int) -> Iterator[tuple[int, int]]:
    for start in range(0, length, BLOCK):
        yield start, min(start + BLOCK, length)


def _rows(positions: slice, shared: int) -> slice:
    """The rows of these positions, where every position has `shared` of them."""
    return slice(positions.start * shared, positions.stop * shared)


def _causal_scores(q_GMH: Tensor, k_GSH: Tensor, shared: int) -> Tensor:
    """Scaled scores of the last M of S positions, `shared` rows each, against all S; -inf where a key is later."""
    groups, num_rows, width = q_GMH.shape
    span, num_queries = k_GSH.shape[1], num_rows // shared
    # With beta=0 the first argument only names the dtype, and the scaling costs no pass of its own.
    scores = torch.baddbmm(q_GMH.new_empty(1), q_GMH, k_GSH.transpose(1, 2), beta=0, alpha=width**-0.5)
    own = scores.view(groups, num_queries, shared, span)[..., span - num_queries :]
    own += _later_keys(q_GMH.dtype, q_GMH.device)[:num_queries, None, :num_queries]
    return scores


@lru_cache(maxsize=8)
def _later_keys(dtype: torch.dtype, device: torch.device) -> Tensor:
    """-inf above the diagonal, zero on and below it, for the largest block there can be."""
    return torch.full((BLOCK, BLOCK), float("-inf"), dtype=dtype, device=device).triu(1)
