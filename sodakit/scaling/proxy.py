"""Which loss foretells which score: rank correlations over a ladder of models, with intervals (the paper's §5.4 table)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from sodakit.errors import ConfigError


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


def correlation_lines(found: Sequence[Correlation]) -> Iterator[str]:
    """Markdown: a line per score, a column per loss, with 95 % intervals."""
    losses = list(dict.fromkeys(c.loss for c in found))
    yield f"| score | models | {' | '.join(losses)} |"
    yield "|---" * (len(losses) + 2) + "|"
    for score in dict.fromkeys(c.score for c in found):
        row = {c.loss: c for c in found if c.score == score}
        cells = [f"{row[n].rho:+.3f} ({row[n].low:+.2f} to {row[n].high:+.2f})" for n in losses]
        yield f"| {score} | {min(c.num_models for c in row.values())} | {' | '.join(cells)} |"


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
