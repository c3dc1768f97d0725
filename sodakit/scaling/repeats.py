"""What repeated data are worth: Muennighoff et al. 2023, fitted to one's own runs.

    D' = U + U·R*·(1 − exp(−R/R*)),  R = D/U − 1        loss = E + A/N^alpha + B/D'^beta

R*, the repetitions after which data are worth little, is searched on a line; at each value the law is fitted to the
effective tokens D', so the minimum is global in everything.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from sodakit.errors import ConfigError
from sodakit.scaling.fit import Fit, fit_law
from sodakit.scaling.laws import LAWS, Law
from sodakit.scaling.profiles import rise_scale
from sodakit.scaling.residuals import MISFITS, Misfit

HALF_LIFE = 15.39
"""R*: repetitions after which repeated data is worth little (Muennighoff et al. 2023, for text; not measured for audio)."""
_LOW, _HIGH = 0.05, 2000.0
"""Values of R* searched: from "a second pass is worth nothing" to "as good as fresh"."""


def effective_tokens(
    tokens: np.ndarray, unique_tokens: np.ndarray | float | None, half_life: float = HALF_LIFE
) -> np.ndarray:
    """What repeated tokens are worth in fresh ones: U + U·R*·(1 − exp(−R/R*)), R the repetitions."""
    tokens = np.asarray(tokens, float)
    if unique_tokens is None:
        return tokens
    repeats = np.maximum(tokens / unique_tokens - 1, 0)
    return np.minimum(tokens, unique_tokens) + unique_tokens * half_life * -np.expm1(-repeats / half_life)


@dataclass(frozen=True, kw_only=True)
class RepeatFit:
    """A law of effective tokens."""

    fit: Fit
    """Its D is the effective one."""
    half_life: float
    """R*."""
    low: float | None
    """95 % by the profile; None where the runs do not tell: that side is not identified."""
    high: float | None
    most_passes: float
    """Of any run over its data."""

    @property
    def identified(self) -> bool:
        """Whether both ends exist."""
        return self.low is not None and self.high is not None

    def __str__(self) -> str:
        if self.identified:
            return f"R* {self.half_life:.3g} ({self.low:.3g} – {self.high:.3g})"
        ends = " – ".join("?" if e is None else f"{e:.3g}" for e in (self.low, self.high))
        return f"R* {self.half_life:.3g} ({ends}): not identified by runs of at most {self.most_passes:.1f} passes"


def fit_repeats(
    values: Mapping[str, np.ndarray],
    unique_R: np.ndarray,
    loss_R: np.ndarray,
    *,
    law: Law = LAWS["chinchilla"],
    misfit: Misfit = MISFITS["huber"],
    weights_R: np.ndarray | None = None,
    points: int = 25,
) -> RepeatFit:
    """The law and R* at the minimum of the misfit.

    Args:
        values: N, D (and C) of the runs, D with repeats.
        unique_R: U of every run: the different tokens it could have seen.
        points: values of R* tried before the line is searched.
    Raises:
        ConfigError: a U that is not positive, or no run that repeats data.
    """
    unique_R = np.asarray(unique_R, float)
    if not (np.isfinite(unique_R).all() and (unique_R > 0).all()):
        raise ConfigError("Some runs have no unique_tokens; the data-repeat law needs them for every run.")
    passes = float((values["D"] / unique_R).max())
    if passes <= 1:
        raise ConfigError("No run repeats its data, so nothing can be said of repeats. Fit 'chinchilla'.")

    def at(log_half_life: float) -> Fit:
        effective_R = effective_tokens(values["D"], unique_R, float(np.exp(log_half_life)))
        effective = {**values, "D": effective_R}
        return fit_law(
            law, effective, loss_R, misfit=misfit, weights_R=weights_R, max_starts=3, grid_points=12
        )

    grid = np.linspace(np.log(_LOW), np.log(_HIGH), points)
    cost = np.array([at(x).objective for x in grid])
    place = int(np.argmin(cost))
    around = (grid[max(place - 1, 0)], grid[min(place + 1, points - 1)])
    best = optimize.minimize_scalar(
        lambda x: at(x).objective, bounds=around, method="bounded", options={"xatol": 1e-4}
    )
    found = at(float(best.x))
    n, used = len(loss_R), law.num_free + 1
    limit = float(stats.t.ppf(0.975, max(n - used, 1))) ** 2 / rise_scale(found)
    ends = [_end(at, found.objective + limit, float(best.x), grid, cost, sign) for sign in (-1, 1)]
    return RepeatFit(
        fit=found, half_life=float(np.exp(best.x)), low=ends[0], high=ends[1], most_passes=passes
    )


def _end(
    at: Callable[[float], Fit], level: float, centre: float, grid: np.ndarray, cost: np.ndarray, sign: int
) -> float | None:
    """Where the profile first rises over the level on one side, or None where it never does."""
    side = [(x, c) for x, c in zip(grid, cost, strict=True) if sign * (x - centre) > 0][::sign]
    inner = centre
    for x, c in side:
        if c >= level:
            return float(np.exp(optimize.brentq(lambda v: at(v).objective - level, inner, x, xtol=1e-3)))
        inner = float(x)
    return None
