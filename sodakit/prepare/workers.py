"""Shards in this process, or in several. Each uses one thread, so the codes are the same either way."""

import os
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process

import torch

from sodakit.errors import ConfigError
from sodakit.hardware import torch_threads
from sodakit.prepare.encode import ShardEncoder
from sodakit.prepare.plan import PlannedShard
from sodakit.prepare.recording import Item

Task = tuple[PlannedShard, list[Item]]


def encode_shards(
    encoder: ShardEncoder,
    shards: Sequence[PlannedShard],
    items: Sequence[Item],
    workers: int,
    on_items: Callable,
) -> Iterator[PlannedShard]:
    """The shards, each as soon as it is written.

    Args:
        encoder: makes one shard.
        shards: which to make.
        items: all items of the job; a shard's rows count in them.
        workers: processes; 1 is this one.
        on_items: told how many more items are done.
    Raises:
        ConfigError: the codec cannot be sent to another process, or a process died.
    """
    if workers == 1:
        # Sums in another order would give other codes.
        with torch_threads(1):
            for shard in shards:
                encoder.encode(shard, [items[row] for row in shard.rows], on_items)
                yield shard
        return
    with _pool(encoder, min(workers, max(1, len(shards)))) as pool:
        running = {pool.submit(_encode, s, [items[row] for row in s.rows]): s for s in shards}
        try:
            for future in as_completed(running):
                future.result()
                on_items(len(running[future].rows))
                yield running[future]
        except BrokenProcessPool as error:
            raise ConfigError(
                "A worker process died: out of memory, killed, or the calling script has no "
                "`if __name__ == '__main__':`. "
                "Finished shards are kept: run the same again, with fewer workers."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _pool(encoder: ShardEncoder, workers: int) -> ProcessPoolExecutor:
    try:
        packed = pickle.dumps(encoder)
    except Exception as error:  # pickle raises whatever the object's own methods raise
        raise ConfigError(
            f"The codec {encoder.codec.spec.name} cannot be sent to worker processes ({error}). "
            "Needed for workers > 1: a codec that pickles. Use workers=1."
        ) from error
    return ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(packed,)
    )


_encoder: ShardEncoder | None = None


def _start_worker(packed: bytes) -> None:
    global _encoder  # noqa: PLW0603 - the one way to hand a pool's process its state
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _encoder = pickle.loads(packed)


def _end_with_parent() -> None:
    # A worker of a killed job would wait for work for ever.
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _encode(shard: PlannedShard, items: list[Item]) -> int:
    assert _encoder is not None
    return _encoder.encode(shard, items)
