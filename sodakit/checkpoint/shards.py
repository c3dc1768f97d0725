"""The tensors of a checkpoint in pieces, written by many ranks at once and read by any other number of them.

torch's distributed checkpoint (DCP) does the work, in its safetensors storage, so nothing is unpickled. Writing goes on
in a thread while training continues: tensors are copied to the host first, the folder gets its name when the last rank
is done, and a run killed in between finds the folder before it.
"""

import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from safetensors import safe_open
from torch import Tensor
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter

from sodakit.checkpoint.contents import SHARDS, write_contents


class ShardedWriter:
    """Writes one checkpoint at a time. Every rank has one, and calls it at the same steps."""

    def __init__(self, group: dist.ProcessGroup, first: bool) -> None:
        """Take a process group of its own, because the thread talks while training does; `first` is rank 0's."""
        self._group, self._first = group, first
        self._pending: tuple[Future[Any], Path, Path] | None = None

    def start(self, folder: Path, tensors: dict[str, Tensor], write_rest: Callable[[Path], None]) -> None:
        """Begin to write `tensors` (`model.…`, `optimizer.…`), and on rank 0 what `write_rest` puts beside them."""
        self.finish()
        part = folder.with_name(f".{folder.name}.part")
        if self._first:
            shutil.rmtree(part, ignore_errors=True)
            (part / SHARDS).mkdir(parents=True)
            write_rest(part)
        dist.barrier(self._group)
        writer = HuggingFaceStorageWriter(str(part / SHARDS), save_distributed=True)
        future = dcp.async_save(dict(tensors), storage_writer=writer, process_group=self._group)
        if self._first:
            # Digests read all of it again: also while training goes on. Rank 0's future is done when every rank has written.
            thread = ThreadPoolExecutor(1)
            future = thread.submit(_seal, future, part)  # type: ignore[arg-type]
            thread.shutdown(wait=False)
        self._pending = (future, part, folder)  # type: ignore[assignment]

    def done(self) -> bool:
        """Whether this rank has nothing left to write."""
        return self._pending is None or self._pending[0].done()

    def finish(self) -> Path | None:
        """Wait for the writing and give the folder its name; the folder, or None if nothing was being written."""
        if self._pending is None:
            return None
        future, part, folder = self._pending
        future.result()
        self._pending = None
        dist.barrier(self._group)
        if self._first:
            shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)
        dist.barrier(self._group)
        return folder


def _seal(written: Future[Any], part: Path) -> None:
    written.result()
    write_contents(part)


def read_into(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Fill `tensors`, laid out in any way over any ranks, from the pieces in a checkpoint folder."""
    reader = HuggingFaceStorageReader(str(folder / SHARDS))
    dcp.load(tensors, storage_reader=reader, no_dist=not dist.is_initialized())


def read_whole(folder: Path, prefix: str) -> dict[str, Tensor]:
    """Every tensor whose name begins with `prefix`, whole, without the prefix."""
    reader = HuggingFaceStorageReader(str(folder / SHARDS))
    entries = reader.read_metadata().state_dict_metadata
    tensors = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)  # type: ignore[union-attr]
        for name, entry in entries.items()
        if name.startswith(prefix)
    }
    dcp.load(tensors, storage_reader=reader, no_dist=True)
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def has_tensors(folder: Path, prefix: str) -> bool:
    """Whether any piece holds a tensor whose name begins with `prefix`."""
    for file in (folder / SHARDS).glob("*.safetensors"):
        with safe_open(file, framework="pt") as pieces:
            if any(name.startswith(prefix) for name in pieces.keys()):  # noqa: SIM118
                return True
    return False
