"""A ladder of models with their likelihoods and scores: folders that `sodakit eval` filled, or one table."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sodakit.errors import ConfigError
from sodakit.files import read_json, read_json_lines

LOSS_PREFIX = "nll_"
"""Columns of a table that begin so are losses; other numbers are scores."""

Ladder = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]
"""Losses by variant and scores by task, one entry for each model, nan where it has none."""


def read_ladder(sources: Sequence[Path], *, policy: str | None = None) -> Ladder:
    """Losses and scores of the models.

    Args:
        sources: one folder of results for each model, or a single CSV or JSONL table.
        policy: of the pair tasks; the first of each result where None.
    Raises:
        ConfigError: a folder without results, or no loss or no score among them.
    """
    if len(sources) == 1 and sources[0].is_file():
        models = [_row_of_table(row) for row in _rows(sources[0])]
    else:
        models = [_model(folder, policy) for folder in sources]
    losses, scores = (_columns([model[part] for model in models]) for part in (0, 1))
    if not losses or not scores:
        raise ConfigError(
            f"{len(models)} models with {len(losses)} losses and {len(scores)} scores; needed: both. Score them with "
            f"`sodakit eval nll` and `eval pairs`, or name the losses of a table {LOSS_PREFIX}…"
        )
    return losses, scores


def _model(folder: Path, policy: str | None) -> tuple[dict[str, float], dict[str, float]]:
    """What `sodakit eval` left of one model: nll_SPLIT.json files, and a result file for each pair task."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder of results. Give one for each model, or a single table.")
    losses: dict[str, float] = {}
    scores: dict[str, float] = {}
    for path in sorted(folder.rglob("*.json")):
        result = read_json(path)
        if not isinstance(result, dict):
            continue
        if "nll" in result:
            losses |= {name: float(value["value"]) for name, value in result["nll"].items()}
        elif {"task", "scores"} <= result.keys():
            scores |= _score(result, policy, path)
    if not losses and not scores:
        raise ConfigError(f"{folder} holds no result of `sodakit eval`.")
    return losses, scores


def _score(result: Mapping[str, Any], policy: str | None, path: Path) -> dict[str, float]:
    policies = result["scores"]
    name = policy or next(iter(policies), None)
    if name not in policies:
        raise ConfigError(f"{path} has no policy {name!r}; it has {', '.join(policies)}.")
    return {str(result["task"]): float(policies[name]["accuracy"]["value"])}


def _rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return read_json_lines(path)
    with open(path, newline="", encoding="utf-8-sig") as handle:
        return list(csv.DictReader(handle))


def _row_of_table(row: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    numbers = {name: number for name, value in row.items() if (number := _number(value)) is not None}
    losses = {n.removeprefix(LOSS_PREFIX): v for n, v in numbers.items() if n.startswith(LOSS_PREFIX)}
    return losses, {n: v for n, v in numbers.items() if not n.startswith(LOSS_PREFIX)}


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _columns(models: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    names = dict.fromkeys(name for model in models for name in model)
    return {name: np.array([model.get(name, np.nan) for model in models]) for name in names}
