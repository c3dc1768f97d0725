"""A CUDA graph's stand-in on a CPU: what was recorded is done again on the same memory, and nothing is asked of Python.

Whatever a piece of work takes from Python is as it was when it was recorded, as in a graph. What reads a value on the host,
or makes a shape of values, cannot be recorded.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sodakit.model.frame.network import FrameTransformer

READS = (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero)


class Recorded(TorchDispatchMode):
    """The operations of some work, in order, and where their results lie."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.replays = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket not in READS, f"{func} cannot be captured"
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, [x for x in tree_leaves(out) if isinstance(x, Tensor)]))
        return out

    def replay(self) -> None:
        """All of it once more."""
        self.replays += 1
        for func, args, kwargs, outs in self.calls:
            again = [x for x in tree_leaves(func(*args, **kwargs)) if isinstance(x, Tensor)]
            for out, new in zip(outs, again, strict=True):
                if out.data_ptr() != new.data_ptr():  # neither a view nor a change in place
                    out.copy_(new)


@contextmanager
def recorded_graphs() -> Iterator[list[Recorded]]:
    """Inside, `Graphs` captures on a CPU as it does on a GPU; all that was captured."""
    made: list[Recorded] = []

    def capture(work: Any, device: torch.device, pool: Any) -> Recorded:
        work()
        with Recorded() as graph:
            work()
        made.append(graph)
        return graph

    with (
        patch("sodakit.generate.graphs.can_capture", lambda device: True),
        patch("sodakit.generate.graphs.capture", capture),
        # As on a GPU, where the number of ids that are present is not asked for.
        patch.object(FrameTransformer, "embed", lambda self, ids: self._embed_all(ids, ids >= 0)),
    ):
        yield made
