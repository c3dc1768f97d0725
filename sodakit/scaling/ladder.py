"""A ladder of models with their likelihoods and scores: folders that `sodakit eval` filled, or one table."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sodakit.errors import ConfigError, nearest
from sodakit.eval.results import estimates
from sodakit.files import read_json
from sodakit.scaling.columns import WORDS, meaning_of
from sodakit.scaling.groups import meets_condition
from sodakit.scaling.numbers import read_cells, table_style
from sodakit.scaling.rows import read_rows

LOSS_PREFIX = "nll_"
"""Columns of a table that begin so are losses, as are those that a table of runs has its losses by; other numbers are scores, but
for what a model is: its size, data, compute and settings."""

Ladder = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]
"""Losses by variant, and scores by name, one entry for each model; nan where it has none."""


def read_ladder(
    sources: Sequence[Path | str], losses_named: Sequence[str] = (), where: Sequence[str] = ()
) -> Ladder:
    """Losses and scores of some models.

    Args:
        sources: one folder of `sodakit eval` results for each model, whose scores are named `TASK SCORE`; or a single
            CSV or JSONL table with a line for each model.
        losses_named: columns of the table that are losses; by default read off their names.
        where: only lines of the table that meet these conditions, as for a table of runs (`groups.where`).
    Raises:
        ConfigError: a folder without results, results of different data, two likelihoods in one folder, no such column, or no
            loss or no score at all.
    """
    paths = [Path(source) for source in sources]
    if len(paths) == 1 and paths[0].is_file():
        rows = [row for row in _rows(paths[0]) if all(meets_condition(row, condition) for condition in where)]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        for name in losses_named:
            if not any(name in (c, c.removeprefix(LOSS_PREFIX)) for c in columns):
                raise ConfigError(
                    f"{paths[0]} has no column {name!r}.{nearest(name, columns, 'Its columns')}"
                )
        models = [_row_of_table(row, losses_named) for row in rows]
    else:
        rungs = [_read_rung(folder) for folder in paths]
        _check_same_data(rungs)
        models = [_row_of_results(rung) for rung in rungs]
    losses, scores = (_columns([model[part] for model in models]) for part in (0, 1))
    if not losses or not scores:
        found = f" Numbers there: {', '.join([*losses, *scores])}." if losses or scores else ""
        raise ConfigError(
            f"{len(models)} models with {len(losses)} losses and {len(scores)} scores; needed: both.{found} In a table, name the "
            f"losses {LOSS_PREFIX}… or give --losses COLUMN; of folders, run `sodakit eval nll` and another task with --out."
        )
    return losses, scores


def _row_of_results(rung: Sequence[Mapping[str, Any]]) -> tuple[dict[str, float], dict[str, float]]:
    losses, scores = (
        {name: value for result in rung if ("nll" in result) == is_loss for name, value in _flat(result)}
        for is_loss in (True, False)
    )
    return losses, scores


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = read_rows(path)
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    style = table_style({n: c for n, c in columns.items() if any(isinstance(v, str) for v in c)})
    for name, cells in columns.items():
        if meaning_of(name, {})[0] in WORDS:
            continue
        words = [v for v in cells if isinstance(v, str) and v.strip()]
        if words and all(w.rstrip().endswith("%") for w in words):
            cells = [v.rstrip().rstrip("%") if isinstance(v, str) else v for v in cells]
        if not words or not all(re.match(r"[\s+-]*[\d.,]", w) for w in words):
            continue  # names of models
        # Losses and scores are small: what could have thousands has decimals.
        for row, value in zip(rows, read_cells(f"loss/{name}", name, cells, style).values, strict=True):
            row[name] = value
    return rows


def _row_of_table(
    row: Mapping[str, Any], losses_named: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]]:
    numbers = {name: number for name, value in row.items() if (number := _number(value)) is not None}
    losses, scores = {}, {}
    for name, number in numbers.items():
        short, ours = name.removeprefix(LOSS_PREFIX), meaning_of(name, {})[0] or ""
        if ours == "perplexity" and number > 1:
            number = math.log(number)
        if (name in losses_named or short in losses_named) if losses_named else _is_loss(name, ours):
            losses[short] = number
        elif not ours or _is_loss(name, ours):
            scores[name] = number
    return losses, scores


def _is_loss(name: str, ours: str) -> bool:
    return (
        name.startswith(LOSS_PREFIX) or ours.startswith("loss/") or ours in ("perplexity", "bits_per_audio_s")
    )


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _read_rung(folder: Path) -> list[dict[str, Any]]:
    plain = [read_json(path) for path in sorted(folder.glob("*.json"))]
    results = [r for r in plain if isinstance(r, dict) and "task" in r and {"scores", "nll"} & r.keys()]
    if not results:
        raise ConfigError(
            f"{folder} has no results. Needed: a folder that `sodakit eval … --out` wrote into."
        )
    if sum("nll" in result for result in results) > 1:
        raise ConfigError(f"{folder} has the likelihood of more than one split. Keep one, the same for all.")
    return results


def _check_same_data(ladder: Sequence[Sequence[Mapping[str, Any]]]) -> None:
    """Scores on other pairs, or heard by another judge, cannot be ranked together."""
    for field in ("data_digest", "shards", "softmax", "normaliser", "judge", "speaker_judge"):
        seen: dict[str, Any] = {}
        for result in (result for rung in ladder for result in rung):
            if seen.setdefault(result["task"], result.get(field)) != result.get(field):
                raise ConfigError(
                    f"The folders have results of {result['task']} with different {field}. Score all alike."
                )


def _flat(result: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    if result["task"] == "text":  # the harness's scores come without intervals of ours
        for task, values in result["scores"].items():
            yield from ((f"{task} {m}", v) for m, v in values.items() if not m.endswith("_stderr"))
        return
    for name, value in estimates(result).items():
        if not name.startswith("originals/"):
            yield (name if "nll" in result else f"{result['task']} {name}"), float(value["value"])


def _columns(rungs: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    names = dict.fromkeys(name for rung in rungs for name in rung)
    return {name: np.array([rung.get(name, np.nan) for rung in rungs]) for name in names}
