"""Laws with an onset: a loss that stays at a plateau until size, data or compute suffice, and falls as a power after.

    L = E + R·H / (R + H)        R = A / N^alpha + B / D^beta, H the height of the plateau over E

Where R is far above H nothing has been learnt and L is E + H, the plateau. Where it is far below, L is E + R, the law that is
capped. One parameter more than that law and no other: where the fall begins follows. Of turns that are sharper by a further
parameter, (R^-s + H^-s)^(-1/s), those of s = 1 tell the runs of docs/studies/cpu_scaling.md best, also those held out; and where no
run lies near the plateau, H is not identified and the law is the one that is capped.

A capped sum is no sum of powers, so it has derivatives and starts of its own. BNSL (Caballero et al. 2023, arXiv 2210.14891)
has the same shape in one variable, with more parameters.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy import optimize

from sodakit.errors import ConfigError
from sodakit.scaling.costs import FlopsPerToken
from sodakit.scaling.laws import LAWS, Law
from sodakit.scaling.residuals import MISFITS, Misfit
from sodakit.scaling.solve import Problem, exponent_grid, log_sum, refine

FALLEN = 0.05
"""Share of the plateau that a loss has fallen where its fall is said to begin: several times the scatter of a run."""
HEIGHT = "H"
"""The parameter that a cap adds."""
_POINTS = {1: 12, 2: 6}
"""Of the grid of exponents, by how many there are."""
_FLOORS = (0.02, 0.4, 0.8)
"""Of E, in units of the lowest loss."""
_PLATEAUS = (1.0, 1.02, 1.3, 100.0)
"""In units of the highest loss; the last is of runs that show none."""
_REFINED = 24
"""Points of the grid that are refined a few steps, by squares."""


@dataclass(frozen=True)
class OnsetLaw(Law):
    """A sum of powers whose reducible part is capped. Its first term is E, its last the height of the plateau."""

    @property
    def under(self) -> Law:
        """The law without its cap."""
        return Law(self.name, {c: t for c, t in self.terms.items() if c != HEIGHT}, self._fixed_but_height)

    @property
    def trades(self) -> bool:
        """Whether size is traded for data: a cap moves no optimum."""
        return {"A", "B"} <= self.terms.keys()

    @property
    def _fixed_but_height(self) -> dict[str, float]:
        return {name: value for name, value in self.fixed.items() if name != HEIGHT}

    @property
    def profiled(self) -> tuple[str, ...]:
        """Parameters whose intervals are told by profiles."""
        return (*super().profiled, HEIGHT)

    def losses(self, values: Mapping[str, np.ndarray | float]) -> Callable[[Mapping[str, float]], np.ndarray]:
        """loss_R of runs with these N, D (and C), as a function of named parameters."""
        reducible = self._reducible(values)

        def of(p: Mapping[str, float]) -> np.ndarray:
            fallen_R = reducible(p)
            return p["E"] + 1 / (1 / np.maximum(fallen_R, 1e-300) + 1 / p[HEIGHT])

        return of

    def _reducible(
        self, values: Mapping[str, np.ndarray | float]
    ) -> Callable[[Mapping[str, float]], np.ndarray]:
        """R of runs, without the cap."""
        plain = self.under.losses(values)

        def of(p: Mapping[str, float]) -> np.ndarray:
            with np.errstate(over="ignore"):  # far on the plateau, where the cap is all that is left of it
                return plain(p) - p["E"]

        return of

    def problem(
        self, values: Mapping[str, np.ndarray], centre_XJ: np.ndarray, loss_R: np.ndarray, misfit: Misfit
    ) -> Problem:
        """What is minimised, in centred parameters."""
        return OnsetProblem(self.powers(values) - centre_XJ[:, None, :], loss_R, misfit)

    def grid(
        self, problem: Problem, weights_R: np.ndarray, points: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
        """Where minima are looked for: a grid of exponents, floors and plateaus, the other coefficients as they are where the
        cap is taken off the losses; the best points refined a few steps, by squares.

        Args:
            points: per exponent.
        """
        held_X = np.array([self.fixed.get(name, np.nan) for name in self.exponents], float)
        theta_SX, _ = exponent_grid(held_X, points or _POINTS.get(int(np.isnan(held_X).sum()), 4))
        loss_R, J = problem.loss_R, len(self.terms)
        starts = []
        for floor, plateau in product(_FLOORS, _PLATEAUS):
            low = self.fixed.get("E", floor * loss_R.min())
            height = self.fixed.get(HEIGHT, plateau * loss_R.max() - low)
            # Without its cap: 1/R = 1/(L - E) - 1/H. On the plateau R is only known to be large.
            over_R = np.clip(1 / np.maximum(loss_R - low, 0.02 * loss_R) - 1 / height, 0.05 / height, None)
            inner = problem.powers_XRJ[:, :, 1 : J - 1]
            terms_SRJ = np.exp(-np.tensordot(theta_SX, inner, 1))
            # Evenly shared among the terms, each right on average.
            logs_SJ = (np.log(1 / over_R)[None, :, None] - np.log(terms_SRJ)).mean(1) - np.log(J - 2)
            ends_S1 = np.full((len(theta_SX), 1), np.log(low)), np.full((len(theta_SX), 1), np.log(height))
            starts.append(np.concatenate([ends_S1[0], logs_SJ, ends_S1[1], theta_SX], axis=1))
        all_SP = np.concatenate(starts)
        for j, name in enumerate(self.coefficients):
            if name in self.fixed:
                all_SP[:, j] = np.log(self.fixed[name])
        squares = replace(problem, misfit=MISFITS["mse-log"])
        value_S = squares.value(all_SP, weights_R[None])
        best = all_SP[np.argsort(value_S, kind="stable")[:: max(len(all_SP) // 4 // _REFINED, 1)][:_REFINED]]
        free_P = np.array([n not in self.fixed for n in self.coefficients + self.exponents])
        found = refine(squares, best, weights_R[None], free_P, max_steps=25, tolerance=1e-6)
        ends_SP = found.solutions_SP
        return ends_SP, problem.value(ends_SP, weights_R[None]), (len(ends_SP),)

    def given(self, **fixed: float) -> "OnsetLaw":
        """The same law with some parameters held, the height of the plateau `H` among them."""
        held = super().given(**fixed)
        return OnsetLaw(held.name, held.terms, held.fixed)

    def plateau(self, parameters: Mapping[str, float]) -> float:
        """The loss before anything is learnt: E + H."""
        return parameters["E"] + parameters[HEIGHT]

    def past_onset(self, parameters: Mapping[str, float], values: Mapping[str, np.ndarray]) -> np.ndarray:
        """How many times each run is past the onset: 1 where the loss has fallen by `FALLEN` of its plateau; 0 where it never does."""
        height, fall = parameters[HEIGHT], FALLEN * self.plateau(parameters)
        begins = height * max(height - fall, 0.0) / fall
        return begins / np.maximum(self._reducible(values)(parameters), 1e-300)

    def onset_flops(self, parameters: Mapping[str, float], cost: FlopsPerToken, sizes: np.ndarray) -> float:
        """Training FLOPs at which the best size begins to fall; nan where no budget does.

        Args:
            cost: training FLOPs of one token by N.
            sizes: that may be chosen, ascending.
        """
        sizes = np.geomspace(sizes.min(), sizes.max(), 60) if len(sizes) > 1 else sizes
        of_size = cost(sizes)

        def excess(log_flops: float) -> float:
            flops = float(np.exp(log_flops))
            values = {"N": sizes, "D": flops / of_size, "C": np.full(len(sizes), flops)}
            return float(np.log(max(self.past_onset(parameters, values).max(), 1e-300)))

        low, high = np.log(1e3), np.log(1e35)
        if not excess(low) < 0 < excess(high):
            return float("nan")
        return float(np.exp(optimize.brentq(excess, low, high, xtol=1e-6)))


class OnsetProblem(Problem):
    """Runs and a law with a cap. The last term of `powers_XRJ` is the plateau's, which depends on nothing."""

    def _parts(self, solutions_SP: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """log E of each, log R of each run with each term's share of it, and log H."""
        u_SRJ = super().log_terms(solutions_SP)
        log_r_SR, q_SRJ = log_sum(u_SRJ[:, :, 1:-1])
        return u_SRJ[:, :, 0], log_r_SR, q_SRJ, u_SRJ[:, :, -1]

    def log_terms(self, solutions_SP: np.ndarray) -> np.ndarray:
        """u_SRJ, the log of every term; of the last what the cap takes off the others."""
        u_SRJ = super().log_terms(solutions_SP)
        _, log_r_SR, _, h_SR = self._parts(solutions_SP)
        return np.concatenate(
            [u_SRJ[:, :, :-1], (2 * log_r_SR - np.logaddexp(log_r_SR, h_SR))[..., None]], axis=2
        )

    def _log_loss(self, solutions_SP: np.ndarray) -> np.ndarray:
        e_SR, log_r_SR, _, h_SR = self._parts(solutions_SP)
        return np.logaddexp(e_SR, log_r_SR + h_SR - np.logaddexp(log_r_SR, h_SR))

    def residual(self, solutions_SP: np.ndarray) -> np.ndarray:
        """residual_SR, in the misfit's space."""
        log_loss_SR = self._log_loss(solutions_SP)
        if self.misfit.space == "log":
            return log_loss_SR - np.log(self.loss_R)
        return np.exp(np.minimum(log_loss_SR, 50.0)) - self.loss_R

    def _slopes(self, solutions_SP: np.ndarray) -> tuple[np.ndarray, ...]:
        log_loss_SR = self._log_loss(solutions_SP)
        share_SR, capped_SRP, _, _ = self._capped(solutions_SP, log_loss_SR)
        slopes_SRP = share_SR[..., None] * capped_SRP
        slopes_SRP[..., 0] = 1 - share_SR
        ones_SR1 = np.ones((*log_loss_SR.shape, 1))
        if self.misfit.space == "log":
            return log_loss_SR - np.log(self.loss_R), slopes_SRP, ones_SR1, np.ones_like(log_loss_SR)
        loss_SR = np.exp(np.minimum(log_loss_SR, 50.0))
        return loss_SR - self.loss_R, slopes_SRP * loss_SR[:, :, None], ones_SR1, loss_SR

    def _capped(
        self, solutions_SP: np.ndarray, log_loss_SR: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The capped part's share of the loss, the derivative of its log, that of log R, and the weight of R in the cap."""
        _, log_r_SR, q_SRJ, h_SR = self._parts(solutions_SP)
        free_SR = np.exp(h_SR - np.logaddexp(log_r_SR, h_SR))  # 1 far below the plateau, 0 on it
        capped_log_SR = log_r_SR + h_SR - np.logaddexp(log_r_SR, h_SR)
        J, X = self.num_terms, len(self.powers_XRJ)
        of_r_SRP = np.zeros((*log_r_SR.shape, J + X))
        of_r_SRP[..., 1 : J - 1] = q_SRJ
        for x in range(X):
            of_r_SRP[..., J + x] = -(q_SRJ * self.powers_XRJ[x, :, 1:-1]).sum(-1)
        capped_SRP = free_SR[..., None] * of_r_SRP
        capped_SRP[..., J - 1] = 1 - free_SR
        return np.exp(capped_log_SR - log_loss_SR), capped_SRP, of_r_SRP, free_SR

    def _term_curvature(self, solutions_SP: np.ndarray, pulled_SRJ: np.ndarray) -> np.ndarray:
        """Σ_R of the second derivatives of the loss over the loss, each weighted by how hard its run pulls."""
        pull_SR = pulled_SRJ[..., 0]
        share_SR, capped_SRP, of_r_SRP, free_SR = self._capped(solutions_SP, self._log_loss(solutions_SP))
        J, X = self.num_terms, len(self.powers_XRJ)
        weight_SR = pull_SR * share_SR
        apart_SRP = of_r_SRP.copy()
        apart_SRP[..., J - 1] -= 1.0
        result = _outer(weight_SR, capped_SRP)
        result -= _outer(weight_SR * free_SR * (1 - free_SR), apart_SRP)
        # The second derivative of log R, a sum of exponentials.
        _, _, q_SRJ, _ = self._parts(solutions_SP)
        inner = weight_SR * free_SR
        result -= _outer(inner, of_r_SRP)
        for j in range(1, J - 1):
            u_RP = np.zeros((pull_SR.shape[1], J + X))
            u_RP[:, j] = 1.0
            u_RP[:, J:] = -self.powers_XRJ[:, :, j].T
            result += np.einsum("sr,rp,rq->spq", inner * q_SRJ[..., j - 1], u_RP, u_RP)
        result[:, 0, 0] += (pull_SR * (1 - share_SR)).sum(1)
        return result


def _outer(weight_SR: np.ndarray, slopes_SRP: np.ndarray) -> np.ndarray:
    return np.matmul(np.swapaxes(slopes_SRP, 1, 2), weight_SR[:, :, None] * slopes_SRP)


def capped(law: Law, name: str) -> OnsetLaw:
    """A sum of powers with a plateau that it falls from.

    Raises:
        ConfigError: a law without an irreducible loss E, or that is no sum of powers.
    """
    if type(law) is not Law or next(iter(law.terms)) != "E" or law.terms["E"] or HEIGHT in law.terms:
        raise ConfigError(
            f"The law {law.name!r} has no E to which its other terms are added; needed for an onset."
        )
    return OnsetLaw(name, {**law.terms, HEIGHT: {}}, law.fixed)


ONSET_LAWS: dict[str, OnsetLaw] = {
    law.name: law
    for law in (
        capped(LAWS["chinchilla"], "onset"),
        capped(LAWS["tied"], "onset_tied"),
        capped(Law("data", {"E": {}, "B": {"beta": {"D": 1}}}), "onset_data"),
        capped(LAWS["compute"], "onset_compute"),
    )
}
"""Laws with a plateau by name: of size and data, with one exponent for both, of data alone, of compute alone."""
