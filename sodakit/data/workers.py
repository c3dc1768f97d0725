"""Batches made in other processes, each step by one of them in turn, handed over in order."""

import queue
from collections.abc import Iterator
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from sodakit.distributed import end_with_parent
from sodakit.errors import ConfigError

if TYPE_CHECKING:
    from sodakit.data.loader import Batch, Loader

ALIVE_EVERY_S = 1.0
"""How often a wait for a batch looks whether its worker still lives."""


def worker_batches(
    loader: "Loader", steps: range, rank: int, world_size: int, depth: int, workers: int
) -> Iterator["Batch"]:
    """The batches of `steps`, in order: worker w makes every `workers`-th, from the w-th on.

    Raises:
        ConfigError: a worker died; or what a worker raised.
    """
    # Spawned, because a forked copy of a process that has threads (torch's, ours) may wait for them for ever.
    context = get_context("spawn")
    queues: list[Any] = [context.Queue(depth) for _ in range(workers)]
    processes = [
        context.Process(
            target=_produce, args=(loader, steps[w::workers], rank, world_size, queues[w]), daemon=True
        )
        for w in range(workers)
    ]
    for process in processes:
        process.start()
    try:
        for number in range(len(steps)):
            item = _take(queues[number % workers], processes[number % workers])
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        for process in processes:
            process.terminate()
            process.join(timeout=5)


def _take(ready: Any, process: Any) -> Any:
    while True:
        alive = process.is_alive()  # asked first: what a worker left behind before it ended is still taken
        try:
            return ready.get(timeout=ALIVE_EVERY_S)
        except queue.Empty:
            if not alive:
                raise ConfigError(
                    f"A loader process ended with status {process.exitcode}: out of memory, killed, or the calling "
                    "script has no `if __name__ == '__main__':`. Use fewer workers, or 0 for a thread."
                ) from None


def _produce(loader: "Loader", steps: range, rank: int, world_size: int, ready: Any) -> None:
    end_with_parent()
    batches = loader.batches(steps, rank, world_size)
    for _ in steps:
        try:
            item: Any = next(batches)
        except Exception as error:
            item = error
        ready.put(item)
        if isinstance(item, Exception):
            return
