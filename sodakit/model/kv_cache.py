"""What decoding remembers: keys and values of every position so far, for rows at different lengths."""

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sodakit.errors import ConfigError
from sodakit.model.any_config import AnyConfig


@dataclass(frozen=True)
class Step:
    """Where the next T tokens of every row go, and what they may see."""

    positions_BT: Tensor | None
    """int64: the place of each new token in its row, where rows do not agree."""
    start: int | None
    """The place of the first one, where they do."""
    span: int
    """Positions in view: the longest row, new tokens included."""
    seen_B1TS: Tensor | None
    """bool, which keys each token may see; None where causal order alone decides."""


class KVCache:
    """Keys and values of `batch` rows, with room for `max_tokens` each, allocated once.

    A row that ends early is set back (`set_lengths`, `reset`) and its place reused; a prompt that several rows
    share is computed in one and copied (`copy_row`). Positions beyond a row's length are never read.
    """

    def __init__(
        self,
        config: AnyConfig,
        batch: int,
        max_tokens: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if max_tokens > config.context:
            raise ConfigError(
                f"A cache of {max_tokens} tokens; the model's context is {config.context}. Use at most that."
            )
        backbone = config.backbone
        shape = (backbone.layers, batch, backbone.kv_heads, max_tokens, backbone.head_width)
        self.k_LBGTH, self.v_LBGTH = (_zeros(shape, torch.device(device), dtype) for _ in "kv")
        self.lengths = [0] * batch

    @property
    def batch(self) -> int:
        """Rows."""
        return len(self.lengths)

    @property
    def max_tokens(self) -> int:
        """Room in each row."""
        return self.k_LBGTH.shape[3]

    @property
    def num_bytes(self) -> int:
        """Memory it holds."""
        return 2 * self.k_LBGTH.numel() * self.k_LBGTH.element_size()

    def check_room(self, batch: int, tokens: int) -> None:
        """Raise unless `tokens` more fit in each of `batch` rows.

        Raises:
            ConfigError: they do not, or there are other rows.
        """
        if batch != self.batch:
            raise ConfigError(f"ids of {batch} rows for a cache of {self.batch}.")
        longest = max(self.lengths)
        if longest + tokens > self.max_tokens:
            raise ConfigError(
                f"A row of {longest} tokens and {tokens} more; the cache holds {self.max_tokens}. "
                "Make it with a larger max_tokens, or stop the row."
            )

    def plan(self, tokens: int) -> Step:
        """Where `tokens` new tokens of every row go.

        Raises:
            ConfigError: they do not fit.
        """
        self.check_room(self.batch, tokens)
        longest, shortest = max(self.lengths), min(self.lengths)
        span = longest + tokens
        device = self.k_LBGTH.device
        if longest == shortest:  # known here: nothing is copied to the device, so a graph may hold it
            seen_TS = None if longest == 0 or tokens == 1 else _seen(longest, span, device)
            return Step(None, longest, span, None if seen_TS is None else seen_TS[None, None])
        starts_B1 = torch.tensor(self.lengths, device=device)[:, None]
        positions_BT = starts_B1 + torch.arange(tokens, device=device)
        seen_BTS = torch.arange(span, device=device) <= positions_BT[:, :, None]
        return Step(positions_BT, None, span, seen_BTS[:, None])

    def append(self, layer: int, step: Step, k_BTGH: Tensor, v_BTGH: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values; views of all in sight: (B, G, S, H) each.

        Lengths stay as they are until `advance`, so that every layer of one step writes to the same place.
        """
        for stored_LBGTH, new_BTGH in ((self.k_LBGTH, k_BTGH), (self.v_LBGTH, v_BTGH)):
            stored_BGTH = stored_LBGTH[layer]
            if step.positions_BT is None:
                stored_BGTH[:, :, step.start : step.span] = new_BTGH.transpose(1, 2)
            else:
                rows_B1 = torch.arange(self.batch, device=stored_BGTH.device)[:, None]
                stored_BGTH[rows_B1, :, step.positions_BT] = new_BTGH.to(stored_BGTH.dtype)
        return self.k_LBGTH[layer, :, :, : step.span], self.v_LBGTH[layer, :, :, : step.span]

    def advance(self, tokens: int) -> None:
        """Count `tokens` new tokens in every row."""
        self.lengths = [length + tokens for length in self.lengths]

    def set_lengths(self, lengths: Sequence[int]) -> None:
        """Cut each row back: after a prefill of right-padded prompts, to each prompt's own length.

        Raises:
            ConfigError: another number of rows, or a row that would grow.
        """
        if len(lengths) != self.batch or any(
            new > old or new < 0 for new, old in zip(lengths, self.lengths, strict=True)
        ):
            raise ConfigError(
                f"Lengths {list(lengths)} for rows of {self.lengths}; rows can only be cut back."
            )
        self.lengths = list(lengths)

    def reset(self, row: int | None = None) -> None:
        """Empty one row, or all."""
        self.lengths = [0 if row in (None, index) else length for index, length in enumerate(self.lengths)]

    def select(self, rows: Sequence[int]) -> "KVCache":
        """A cache of some of the rows, in the given order: the others have ended."""
        kept = copy(self)
        index_R = torch.tensor(list(rows), device=self.k_LBGTH.device)
        kept.k_LBGTH, kept.v_LBGTH = (x.index_select(1, index_R) for x in (self.k_LBGTH, self.v_LBGTH))
        kept.lengths = [self.lengths[row] for row in rows]
        return kept

    def rows(self, first: int, last: int) -> "KVCache":
        """A view of rows `first` to `last`: what is appended to it lies here too, but for the lengths, which are its own."""
        view = copy(self)
        view.k_LBGTH, view.v_LBGTH = self.k_LBGTH[:, first:last], self.v_LBGTH[:, first:last]
        view.lengths = self.lengths[first:last]
        return view

    def copy_row(self, source: int, target: int, tokens: int | None = None) -> None:
        """Give row `target` the first `tokens` of row `source` (default: all of them)."""
        tokens = self.lengths[source] if tokens is None else tokens
        if tokens > self.lengths[source]:
            raise ConfigError(f"{tokens} tokens of row {source}, which has {self.lengths[source]}.")
        for stored_LBGTH in (self.k_LBGTH, self.v_LBGTH):
            stored_LBGTH[:, target, :, :tokens] = stored_LBGTH[:, source, :, :tokens]
        self.lengths[target] = tokens


def _zeros(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Zeros that on a CPU take memory only where something is written: torch would write them all down, a quarter of a
    gigabyte for one row of 4,096 positions of the 135M, before its first frame."""
    if device.type != "cpu":
        return torch.zeros(shape, device=device, dtype=dtype)
    memory = np.zeros(math.prod(shape) * dtype.itemsize, np.uint8)
    return torch.from_numpy(memory).view(dtype).view(shape)


def _seen(start: int, span: int, device: torch.device) -> Tensor:
    """bool: which of `span` keys each query from `start` on may see."""
    return torch.arange(span, device=device) <= torch.arange(start, span, device=device)[:, None]


def attend_cached(
    q_BTNH: Tensor, k_BTGH: Tensor, v_BTGH: Tensor, cache: KVCache, layer: int, step: Step
) -> Tensor:
    """Attention of new tokens to everything their row holds, themselves included: out_BTNH."""
    k_BGSH, v_BGSH = cache.append(layer, step, k_BTGH, v_BTGH)
    batch, tokens, heads, width = q_BTNH.shape
    groups = k_BGSH.shape[1]
    if tokens == 1:
        # Query heads that share keys become queries of one head: the cache is read once, not once per head.
        q_BGRH = q_BTNH.reshape(batch, groups, heads // groups, width).to(k_BGSH.dtype)
        out_BGRH = F.scaled_dot_product_attention(q_BGRH, k_BGSH, v_BGSH, attn_mask=step.seen_B1TS)
        return out_BGRH.reshape(q_BTNH.shape).to(q_BTNH.dtype)
    if q_BTNH.is_cuda and heads != groups and k_BGSH.dtype == torch.float32:
        # Of grouped heads in float32 torch writes all scores down: 12 GB for 16 prompts of 35 s at 600M.
        k_BGSH, v_BGSH = (x.repeat_interleave(heads // groups, dim=1) for x in (k_BGSH, v_BGSH))
        groups = heads
    out_BNTH = F.scaled_dot_product_attention(
        q_BTNH.transpose(1, 2).to(k_BGSH.dtype),
        k_BGSH,
        v_BGSH,
        attn_mask=step.seen_B1TS,
        is_causal=step.seen_B1TS is None,
        enable_gqa=heads != groups,
    )
    return out_BNTH.transpose(1, 2).to(q_BTNH.dtype)
