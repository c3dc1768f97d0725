"""Work of fixed shapes on buffers that never move, which a GPU replays as one CUDA graph.

At small batches a model on a GPU waits for its launches, not for its memory. What is captured reads no value on the host and
copies nothing between host and device; random numbers come in through a buffer. On a CPU the same work runs as it stands,
which is how tests hold it against `Engine`.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from sodakit.errors import first_line
from sodakit.log import say
from sodakit.model.attention import Attend
from sodakit.model.kv_cache import KVCache
from sodakit.model.transformer import Block, Transformer

SPAN_TOKENS = 512
"""A graph looks at this many positions of the cache, or a multiple: fewer would mean more graphs to capture, more
would mean reading empty memory."""
KEPT_GRAPHS = 64
"""Of one kind of work; the one unused for longest goes."""

Work = Callable[[], None]


class Replayable(Protocol):
    """What was captured."""

    def replay(self) -> None:
        """The same work on what the buffers hold now."""


def can_capture(device: torch.device) -> bool:
    """Whether work there is captured."""
    return device.type == "cuda"


def capture(work: Work, device: torch.device, pool: Any) -> Replayable:
    """The work as a graph. It has run, twice and more: kernels and workspaces are chosen before they are captured.

    Args:
        pool: memory that graphs share. They may: nothing in it is read after a replay.
    """
    with torch.cuda.device(device):  # streams are of the current device, which need not be the model's
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                work()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads go on meanwhile: a server's codec, the watchdog of NCCL. torch's own stream for this is of the device
        # that captured first.
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            work()
    return graph


class Graphs:
    """Captured when first wanted, by a key that tells everything the work takes from Python."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.captures = can_capture(device)
        """Whether work is captured; no longer where it was refused."""
        self._pool: Any = None
        self._graphs: OrderedDict[Hashable, Replayable] = OrderedDict()

    @torch.inference_mode()
    def run(self, key: Hashable, work: Work, moved: Sequence[Tensor] = ()) -> None:
        """Do the work, by its graph where there are graphs. Where it cannot be captured it runs as it stands.

        Args:
            moved: the buffers that the work reads and then changes: they are put back after its trial runs.
        """
        if self.captures and key not in self._graphs:
            self._try_to_capture(key, work, moved)
        if not self.captures:
            return work()
        self._graphs.move_to_end(key)
        self._graphs[key].replay()

    def _try_to_capture(self, key: Hashable, work: Work, moved: Sequence[Tensor]) -> None:
        before = [buffer.clone() for buffer in moved]
        if self._pool is None and self._device.type == "cuda":
            self._pool = torch.cuda.graph_pool_handle()
        try:
            self._graphs[key] = capture(work, self._device, self._pool)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as problem:
            self.captures = False
            say(f"Decoding without CUDA graphs, more slowly: {first_line(problem)[:200]}")
        for buffer, kept in zip(moved, before, strict=True):
            buffer.copy_(kept)
        while len(self._graphs) > KEPT_GRAPHS:
            self._graphs.popitem(last=False)


def span_of(longest: int, most: int) -> int:
    """Positions to look at where `longest` are in use, of `most` there are."""
    return min(most, -(-longest // SPAN_TOKENS) * SPAN_TOKENS)


def rows_for(rows: int) -> int:
    """Rows rounded up, so that graphs are used again."""
    return 1 << (rows - 1).bit_length()


def static_step(
    model: Transformer, cache: KVCache, ids_B1W: Tensor, positions_B: Tensor, span: int
) -> Tensor:
    """The states after one more position of each of the first rows of a cache: x_BD. The same as decoding with the cache,
    where every row knows its own place on the device.

    Args:
        positions_B: int64, where each row's position goes; what lies behind is not seen.
        span: positions of the cache to look at.
    """
    cos, sin = (table[positions_B][:, None] for table in model.rotary_tables())
    seen_B11S = (torch.arange(span, device=positions_B.device) <= positions_B[:, None])[:, None, None]
    x_B1D = model.embed(ids_B1W)
    for layer, block in enumerate(model.blocks):
        attend = _attend(cache, layer, positions_B, seen_B11S)
        x_B1D = Block.forward(block, x_B1D, cos, sin, attend)  # type: ignore[arg-type]  # never compiled
    return model.final_norm(x_B1D)[:, 0]


def _attend(cache: KVCache, layer: int, positions_B: Tensor, seen_B11S: Tensor) -> Attend:
    batch, span = len(positions_B), seen_B11S.shape[-1]
    rows_B = torch.arange(batch, device=positions_B.device)

    def attend(q_B1NH: Tensor, k_B1GH: Tensor, v_B1GH: Tensor) -> Tensor:
        k_BGTH, v_BGTH = cache.k_LBGTH[layer, :batch], cache.v_LBGTH[layer, :batch]
        for stored_BGTH, new in ((k_BGTH, k_B1GH), (v_BGTH, v_B1GH)):
            stored_BGTH[rows_B, :, positions_B] = new[:, 0].to(stored_BGTH.dtype)
        q_BGRH = q_B1NH.reshape(batch, k_BGTH.shape[1], -1, q_B1NH.shape[-1])
        out_BGRH = F.scaled_dot_product_attention(
            q_BGRH, k_BGTH[:, :, :span], v_BGTH[:, :, :span], attn_mask=seen_B11S
        )
        return out_BGRH.reshape(q_B1NH.shape)

    return attend
