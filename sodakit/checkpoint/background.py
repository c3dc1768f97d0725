"""A whole checkpoint written while training goes on: its tensors are copied to the host first, which takes a second or two."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from sodakit.hardware import out_of_memory
from sodakit.log import say

Tensors = dict[str, Tensor]


class WholeWriter:
    """Writes one checkpoint at a time. The host's copies are kept between them: pinning memory is slow."""

    def __init__(self) -> None:
        self._copies: Tensors = {}
        self._pending: Future[None] | None = None

    def start(self, tensors: Mapping[str, Tensor], write: Callable[[Tensors], None]) -> None:
        """Copy `tensors`, and begin to `write` the copies. Waits for the one before, whose copies are used again.

        Where the host has no memory for copies, they are written as they lie, and it says so.

        Raises:
            Exception: whatever the writing of the one before raised.
        """
        self.finish()
        try:
            self._copies = {name: self._copied(name, tensor) for name, tensor in tensors.items()}
        except (MemoryError, RuntimeError) as error:  # torch has no class of its own for the host's
            if out_of_memory(error) is None:
                raise
            self._copies = {}
            say(
                "The host's memory does not hold a copy of the run: training waits while a checkpoint is written."
            )
            write({name: tensor.detach() for name, tensor in tensors.items()})
            return
        if any(tensor.is_cuda for tensor in tensors.values()):
            torch.cuda.synchronize()
        thread = ThreadPoolExecutor(1, "sodakit-checkpoint")
        self._pending = thread.submit(write, self._copies)
        thread.shutdown(wait=False)

    def _copied(self, name: str, tensor: Tensor) -> Tensor:
        tensor, kept = tensor.detach(), self._copies.get(name)
        if kept is None or kept.shape != tensor.shape or kept.dtype != tensor.dtype:
            kept = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        return kept.copy_(tensor, non_blocking=True)

    def done(self) -> bool:
        """Whether nothing is left to write."""
        return self._pending is None or self._pending.done()

    def finish(self) -> None:
        """Wait until what was begun is written.

        Raises:
            Exception: whatever its writing raised.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()
