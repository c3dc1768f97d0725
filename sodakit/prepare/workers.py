"""Shards in this process, or in several. Each uses one thread, so the codes are the same either way."""

import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Literal

import torch

from sodakit.distributed import end_with_parent
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
    engine: Literal["processes", "ray"] = "processes",
) -> Iterator[PlannedShard]:
    """The shards, each as soon as it is written.

    Args:
        encoder: makes one shard.
        shards: which to make.
        items: all items of the job; a shard's rows count in them.
        workers: processes; 1 is this one, unless they run on Ray.
        on_items: told how many more items are done.
        engine: processes of this machine, or a Ray cluster.
    Raises:
        ConfigError: the codec cannot be sent to another process, or a process died.
        MissingExtra: Ray was asked for and is not there.
    """
    if engine == "ray":
        from sodakit.prepare.ray_engine import encode_on_ray

        yield from encode_on_ray(pack(encoder), shards, items, workers, on_items)
        return
    # A process takes seconds to load torch: for a single shard it would only be in the way.
    if min(workers, len(shards)) <= 1:
        # Sums in another order would give other codes.
        with torch_threads(1):
            for shard in shards:
                encoder.encode(shard, [items[row] for row in shard.rows], on_items)
                yield shard
        return
    with _pool(encoder, min(workers, len(shards))) as pool:
        # The longest first, so that none is left for one worker at the end.
        longest = sorted(shards, key=lambda shard: -sum(shard.durations_s))
        running = {pool.submit(_encode, s, [items[row] for row in s.rows]): s for s in longest}
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


def pack(encoder: ShardEncoder) -> bytes:
    """The encoder as bytes for another process.

    Raises:
        ConfigError: its codec does not pickle.
    """
    try:
        return pickle.dumps(encoder)
    except Exception as error:  # pickle raises whatever the object's own methods raise
        raise ConfigError(
            f"The codec {encoder.codec.spec.name} cannot be sent to worker processes ({error}). "
            "Needed for workers > 1: a codec that pickles. Use workers=1."
        ) from error


def _pool(encoder: ShardEncoder, workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(pack(encoder),)
    )


_encoder: ShardEncoder | None = None


def _start_worker(packed: bytes) -> None:
    global _encoder  # noqa: PLW0603 - the one way to hand a pool's process its state
    end_with_parent()
    torch.set_num_threads(1)
    _encoder = pickle.loads(packed)


def _encode(shard: PlannedShard, items: list[Item]) -> int:
    assert _encoder is not None
    return _encoder.encode(shard, items)
