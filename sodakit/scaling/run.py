"""The queue that trains a design: finished runs are skipped, killed ones go on, diverged ones are marked and left.

Every point has a folder of its own, and a point is somebody's while its lock is held, so several processes, machines
with one file system, or GPUs work through one queue together.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from sodakit.errors import ConfigError, Diverged
from sodakit.files import write_json
from sodakit.log import say
from sodakit.scaling.design_file import differences, read_design, write_design
from sodakit.scaling.lock import holder, lock
from sodakit.scaling.point import DesignPoint
from sodakit.scaling.trunks import (
    adopt,
    computed_flops,
    leg_config,
    segment_folder,
    trunk_config,
    trunk_groups,
    trunk_name,
)
from sodakit.train.config import TrainConfig
from sodakit.train.metrics import read_metrics

State = Literal["waiting", "running", "finished", "diverged"]
SETTLED = ("finished", "diverged")
"""States that a queue leaves as they are."""
MakeConfig = Callable[[DesignPoint], TrainConfig]
Train = Callable[[TrainConfig, Path], Path]

DIVERGED_RISE = 1.5
"""Nats that the validation loss may end above a uniform guess before a run counts as diverged."""


@dataclass(frozen=True)
class Progress:
    """How far a queue is."""

    states: dict[str, State]
    """By point."""

    def __str__(self) -> str:
        counts = {
            s: list(self.states.values()).count(s) for s in ("finished", "running", "waiting", "diverged")
        }
        return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def state_of(folder: Path, point: DesignPoint) -> State:
    """Where a point's run stands, read from its folder."""
    if (folder / "diverged.json").exists():
        return "diverged"
    if (folder / "finished.json").exists():
        return "finished"
    return "running" if holder(folder) else "waiting"


def progress(root: Path, points: Sequence[DesignPoint]) -> Progress:
    """How far the queue under `root` is."""
    return Progress({p.name: state_of(root / p.name, p) for p in points})


def run_design(
    points: Sequence[DesignPoint],
    root: Path,
    make_config: MakeConfig,
    train: Train,
    *,
    cheapest_first: bool = True,
) -> Progress:
    """Train every point that is left, one after the other; start it once for each GPU to use several.

    Points that another process holds are left to it, and said at the end.

    Args:
        points: the design; it is written to `root/design.jsonl`, and another design there is refused.
        make_config: a point as a complete config, for example `recipes.isoflop.isoflop` with its stores.
        train: the trainer; it goes on where a run was killed.
        cheapest_first: small runs first, so that a mistake shows early.
    Raises:
        ConfigError: `root` holds another design, or two points have the same name.
    """
    claim_design(root, points)
    groups = trunk_groups(points)
    for group in sorted(groups, key=computed_flops) if cheapest_first else groups:
        train_group(group, root, make_config, train)
        say(str(progress(root, points)))
    if others := held_by_others(root, points):
        say(f"Others hold {len(others)} points, which were left to them: {', '.join(others)}.")
    return progress(root, points)


def train_group(group: Sequence[DesignPoint], root: Path, make_config: MakeConfig, train: Train) -> bool:
    """Train the points of one trunk, or a single point, unless another process holds them.

    Returns:
        Whether every point has finished or diverged; False where another process holds some, or seems to.
    """
    trunk = trunk_name(group[0])
    with lock(_trunk_folder(root, trunk)) if trunk else nullcontext(True) as ours:
        before: DesignPoint | None = None
        for point in group if ours else ():
            folder = root / point.name
            with lock(folder) as free:
                if free and state_of(folder, point) not in SETTLED:
                    say(f"{point.name}: {point.training_flops:.2g} FLOPs")
                    _run_point(point, before, folder, make_config, train)
            before = point
    return all(state_of(root / p.name, p) in SETTLED for p in group)


def held_by_others(root: Path, points: Sequence[DesignPoint]) -> list[str]:
    """Names of the points that are left and that some process holds, by themselves or with their trunk."""
    return [
        p.name
        for p in points
        if state_of(root / p.name, p) not in SETTLED
        and (holder(root / p.name) or ((trunk := trunk_name(p)) and holder(_trunk_folder(root, trunk))))
    ]


def _trunk_folder(root: Path, trunk: str) -> Path:
    return root / "trunks" / trunk


def _run_point(
    point: DesignPoint, before: DesignPoint | None, folder: Path, make_config: MakeConfig, train: Train
) -> None:
    write_json(folder / "design.json", point.row() | {"budget_flops": point.budget_flops})
    start_s = time.perf_counter()
    try:
        config = make_config(point)
        if point.trunk_warmup_steps is not None:
            config = leg_config(point, config)
            _grow_trunk(point, before, folder, make_config, train)
        train(config, folder)
    except Diverged as error:
        write_json(folder / "diverged.json", {"why": str(error)})
        say(f"{point.name} diverged: {error}")
        return
    loss = last_loss(folder)
    if loss is None or not np.isfinite(loss) or loss > np.log(point.model.vocab_size) + DIVERGED_RISE:
        write_json(folder / "diverged.json", {"why": f"ended at a loss of {loss}"})
        say(f"{point.name} diverged: it ended at a loss of {loss}.")
        return
    write_json(folder / "finished.json", {"loss": loss, "elapsed_s": time.perf_counter() - start_s})


def _grow_trunk(
    point: DesignPoint, before: DesignPoint | None, folder: Path, make_config: MakeConfig, train: Train
) -> None:
    """The trunk up to where this leg leaves it, from where the shorter leg left it; then the leg's first checkpoint."""
    root = folder.parent
    segment = segment_folder(root, point)
    if before is not None and (last := _left_at(segment_folder(root, before))) is not None:
        adopt(last, segment)
    adopt(train(trunk_config(point, make_config(point)), segment), folder)


def _left_at(segment: Path) -> Path | None:
    """The last checkpoint of a segment of a trunk."""
    found = sorted((segment / "checkpoints").glob("step_*"))
    return found[-1] if found else None


def last_loss(folder: Path) -> float | None:
    """The last validation loss of a run, else its last training loss; None where it has neither."""
    rows = read_metrics(folder)
    for name in ("validation/loss/all", "loss/all"):
        values = [row[name] for row in rows if name in row]
        if values:
            return float(values[-1])
    return None


def claim_design(root: Path, points: Sequence[DesignPoint]) -> None:
    """Make the queue's folder that of this design; points may be added to the one that is there.

    Raises:
        ConfigError: it holds another design (a point is missing here, or has other settings), or two points have the
            same name.
    """
    names = [p.name for p in points]
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise ConfigError(f"Two points of the design are named {twice!r}. Give repeats different seeds.")
    path = root / "design.jsonl"
    if not path.exists():
        write_design(path, points)
        return
    there = {p.name: p for p in read_design(path)}
    lacking = there.keys() - set(names)
    if lacking:
        raise ConfigError(
            f"{root} holds a design with {len(lacking)} points that this one lacks. Add points to it, or choose another folder."
        )
    for point in points:
        # A name tells budget, width and seed; a table of runs with two learning rates would be no sweep.
        if point.name in there and (changed := differences(there[point.name], point)):
            raise ConfigError(
                f"{root} holds another design: its {point.name} has other settings ({'; '.join(changed)}). "
                "Go on with the design that is there, or choose another folder."
            )
    if len(there) < len(names):
        write_design(path, points)
