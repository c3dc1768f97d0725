"""How far the parameters could be off: refits of resampled runs, the delta method, and profiles of the misfit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize, stats

from sodakit.errors import ConfigError
from sodakit.scaling.fit import Fit, fit_law
from sodakit.scaling.solve import Refined, refine

Quantity = Callable[[Mapping[str, float]], float]
"""A number read off the parameters, such as a or ln N*."""

_CHUNK = 256
"""Refits done side by side: enough to hide Python, few enough for the cache."""


def quantities(fit: Fit) -> dict[str, Quantity]:
    """Every free parameter, and a and b where the law has them."""
    named: dict[str, Quantity] = {
        name: (lambda p, name=name: p[name])  # type: ignore[misc]
        for name in fit.names
        if name not in fit.law.fixed
    }
    if fit.optimum_exponents:
        named["a"] = lambda p: p.get("beta", p["alpha"]) / (p["alpha"] + p.get("beta", p["alpha"]))
        named["b"] = lambda p: p["alpha"] / (p["alpha"] + p.get("beta", p["alpha"]))
    return named


def log_optimal_size(flops: float) -> Quantity:
    """ln N* at a budget, with C = 6ND."""

    def read(p: Mapping[str, float]) -> float:
        alpha, beta = p["alpha"], p.get("beta", p["alpha"])
        ratio = np.log(alpha * p["A"]) - np.log(beta * p["B"])
        return float((ratio + beta * np.log(flops / 6)) / (alpha + beta))

    return read


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """Refits of resampled runs."""

    fit: Fit
    draws_SP: np.ndarray
    """Natural parameters of every refit that settled."""
    num_failed: int
    """Refits that did not settle; they are left out and counted."""

    def of(self, quantity: Quantity) -> np.ndarray:
        """The quantity in every refit."""
        columns = {name: self.draws_SP[:, i] for i, name in enumerate(self.fit.names)}
        return np.array(
            [quantity({k: v[s] for k, v in columns.items()}) for s in range(len(self.draws_SP))], float
        )

    def standard_error(self, quantity: Quantity) -> float:
        """Standard deviation over the refits."""
        return float(np.std(self.of(quantity), ddof=1))

    def interval(self, quantity: Quantity, level: float = 0.95) -> tuple[float, float]:
        """Percentile interval."""
        low, high = np.nanquantile(self.of(quantity), [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


def bootstrap(
    fit: Fit,
    *,
    draws: int = 1000,
    seed: int = 0,
    clusters: Sequence[object] | None = None,
    strata: Sequence[object] | None = None,
) -> Bootstrap:
    """Refit resampled runs, all from the minimum of the whole.

    Args:
        draws: refits. 4,000 of 240 runs take seconds.
        clusters: runs that go together (checkpoints of one training run); each run by itself where None.
        strata: resample within these groups (budgets); over all runs where None.
    """
    weights_SR = fit.weights_R * resampling_weights(len(fit.loss_R), draws, seed, clusters, strata)
    ends = refit(fit, weights_SR)
    settled = ends.converged_S & np.isfinite(ends.objective_S)
    return Bootstrap(
        fit=fit,
        draws_SP=fit.natural(ends.solutions_SP[settled]),
        num_failed=int((~settled).sum()),
    )


def resampling_weights(
    num_runs: int,
    draws: int,
    seed: int,
    clusters: Sequence[object] | None = None,
    strata: Sequence[object] | None = None,
) -> np.ndarray:
    """How often each run is drawn, counts_SR: whole clusters, within strata."""
    names, cluster_R = np.unique(
        np.array([str(c) for c in clusters]) if clusters is not None else np.arange(num_runs),
        return_inverse=True,
    )
    group_G = np.zeros(len(names), int)
    if strata is not None:
        _, stratum_R = np.unique(np.array([str(s) for s in strata]), return_inverse=True)
        group_G[cluster_R] = stratum_R
    rng = np.random.default_rng(seed)
    counts_SG = np.zeros((draws, len(names)))
    for group in np.unique(group_G):
        members = np.flatnonzero(group_G == group)
        counts_SG[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), draws)
    return counts_SG[:, cluster_R]


def refit(fit: Fit, weights_SR: np.ndarray) -> Refined:
    """The fit under other weights, one solution for each row, started at its minimum."""
    problem, parts = fit.problem, []
    for first in range(0, len(weights_SR), _CHUNK):
        weights = weights_SR[first : first + _CHUNK]
        starts = np.repeat(fit.solution_P[None], len(weights), 0)
        parts.append(refine(problem, starts, weights, fit.free_P, max_steps=60, tolerance=1e-10))
    return Refined(*(np.concatenate([getattr(p, f) for p in parts]) for f in Refined.__dataclass_fields__))


def covariance(fit: Fit) -> np.ndarray:
    """covariance_PP of the centred parameters by the sandwich formula; zero for given ones.

    The sandwich holds where the misfit is not the noise's likelihood, as with Huber's at a small delta, and the
    factor n/(n − p) stands for the parameters used up.
    """
    free = np.flatnonzero(fit.free_P)
    problem = fit.problem
    residual_SR, slopes_SRP = problem.slopes(fit.solution_P[None])
    slopes_RP = slopes_SRP[0][:, free]
    pull_R = fit.weights_R * problem.misfit.slope(residual_SR[0])
    meat_PP = (slopes_RP * pull_R[:, None] ** 2).T @ slopes_RP
    bend_R = fit.weights_R * _curvature_R(fit, residual_SR[0])
    bread_PP = np.linalg.pinv((slopes_RP * bend_R[:, None]).T @ slopes_RP, hermitian=True)
    n = len(fit.loss_R)
    found = bread_PP @ meat_PP @ bread_PP * (n / max(n - len(free), 1))
    full = np.zeros((len(fit.names),) * 2)
    full[np.ix_(free, free)] = found
    return full


def _curvature_R(fit: Fit, residual_R: np.ndarray) -> np.ndarray:
    """Expected curvature of the misfit for each run.

    With a delta far below the noise only few runs lie on the curved part, so it is smoothed as Powell does for
    quantiles: how the slope changes when a residual is moved by a bandwidth. It is kept run by run, because runs at
    the edge of a sweep are often noisier and then hold the law less.
    """
    if fit.misfit.delta is None:
        return fit.misfit.curvature(residual_R) * np.ones(len(residual_R))
    n, p = len(residual_R), fit.law.num_free
    spread = 1.4826 * float(np.median(np.abs(residual_R))) * np.sqrt(n / max(n - p, 1))
    step = max(spread * 1.06 * n**-0.2, fit.misfit.delta)
    return (fit.misfit.slope(residual_R + step) - fit.misfit.slope(residual_R - step)) / (2 * step)


def delta_method(fit: Fit, quantity: Quantity, level: float = 0.95) -> tuple[float, float, float]:
    """Standard error, and the interval's low and high end (Student's t with n − p degrees of freedom)."""
    covariance_PP = covariance(fit)
    slope_P = np.zeros(len(fit.names))
    for p in np.flatnonzero(fit.free_P):
        step = 1e-5
        above, below = fit.solution_P.copy(), fit.solution_P.copy()
        above[p] += step
        below[p] -= step
        both = fit.natural(np.stack([above, below]))
        read = [quantity(dict(zip(fit.names, row, strict=True))) for row in both]
        slope_P[p] = (read[0] - read[1]) / (2 * step)
    error = float(np.sqrt(max(slope_P @ covariance_PP @ slope_P, 0.0)))
    half = float(stats.t.ppf((1 + level) / 2, max(len(fit.loss_R) - fit.law.num_free, 1))) * error
    centre = quantity(fit.parameters)
    return error, centre - half, centre + half


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
        known = "" if self.low is None and self.high is None else f" (one end only: {self.low} – {self.high})"
        return f"{self.name} not identified{known}"


def profile(fit: Fit, name: str, *, level: float = 0.95, points: int = 41, reach: float = 8.0) -> Profile:
    """The profile-likelihood interval of a parameter, everything else found anew at each of its values.

    Args:
        name: a free parameter of the law.
        reach: how many standard errors to look on each side.
    Raises:
        ConfigError: the law has no such free parameter.
    """
    if name not in fit.names or name in fit.law.fixed:
        raise ConfigError(f"No free parameter {name!r} in the law {fit.law.name!r}: {', '.join(fit.names)}.")
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
    return 2 * float(_curvature_R(fit, residual_R).mean()) / max(slope2, 1e-300)


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

    Raises:
        ConfigError: the law has no two exponents.
    """
    if fit.law.name != "chinchilla":
        raise ConfigError(f"The law {fit.law.name!r} has no free ratio of exponents; use 'chinchilla'.")
    here = fit.optimum_exponents["a"]
    scale = rise_scale(fit)
    limit = float(stats.t.ppf((1 + level) / 2, max(len(fit.loss_R) - fit.law.num_free, 1))) ** 2

    def excess(a: float) -> float:
        return (_objective_at(fit, a) - fit.objective) * scale - limit

    error = max(delta_method(fit, quantities(fit)["a"])[0], 1e-4)
    ends: list[float | None] = []
    for sign in (-1, 1):
        far = float(np.clip(here + sign * 8 * error, 0.02, 0.98))
        ends.append(
            float(optimize.brentq(excess, here, far, xtol=1e-4)) if excess(here) < 0 < excess(far) else None
        )
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
