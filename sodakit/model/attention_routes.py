"""The ways to attend over packed documents, held against the definition and timed; which one a run takes.

On a CPU the choice is made by shape (`attend_packed`). On a GPU it is measured when a run starts: which kernel is the
fastest depends on the card, on torch, and on what is installed beside it. A route that is not right here, or not here at
all, does not compete.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sodakit.ceilings import timed
from sodakit.model import attention
from sodakit.model.attention import (
    Packing,
    Route,
    document_attention,
    has_varlen_kernel,
    reference_attention,
    varlen_attention,
)
from sodakit.model.block_attention import block_attention
from sodakit.model.contract import put

TOLERANCE = {torch.bfloat16: 3e-2, torch.float16: 1e-2, torch.float32: 1e-4}
"""Largest error of outputs and gradients, relative to the largest value: a few units of rounding."""
CHECKED_LENGTHS = (1, 130, 61, 64)
"""Documents on which a route is held against the definition."""
MASK_BLOCK = 128
"""Positions of a block of FlexAttention's masks."""
KEPT_MASKS = 64
"""FlexAttention's masks that are kept: rows of one document each come back, other packings hardly do."""


def by_document(q_PNH: Tensor, k_PGH: Tensor, v_PGH: Tensor, packing: Packing) -> Tensor:
    """torch's attention, a call for each document."""
    return document_attention(q_PNH, k_PGH, v_PGH, packing.lengths)


def in_blocks(q_PNH: Tensor, k_PGH: Tensor, v_PGH: Tensor, packing: Packing) -> Tensor:
    """Blocks of matrix products: for training on a CPU."""
    return block_attention(q_PNH, k_PGH, v_PGH, packing.lengths)


class Flex:
    """FlexAttention, compiled. A query sees the keys from its document's beginning on, which is one comparison less than
    asking whether both are of one document. On a CPU torch has no backward pass for it."""

    def __init__(self) -> None:
        from torch.nn.attention.flex_attention import flex_attention

        self._attention: Any = torch.compile(flex_attention)
        self._mask_of: Callable[..., Any] = lru_cache(maxsize=KEPT_MASKS)(block_mask)

    def __call__(self, q_PNH: Tensor, k_PGH: Tensor, v_PGH: Tensor, packing: Packing) -> Tensor:
        q, k, v = (x.transpose(0, 1)[None] for x in (q_PNH, k_PGH, v_PGH))
        mask = self._mask_of(packing.lengths, q.device)
        out = self._attention(q, k, v, block_mask=mask, enable_gqa=q.shape[1] != k.shape[1])
        return out[0].transpose(0, 1)


