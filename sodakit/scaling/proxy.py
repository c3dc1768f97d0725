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
    """Positive where a lower loss goes with a higher score; for word errors expect it negative. nan, and its interval
    with it, where too few models have both, or all have the same score."""
    low: float
    """95 % interval over resampled models."""
    high: float
    num_models: int


MIN_MODELS = 4
"""Models that must have both a loss and a score: the ranks of three agree by chance in one of six."""


def rank_correlations(
    losses: Mapping[str, np.ndarray],
    scores: Mapping[str, np.ndarray],
    *,
    draws: int = 500,
    seed: int = 0,
    level: float = 0.95,
) -> list[Correlation]:
    """Every loss with every score, over the models that have both (nan where a model lacks one).

    A pair that fewer than `MIN_MODELS` models have is nan; the others stand.

    Raises:
        ConfigError: so is every pair.
    """
    found = []
    for loss, loss_R in losses.items():
        for score, score_R in scores.items():
            both = np.isfinite(loss_R) & np.isfinite(score_R)
            x, y = -np.asarray(loss_R, float)[both], np.asarray(score_R, float)[both]
            rho = low = high = float("nan")
            if len(x) >= MIN_MODELS:
                rho = float(_spearman(x[None], y[None])[0])
                low, high = _interval(x, y, draws, seed, level)
            found.append(Correlation(loss=loss, score=score, rho=rho, low=low, high=high, num_models=len(x)))
    best = max(found, key=lambda c: c.num_models, default=None)
    if best is None or best.num_models < MIN_MODELS:
        most = f"; at most {best.num_models} have both ({best.loss!r} and {best.score!r})" if best else ""
        raise ConfigError(f"No loss and score that {MIN_MODELS} models have{most}. Give more models.")
    return found


def correlation_lines(found: Sequence[Correlation]) -> Iterator[str]:
    """Markdown: a line per score, a column per loss, with 95 % intervals."""
    losses = list(dict.fromkeys(c.loss for c in found))
    yield f"| score | models | {' | '.join(losses)} |"
    yield "|---" * (len(losses) + 2) + "|"
    for score in dict.fromkeys(c.score for c in found):
        row = {c.loss: c for c in found if c.score == score}
        counts = sorted({c.num_models for c in row.values()})
        models = str(counts[0]) if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"
        yield f"| {score} | {models} | {' | '.join(_cell(row[n]) for n in losses)} |"


def _cell(one: Correlation) -> str:
    if np.isnan(one.rho):
        return "–"
    return f"{one.rho:+.3f} ({one.low:+.2f} to {one.high:+.2f})"


def _interval(x: np.ndarray, y: np.ndarray, draws: int, seed: int, level: float) -> tuple[float, float]:
    if np.ptp(y) == 0 or np.ptp(x) == 0:
        return float("nan"), float("nan")
    rho, num = float(_spearman(x[None], y[None])[0]), len(x)
    if abs(rho) > 1 - 1e-9:
        # Every resample of a perfect order is perfect: of two neighbours exchanged, with Bonett and Wright's error.
        near = 1 - 12 / (num * (num**2 - 1))
        half = stats.norm.ppf((1 + level) / 2) * np.sqrt((1 + near**2 / 2) / (num - 3))
        worst = float(np.tanh(np.arctanh(near) - half))
        return (worst, 1.0) if rho > 0 else (-1.0, -worst)
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
