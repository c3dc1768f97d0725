"""The minimum of a law's misfit: many solutions are refined at once by Newton's method with exact derivatives."""

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from sodakit.scaling.residuals import Misfit

GRID_LOW, GRID_HIGH = 0.02, 2.5
"""Exponents searched on the grid; refinement may leave it."""
_GRID_POINTS = {0: 1, 1: 120, 2: 18, 3: 9}
_TINY = 1e-10
"""Share of the loss below which a term counts as absent."""


@dataclass(frozen=True)
class Problem:
    """Runs and a law, ready to be minimised. Logs are centred, so that parameters are of one scale."""

    powers_XRJ: np.ndarray
    """Centred log variables."""
    loss_R: np.ndarray
    """Observed losses; loss_SR where every solution is of losses of its own."""
    misfit: Misfit
    offsets_RJ: np.ndarray | None = None
    """Added to the log of a term; −inf where a run does not have it."""

    @property
    def num_terms(self) -> int:
        """J."""
        return self.powers_XRJ.shape[2]

    def of(self, solutions_S: np.ndarray) -> "Problem":
        """The same for some of the solutions."""
        return self if self.loss_R.ndim == 1 else replace(self, loss_R=self.loss_R[solutions_S])

    def log_terms(self, solutions_SP: np.ndarray) -> np.ndarray:
        """u_SRJ, the log of every term, for parameters [log coefficients_J, exponents_X]."""
        J = self.num_terms
        X, R, _ = self.powers_XRJ.shape
        flat = solutions_SP[:, J:] @ self.powers_XRJ.reshape(X, R * J) if X else np.zeros((1, R * J))
        u_SRJ = solutions_SP[:, None, :J] - flat.reshape(-1, R, J)
        return u_SRJ if self.offsets_RJ is None else u_SRJ + self.offsets_RJ

    def value(self, solutions_SP: np.ndarray, weights_SR: np.ndarray) -> np.ndarray:
        """objective_S: the weighted sum of misfit costs."""
        return _dot(self.misfit.cost(self.residual(solutions_SP)), weights_SR)

    def residual(self, solutions_SP: np.ndarray) -> np.ndarray:
        """residual_SR, in the misfit's space."""
        log_loss_SR = log_sum(self.log_terms(solutions_SP))[0]
        if self.misfit.space == "log":
            return log_loss_SR - np.log(self.loss_R)
        return np.exp(np.minimum(log_loss_SR, 50.0)) - self.loss_R

    def derivatives(
        self, solutions_SP: np.ndarray, weights_SR: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """objective_S, gradient_SP and Hessian_SPP, exact."""
        residual_SR, slopes_SRP, share_SRJ, scale_SR = self._slopes(solutions_SP)
        cost_S = _dot(self.misfit.cost(residual_SR), weights_SR)
        pull_SR = weights_SR * self.misfit.slope(residual_SR)
        gradient_SP = np.matmul(pull_SR[:, None, :], slopes_SRP)[:, 0]
        bend_SR = weights_SR * self.misfit.curvature(residual_SR)
        if self.misfit.space == "log":
            bend_SR = bend_SR - pull_SR
        hessian_SPP = np.matmul(np.swapaxes(slopes_SRP, 1, 2), bend_SR[:, :, None] * slopes_SRP)
        hessian_SPP += self._term_curvature(solutions_SP, (pull_SR * scale_SR)[:, :, None] * share_SRJ)
        return cost_S, gradient_SP, hessian_SPP

    def slopes(self, solutions_SP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """residual_SR and its derivative by every parameter, slopes_SRP."""
        residual_SR, slopes_SRP, _, _ = self._slopes(solutions_SP)
        return residual_SR, slopes_SRP

    def _slopes(self, solutions_SP: np.ndarray) -> tuple[np.ndarray, ...]:
        log_loss_SR, share_SRJ = log_sum(self.log_terms(solutions_SP))
        slopes_SRP = self._log_slopes(solutions_SP, share_SRJ)
        if self.misfit.space == "log":
            return log_loss_SR - np.log(self.loss_R), slopes_SRP, share_SRJ, np.ones_like(log_loss_SR)
        loss_SR = np.exp(np.minimum(log_loss_SR, 50.0))
        return loss_SR - self.loss_R, slopes_SRP * loss_SR[:, :, None], share_SRJ, loss_SR

    def _log_slopes(self, solutions_SP: np.ndarray, share_SRJ: np.ndarray) -> np.ndarray:
        """slopes_SRP of log loss, from each term's share of it."""
        X = self.powers_XRJ.shape[0]
        columns = [share_SRJ]
        columns += [-(share_SRJ * self.powers_XRJ[x]).sum(-1, keepdims=True) for x in range(X)]
        return np.concatenate(columns, axis=2)

    def _term_curvature(self, solutions_SP: np.ndarray, pulled_SRJ: np.ndarray) -> np.ndarray:
        """Σ_R of the second derivatives of the terms, each weighted by how hard its run pulls."""
        S, R, J = pulled_SRJ.shape
        X = self.powers_XRJ.shape[0]
        result = np.zeros((S, J + X, J + X))
        totals_SJ = pulled_SRJ.sum(1)
        result[:, range(J), range(J)] = totals_SJ
        flat = pulled_SRJ.reshape(S, R * J)
        for x in range(X):
            cross_SJ = -(pulled_SRJ * self.powers_XRJ[x]).sum(1)
            result[:, :J, J + x] = result[:, J + x, :J] = cross_SJ
            for y in range(x + 1):
                both = (self.powers_XRJ[x] * self.powers_XRJ[y]).reshape(-1)
                result[:, J + x, J + y] = result[:, J + y, J + x] = flat @ both
        return result


@dataclass(frozen=True)
class Refined:
    """Where refinement ended."""

    solutions_SP: np.ndarray
    objective_S: np.ndarray
    decrement_S: np.ndarray
    """How far, by the last quadratic model, the objective could still fall, relative to it."""
    converged_S: np.ndarray


def refine(
    problem: Problem,
    starts_SP: np.ndarray,
    weights_SR: np.ndarray,
    free_P: np.ndarray,
    *,
    max_steps: int = 80,
    tolerance: float = 1e-13,
) -> Refined:
    """Newton's method from every start: eigenvalues made positive, steps limited, objectives only fall.

    Args:
        starts_SP: parameters [log coefficients, exponents].
        weights_SR: weight of each run, one row for all solutions or one each.
        free_P: which parameters may move.
    """
    solutions = np.array(starts_SP, float)
    weights = np.broadcast_to(weights_SR, (len(solutions), weights_SR.shape[-1]))
    objective = np.full(len(solutions), np.inf)
    decrement = np.full(len(solutions), np.inf)
    active = np.arange(len(solutions))
    free = np.flatnonzero(free_P)
    damping = np.full(len(solutions), 1e-9)
    for _ in range(max_steps):
        if not len(active) or not len(free):
            break
        value, gradient, hessian = problem.of(active).derivatives(solutions[active], weights[active])
        objective[active] = value
        step, fall = _newton_step(gradient[:, free], hessian[:, free][:, :, free], damping[active])
        decrement[active] = fall / np.maximum(value, 1e-300)
        open_ = (decrement[active] > tolerance) & (value > 1e-24)
        active, value, step, fall = active[open_], value[open_], step[open_], fall[open_]
        if not len(active):
            break
        moved = _search(problem, solutions, active, step, value, fall, weights, free)
        damping[active] = np.where(moved, np.maximum(damping[active] / 10, 1e-12), damping[active] * 1e3)
        active = active[(damping[active] < 1e2)]
    objective = problem.value(solutions, weights)
    return Refined(solutions, objective, decrement, decrement <= 1e-9)


def _newton_step(
    gradient_SP: np.ndarray, hessian_SPP: np.ndarray, damping_S: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    eigen_SP, basis_SPP = np.linalg.eigh(hessian_SPP)
    size_SP = np.abs(eigen_SP)
    floor_S1 = damping_S[:, None] * size_SP.max(1, keepdims=True) + 1e-300
    along_SP = np.matmul(gradient_SP[:, None, :], basis_SPP)[:, 0]
    scaled_SP = along_SP / np.maximum(size_SP, floor_S1)
    fall_S = 0.5 * (along_SP * scaled_SP).sum(1)
    step_SP = -np.matmul(basis_SPP, scaled_SP[:, :, None])[:, :, 0]
    longest_S1 = np.abs(step_SP).max(1, keepdims=True)
    return step_SP * np.minimum(1.0, 1.5 / np.maximum(longest_S1, 1e-300)), fall_S


def _search(
    problem: Problem,
    solutions: np.ndarray,
    active: np.ndarray,
    step: np.ndarray,
    value: np.ndarray,
    fall: np.ndarray,
    weights: np.ndarray,
    free: np.ndarray,
) -> np.ndarray:
    """Halve steps until the objective falls; whether each solution moved."""
    moved = np.zeros(len(active), bool)
    left = np.arange(len(active))
    length = 1.0
    for _ in range(12):
        trial = solutions[active[left]]
        trial[:, free] += length * step[left]
        new = problem.of(active[left]).value(trial, weights[active[left]])
        good = new < value[left] - 1e-5 * length * fall[left]
        solutions[active[left[good]]] = trial[good]
        moved[left[good]] = True
        left = left[~good]
        if not len(left):
            break
        length *= 0.4
    return moved


def exponent_grid(held_X: np.ndarray, points: int | None = None) -> tuple[np.ndarray, tuple[int, ...]]:
    """theta_SX: all combinations of exponents from GRID_LOW to GRID_HIGH, evenly in their logarithm; and points an axis.

    Args:
        held_X: exponents that are given; nan for those to be found.
        points: of each exponent that is to be found.
    """
    free = int(np.isnan(held_X).sum())
    axis = np.geomspace(
        GRID_LOW, GRID_HIGH, points or _GRID_POINTS.get(free, max(int(3000 ** (1 / max(free, 1))), 3))
    )
    axes = [axis if np.isnan(held) else np.array([held]) for held in held_X]
    shape = tuple(len(a) for a in axes)
    grids = np.meshgrid(*axes, indexing="ij")
    return (np.stack([g.reshape(-1) for g in grids], axis=1) if axes else np.zeros((1, 0))), shape


def project(
    problem: Problem,
    theta_SX: np.ndarray,
    weights_R: np.ndarray,
    fixed_log_J: np.ndarray,
    *,
    reweightings: int = 5,
) -> tuple[np.ndarray, np.ndarray]:
    """The best non-negative coefficients at given exponents (variable projection): solutions_SP, objective_S.

    Squares are exact; other costs are reached by reweighting squares a few times, close enough for a start.

    Args:
        fixed_log_J: log of the given coefficients, nan for those to be found.
    """
    X, R, J = problem.powers_XRJ.shape
    terms_SRJ = np.exp(-(theta_SX @ problem.powers_XRJ.reshape(X, R * J)).reshape(-1, R, J))
    if problem.offsets_RJ is not None:
        terms_SRJ = terms_SRJ * np.exp(problem.offsets_RJ)
    known = np.isfinite(fixed_log_J)
    given_SR = terms_SRJ[:, :, known] @ np.exp(fixed_log_J[known])
    relative = problem.loss_R if problem.misfit.space == "log" else np.ones(R)
    design_SRJ = terms_SRJ[:, :, ~known] / relative[:, None]
    target_SR = (problem.loss_R - given_SR) / relative
    pull_SR = np.broadcast_to(weights_R, target_SR.shape)
    rounds = (
        1 if problem.misfit == type(problem.misfit)(space=problem.misfit.space, delta=None) else reweightings
    )
    for _ in range(rounds):
        found_SJ = _non_negative(design_SRJ, target_SR, pull_SR)
        residual_SR = np.matmul(design_SRJ, found_SJ[:, :, None])[:, :, 0] - target_SR
        pull_SR = weights_R * problem.misfit.weight(residual_SR)
    coefficients_SJ = np.empty((len(theta_SX), J))
    coefficients_SJ[:, known] = np.exp(fixed_log_J[known])
    coefficients_SJ[:, ~known] = found_SJ
    # A term that wants to be absent starts small rather than at minus infinity, so that refinement may revive it.
    peak_SJ = terms_SRJ.max(1)
    floor_SJ = 1e-4 * problem.loss_R.min() / np.maximum(peak_SJ, 1e-300)
    solutions_SP = np.concatenate([np.log(np.maximum(coefficients_SJ, floor_SJ)), theta_SX], axis=1)
    return solutions_SP, problem.value(solutions_SP, np.broadcast_to(weights_R, target_SR.shape))


def _non_negative(design_SRJ: np.ndarray, target_SR: np.ndarray, pull_SR: np.ndarray) -> np.ndarray:
    """Weighted least squares with non-negative coefficients: every set of present terms is tried."""
    S, _, J = design_SRJ.shape
    pulled_SRJ = design_SRJ * pull_SR[:, :, None]
    gram_SJJ = np.matmul(np.swapaxes(pulled_SRJ, 1, 2), design_SRJ)
    right_SJ = np.matmul(target_SR[:, None, :], pulled_SRJ)[:, 0]
    scale_SJ = np.sqrt(np.maximum(np.einsum("sjj->sj", gram_SJJ), 1e-300))
    gram_SJJ = gram_SJJ / scale_SJ[:, :, None] / scale_SJ[:, None, :]
    right_SJ = right_SJ / scale_SJ
    best_S, best_SJ = np.zeros(S), np.zeros((S, J))
    for size in range(J, 0, -1):
        for kept in combinations(range(J), size):
            chosen = list(kept)
            gram = gram_SJJ[:, chosen][:, :, chosen] + 1e-13 * np.eye(size)
            found = np.linalg.solve(gram, right_SJ[:, chosen, None])[:, :, 0]
            gain = (found * right_SJ[:, chosen]).sum(1)
            better = (found >= 0).all(1) & (gain > best_S)
            best_S = np.where(better, gain, best_S)
            full = np.zeros((S, J))
            full[:, chosen] = found
            best_SJ = np.where(better[:, None], full, best_SJ)
    return best_SJ / scale_SJ


def log_sum(u_SRJ: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log Σ exp over terms, and each term's share of the sum."""
    top = u_SRJ.max(2, keepdims=True)
    e = np.exp(u_SRJ - top)
    total = e.sum(2, keepdims=True)
    return (top + np.log(total))[:, :, 0], e / total


def _dot(values_SR: np.ndarray, weights_SR: np.ndarray) -> np.ndarray:
    return np.einsum("sr,sr->s", values_SR, np.broadcast_to(weights_SR, values_SR.shape))
