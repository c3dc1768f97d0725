"""How far the parameters could be off: refits of simulated or resampled runs, and the delta method."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from sodakit.errors import ConfigError
from sodakit.scaling.fit import Fit
from sodakit.scaling.residuals import SHARP
from sodakit.scaling.solve import Refined, refine

Quantity = Callable[[Mapping[str, float]], float]
"""A number read off the parameters, such as a or ln N*."""

Resample = Literal["residuals", "runs"]
"""What a bootstrap draws anew: the signs of the residuals, the sweep being held; or the runs themselves."""

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
    """Refits of a sweep as it might have come out."""

    fit: Fit
    resample: Resample
    """What was drawn anew."""
    draws_SP: np.ndarray
    """Natural parameters of every refit that settled."""
    num_failed: int
    """Refits that did not settle; they are left out and counted."""
    num_units: int = 0
    """What was drawn: clusters, or runs; 0 stands for the runs of the fit."""

    def of(self, quantity: Quantity) -> np.ndarray:
        """The quantity in every refit."""
        columns = {name: self.draws_SP[:, i] for i, name in enumerate(self.fit.names)}
        return np.array(
            [quantity({k: v[s] for k, v in columns.items()}) for s in range(len(self.draws_SP))], float
        )

    def standard_error(self, quantity: Quantity) -> float:
        """Standard deviation over the refits; nan where fewer than two settled."""
        values_S = self.of(quantity)
        if len(values_S) < 2:
            return float("nan")
        # Coefficients of a law without an exponent of its own reach 1e200, whose square is no number any more.
        scale = max(float(np.abs(values_S).max(initial=0.0)), 1e-300)
        return float(np.std(values_S / scale, ddof=1)) * scale

    def interval(self, quantity: Quantity, level: float = 0.95) -> tuple[float, float]:
        """Percentile interval; of resampled residuals a little wider than the level, by as much as Student's t is wider
        than the normal, because the noise is known from these runs only. nan where no refit settled."""
        values_S = self.of(quantity)
        if not np.isfinite(values_S).any():
            return float("nan"), float("nan")
        tail = (1 - level) / 2
        if self.resample == "residuals":
            tail = float(
                stats.norm.sf(
                    stats.t.isf(
                        tail, max((self.num_units or len(self.fit.loss_R)) - self.fit.law.num_free, 1)
                    )
                )
            )
        low, high = np.nanquantile(values_S, [tail, 1 - tail])
        return float(low), float(high)


def bootstrap(
    fit: Fit,
    *,
    draws: int = 1000,
    seed: int = 0,
    clusters: Sequence[object] | None = None,
    strata: Sequence[object] | None = None,
    resample: Resample | None = None,
) -> Bootstrap:
    """Refit the sweep as it might have come out, each time from the minimum of the whole.

    Sizes and tokens of a sweep are chosen, not drawn, so by default they stay and only losses come out anew: each run
    keeps the size of its residual (as if the run had not pulled the law towards itself, see `left_out_residual`) and
    gets a random sign, which holds for noise that differs between runs. Resampling runs instead also draws sweeps nobody
    would do, without half of their corners. With squares the run's own pull on the law makes up for it; Huber's cost at
    a small delta does not let the pull shrink, and intervals come out too wide (benchmarks/scaling_fit.md).

    Args:
        draws: refits. 4,000 of 240 runs take seconds.
        clusters: runs that go together (checkpoints of one training run); each run by itself where None.
        strata: resample runs within these groups (budgets); over all runs where None.
        resample: `runs` is the bootstrap of Besiroglu et al. By default `residuals`, but `runs` for misfits that count
            the two sides differently, because the signs of their residuals are not a fair coin.
    Raises:
        ConfigError: residuals asked for with such a misfit, or within strata.
    Source: the wild bootstrap for quantile regression, Feng, He and Hu, Biometrika 98 (2011).
    """
    fair = fit.misfit.over == fit.misfit.under
    resample = resample or ("residuals" if fair else "runs")
    if resample == "runs":
        weights_SR = fit.weights_R * resampling_weights(len(fit.loss_R), draws, seed, clusters, strata)
        ends = refit(fit, weights_SR)
    else:
        if not fair or strata is not None:
            raise ConfigError(
                f"Residuals cannot be resampled with over={fit.misfit.over}, under={fit.misfit.under} and "
                f"{'no ' if strata is None else ''}strata; needed: a misfit alike on both sides, and no strata. Resample runs."
            )
        weights_SR = np.broadcast_to(fit.weights_R, (draws, len(fit.weights_R)))
        ends = refit(fit, weights_SR, simulated_losses(fit, draws, seed, clusters))
    settled = ends.converged_S & np.isfinite(ends.objective_S)
    return Bootstrap(
        fit=fit,
        resample=resample,
        draws_SP=fit.natural(ends.solutions_SP[settled]),
        num_failed=int((~settled).sum()),
        num_units=len(fit.loss_R) if clusters is None else len({str(c) for c in clusters}),
    )


def simulated_losses(fit: Fit, draws: int, seed: int, clusters: Sequence[object] | None = None) -> np.ndarray:
    """loss_SR: the law's losses and residuals of random sign, one sign for a cluster."""
    names = np.arange(len(fit.loss_R)) if clusters is None else np.array([str(c) for c in clusters])
    _, cluster_R = np.unique(names, return_inverse=True)
    signs_SG = np.random.default_rng(seed).choice([-1.0, 1.0], (draws, int(cluster_R.max()) + 1))
    moved_SR = signs_SG[:, cluster_R] * left_out_residual(fit, cluster_R)
    predicted_R = fit.predict(**{k: fit.values[k] for k in fit.law.variables})
    if fit.misfit.space == "log":
        return predicted_R * np.exp(moved_SR)
    return np.maximum(predicted_R + moved_SR, 1e-6 * predicted_R)