def block_mask(lengths: tuple[int, ...], device: torch.device) -> Any:
    """FlexAttention's mask of documents of these lengths, made block by block: torch's own way writes down every pair of
    positions first, gigabytes for each new packing of a micro-batch."""
    from torch.nn.attention.flex_attention import BlockMask

    start_P = np.repeat(np.cumsum([0, *lengths[:-1]]), lengths)
    positions = len(start_P)
    last_of_block = np.minimum(np.arange(0, positions, MASK_BLOCK) + MASK_BLOCK, positions) - 1
    # Beginnings only grow: a block of queries needs the keys from that of its first one on, and its last one decides
    # whether a block of keys is seen by all.
    bounds = (start_P, start_P[::MASK_BLOCK, None], start_P[last_of_block, None])
    starts_P, first_Q1, last_Q1 = (put(torch.from_numpy(x), device) for x in bounds)
    key_K = torch.arange(len(last_of_block), device=device)
    query_Q1 = key_K[:, None]
    seen_QK = (key_K >= first_Q1 // MASK_BLOCK) & (key_K <= query_Q1)
    whole_QK = (key_K < query_Q1) & (key_K * MASK_BLOCK >= last_Q1)
    whole_QK = whole_QK & (query_Q1 < positions // MASK_BLOCK)  # a part of a block is never whole

    def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (key >= starts_P[query])

    blocks = (*_counted(seen_QK & ~whole_QK), *_counted(whole_QK))
    return BlockMask.from_kv_blocks(
        *blocks, BLOCK_SIZE=MASK_BLOCK, mask_mod=seen, seq_lengths=(positions, positions)
    )


def _counted(mask_QK: Tensor) -> tuple[Tensor, Tensor]:
    """For each row how many there are, and which, first."""
    which_QK = mask_QK.to(torch.int32).argsort(dim=1, descending=True, stable=True)
    return mask_QK.sum(1, dtype=torch.int32)[None, None], which_QK.to(torch.int32)[None, None]


@contextmanager
def flash_implementation(name: str | None) -> Iterator[None]:
    """Inside, torch's flash attention is another implementation than its own, where a package brings one."""
    if name is None:
        yield
        return
    from torch.nn.attention import activate_flash_attention_impl, restore_flash_attention_impl

    activate_flash_attention_impl(name)
    try:
        yield
    finally:
        restore_flash_attention_impl()


@dataclass(frozen=True)
class Candidate:
    """A route and what it runs under."""

    name: str
    route: Route
    implementation: str | None = None
    """Of torch's flash attention; None for its own."""

    def activate(self) -> None:
        """Take this route from now on."""
        if self.implementation is not None:
            from torch.nn.attention import activate_flash_attention_impl

            activate_flash_attention_impl(self.implementation)
        attention.take_route(self.route)


def candidates(device: torch.device, dtype: torch.dtype, head_width: int = 64) -> list[Candidate]:
    """What may be here, the likeliest first."""
    if device.type != "cuda":
        return [Candidate("blocks", in_blocks), Candidate("a call for each document", by_document)]
    found = []
    if has_varlen_kernel(torch.empty(1, 1, head_width, device=device, dtype=dtype)):
        found.append(Candidate("torch's variable-length kernel", varlen_attention))
        from torch.nn.attention import list_flash_attention_impls

        for name in list_flash_attention_impls():
            found.append(Candidate(f"variable-length kernel of {name}", varlen_attention, name))
    found.append(Candidate("FlexAttention", Flex()))
    found.append(Candidate("a call for each document", by_document))
    return found


Heads = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values: q_PNH, k_PGH, v_PGH."""


def random_heads(
    positions: int, heads: int, kv_heads: int, width: int, dtype: torch.dtype, device: torch.device
) -> Heads:
    """Inputs that are the same everywhere."""
    generator = torch.Generator().manual_seed(0)
    drawn = (torch.randn(positions, n, width, generator=generator) for n in (heads, kv_heads, kv_heads))
    q, k, v = (x.to(device, dtype).requires_grad_() for x in drawn)
    return q, k, v


def forward_and_backward(route: Route, heads: Heads, packing: Packing, grad_PNH: Tensor) -> list[Tensor]:
    """Output and the three gradients."""
    out_PNH = route(*heads, packing)
    return [out_PNH, *torch.autograd.grad(out_PNH, heads, grad_PNH)]


def error_of(route: Route, heads: Heads, packing: Packing) -> float:
    """The largest error of output and gradients against the definition in float32, relative to the largest value."""
    exact = tuple(x.detach().float().requires_grad_() for x in heads)
    grad_PNH = torch.randn(heads[0].shape, generator=torch.Generator().manual_seed(1)).to(heads[0])
    found = forward_and_backward(route, heads, packing, grad_PNH)

    def definition(q_PNH: Tensor, k_PGH: Tensor, v_PGH: Tensor, packing: Packing) -> Tensor:
        return reference_attention(q_PNH, k_PGH, v_PGH, packing.lengths)

    wanted = forward_and_backward(definition, exact, packing, grad_PNH.float())  # type: ignore[arg-type]
    pairs = zip(found, wanted, strict=True)
    return max(float(((a.float() - b).abs().max() / b.abs().max()).detach()) for a, b in pairs)


def problem_of(candidate: Candidate, heads: Heads, packing: Packing) -> tuple[float, str | None]:
    """Its error, and why it cannot be taken; None where it can."""
    try:
        with flash_implementation(candidate.implementation):
            error = error_of(candidate.route, heads, packing)
    except Exception as problem:  # whatever a kernel that is not here, or not for this card, raises
        return float("nan"), next(iter(str(problem).splitlines()), type(problem).__name__)[:100]
    wrong = None if error <= TOLERANCE[heads[0].dtype] else f"wrong by {error:.2g} of the largest value"
    return error, wrong


def parities(device: torch.device) -> dict[str, float | str]:
    """For each route the error of output and gradients, or why it cannot be taken."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    packing = Packing.from_lengths(CHECKED_LENGTHS, device)
    heads = random_heads(packing.num_positions, 4, 2, 64, dtype, device)
    found: dict[str, float | str] = {}
    for candidate in candidates(device, dtype):
        error, problem = problem_of(candidate, heads, packing)
        found[candidate.name] = problem or error
    return found


@dataclass(frozen=True)
class Choice:
    """Which route is the fastest here."""

    name: str | None
    """None where not one is right."""
    milliseconds: dict[str, float]
    """Of forward and backward, for every route that was right."""
    refused: dict[str, str]
    """Why, for the others."""


def fastest_route(
    among: Sequence[Candidate],
    device: torch.device,
    dtype: torch.dtype,
    shape: tuple[int, int, int],
    lengths: Sequence[int],
    seconds_of: Callable[[Callable[[], object]], float] | None = None,
) -> Choice:
    """The fastest of the routes that are right here.

    Args:
        shape: query heads, key heads, width of a head.
        lengths: documents as they come in a micro-batch.
        seconds_of: times some work; default: the median of several.
    """
    packing = Packing.from_lengths(tuple(lengths), device)
    small = Packing.from_lengths(CHECKED_LENGTHS, device)
    checked = random_heads(small.num_positions, *shape, dtype, device)
    heads = random_heads(packing.num_positions, *shape, dtype, device)
    grad_PNH = torch.ones_like(heads[0])
    times: dict[str, float] = {}
    refused: dict[str, str] = {}
    for candidate in among:
        name = candidate.name
        _, problem = problem_of(candidate, checked, small)
        if problem is not None:
            refused[name] = problem
            continue
        work = partial(forward_and_backward, candidate.route, heads, packing, grad_PNH)
        try:
            with flash_implementation(candidate.implementation):
                times[name] = 1e3 * (seconds_of or partial(timed, device=device, rounds=5))(work)
        except Exception as problem:  # out of memory, or a shape that its kernel does not take
            refused[name] = next(iter(str(problem).splitlines()), type(problem).__name__)[:100]
    return Choice(min(times, key=lambda name: times[name], default=None), times, refused)
