"""Which loss foretells which score: rank correlations over a ladder of models, with intervals (the paper's §5.4 table)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from sodakit.errors import ConfigError
from sodakit.eval.results import estimates
from sodakit.files import read_json


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """Spearman's rank correlation of a loss with a score."""

    loss: str
    score: str
    rho: float
    """Positive where a lower loss goes with a higher score; for word errors expect it negative."""
    low: float
    """95 % interval over resampled models."""
    high: float
    num_models: int


def rank_correlations(
    losses: Mapping[str, np.ndarray],
    scores: Mapping[str, np.ndarray],
    *,
    draws: int = 500,
    seed: int = 0,
    level: float = 0.95,
) -> list[Correlation]:
    """Every loss with every score, over the models that have both (nan where a model lacks one).

    Raises:
        ConfigError: fewer than four models have both.
    """
    found = []
    for loss, loss_R in losses.items():
        for score, score_R in scores.items():
            both = np.isfinite(loss_R) & np.isfinite(score_R)
            if both.sum() < 4:
                raise ConfigError(
                    f"{int(both.sum())} models have both the loss {loss!r} and the score {score!r}; needed: at least 4."
                )
            x, y = -np.asarray(loss_R, float)[both], np.asarray(score_R, float)[both]
            low, high = _interval(x, y, draws, seed, level)
            found.append(
                Correlation(
                    loss=loss,
                    score=score,
                    rho=_spearman(x[None], y[None])[0],
                    low=low,
                    high=high,
                    num_models=len(x),
                )
            )
    return found


def read_ladder(folders: Sequence[Path | str]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The losses and scores of some checkpoints, one folder of `sodakit eval` results each.

    Returns:
        Losses by variant, and scores by `TASK SCORE`, as arrays over the folders; nan where a folder has none.
    Raises:
        ConfigError: a folder without results, results of different data, or two likelihoods in one folder.
    """
    ladder = [_read_rung(Path(folder)) for folder in folders]
    _check_same_data(ladder)
    losses, scores = (
        _columns(
            [
                {k: v for result in rung if ("nll" in result) == loss for k, v in _flat(result)}
                for rung in ladder
            ]
        )
        for loss in (True, False)
    )
    if not losses or not scores:
        raise ConfigError(
            f"{len(folders)} folders with {len(losses)} losses and {len(scores)} scores; needed: both. "
            "Run `sodakit eval nll` and at least one other task for each checkpoint, with --out its folder."
        )
    return losses, scores


def correlation_lines(found: Sequence[Correlation]) -> Iterator[str]:
    """Markdown: a line per score, a column per loss, with 95 % intervals."""
    losses = list(dict.fromkeys(c.loss for c in found))
    yield f"| score | models | {' | '.join(losses)} |"
    yield "|---" * (len(losses) + 2) + "|"
    for score in dict.fromkeys(c.score for c in found):
        row = {c.loss: c for c in found if c.score == score}
        cells = [f"{row[n].rho:+.3f} ({row[n].low:+.2f} to {row[n].high:+.2f})" for n in losses]
        yield f"| {score} | {min(c.num_models for c in row.values())} | {' | '.join(cells)} |"


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
    for field in ("data_digest", "shards", "normaliser", "judge", "speaker_judge"):
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


def _interval(x: np.ndarray, y: np.ndarray, draws: int, seed: int, level: float) -> tuple[float, float]:
    picks = np.random.default_rng(seed).integers(0, len(x), (draws, len(x)))
    # A resample of a single model has no ranks.
    picks = picks[(picks != picks[:, :1]).any(1)]
    low, high = np.nanquantile(_spearman(x[picks], y[picks]), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _spearman(x_SR: np.ndarray, y_SR: np.ndarray) -> np.ndarray:
    ranks = [stats.rankdata(v, axis=1) for v in (x_SR, y_SR)]
    a, b = (r - r.mean(1, keepdims=True) for r in ranks)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
