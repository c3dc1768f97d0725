"""What a `Batch` does at each position, by CUDA graphs (`graphs.py`): a step of its rows, and the codes inside a frame.

Numbers of rows are rounded up to powers of two. The rows beyond repeat what stands in the buffers, and nobody looks: their
keys and values go where the next of that row will be written anyway.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from sodakit.generate.graphs import Graphs, rows_for, span_of, static_step
from sodakit.generate.sampling import Sampling, choose
from sodakit.model.contract import Inside
from sodakit.model.kv_cache import KVCache
from sodakit.model.transformer import Transformer

How = tuple[float, float, int]
"""Temperature, top_p, top_k."""


class BatchSteps:
    """One position more for the first rows of a cache."""

    def __init__(self, model: Transformer, cache: KVCache, capacity: int, width: int) -> None:
        self._model, self._cache, self._capacity = model, cache, capacity
        device, state_width = model.device, model.config.backbone.width
        self._ids_B1W = torch.zeros(capacity, 1, width, dtype=torch.int64, device=device)
        self._positions_B = torch.zeros(capacity, dtype=torch.int64, device=device)
        self._x_BD = torch.zeros(capacity, state_width, dtype=cache.k_LBGTH.dtype, device=device)
        self._graphs = Graphs(device)

    def __call__(self, ids_B1W: Tensor) -> Tensor:
        """The states after these ids, one position for each row from the first on: x_BD, good until the next call."""
        rows = len(ids_B1W)
        batch = min(rows_for(rows), self._capacity)
        self._cache.rows(0, rows).check_room(rows, 1)
        lengths = self._cache.lengths[:batch]
        last = self._cache.max_tokens - 1
        self._ids_B1W[:rows].copy_(ids_B1W)
        self._positions_B[:batch].copy_(torch.tensor([min(length, last) for length in lengths]))
        span = span_of(max(lengths[:rows]) + 1, self._cache.max_tokens)
        self._graphs.run((batch, span), partial(self._step, batch, span))
        self._cache.lengths[:rows] = [length + 1 for length in lengths[:rows]]
        return self._x_BD[:rows]

    def _step(self, batch: int, span: int) -> None:
        ids_B1W, positions_B = self._ids_B1W[:batch], self._positions_B[:batch]
        self._x_BD[:batch].copy_(static_step(self._model, self._cache, ids_B1W, positions_B, span))


class GraphDecoder:
    """A model whose positions hold whole frames, which are written at a launch. See `contract.Decoder`.

    Args:
        first_ids: of each codebook after the first.
    """

    def __init__(self, model: Transformer, first_ids: Sequence[int]) -> None:
        self._model, self._first_ids = model, first_ids
        self._buffers: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}
        self._graphs = Graphs(model.device)

    def __call__(self, ids_BPW: Tensor, /, *, cache: KVCache) -> Tensor:
        """As the model does it."""
        return self._model(ids_BPW, cache=cache)

    def logits(self, x_BD: Tensor, rows: slice) -> Tensor:
        """As the model does it."""
        return self._model.logits(x_BD, rows)

    def inside(self, x_BD: Tensor) -> "GraphFrames":
        """The codes of the position after these states."""
        return GraphFrames(self, self._model, x_BD)

    def write(self, x_BD: Tensor, first_B: Tensor, uniform_BS: Tensor, how: Sequence[How]) -> Tensor:
        """See `contract.WholeFrames`."""
        rows = len(x_BD)
        batch = rows_for(rows)
        if batch not in self._buffers:
            self._buffers[batch] = self._new_buffers(batch, x_BD)
        buffers = self._buffers[batch]
        for buffer, given in zip(buffers, (x_BD, first_B, uniform_BS), strict=False):
            buffer[:rows].copy_(given)
        sampling = [Sampling(temperature=t, top_p=p, top_k=k) for t, p, k in how]
        self._graphs.run((batch, *how), partial(self._write, sampling, *buffers))
        return buffers[-1][:rows]

    def _new_buffers(self, batch: int, x_BD: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x, device = x_BD.new_zeros(batch, x_BD.shape[1]), x_BD.device
        first = torch.zeros(batch, dtype=torch.int64, device=device)
        uniform = torch.zeros(batch, len(self._first_ids), dtype=torch.float64, device=device)
        return x, first, uniform, torch.zeros(batch, len(self._first_ids), dtype=torch.int64, device=device)

    def _write(
        self,
        sampling: list[Sampling],
        x_BD: Tensor,
        first_B: Tensor,
        uniform_BS: Tensor,
        codes_BS: Tensor,
    ) -> None:
        inside, ids_B = self._model.inside(x_BD), first_B
        for slot, (how, first_id) in enumerate(zip(sampling, self._first_ids, strict=True)):
            inside.put(ids_B)
            codes_B = choose(inside.logits(slot + 1), uniform_BS[:, slot], how)
            codes_BS[:, slot].copy_(codes_B)
            ids_B = codes_B + first_id


class GraphFrames:
    """See `contract.WholeFrames`."""

    def __init__(self, decoder: GraphDecoder, model: Transformer, x_BD: Tensor) -> None:
        self._decoder, self._model, self._x_BD = decoder, model, x_BD
        self._plain: Inside | None = None

    def _column_by_column(self) -> Inside:
        self._plain = self._plain or self._model.inside(self._x_BD)
        return self._plain

    def put(self, ids_B: Tensor) -> None:
        """The ids that stand in the next column."""
        self._column_by_column().put(ids_B)

    def logits(self, codebook: int) -> Tensor:
        """Scores of the codes of a codebook."""
        return self._column_by_column().logits(codebook)

    def write(self, first_B: Tensor, uniform_BS: Tensor, how: Sequence[How]) -> Tensor:
        """The codes of every column after 0, at a launch."""
        return self._decoder.write(self._x_BD, first_B, uniform_BS, how)
