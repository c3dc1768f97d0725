"""From a loss to a score: the second stage of a prediction, and its interval with that of the first in it.

sigmoid    score = floor + (ceiling − floor) / (1 + exp(slope · (loss − middle)))
power      score = ceiling − B · loss^p
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, special

from sodakit.errors import ConfigError

Form = Literal["sigmoid", "power"]
_SLOPES = np.geomspace(0.2, 50, 14)
_POWERS = np.concatenate([-np.geomspace(0.1, 8, 8)[::-1], np.geomspace(0.1, 8, 8)])


@dataclass(frozen=True, kw_only=True)
class ScoreLaw:
    """A score by a loss, fitted to models that have both."""

    form: Form
    shape: tuple[float, ...]
    """Of a sigmoid slope and middle, of a power its exponent."""
    ends: tuple[float, float]
    """Score where the curve is 0, and 1: floor and ceiling of a sigmoid."""
    held: tuple[float | None, float | None]
    """Ends that were given."""
    loss_R: np.ndarray
    score_R: np.ndarray

    def __call__(self, loss: np.ndarray | float) -> np.ndarray:
        """The score at losses."""
        zero, one = self.ends
        return zero + (one - zero) * _curve(self.form, self.shape, np.asarray(loss, float))

    @property
    def residual_R(self) -> np.ndarray:
        """Predicted − observed score of each model."""
        return self(self.loss_R) - self.score_R

    @property
    def num_free(self) -> int:
        """Parameters that were found."""
        return len(self.shape) + sum(end is None for end in self.held)

    @property
    def noise(self) -> float:
        """Standard deviation of scores about the curve."""
        return float(np.sqrt((self.residual_R**2).sum() / max(len(self.score_R) - self.num_free, 1)))

    def refits(self, draws: int, seed: int = 0) -> "list[ScoreLaw]":
        """The curve of the same models with their scores drawn anew about it, with the scatter that they leave."""
        random = np.random.default_rng(seed)
        fitted_R, count = self(self.loss_R), len(self.loss_R)
        return [
            _refined(self.form, self.loss_R, fitted_R + random.normal(0, noise, count), self.held, self.shape)
            for noise in self.noises(draws, random)
        ]

    def noises(self, draws: int, random: np.random.Generator) -> np.ndarray:
        """What the scatter might be, as few models tell it: as wide as Student's t is wider than the normal."""
        spare = max(len(self.score_R) - self.num_free, 1)
        return self.noise * np.sqrt(spare / random.chisquare(spare, draws))


def fit_score_law(
    loss_R: np.ndarray,
    score_R: np.ndarray,
    *,
    form: Form = "sigmoid",
    floor: float | None = None,
    ceiling: float | None = None,
) -> ScoreLaw:
    """The curve with the least squares.

    Args:
        loss_R: of each model; nan where it has none.
        score_R: of each model; nan where it has none.
        floor: score of chance, where it is known (sigmoid).
        ceiling: the best score there is, where it is known.
    Raises:
        ConfigError: fewer models than two beyond the parameters, or equal losses.
    """
    both = np.isfinite(loss_R) & np.isfinite(score_R)
    loss_R, score_R = np.asarray(loss_R, float)[both], np.asarray(score_R, float)[both]
    held = (floor if form == "sigmoid" else None, ceiling)
    needed = (2 if form == "sigmoid" else 1) + sum(end is None for end in held) + 2
    if len(loss_R) < needed or np.ptp(loss_R) == 0:
        raise ConfigError(
            f"{len(loss_R)} models with a loss and a score; needed: {needed} of different losses for a {form}. Give more models, or "
            "--floor and --ceiling."
        )
    if form == "sigmoid":
        reach = np.ptp(loss_R)
        starts: list[tuple[float, ...]] = [
            (k / reach, m)
            for k in _SLOPES
            for m in np.linspace(loss_R.min() - reach, loss_R.max() + reach, 13)
        ]
    else:
        starts = [(p,) for p in _POWERS]
    costs = [float((_off(form, s, loss_R, score_R, held)[0] ** 2).sum()) for s in starts]
    found = [_refined(form, loss_R, score_R, held, starts[i]) for i in np.argsort(costs)[:4]]
    return min(found, key=lambda law: float((law.residual_R**2).sum()))


def chained(
    law: ScoreLaw,
    loss: float,
    loss_draws: Sequence[float],
    *,
    draws: int = 400,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, tuple[float, float], tuple[float, float]]:
    """The score at a predicted loss; its interval, with what is not known of the loss and of the curve; and that of one model's
    score, with its scatter as well.

    Args:
        loss_draws: the loss by refits of the first stage.
    """
    random = np.random.default_rng(seed + 1)
    curves = law.refits(draws, seed)
    picked = random.choice(np.asarray(loss_draws, float), draws)
    mean_S = np.array([float(c(x)) for c, x in zip(curves, picked, strict=True)])
    one_S = mean_S + random.normal(0, law.noises(draws, random), draws)
    ends = [np.quantile(v, [(1 - level) / 2, (1 + level) / 2]) for v in (mean_S, one_S)]
    return float(law(loss)), (float(ends[0][0]), float(ends[0][1])), (float(ends[1][0]), float(ends[1][1]))


def _curve(form: Form, shape: Sequence[float], loss: np.ndarray) -> np.ndarray:
    if form == "sigmoid":
        return special.expit(-shape[0] * (loss - shape[1]))
    # 1 where nothing is lost: the ceiling.
    return 1 - np.sign(shape[0]) * loss ** shape[0]


def _off(
    form: Form,
    shape: Sequence[float],
    loss_R: np.ndarray,
    score_R: np.ndarray,
    held: tuple[float | None, float | None],
) -> tuple[np.ndarray, tuple[float, float]]:
    """Residuals with the best ends for a shape, and those ends."""
    curve_R = _curve(form, shape, loss_R)
    columns = np.stack([1 - curve_R, curve_R], 1)
    known = np.array([end is not None for end in held])
    ends = np.array([0.0 if end is None else end for end in held])
    if not known.all():
        rest_R = score_R - columns[:, known] @ ends[known]
        ends[~known] = np.linalg.lstsq(columns[:, ~known], rest_R, rcond=None)[0]
    return columns @ ends - score_R, (float(ends[0]), float(ends[1]))


def _refined(
    form: Form,
    loss_R: np.ndarray,
    score_R: np.ndarray,
    held: tuple[float | None, float | None],
    start: Sequence[float],
) -> ScoreLaw:
    found = optimize.least_squares(
        lambda s: _off(form, s, loss_R, score_R, held)[0], start, x_scale=np.abs(start) + 1e-3
    )
    shape = tuple(float(s) for s in found.x)
    _, ends = _off(form, shape, loss_R, score_R, held)
    return ScoreLaw(form=form, shape=shape, ends=ends, held=held, loss_R=loss_R, score_R=score_R)
