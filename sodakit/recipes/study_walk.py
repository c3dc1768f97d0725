"""The stages of a study, each done once: stores, sweep, fit, prediction, the predicted run, ablations, summary.

The prediction is written before its run begins and is not written again; its file names the table it was made from.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sodakit.config import to_plain
from sodakit.files import read_json, write_json
from sodakit.log import say
from sodakit.recipes.study import StudyStores, predicted_point, study_design, study_run
from sodakit.recipes.study_ablations import ablations
from sodakit.scaling.fit import fit_law
from sodakit.scaling.intervals import bootstrap
from sodakit.scaling.laws import LAWS
from sodakit.scaling.plot import isoflop_figure, save, streams_figure
from sodakit.scaling.point import DesignPoint
from sodakit.scaling.records import read_runs, read_tables
from sodakit.scaling.report import write_report
from sodakit.scaling.run import Train, run_design
from sodakit.scaling.study import Study, study
from sodakit.scaling.table import RunTable
from sodakit.train.config import TrainConfig

SIZE, FLOPS = "two_embeddings", "exact"
"""How the study counts."""
DRAWS = 1000
"""Refits of each fit."""


@dataclass(frozen=True)
class Costs:
    """What a study takes, by stage."""

    flops: Mapping[str, float]
    runs: Mapping[str, int]

    def table(self, flops_per_s: float) -> str:
        """A line a stage."""
        rows = [
            f"{name:<12}{self.runs[name]:>4} runs  {c:.3g} FLOPs  {c / flops_per_s / 3600:.2f} h"
            for name, c in self.flops.items()
        ]
        total = sum(self.flops.values())
        return "\n".join(
            [
                *rows,
                f"{'all':<12}{sum(self.runs.values()):>4} runs  {total:.3g} FLOPs  {total / flops_per_s / 3600:.2f} h",
            ]
        )


def study_costs(vocab_size: int) -> Costs:
    """Runs and training FLOPs of each stage."""
    stages = {
        "sweep": study_design(vocab_size),
        "prediction": [predicted_point(vocab_size)],
        "ablations": [a.point for a in ablations(vocab_size).values()],
    }
    return Costs(
        {name: sum(p.training_flops for p in points) for name, points in stages.items()},
        {name: len(points) for name, points in stages.items()},
    )


def walk(
    folder: Path,
    stores: StudyStores,
    points: list[DesignPoint],
    beyond: DesignPoint,
    train: Train,
    *,
    with_ablations: bool = True,
    more: Sequence[DesignPoint] = (),
) -> dict[str, Any]:
    """Do what is left of a study; its summary, also in `summary.json`.

    Args:
        points: the sweep.
        beyond: the run to predict.
        train: the trainer.
        more: runs to add once everything else is known, as `scale next` proposes; those of the sweep are passed over.
    """
    run_design(points, folder / "sweep", lambda p: study_run(p, stores), train)
    table = read_runs(folder / "sweep")
    predict(table, beyond, folder / "prediction.json")
    run_design([beyond], folder / "beyond", lambda p: study_run(p, stores), train)
    if with_ablations:
        for name, ablation in ablations(beyond.model.vocab_size).items():
            config = ablation.config(stores)
            run_design([ablation.point], folder / "ablations" / name, partial(_always, config), train)
    added = [p for p in more if p.name not in {point.name for point in points}]
    if added:
        run_design(added, folder / "more", lambda p: study_run(p, stores), train)
    return summarise(folder)


def _always(config: TrainConfig, _: DesignPoint) -> TrainConfig:
    return config


def predict(table: RunTable, beyond: DesignPoint, path: Path) -> None:
    """Write what the sweep says of a run that nobody has trained; a prediction that stands is left alone.

    Every loss the runs have is predicted by a law of its own, with the 95 % interval of the law and of a single run.
    """
    if path.exists():
        return
    said: dict[str, dict[str, Any]] = {}
    for loss in table.losses:
        runs = table.usable(loss=loss, size=SIZE, flops=FLOPS)
        values = {"N": runs.sizes(SIZE), "D": runs.tokens()}
        fit = fit_law(LAWS["chinchilla"], values, runs.loss(loss))
        there = {"N": float(getattr(beyond.size, SIZE)), "D": float(beyond.tokens)}
        draws = [
            fit.law.loss(dict(zip(fit.names, row, strict=True)), **there)[0]
            for row in bootstrap(fit, draws=DRAWS, resample="runs").draws_SP
        ]
        noise = np.random.default_rng(0).standard_normal(len(draws)) * fit.noise
        law_95, run_95 = (
            [float(q) for q in np.quantile(v, [0.025, 0.975])]
            for v in (np.array(draws), np.array(draws) * np.exp(noise))
        )
        said[loss] = {
            "loss": float(fit.predict(**there)[0]), "law_95": law_95, "run_95": run_95, "noise": fit.noise,
            "parameters": fit.parameters, "certificate": str(fit.certificate), "unidentified": fit.unidentified,
        }  # fmt: skip
    write_json(
        path,
        {
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "table_fingerprint": table.fingerprint,
            "runs": len(table),
            "run": beyond.row(),
            "losses": said,
        },
    )
    say(
        f"Predicted before training: {said['all']['loss']:.4f} ({said['all']['run_95'][0]:.4f} to {said['all']['run_95'][1]:.4f})"
    )


def summarise(folder: Path) -> dict[str, Any]:
    """Fits of every loss, prediction beside outcome, and ablations: `summary.json`, tables, page and figures."""
    table = read_runs(folder / "sweep")
    table.write(folder / "sweep.csv")
    whole = study(table, size=SIZE, flops=FLOPS, draws=DRAWS)
    write_report(whole, folder / "report.html", "A scaling study on two CPU cores")
    write_json(folder / "fit.json", whole.to_json())
    _draw(whole, read_runs(folder / "beyond"), folder)
    found: dict[str, Any] = {
        "made": time.strftime("%Y-%m-%d"),
        "exponents": {loss: _exponents(table, loss) for loss in table.losses},
        "exponents_with_more": _exponents_with_more(folder),
        "prediction": _outcome(folder),
        "ablations": {p.name: _losses(p) for p in sorted((folder / "ablations").glob("*")) if p.is_dir()},
    }
    write_json(folder / "summary.json", to_plain(found))
    return found


def _draw(whole: Study, beyond: RunTable, folder: Path) -> None:
    """`isoflop.png` of the sweep, and `losses.png` of its best runs and of the run beyond."""
    sizes, tokens = whole.table.sizes(SIZE), whole.table.tokens()
    save(
        isoflop_figure(
            sizes, tokens, whole.fit.loss_R, whole.shown_budget_R, fit=whole.fit, sweep=whole.parabolas
        ),
        folder / "isoflop.png",
    )
    kinds = [name for name in whole.table.losses if name != "bits_per_audio_s"]
    losses = {name: np.concatenate([t.loss(name) for t in (whole.table, beyond)]) for name in kinds}
    budget_R = np.concatenate([whole.shown_budget_R, beyond.columns["budget"].astype(float)])
    save(streams_figure(losses, budget_R, losses["all"]), folder / "losses.png")


def _exponents(table: RunTable, loss: str) -> dict[str, Any]:
    found = study(table, loss=loss, size=SIZE, flops=FLOPS, draws=DRAWS)
    intervals = ("intervals_95", "intervals_95_of_runs", "profile_95")
    return {
        "rows": found.approach_rows(),
        "parameters": found.fit.parameters,
        **{name: values for name, values in found.to_json().items() if name in intervals},
        "findings": found.findings,
    }


def _exponents_with_more(folder: Path) -> dict[str, Any]:
    """The same of the sweep and what was added to it; empty where nothing was."""
    if not (folder / "more").is_dir():
        return {}
    table = read_tables([folder / "sweep", folder / "more"])
    table.write(folder / "sweep_and_more.csv")
    return {loss: _exponents(table, loss) for loss in table.losses}


def _outcome(folder: Path) -> dict[str, Any]:
    said = read_json(folder / "prediction.json")["losses"]
    table = read_runs(folder / "beyond").usable(size=SIZE, flops=FLOPS)
    rows = {}
    for loss, one in said.items():
        real = float(table.loss(loss)[0])
        low, high = one["run_95"]
        rows[loss] = {
            "predicted": one["loss"], "run_95": one["run_95"], "measured": real,
            "error": one["loss"] / real - 1, "inside": low <= real <= high,
        }  # fmt: skip
    return rows


def _losses(folder: Path) -> dict[str, float]:
    table = read_runs(folder)
    return {loss: float(table.loss(loss)[0]) for loss in table.losses} | {"tokens": float(table.tokens()[0])}
