"""How far the parameters could be off: refits of resampled runs, and the delta method."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from sodakit.scaling.fit import Fit
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
    bend_R = fit.weights_R * curvature(fit, residual_SR[0])
    bread_PP = np.linalg.pinv((slopes_RP * bend_R[:, None]).T @ slopes_RP, hermitian=True)
    n = len(fit.loss_R)
    found = bread_PP @ meat_PP @ bread_PP * (n / max(n - len(free), 1))
    full = np.zeros((len(fit.names),) * 2)
    full[np.ix_(free, free)] = found
    return full


def curvature(fit: Fit, residual_R: np.ndarray) -> np.ndarray:
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
