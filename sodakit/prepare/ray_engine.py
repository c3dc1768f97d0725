"""Shards on a Ray cluster: the same encoder, the same bytes; a task whose worker dies is started again."""

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from sodakit.errors import MissingExtra
from sodakit.hardware import torch_threads
from sodakit.prepare.encode import ShardEncoder
from sodakit.prepare.plan import PlannedShard
from sodakit.prepare.recording import Item

TRIES = 5
"""How often a task may lose its worker before the job stops."""


def encode_on_ray(
    packed: bytes, shards: Sequence[PlannedShard], items: Sequence[Item], workers: int, on_items: Callable
) -> Iterator[PlannedShard]:
    """The shards, each as soon as it is written.

    Uses the cluster that is connected or named by RAY_ADDRESS, else a local one of `workers` processes that ends with
    the job. The store's folder and the recordings must be at the same place on every machine.

    Args:
        packed: the encoder, pickled.
        shards: which to make.
        items: all items of the job; a shard's rows count in them.
        workers: tasks that run at once.
        on_items: told how many more items are done.
    Raises:
        MissingExtra: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("ray", "ray", "--engine ray") from error

    ours = not ray.is_initialized()
    if ours:
        _connect(workers)
    # A shard that was half written when its worker died is absent, so trying again is safe.
    task = ray.remote(num_cpus=1, max_retries=TRIES)(_encode)
    encoder = ray.put(packed)
    waiting = sorted(shards, key=lambda shard: sum(shard.durations_s))
    running: dict = {}
    try:
        while waiting or running:
            # Two tasks for each worker are enough to keep it busy; all at once would send every item ahead.
            while waiting and len(running) < 2 * workers:
                shard = waiting.pop()
                running[task.remote(encoder, shard, [items[row] for row in shard.rows])] = shard
            done, _ = ray.wait(list(running))
            for reference in done:
                shard = running.pop(reference)
                ray.get(reference)
                on_items(len(shard.rows))
                yield shard
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
        if ours:
            ray.shutdown()


def _connect(workers: int) -> None:
    import ray

    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False)
    else:
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)


def _encode(packed: bytes, shard: PlannedShard, items: list[Item]) -> int:
    # Sums in another order would give other codes.
    with torch_threads(1):
        return _unpack(packed).encode(shard, items)


@lru_cache(maxsize=1)
def _unpack(packed: bytes) -> ShardEncoder:
    # Once for each worker process, not for each shard: a codec may take seconds to load.
    return pickle.loads(packed)