def left_out_residual(fit: Fit, cluster_R: np.ndarray | None = None) -> np.ndarray:
    """residual_R of each run from the law fitted without it, or without its cluster, to first order.

    A fit bends towards its runs: with squares by the leverage h, residual / (1 − h). Nearly absolute costs go through
    as many runs as there are parameters, whose residuals of about 0 would say that there is hardly any noise; what
    such a run pulls with, its slope, says how far the law would go without it.
    """
    residual_SR, slopes_SRP = fit.problem.slopes(fit.solution_P[None])
    slopes_RP = slopes_SRP[0][:, fit.free_P]
    pulled_RP = slopes_RP * fit.weights_R[:, None]
    inverse_PP = np.linalg.pinv(pulled_RP.T @ slopes_RP, hermitian=True)
    bend = np.average(curvature(fit, residual_SR[0]), weights=fit.weights_R)
    step_R = fit.misfit.slope(residual_SR[0]) / max(float(bend), 1e-300)
    if cluster_R is not None and len(np.unique(cluster_R)) < len(cluster_R):
        return residual_SR[0] + _pull_of_clusters(pulled_RP @ inverse_PP @ slopes_RP.T, step_R, cluster_R)
    # A run that alone holds a parameter has h = 1 and no residual of its own.
    leverage_R = np.clip(np.einsum("rp,pq,rq->r", pulled_RP, inverse_PP, slopes_RP), 0.0, 0.9)
    return residual_SR[0] + leverage_R / (1 - leverage_R) * step_R


def _pull_of_clusters(hat_RR: np.ndarray, step_R: np.ndarray, cluster_R: np.ndarray) -> np.ndarray:
    """How far each cluster, its runs together, pulls the law towards itself: H (1 − H)⁻¹ step, H its part of the hat matrix."""
    pull_R = np.zeros(len(step_R))
    for cluster in np.unique(cluster_R):
        rows = np.flatnonzero(cluster_R == cluster)
        own = hat_RR[np.ix_(rows, rows)].T
        values, basis = np.linalg.eig(own)
        kept = np.clip(values.real, 0.0, 0.9)
        pull_R[rows] = (basis @ np.diag(kept / (1 - kept)) @ np.linalg.pinv(basis) @ step_R[rows]).real
    return pull_R


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


def refit(fit: Fit, weights_SR: np.ndarray, loss_SR: np.ndarray | None = None) -> Refined:
    """The fit under other weights, and of other losses if given: one solution for each row, started at its minimum."""
    parts = []
    for first in range(0, len(weights_SR), _CHUNK):
        rows = slice(first, first + _CHUNK)
        problem = fit.problem if loss_SR is None else replace(fit.problem, loss_R=loss_SR[rows])
        if fit.misfit.delta is not None and fit.misfit.delta < SHARP:
            # Thousands of corners are not worth a linear programme each; far below the scatter of runs the refit is the same.
            problem = replace(problem, misfit=replace(fit.misfit, delta=SHARP))
        starts = np.repeat(fit.solution_P[None], len(weights_SR[rows]), 0)
        parts.append(refine(problem, starts, weights_SR[rows], fit.free_P, max_steps=60, tolerance=1e-10))
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
