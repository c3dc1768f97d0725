"""Several ranks on this machine, for tests: what torchrun does, without paying for its imports again and again.

Ranks are forked from a server that has imported everything once. Run as a script it is what torchrun starts.
"""

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from sodakit.data.config import DataConfig, SourceConfig
from sodakit.data.language import open_language
from sodakit.model.any_config import Family, family_config
from sodakit.model.config import model_size
from sodakit.train.config import LossConfig, ParallelConfig, ScheduleConfig, TrainConfig
from sodakit.train.trainer import train

_CONTEXT = multiprocessing.get_context("forkserver")
# What training imports at its first step takes seconds of each rank.
_FIRST_STEP = [
    "torch._dynamo",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "torch.utils.tensorboard",
    "pandas",
]
_CONTEXT.set_forkserver_preload(["tests.train.ranks", *_FIRST_STEP])


def rank_config(store: Path | str, kind: str = "ddp", family: Family = "flat", **changes: Any) -> TrainConfig:
    """A run of a few seconds: untied, so that embedding and head differ; packed rows; validation."""
    source = SourceConfig(store=str(store))
    _, vocabulary = open_language(store)
    shape = model_size("nano", vocabulary.size, context=64, tied_embeddings=False)
    config = TrainConfig(
        model=family_config(family, shape, vocabulary),
        data=DataConfig(sources=(source,), context=64, batch_rows=4),
        # Ranks' shares of a batch weigh unlike.
        loss=LossConfig(kind_weights={"text": 3.0, "acoustic_1": 0.0}),
        steps=12,
        schedule=ScheduleConfig(peak_lr=1e-3),
        precision="float32",
        log_every_steps=1,
        save_every_steps=4,
        keep_checkpoints=9,
        validation=(replace(source, split="validation"),),
        validation_rows=3,
        validate_every_steps=6,
        parallel=ParallelConfig(kind=kind, shard_ranks=2 if kind == "hsdp" else None),  # type: ignore[arg-type]
    )
    return replace(config, **changes)


def start(world: int, work: Callable[..., Any], *args: Any) -> list[BaseProcess]:
    """Processes of `world` ranks that do `work(*args)`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes: list[BaseProcess] = [
        _CONTEXT.Process(target=_rank, args=(rank, world, port, work, args), daemon=True)
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    return processes


def apart(work: Callable[..., Any], *args: Any, threads: int = 1) -> BaseProcess:
    """A process of its own, no rank of anything, that does `work(*args)`: one to be killed."""
    process = _CONTEXT.Process(target=_apart, args=(threads, work, args), daemon=True)
    process.start()
    return process


def together(world: int, work: Callable[..., Any], *args: Any, timeout_s: float = 500) -> None:
    """Do `work(*args)` on `world` ranks, and wait until all have done it well."""
    processes = start(world, work, *args)
    try:
        # Who lives is asked once a turn: the last may end between two questions, and nobody to wait for is waited for in full.
        while (alive := [p for p in processes if p.is_alive()]) and all(
            p.exitcode in (None, 0) for p in processes
        ):
            assert wait([p.sentinel for p in alive], timeout_s), f"{len(alive)} ranks after {timeout_s} s"
        assert [p.exitcode for p in processes] == [0] * world
    finally:
        stop(processes)


def stop(processes: list[BaseProcess]) -> None:
    """Kill those that are left."""
    for process in processes:
        process.kill()
        process.join()


def _apart(threads: int, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(threads)
    work(*args)


def _rank(rank: int, world: int, port: int, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    work(*args)


def train_all(runs: list[tuple[TrainConfig, Path]]) -> None:
    """Several runs, one after the other, in the same ranks."""
    for config, folder in runs:
        train(config, folder, device="cpu")


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(
        rank_config(*sys.argv[1:2], *sys.argv[3:5], steps=int(sys.argv[5]), log_every_steps=2),
        sys.argv[2],
        device="cpu",
    )
