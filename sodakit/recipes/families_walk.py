"""The stages of the comparison, each resumed where it stopped: tuning; claims, sweep, second seeds; a prediction, then its run.

claims.json      what is expected of the sweep, written before its first run and never again
sweep/ARM/       a queue for each arm
sweep.csv        all runs, with their arm
prediction.json  the loss vector of one run at three times the largest budget, written before that run and never again
beyond/          that run
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sodakit.errors import ConfigError
from sodakit.files import read_json, write_json
from sodakit.log import say
from sodakit.recipes.families import BEYOND, CLAIMS, TUNING_ROWS, Arm, beyond, family_run, sweep, tuning
from sodakit.recipes.families_data import SHARES, FamilyStores
from sodakit.scaling.design_file import read_design
from sodakit.scaling.onset_vector import Onsets, fit_onsets
from sodakit.scaling.point import DesignPoint
from sodakit.scaling.records import read_runs, table_from_rows
from sodakit.scaling.run import MakeConfig, Train, progress, run_design
from sodakit.scaling.table import RunTable
from sodakit.scaling.transfer import LrRule

SIZE, FLOPS = "two_embeddings", "exact"
"""How the comparison counts."""
DRAWS = 300
"""Refits for the interval of each onset."""


@dataclass(frozen=True)
class Language:
    """Ids of the stores: what shapes depend on."""

    vocab_size: int
    codebook_size: int


def cost_rows(
    designs: Mapping[str, Sequence[DesignPoint]], flops_per_s: float
) -> list[dict[str, float | int | str]]:
    """By design its runs, training FLOPs, hours of one core, and hours of speech the longest run hears."""
    rows: list[dict[str, float | int | str]] = []
    for name, points in designs.items():
        flops = sum(p.training_flops for p in points)
        rows.append(
            {
                "stage": name,
                "runs": len(points),
                "FLOPs": flops,
                "core_hours": flops / flops_per_s / 3600,
                "most_heard_h": max((heard_hours(p) for p in points), default=0.0),
            }
        )
    return [*rows, {
        "stage": "all",
        "runs": sum(int(r["runs"]) for r in rows),
        "FLOPs": sum(float(r["FLOPs"]) for r in rows),
        "core_hours": sum(float(r["core_hours"]) for r in rows),
        "most_heard_h": max(float(r["most_heard_h"]) for r in rows),
    }]  # fmt: skip


def heard_hours(point: DesignPoint) -> float:
    """Hours of speech that a run hears, by the published density of text; the run itself counts them exactly."""
    from sodakit.model.accounting import FRAME_SHARE, FRAMES_PER_S

    frames = point.positions * FRAME_SHARE
    if point.family == "flat":
        frames = point.tokens / (8 + (1 - FRAME_SHARE) / FRAME_SHARE)
    return frames / FRAMES_PER_S / 3600


def claim(path: Path) -> None:
    """Write what is expected of the sweep; what stands is left alone."""
    if not path.exists():
        write_json(path, {"made": datetime.now(UTC).isoformat(timespec="seconds"), "claims": list(CLAIMS)})


def train_tuning(
    folder: Path, language: Language, stores: FamilyStores, train: Train, known: RunTable | None = None
) -> RunTable:
    """The runs at several learning rates that no known one is of; all finished ones, also in `tuning.csv`, which is written before, too,
    so that a stopped tuning has what it had when it was taken up.

    Raises:
        ConfigError: it was stopped before any run was finished.
    """
    points = tuning(language.vocab_size, language.codebook_size)
    make = partial(family_run, stores=stores, rows=TUNING_ROWS)
    rows = [] if known is None else _rows(known)
    with suppress(ConfigError):
        _finished(folder / "tuning", rows, folder / "tuning.csv")
    train_left(points, folder / "tuning", make, train, rows)
    return _finished(folder / "tuning", rows, folder / "tuning.csv")


def _finished(root: Path, known: Sequence[Mapping[str, Any]], path: Path) -> RunTable:
    """Known runs and the finished ones of a queue as a table, also written to a file."""
    rows = [*known, *(row for row in _rows_in(root) if row["status"] == "finished")]
    if not rows:
        raise ConfigError(f"{root} holds no finished run.")
    table = table_from_rows(rows, str(root))
    table.write(path)
    return table


def train_sweep(
    folder: Path,
    arms: Sequence[Arm],
    language: Language,
    lr: LrRule,
    budgets: Sequence[float],
    stores: FamilyStores,
    train: Train,
    known: RunTable | None = None,
) -> RunTable:
    """Every arm's runs of the first seed, then once more the lowest of each budget; all runs so far.

    Args:
        known: runs that were made elsewhere on the same stores, as `collect` wrote them: they are not made again.
    """
    claim(folder / "claims.json")
    made = (language.vocab_size, language.codebook_size, lr)
    for arm in arms:
        points, root = sweep(arm, *made, budgets=budgets), folder / "sweep" / arm.name
        make = partial(family_run, stores=stores, loss=arm.loss)
        there = of_arm(known, arm.name)
        if not has_second_seeds(root):
            train_left(points, root, make, train, there)
            seconds = lowest_widths([*_rows_in(root), *there])
        else:  # which runs are made again is decided once
            seconds = {p.budget_flops: p.width for p in read_design(root / "design.jsonl") if p.seed == 1}
            seconds |= {b: w for b, w in lowest_widths(there).items() if b not in seconds}
        train_left(sweep(arm, *made, budgets=budgets, second_seeds=seconds), root, make, train, there)
    return collect(folder, known)


def train_left(
    points: Sequence[DesignPoint],
    root: Path,
    make: MakeConfig,
    train: Train,
    known: Sequence[Mapping[str, Any]],
) -> None:
    """Train the points of a queue that no known run is of."""
    names = {str(row["run"]).rsplit("/", 1)[-1] for row in known}
    left = [p for p in points if p.name not in names]
    if len(left) < len(points):
        say(f"{len(points) - len(left)} of {len(points)} runs are known already.")
    if left:
        run_design(left, root, make, train)


def of_arm(known: RunTable | None, arm: str) -> list[dict[str, Any]]:
    """The rows of a table of the sweep that are of an arm."""
    return [row for row in _rows(known) if row.get("arm") == arm] if known is not None else []


def _rows(table: RunTable) -> list[dict[str, Any]]:
    return [{**row, **rest} for row, rest in zip(table.rows(), table.other_rows(), strict=True)]


def _rows_in(root: Path) -> list[dict[str, Any]]:
    return _rows(read_runs(root)) if (root / "design.jsonl").exists() else []


def has_second_seeds(root: Path) -> bool:
    """Whether a queue knows already which of its runs are made once more."""
    path = root / "design.jsonl"
    return path.exists() and any(p.seed == 1 for p in read_design(path))


def lowest_widths(rows: Sequence[Mapping[str, Any]]) -> dict[float, int]:
    """By budget the width with the lowest mean loss of the first seed."""
    best: dict[float, tuple[float, int]] = {}
    for row in rows:
        if row["seed"] == 0:
            width = int(str(row["run"]).split("_d")[1].split("_")[0])
            here = (float(row["loss/all"]), width)
            best[row["budget"]] = min(best.get(row["budget"], here), here)
    return {budget: width for budget, (_, width) in best.items()}


def collect(folder: Path, known: RunTable | None = None) -> RunTable:
    """All finished runs of the sweep with the arm of each, also in `sweep.csv`; known ones among them.

    Raises:
        ConfigError: there is none.
    """
    rows = [] if known is None else _rows(known)
    for root in sorted(p for p in (folder / "sweep").glob("*") if p.is_dir()):
        rows += [{**row, "run": f"{root.name}/{row['run']}", "arm": root.name} for row in _rows_in(root)]
    if not rows:
        raise ConfigError(f"{folder / 'sweep'} holds no run.")
    table = table_from_rows(rows, str(folder / "sweep"))
    table.write(folder / "sweep.csv")
    return table


def arm_onsets(table: RunTable, arm: str) -> tuple[RunTable, Onsets]:
    """The runs of an arm, and every loss of theirs by the law that held-out budgets keep."""
    runs = table.select(np.array([a == arm for a in table.others["arm"]])).usable(size=SIZE, flops=FLOPS)
    values = {"N": runs.sizes(SIZE), "D": runs.tokens(), "C": runs.flops(FLOPS, SIZE)}
    losses = {k: runs.loss(k) for k in runs.losses}
    return runs, fit_onsets(values, losses, runs.budgets(FLOPS, SIZE), draws=DRAWS)


def predict(table: RunTable, arm: Arm, point: DesignPoint, path: Path) -> None:
    """Write what the sweep says of a run that nobody has trained; a prediction that stands is left alone.

    Each loss has the law that held-out budgets keep for it. Its interval holds the law's error, a run's scatter, what the law missed
    of the held-out budget, and what laws say that did no worse there. `mean of the streams` is the loss over all tokens by its parts.
    """
    if path.exists():
        return
    runs, onsets = arm_onsets(table, arm.name)
    at = {"N": float(getattr(point.size, SIZE)), "D": float(point.tokens), "C": point.training_flops}
    losses = {}
    for name, (loss, run_95) in onsets.predict(**at).items():
        stream = onsets.streams.get(name)
        told = stream.to_json() if stream else {}
        kept = (
            "way",
            "law",
            "parameters",
            "noise",
            "holds",
            "has_onset",
            "onset_flops",
            "onset_95",
            "rollout",
        )
        losses[name] = {"loss": loss, "run_95": run_95, **{k: told[k] for k in kept if k in told}}
    write_json(
        path,
        {
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "arm": arm.name,
            "table_fingerprint": table.fingerprint,
            "runs": len(runs),
            "run": point.row(),
            "shares": SHARES,
            "losses": losses,
        },
    )
    say(f"The prediction is in {path}, before its run.")


def train_beyond(
    folder: Path,
    arm: Arm,
    language: Language,
    lr: LrRule,
    width: int,
    stores: FamilyStores,
    train: Train,
    known: RunTable | None = None,
) -> list[dict[str, Any]]:
    """Predict the run at `BEYOND` times the largest budget, make it, and set the two beside each other."""
    table = collect(folder, known)
    budget = BEYOND * float(np.max(table.columns["budget"].astype(float)))
    point = beyond(arm, language.vocab_size, language.codebook_size, lr, budget=budget, width=width)
    predict(table, arm, point, folder / "prediction.json")
    said = read_json(folder / "prediction.json")
    if (said["arm"], said["run"]["run"]) != (arm.name, point.name):
        raise ConfigError(
            f"prediction.json is of {said['arm']}, {said['run']['run']}; asked for: {arm.name}, {point.name}. A prediction is made once: "
            "go on with its arm and width."
        )
    run_design([point], folder / "beyond", partial(family_run, stores=stores, loss=arm.loss), train)
    return outcome(folder)


def outcome(folder: Path) -> list[dict[str, Any]]:
    """Every loss as predicted and as measured."""
    said = read_json(folder / "prediction.json")["losses"]
    table = read_runs(folder / "beyond").usable(size=SIZE, flops=FLOPS)
    rows = []
    for name, one in said.items():
        measured = float(table.loss(name if name in table.losses else "all")[0])
        low, high = one["run_95"]
        rows.append(
            {
                "loss": name,
                "predicted": one["loss"],
                "low": low,
                "high": high,
                "measured": measured,
                "error": one["loss"] / measured - 1,
                "inside": "yes" if low <= measured <= high else "NO",
                "law": one.get("way", "sum"),
            }
        )
    return rows


def state(root: Path, points: Sequence[DesignPoint]) -> str:
    """How far a queue is, in words."""
    return str(progress(root, points))
