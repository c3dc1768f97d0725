"""Grouped-query attention with QK-norm, for rows that hold several documents."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sodakit.errors import ConfigError
from sodakit.model.block_attention import block_attention, weights_bytes
from sodakit.model.config import ModelConfig
from sodakit.model.contract import put
from sodakit.model.layers import Linear, RMSNorm

LARGEST_WEIGHTS_BYTES = 128 * 2**20
"""Above this a layer's attention weights are recomputed rather than kept: slower, but long documents fit."""

HALVES = (torch.bfloat16, torch.float16)
HEAD_GRANULE, WIDEST_HEAD = 8, 256
"""What the fused kernels take: widths of heads that are multiples, up to a largest."""

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(q_BTNH, k_BTGH, v_BTGH) to out_BTNH: who may look at whom."""


@dataclass(frozen=True)
class Packing:
    """Where documents begin and end in a batch of rows read as one sequence of B * T positions."""

    cu_seqlens_U: Tensor
    """int32 (U + 1,): 0, then the end of each document; on the device of the batch."""
    lengths: tuple[int, ...]
    """The same on the host, as lengths: kernels need them before the device is asked."""
    goes_on_from: tuple[tuple[tuple[int, int], ...], ...] = ()
    """For each document the positions of earlier ones that hold its beginning: first and one past the last, one
    stretch after another. Empty, as in training: every document begins by itself."""

    @classmethod
    def from_lengths(
        cls,
        lengths: tuple[int, ...] | list[int],
        device: torch.device | str = "cpu",
        goes_on_from: tuple[tuple[tuple[int, int], ...], ...] = (),
    ) -> "Packing":
        """Documents of these lengths, one after another.

        Raises:
            ConfigError: no documents, an empty one, or one that goes on from something not before it.
        """
        if not lengths or min(lengths) < 1:
            raise ConfigError(
                f"Document lengths {list(lengths)[:8]}; needed: at least one, each of 1 token or more."
            )
        ends = list(accumulate(lengths, initial=0))
        _check_beginnings(goes_on_from, ends[:-1])
        return cls(put(torch.tensor(ends, dtype=torch.int32), device), tuple(lengths), goes_on_from)

    @classmethod
    def from_rows(cls, batch: int, tokens: int, device: torch.device | str = "cpu") -> "Packing":
        """One document per row."""
        return cls.from_lengths((tokens,) * batch, device)

    @classmethod
    def from_document_ids(cls, document_ids_BT: Tensor) -> "Packing":
        """A document per stretch of equal ids; a row always begins a new one. Padding (-1) is one too.

        Call it where the ids are on the host: lengths are read back.
        """
        starts_BT = torch.ones_like(document_ids_BT, dtype=torch.bool)
        starts_BT[:, 1:] = document_ids_BT[:, 1:] != document_ids_BT[:, :-1]
        first = starts_BT.flatten().nonzero().flatten().tolist()
        ends = [*first[1:], document_ids_BT.numel()]
        lengths = tuple(end - start for start, end in zip(first, ends, strict=True))
        return cls.from_lengths(lengths, document_ids_BT.device)

    @property
    def num_positions(self) -> int:
        """B * T."""
        return sum(self.lengths)

    @property
    def longest(self) -> int:
        """Tokens of the longest document, with the beginning it goes on from."""
        if not self.goes_on_from:
            return max(self.lengths)
        return max(length + given for length, given in zip(self.lengths, self.num_given, strict=True))

    @property
    def num_given(self) -> tuple[int, ...]:
        """Tokens that each document goes on from."""
        if not self.goes_on_from:
            return (0,) * len(self.lengths)
        return tuple(sum(stop - start for start, stop in given) for given in self.goes_on_from)

    @cached_property
    def positions_P(self) -> Tensor:
        """int64, the place of each position in its document; on the device of the batch."""
        documents = zip(self.num_given, self.lengths, strict=True)
        places = [torch.arange(given, given + length) for given, length in documents]
        return torch.cat(places).to(self.cu_seqlens_U.device)

    @cached_property
    def seen_PP(self) -> Tensor:
        """bool, which keys each query may see: all of that document's beginning, and its own up to itself."""
        ends = [0, *accumulate(self.lengths)]
        seen_PP = torch.zeros(ends[-1], ends[-1], dtype=torch.bool)
        beginnings = self.goes_on_from or ((),) * len(self.lengths)
        for first, end, given in zip(ends, ends[1:], beginnings, strict=False):
            seen_PP[first:end, first:end] = True
            for start, stop in given:
                seen_PP[first:end, start:stop] = True
        return seen_PP.tril_().to(self.cu_seqlens_U.device)

    @property
    def attended_tokens(self) -> float:
        """T_eff: the row length at which unpacked rows would cost as much attention."""
        return sum(length * length for length in self.lengths) / self.num_positions

    def to(self, device: torch.device | str) -> "Packing":
        """The same packing with its offsets on `device`."""
        return Packing(put(self.cu_seqlens_U, device), self.lengths, self.goes_on_from)


