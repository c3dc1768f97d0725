"""Several ranks as one trainer: who they are, how the weights are laid over them, what they agree on.

torchrun starts the processes; DDP, FSDP2 and HSDP are torch's own. With one process everything here is the identity.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sodakit.distributed import rank, world_size
from sodakit.errors import ConfigError
from sodakit.hardware import device_named
from sodakit.model.transformer import Transformer
from sodakit.train.config import ParallelConfig
from sodakit.train.recompute import recompute_blocks

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor

TIMEOUT = timedelta(hours=1)
"""Ranks wait this long for each other: rank 0 makes samples while the others stand."""


@dataclass(frozen=True)
class Ranks:
    """The processes that train together, seen from one of them."""

    rank: int
    size: int
    device: torch.device
    kind: str
    """`ddp`, `fsdp` or `hsdp`; of no meaning for one process."""
    mesh: "DeviceMesh | None" = None
    """Where weights are sharded: over the last dimension; under `hsdp` copied over the first."""
    host_group: dist.ProcessGroup | None = None
    """For small numbers that live on the host: a GPU is not made to wait for them."""

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes and speaks for all."""
        return self.rank == 0

    @property
    def is_sharded(self) -> bool:
        """Whether no rank holds all weights."""
        return self.mesh is not None

    def sum(self, values: Iterable[float]) -> list[float]:
        """Each of some host numbers, added up over all ranks in float64; the same bits on every rank."""
        values = list(values)
        if self.size == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total, group=self.host_group)
        return total.tolist()

    def any(self, value: bool) -> bool:
        """Whether it is so on some rank; the same on every rank."""
        return bool(self.sum([float(value)])[0])

    def sum_shards(self, partial_sums: Tensor) -> Tensor:
        """A device tensor added up over the ranks that share the weights."""
        assert self.mesh is not None
        dist.all_reduce(partial_sums, group=self.mesh.get_group(self.mesh.ndim - 1))
        return partial_sums

    def gather(self, value: Any) -> list[Any]:
        """Something small of every rank, in order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.host_group)
        return values

    def wait(self) -> None:
        """Until every rank is here."""
        if self.size > 1:
            dist.barrier(self.host_group)

    def new_group(self) -> dist.ProcessGroup:
        """A host group of its own, for a thread that talks while training does."""
        return dist.new_group(backend="gloo", timeout=TIMEOUT)


def start_ranks(config: ParallelConfig, device: str | None = None) -> Ranks:
    """Join the other ranks that torchrun started, or be alone.

    Raises:
        ConfigError: `hsdp` with groups that do not divide the ranks.
    """
    size = world_size()
    kind = device or device_named(None)
    if kind.startswith("cuda") and size > 1:
        kind = f"cuda:{int(os.environ.get('LOCAL_RANK', '0'))}"
        torch.cuda.set_device(torch.device(kind))
    place = torch.device(kind)
    if size == 1:
        return Ranks(0, 1, place, config.kind)
    if not dist.is_initialized():
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo",
            store=_store_of_attempt(size),
            rank=rank(),
            world_size=size,
            timeout=TIMEOUT,
            device_id=place if place.type == "cuda" else None,
        )
    host_group = dist.new_group(backend="gloo", timeout=TIMEOUT)
    return Ranks(rank(), size, place, config.kind, _mesh(config, size, place), host_group)


def _store_of_attempt(size: int) -> dist.Store | None:
    """Where ranks find each other under torchrun; None for the default.

    torchrun keeps one store over all its restarts. After a rank was killed while the ranks were still finding each other,
    the next ones read the addresses of the dead and wait for them until the timeout: so each attempt has its own names.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    port = int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(os.environ["MASTER_ADDR"], port, size, is_master=False, timeout=TIMEOUT)
    return dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def _mesh(config: ParallelConfig, size: int, device: torch.device) -> "DeviceMesh | None":
    if config.kind == "ddp":
        return None
    from torch.distributed.device_mesh import init_device_mesh

    if config.kind == "fsdp":
        return init_device_mesh(device.type, (size,), mesh_dim_names=("shard",))
    shard = config.shard_ranks or int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if size % shard:
        raise ConfigError(f"parallel.shard_ranks={shard} does not divide {size} ranks. Use a divisor.")
    return init_device_mesh(device.type, (size // shard, shard), mesh_dim_names=("copy", "shard"))


def lay_out(model: Transformer, ranks: Ranks, *, recompute: bool = False) -> nn.Module:
    """What to call instead of the model, which itself is changed where its weights are sharded.

    Weights are gathered in float32: every layout computes from the same numbers as one process, and next to a step of
    millions of tokens the traffic is small.

    Args:
        recompute: keep only the input of each block, and compute the rest again in the backward pass.
    """
    if recompute:
        alone = ranks.size == 1 and ranks.device.type == "cpu"
        recompute_blocks(model.units(), alone_on_cpu=alone)
    if ranks.size == 1:
        return model
    if ranks.mesh is None:
        return DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)
    from torch.distributed.fsdp import fully_shard

    for block in model.units():
        fully_shard(block, mesh=ranks.mesh)
    # The head is used after the forward pass, by the loss, so it stays gathered until the backward pass is over.
    fully_shard(model, mesh=ranks.mesh, reshard_after_forward=False)
    return model


@contextmanager
def last_of(module: nn.Module, is_last: bool) -> Iterator[None]:
    """Around a micro-batch: copies of the model exchange gradients after the last one only.

    Shards do after each: gradients kept whole until then would take the memory that shards are there to spare.
    """
    between_copies = getattr(module, "set_requires_all_reduce", None)  # FSDP's
    if between_copies is not None:
        between_copies(is_last)
    if isinstance(module, DistributedDataParallel) and not is_last:
        with module.no_sync():
            yield
    else:
        yield


@torch.no_grad()
def copy_weights(model: nn.Module, weights: Iterable[tuple[str, Tensor]]) -> None:
    """Whole weights into a model of any layout, by name, one after the other: only one lies on the device whole.

    Raises:
        RuntimeError: names or shapes that are not the model's.
    """
    left = model.state_dict()
    for name, whole in weights:
        own = left.pop(name, None)
        if own is None or own.shape != whole.shape:
            shapes = f"{tuple(whole.shape)}, in the model {None if own is None else tuple(own.shape)}"
            raise RuntimeError(f"Weights of another model: {name} is {shapes}.")
        own.copy_(like(own, whole))
    if left:
        raise RuntimeError(f"Weights of another model: {', '.join(list(left)[:5])} are missing.")


def is_shared(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Whether a tensor lies on several ranks, of which this holds a part.

    Its class brings 45 MB of libraries along, so nobody imports it who has no such tensor.
    """
    library = sys.modules.get("torch.distributed.tensor")
    return library is not None and isinstance(tensor, library.DTensor)


def like(own: Tensor, whole: Tensor) -> Tensor:
    """A whole tensor laid out as `own` is."""
    if not is_shared(own):
        return whole
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(whole.to(own.device), own.device_mesh, own.placements, src_data_rank=None)


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """Every weight, whole, on every rank; all ranks must ask at the same time."""
    return {n: (w.full_tensor() if is_shared(w) else w).detach() for n, w in model.state_dict().items()}
