"""Profile likelihood: how far a parameter can be moved before the runs object, everything else found anew."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize, special, stats

from sodakit.errors import ConfigError, nearest
from sodakit.scaling.fit import Fit, fit_law
from sodakit.scaling.intervals import covariance, curvature, delta_method, quantities
from sodakit.scaling.solve import refine

_LOWEST_A = 0.02
"""Exponents below it, and as close to 1, are not looked for."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The lowest misfit at each value of one parameter."""

    name: str
    values_S: np.ndarray
    rise_S: np.ndarray
    """Rise of the objective over its minimum, in units in which 1 is one standard error squared."""
    low: float | None
    """Where the rise reaches the level; None where it never does: that side is not identified."""
    high: float | None

    @property
    def identified(self) -> bool:
        """Whether both ends exist."""
        return self.low is not None and self.high is not None

    def __str__(self) -> str:
        if self.identified:
            return f"{self.name} in {self.low:.4g} – {self.high:.4g}"
        ends = " – ".join("?" if end is None else f"{end:.4g}" for end in (self.low, self.high))
        known = "" if self.low is None and self.high is None else f" (one end only: {ends})"
        return f"{self.name} not identified{known}"


def profile(fit: Fit, name: str, *, level: float = 0.95, points: int = 41, reach: float = 8.0) -> Profile:
    """The profile-likelihood interval of a parameter, everything else found anew at each of its values.

    Args:
        name: a free parameter of the law.
        reach: how many standard errors to look on each side.
    Raises:
        ConfigError: the law has no such free parameter.
    """
    free = [known for known in fit.names if known not in fit.law.fixed]
    if name not in free:
        raise ConfigError(
            f"No free parameter {name!r} in the law {fit.law.name!r}.{nearest(name, free, 'Parameters')}"
        )
    index = fit.names.index(name)
    error = min(max(float(np.sqrt(covariance(fit)[index, index])), 1e-4), 1.0)
    side = np.linspace(0, reach * error, points // 2 + 1)[1:]
    found = [_walk(fit, index, sign * side) for sign in (-1.0, 1.0)]
    scale = rise_scale(fit)
    offsets = np.concatenate([-side[::-1], [0.0], side])
    rise_S = np.concatenate([found[0][0][::-1], [0.0], found[1][0]]) * scale
    values_S = np.concatenate([found[0][1][::-1], [fit.parameters[name]], found[1][1]])
    limit = float(stats.t.ppf((1 + level) / 2, max(len(fit.loss_R) - fit.law.num_free, 1))) ** 2
    ends = [_crossing(rise_S, offsets, values_S, limit, sign) for sign in (-1, 1)]
    return Profile(name=name, values_S=values_S, rise_S=rise_S, low=ends[0], high=ends[1])


def _walk(fit: Fit, index: int, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Objective above the minimum, and the natural value, at each offset of one centred parameter; step by step
    outward, each from the solution before."""
    free_P = fit.free_P.copy()
    free_P[index] = False
    problem, start = fit.problem, fit.solution_P.copy()
    rises, values = [], []
    for offset in offsets:
        start[index] = fit.solution_P[index] + offset
        ends = refine(problem, start[None], fit.weights_R[None], free_P, max_steps=40, tolerance=1e-9)
        start = ends.solutions_SP[0].copy()
        rises.append(max(float(ends.objective_S[0]) - fit.objective, 0.0))
        values.append(float(fit.natural(start[None])[0, index]))
    return np.array(rises), np.array(values)


def rise_scale(fit: Fit) -> float:
    """Turns a rise of the objective into squared standard errors: 2·E[curvature] / E[slope²]."""
    residual_R = fit.problem.residual(fit.solution_P[None])[0]
    n = len(residual_R)
    slope2 = (
        float(np.mean(fit.weights_R * fit.misfit.slope(residual_R) ** 2)) * n / max(n - fit.law.num_free, 1)
    )
    return 2 * float(curvature(fit, residual_R).mean()) / max(slope2, 1e-300)


def _crossing(
    rise_S: np.ndarray, offsets: np.ndarray, values_S: np.ndarray, limit: float, sign: int
) -> float | None:
    side = np.flatnonzero(sign * offsets >= 0)
    side = side[np.argsort(np.abs(offsets[side]))]
    above = np.flatnonzero(rise_S[side] >= limit)
    if not len(above) or above[0] == 0:
        return None
    out, inner = side[above[0]], side[above[0] - 1]
    # The rise is about quadratic, so its root is about linear.
    roots = np.sqrt([rise_S[inner], rise_S[out]])
    part = (np.sqrt(limit) - roots[0]) / max(roots[1] - roots[0], 1e-300)
    return float(values_S[inner] + part * (values_S[out] - values_S[inner]))


def profile_exponent_a(fit: Fit, *, level: float = 0.95) -> tuple[float | None, float | None]:
    """The profile interval of a = beta / (alpha + beta): refits in which the two exponents keep their ratio.

    Each side is walked outward to the first crossing of the level; None where there is none between 0.02 and 0.98.

    Raises:
        ConfigError: the law has no two exponents.
    """
    if fit.law.name != "chinchilla":
        raise ConfigError(f"The law {fit.law.name!r} has no free ratio of exponents; use 'chinchilla'.")
    scale = rise_scale(fit)
    limit = float(stats.t.ppf((1 + level) / 2, max(len(fit.loss_R) - fit.law.num_free, 1))) ** 2

    def excess(logit: float) -> float:
        return (_objective_at(fit, float(special.expit(logit))) - fit.objective) * scale - limit

    error = max(delta_method(fit, quantities(fit)["a"])[0], 1e-4)
    here = float(special.logit(np.clip(fit.optimum_exponents["a"], _LOWEST_A, 1 - _LOWEST_A)))
    ends: list[float | None] = []
    for sign in (-1, 1):
        # In logits a step is as long at 0.05 as at 0.5; an error of a is one of its logit times a(1 − a).
        step, inner, end = min(error / 0.25, 0.5), here, None
        limit_at = sign * float(special.logit(1 - _LOWEST_A))
        while end is None and inner != limit_at:
            outer = inner + sign * step
            outer = min(outer, limit_at) if sign > 0 else max(outer, limit_at)
            if excess(outer) > 0:
                end = float(special.expit(optimize.brentq(excess, inner, outer, xtol=1e-3)))
            inner, step = outer, min(1.5 * step, 0.5)
        ends.append(end)
    return ends[0], ends[1]


def _objective_at(fit: Fit, a: float) -> float:
    """The lowest misfit with beta = alpha · a / (1 − a)."""
    ratio = a / (1 - a)
    terms = {k: v for k, v in fit.law.terms.items() if k != "B"} | {"B": {"alpha": {"D": ratio}}}
    held = replace(fit.law, name="ratio", terms=terms)
    return fit_law(
        held,
        fit.values,
        fit.loss_R,
        misfit=fit.misfit,
        weights_R=fit.weights_R,
        grid_points=40,
        max_starts=2,
    ).objective
