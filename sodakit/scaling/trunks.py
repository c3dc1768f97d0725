"""Warmup-Stable-Decay runs of one model that share their stable phase: a trunk, and a decay leg for each token budget.

    steps    0 ── warm-up ── s1 ────────── s2 ─────────────── s3      the trunk, at the peak learning rate
                              └─ leg 1      └─ leg 2           └─ leg 3    each falls to 0

A leg is an ordinary run whose first steps were made by the trunk: data are a function of the step, so it ends where the
run from scratch with the same warm-up would have ended. Hägele et al. 2024 save about half of a sweep's FLOPs this way.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median_low

from sodakit.errors import ConfigError
from sodakit.files import atomic_folder
from sodakit.log import say
from sodakit.model.any_config import AnyConfig
from sodakit.scaling.point import DesignPoint
from sodakit.train.config import TrainConfig

DECAY_FRACTION = 0.2
"""Share of a run's steps in which the learning rate falls."""
WARMUP_FRACTION = 0.1
"""Share of the shortest run's steps in which it rises."""


def share_trunks(points: Sequence[DesignPoint]) -> list[DesignPoint]:
    """The design with one batch, learning rate and warm-up for every model and seed, so that its runs share a trunk.

    They are those of the model's middle budget: a rule that grows the batch with the budget would part the runs from
    the first step on. Steps follow from the tokens.
    """
    groups: dict[tuple[AnyConfig, int], list[DesignPoint]] = {}
    for point in points:
        groups.setdefault((point.model, point.seed), []).append(point)
    shared = []
    for members in groups.values():
        middle = next(
            p for p in members if p.training_flops == median_low([m.training_flops for m in members])
        )
        rows = middle.batch_rows
        steps = [max(round(p.positions / (rows * p.context)), 1) for p in members]
        warmup = max(round(WARMUP_FRACTION * min(steps)), 1)
        shared += [
            replace(
                p,
                batch_rows=rows,
                steps=s,
                peak_lr=middle.peak_lr,
                beta2=middle.beta2,
                trunk_warmup_steps=warmup,
            )
            for p, s in zip(members, steps, strict=True)
        ]
    return shared


def trunk_name(point: DesignPoint) -> str | None:
    """The trunk a point grows from, or None for a run of its own."""
    if point.trunk_warmup_steps is None:
        return None
    family = "" if point.family == "flat" else f"_{point.family}"
    return f"d{point.width}_s{point.seed}_b{point.batch_rows}{family}"


def decay_start(point: DesignPoint) -> int:
    """The step at which a point's leg leaves its trunk."""
    return point.steps - round(DECAY_FRACTION * point.steps)


def trunk_groups(points: Sequence[DesignPoint]) -> list[list[DesignPoint]]:
    """Points that one process trains one after the other: those of a trunk, the shortest first, or a single one."""
    groups: dict[str, list[DesignPoint]] = {}
    for point in points:
        groups.setdefault(trunk_name(point) or point.name, []).append(point)
    return [sorted(g, key=lambda p: p.steps) for g in groups.values()]


def computed_flops(points: Sequence[DesignPoint]) -> float:
    """Training FLOPs that a queue computes for these points: those of shared steps once."""
    total = 0.0
    for group in trunk_groups(points):
        if trunk_name(group[0]) is None:
            total += group[0].training_flops
            continue
        per_step = group[-1].training_flops / group[-1].steps
        total += per_step * (decay_start(group[-1]) + sum(p.steps - decay_start(p) for p in group))
    return total


def leg_config(point: DesignPoint, config: TrainConfig) -> TrainConfig:
    """The config of a point's whole run, with the warm-up of its trunk and a decay over whole steps."""
    assert point.trunk_warmup_steps is not None
    decay = point.steps - decay_start(point)
    return replace(
        config,
        schedule=replace(
            config.schedule,
            warmup_fraction=point.trunk_warmup_steps / point.steps,
            decay_fraction=decay / point.steps,
        ),
    )


def trunk_config(point: DesignPoint, config: TrainConfig) -> TrainConfig:
    """The trunk up to where the point's leg leaves it: no decay, no validation, one checkpoint."""
    assert point.trunk_warmup_steps is not None
    steps = decay_start(point)
    return replace(
        config,
        steps=steps,
        schedule=replace(
            config.schedule,
            warmup_fraction=min(point.trunk_warmup_steps / steps, 1.0),
            decay_fraction=0.0,
        ),
        validation=(),
        save_every_steps=max(steps // 4, 1),
    )


def segment_folder(root: Path, point: DesignPoint) -> Path:
    """Where the trunk up to a point's leg is trained."""
    return root / "trunks" / str(trunk_name(point)) / f"to_{decay_start(point):08d}"


def adopt(checkpoint: Path, folder: Path) -> None:
    """Let the run in `folder` begin at a checkpoint of another run, unless it has one of its own.

    Raises:
        ConfigError: the checkpoint is missing.
    """
    own = folder / "checkpoints"
    if own.exists() and any(own.glob("step_*")):
        return
    if not checkpoint.exists():
        raise ConfigError(
            f"{checkpoint} is gone; needed: where the trunk was left. Delete {folder} and run again."
        )
    with atomic_folder(own / checkpoint.name) as temporary:
        shutil.copytree(checkpoint, temporary, dirs_exist_ok=True)
    say(f"{folder.name} goes on from {checkpoint}")
