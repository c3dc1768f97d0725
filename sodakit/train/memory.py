"""How many rows go through the model at a time, and whether activations are kept, by what fits."""

from dataclasses import dataclass

import torch

from sodakit.hardware import host_memory_bytes
from sodakit.model.accounting import TrainingMemory, training_memory
from sodakit.train.config import TrainConfig
from sodakit.train.loss import chunk_positions
from sodakit.train.parallel import Ranks

USABLE = {"cuda": 0.85, "cpu": 0.5}
"""Share of the memory to plan with. Libraries, batches and fragmentation take some; a CPU's is shared with others."""


@dataclass(frozen=True)
class MemoryPlan:
    """What one rank does at a time, and the memory that is expected to take."""

    micro_rows: int
    recompute: bool
    expected: TrainingMemory


def device_bytes(device: torch.device) -> int:
    """All memory of a device. What is free now would change from start to start, and rounding with it."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return host_memory_bytes()


def plan_memory(config: TrainConfig, ranks: Ranks) -> MemoryPlan:
    """The plan of a run on these ranks."""
    kind = ranks.device.type
    shards = ranks.mesh.size(ranks.mesh.ndim - 1) if ranks.mesh is not None else 1
    usable = USABLE.get(kind, 0.5) * device_bytes(ranks.device)
    return plan_for(config, usable, ranks=ranks.size, shards=shards, device_type=kind)


def plan_for(
    config: TrainConfig, usable_bytes: float, *, ranks: int = 1, shards: int = 1, device_type: str = "cuda"
) -> MemoryPlan:
    """The most rows within `usable_bytes` that divide a rank's share, keeping activations if one row's fit.

    With `micro_rows` set, or None for the whole share, only the second question is open. Where not even one row fits
    with recomputation, the plan is that: it may still be enough, and the estimate is printed.
    """
    share = max(config.data.batch_rows // ranks, 1)
    wanted = config.parallel.activation_checkpointing
    rows = [n for n in range(share, 0, -1) if share % n == 0]
    if config.micro_rows != "auto":
        rows = [min(config.micro_rows or share, share)]
    plans = [
        MemoryPlan(n, recompute, _expected(config, n, shards, recompute, device_type))
        for recompute in ((False, True) if wanted is None else (wanted,))
        for n in rows
    ]
    return next((plan for plan in plans if plan.expected.total_bytes <= usable_bytes), plans[-1])


def _expected(
    config: TrainConfig, micro_rows: int, shards: int, recompute: bool, device_type: str
) -> TrainingMemory:
    return training_memory(
        config.model,
        micro_rows * config.data.context,
        itemsize=2 if config.precision == "bfloat16" else 4,
        logits_tokens=chunk_positions(config.model.vocab_size, device_type),
        recompute=recompute,
        shards=shards,
        lora_rank=None if config.lora is None else config.lora.rank,
        fp8_from_width=config.fp8_from_width,
    )