class Attention(nn.Module):
    """Queries, keys and values per head; queries and keys normed, then turned by their position."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_width = config.head_width
        self.query = Linear(config.width, config.query_width)
        self.key = Linear(config.width, config.key_width)
        self.value = Linear(config.width, config.key_width)
        self.out = Linear(config.query_width, config.width)
        self.query_norm = RMSNorm(config.head_width, config.norm_eps)
        self.key_norm = RMSNorm(config.head_width, config.norm_eps)

    def forward(self, x_BTD: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        heads = (-1, self.head_width)
        q_BTNH = self.query_norm(self.query(x_BTD).unflatten(-1, heads), cos, sin)
        k_BTGH = self.key_norm(self.key(x_BTD).unflatten(-1, heads), cos, sin)
        v_BTGH = self.value(x_BTD).unflatten(-1, heads)
        return self.out(attend(q_BTNH, k_BTGH, v_BTGH).flatten(2))


Route = Callable[[Tensor, Tensor, Tensor, Packing], Tensor]
"""(q_PNH, k_PGH, v_PGH, packing) to out_PNH: a way to compute it."""
_taken: list[Route] = []


def take_route(route: Route | None) -> None:
    """Let `attend_packed` take this route on a GPU in 16 bits from now on; None for the choice by what runs."""
    _taken[:] = [] if route is None else [route]


def attend_packed(q_BTNH: Tensor, k_BTGH: Tensor, v_BTGH: Tensor, packing: Packing) -> Tensor:
    """Causal attention that never crosses from one document into another: out_BTNH.

    The route is the one that was measured to be the fastest on this GPU (`attention_routes.py`), else by what runs: the fused variable-length kernel on a recent GPU in 16 bits, blocks of
    matrix products for training on a CPU, torch's attention document by document elsewhere. Documents that go on
    from others have a route of their own, without gradients.

    Raises:
        ConfigError: gradients are wanted of documents that go on from others.
    """
    q_PNH, k_PGH, v_PGH = (x.flatten(0, 1) for x in (q_BTNH, k_BTGH, v_BTGH))
    if packing.goes_on_from:
        out_PNH = branching_attention(q_PNH, k_PGH, v_PGH, packing)
    elif _taken and q_PNH.is_cuda and q_PNH.dtype in HALVES:
        out_PNH = _taken[0](q_PNH, k_PGH, v_PGH, packing)
    elif has_varlen_kernel(q_PNH):
        out_PNH = varlen_attention(q_PNH, k_PGH, v_PGH, packing)
    elif _blocks_pay(q_PNH, packing):
        out_PNH = block_attention(q_PNH, k_PGH, v_PGH, packing.lengths)
    else:
        out_PNH = document_attention(q_PNH, k_PGH, v_PGH, packing.lengths)
    return out_PNH.view(q_BTNH.shape)


def document_attention(q_PNH: Tensor, k_PGH: Tensor, v_PGH: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """torch's attention, one call for each document: right on every device, and light on memory."""
    parts = zip(q_PNH.split(lengths), k_PGH.split(lengths), v_PGH.split(lengths), strict=True)
    return torch.cat([_attention(q, k, v) for q, k, v in parts])


def branching_attention(q_PNH: Tensor, k_PGH: Tensor, v_PGH: Tensor, packing: Packing) -> Tensor:
    """Attention of documents some of which go on from others, for inference: out_PNH.

    On a CPU each document fetches the keys of its beginning; on a GPU, where a call for each would cost more than
    what it computes, one call with a dense mask. (The fused kernel does not say how it aligns fewer queries with
    more keys.)

    Raises:
        ConfigError: gradients are wanted.
    """
    if q_PNH.requires_grad:
        raise ConfigError(
            "Gradients through documents that go on from others; a packing with goes_on_from is for inference. "
            "Call it under torch.inference_mode(), or give every document its whole beginning."
        )
    if q_PNH.is_cuda:
        return _attention(q_PNH, k_PGH, v_PGH, packing.seen_PP)
    ends = [0, *accumulate(packing.lengths)]
    outs = []
    for first, end, given in zip(ends, ends[1:], packing.goes_on_from, strict=False):
        stretches = [*given, (first, end)]
        k, v = (torch.cat([x[start:stop] for start, stop in stretches]) for x in (k_PGH, v_PGH))
        seen = _lower_right(end - first, len(k), k.device) if given else None
        outs.append(_attention(q_PNH[first:end], k, v, seen))
    return torch.cat(outs)


def _attention(q_QNH: Tensor, k_SGH: Tensor, v_SGH: Tensor, seen_QS: Tensor | None = None) -> Tensor:
    """torch's attention, causal where no mask is given."""
    q_1NQH, k_1GSH, v_1GSH = (x.transpose(0, 1)[None] for x in (q_QNH, k_SGH, v_SGH))
    grouped = q_QNH.shape[1] != k_SGH.shape[1]
    out_1NQH = F.scaled_dot_product_attention(
        q_1NQH, k_1GSH, v_1GSH, attn_mask=seen_QS, is_causal=seen_QS is None, enable_gqa=grouped
    )
    return out_1NQH[0].transpose(0, 1)


def reference_attention(q_PNH: Tensor, k_PGH: Tensor, v_PGH: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """The definition, with a dense mask and nothing clever. Tests hold the other routes against it."""
    shared = q_PNH.shape[1] // k_PGH.shape[1]
    k_PNH, v_PNH = (x.repeat_interleave(shared, dim=1) for x in (k_PGH, v_PGH))
    document_P = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)).to(q_PNH.device)
    seen_PP = (document_P[:, None] == document_P[None, :]).tril()
    scores_NPP = torch.einsum("qnh,knh->nqk", q_PNH, k_PNH) * q_PNH.shape[-1] ** -0.5
    weights_NPP = scores_NPP.masked_fill(~seen_PP, float("-inf")).softmax(-1)
    return torch.einsum("nqk,knh->qnh", weights_NPP, v_PNH)


def has_varlen_kernel(q_PNH: Tensor) -> bool:
    """Whether torch's fused variable-length kernel takes these queries (FlashAttention 2's conditions, heads padded)."""
    return (
        q_PNH.is_cuda
        and q_PNH.dtype in HALVES
        and q_PNH.shape[-1] <= WIDEST_HEAD
        and torch.cuda.get_device_capability(q_PNH.device) >= (8, 0)
    )


def varlen_attention(q_PNH: Tensor, k_PGH: Tensor, v_PGH: Tensor, packing: Packing) -> Tensor:
    """torch's fused variable-length kernel, of whichever implementation of flash attention is active.

    It takes heads whose width is a multiple of 8; others get zeros behind, which change no product and come off again.
    """
    width = q_PNH.shape[-1]
    if beside := -width % HEAD_GRANULE:
        # The kernel divides by the root of the width that it sees.
        q_PNH = q_PNH * ((width + beside) / width) ** 0.5
        q, k, v = (F.pad(x, (0, beside)) for x in (q_PNH, k_PGH, v_PGH))
        return varlen_attention(q, k, v, packing)[..., :width]
    from torch.nn.attention.varlen import varlen_attn

    more = {}
    if q_PNH.shape[1] != k_PGH.shape[1]:
        if _varlen_takes_groups():
            more["enable_gqa"] = True
        else:
            shared = q_PNH.shape[1] // k_PGH.shape[1]
            k_PGH, v_PGH = (x.repeat_interleave(shared, dim=1) for x in (k_PGH, v_PGH))
    ends, longest = packing.cu_seqlens_U, packing.longest
    # A window of everything to the left and nothing to the right is causal attention.
    return varlen_attn(q_PNH, k_PGH, v_PGH, ends, ends, longest, longest, window_size=(-1, 0), **more)  # type: ignore[return-value,arg-type]


@lru_cache(maxsize=1)
def _varlen_takes_groups() -> bool:
    """torch 2.11 has the kernel but not its `enable_gqa`, which came with 2.12."""
    import inspect

    from torch.nn.attention.varlen import varlen_attn

    return "enable_gqa" in inspect.signature(varlen_attn).parameters


def _lower_right(queries: int, keys: int, device: torch.device) -> Tensor:
    """bool: the last query sees every key, the one before it all but the last, and so on."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril_(keys - queries)


def _check_beginnings(goes_on_from: tuple[tuple[tuple[int, int], ...], ...], firsts: list[int]) -> None:
    if goes_on_from and len(goes_on_from) != len(firsts):
        raise ConfigError(f"Beginnings of {len(goes_on_from)} documents for a packing of {len(firsts)}.")
    for first, given in zip(firsts, goes_on_from, strict=False):
        for start, stop in given:
            if not 0 <= start < stop <= first:
                raise ConfigError(
                    f"A document at position {first} that goes on from positions {start} to {stop}; needed: some "
                    "positions before it."
                )


def _blocks_pay(q_PNH: Tensor, packing: Packing) -> bool:
    """Whether to keep attention weights: only for a backward pass, on a CPU, and where they fit."""
    if q_PNH.device.type != "cpu" or not q_PNH.requires_grad:
        return False
    return weights_bytes(packing.lengths, q_PNH.shape[1], q_PNH.element_size()) <= LARGEST_WEIGHTS_BYTES
