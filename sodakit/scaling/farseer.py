"""Farseer's law: how fast data help depends on the size of the model.

    L = exp(s N^q + S) + exp(B N^b + Q) / D^exp(A N^a + E)

Nine parameters, none of them a coefficient: the law is no sum of powers, so it has derivatives and starts of its own. Between
runs each exponent of N hardly differs from a logarithm, so while it is fitted s N^q is written s̃ (exp(q n) − 1) / q with
n = ln N less its mean: then q may pass through 0, and parameters are of one scale.

Source: Li et al. 2025, arXiv 2506.10972, for N without embeddings.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from sodakit.errors import ConfigError
from sodakit.scaling.laws import FARSEER, LAWS, Law
from sodakit.scaling.residuals import MISFITS, Misfit
from sodakit.scaling.solve import Problem, refine

_FLAT = 1e-6
"""Exponents of N nearer to 0 are told as this: the powers they stand for grow without bound."""
_STARTS = (-0.4, -0.05, 0.3)
"""Of each exponent of N."""


@dataclass(frozen=True)
class FarseerLaw(Law):
    """The law, with what each of its parameters stands beside; S and Q stand for the two terms."""

    @property
    def profiled(self) -> tuple[str, ...]:
        """The exponents of N: each other parameter leans on one of them."""
        return ("q", "b", "a")

    def told_apart(self, name: str) -> tuple[float, float]:
        """The values of a parameter that runs can tell apart."""
        return (-2.5, 2.5) if name in self.profiled else (-np.inf, np.inf)

    def powers(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Not of this law.

        Raises:
            ConfigError: always; what asks is made for sums of powers.
        """
        raise ConfigError(
            "Farseer's law is no sum of powers, which this needs. Take 'chinchilla' or a formula."
        )

    def losses(self, values: Mapping[str, np.ndarray | float]) -> Callable[[Mapping[str, float]], np.ndarray]:
        """loss_R of runs with these N and D, as a function of the published parameters."""
        logs = self.logs(values)
        size_R = np.exp(logs["N"])

        def of(p: Mapping[str, float]) -> np.ndarray:
            with np.errstate(over="ignore"):
                # As while it is fitted: a slope this large leaves nothing of the term.
                slope_R = np.exp(np.minimum(p["A"] * size_R ** p["a"] + p["E"], 5.0))
                reducible_R = np.exp(p["B"] * size_R ** p["b"] + p["Q"] - slope_R * logs["D"])
                return np.exp(p["s"] * size_R ** p["q"] + p["S"]) + reducible_R

        return of

    def given(self, **fixed: float) -> Law:
        """The law itself: nothing of it can be held.

        Raises:
            ConfigError: something is to be.
        """
        if fixed:
            raise ConfigError(
                f"{', '.join(fixed)} cannot be held in Farseer's law. Hold parameters of 'chinchilla', or of a sum of powers."
            )
        return self

    def centre(self, values: Mapping[str, np.ndarray], weights_R: np.ndarray) -> np.ndarray:
        """The mean of ln N, for every parameter and term."""
        middle = float(np.average(self.logs(values)["N"], weights=weights_R))
        return np.full((len(self.exponents), len(self.terms)), middle)

    def problem(
        self, values: Mapping[str, np.ndarray], centre_XJ: np.ndarray, loss_R: np.ndarray, misfit: Misfit
    ) -> Problem:
        """What is minimised, in centred parameters."""
        logs = self.logs(values)
        powers_XRJ = np.stack([logs["N"] - centre_XJ[0, 0], logs["D"]])[..., None].repeat(2, axis=2)
        return FarseerProblem(powers_XRJ, loss_R, misfit)

    def natural(self, solutions_SP: np.ndarray, centre_XJ: np.ndarray) -> np.ndarray:
        """Centred parameters as the published ones."""
        found = np.array(solutions_SP, float)
        for constant, factor, exponent in _BENT:
            power_S = solutions_SP[:, exponent]
            power_S = np.where(np.abs(power_S) < _FLAT, np.copysign(_FLAT, power_S), power_S)
            scaled_S = solutions_SP[:, factor] / power_S
            found[:, constant] -= scaled_S
            found[:, factor] = scaled_S * np.exp(-power_S * centre_XJ[0, 0])
            found[:, exponent] = power_S
        return found

    def grid(
        self, problem: Problem, weights_R: np.ndarray, points: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
        """Chinchilla's law of the runs, bent by exponents of N from a grid: each refined a few steps, by squares."""
        n_R, d_R = problem.powers_XRJ[0, :, 0], problem.powers_XRJ[1, :, 0]
        plain = LAWS["chinchilla"]
        values = {"N": np.exp(n_R), "D": np.exp(d_R)}
        centre_XJ = plain.centre(values, weights_R)
        easy = plain.problem(values, centre_XJ, problem.loss_R, MISFITS["mse-log"])
        coarse_SP, objective_S, _ = plain.grid(easy, weights_R, 9)
        known = plain.natural(coarse_SP[[int(np.argmin(objective_S))]], centre_XJ)[0]
        E, A, B, alpha, beta = known
        floor_R = np.log(np.maximum(E + A * np.exp(-alpha * n_R), 1e-3 * problem.loss_R.min()))
        starts = []
        for q, b, a in product(_STARTS, repeat=3):
            design = np.stack([np.ones_like(n_R), _bent(n_R, np.array(q))[0]], axis=1)
            S, s = np.linalg.lstsq(design, floor_R, rcond=None)[0]
            starts.append([S, np.log(max(B, 1e-6)), q, s, b, 0.0, a, 0.0, np.log(max(beta, 1e-3))])
        free_P = np.ones(len(starts[0]), bool)
        squares = replace(problem, misfit=MISFITS["mse-log"])
        found = refine(squares, np.array(starts), weights_R[None], free_P, max_steps=25, tolerance=1e-6)
        value_S = problem.value(
            found.solutions_SP, np.broadcast_to(weights_R, (len(starts), len(problem.loss_R)))
        )
        return found.solutions_SP, value_S, (len(_STARTS),) * 3


_EVERY = _S, _Q, _q, _s, _b, _B, _a, _A, _E = range(9)
_OWN = ([_S, _q, _s], [_Q, _b, _B, _a, _A, _E])
"""Which parameters each term has."""
_BENT = ((_S, _s, _q), (_Q, _B, _b), (_E, _A, _a))
"""Where S, Q and E stand, the factor of N beside each, and its exponent."""


class FarseerProblem(Problem):
    """Runs and Farseer's law. `powers_XRJ` holds ln N less its mean, and ln D, alike for both terms."""

    def _parts(self, solutions_SP: np.ndarray) -> tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray]:
        """For S, Q and E the bent size with its derivatives; the slope over ln D, slope_SR; and ln D."""
        n_R = self.powers_XRJ[0, :, 0]
        bent = tuple(np.stack(_bent(n_R, solutions_SP[:, x])) for _, _, x in _BENT)
        slope_SR = np.exp(np.minimum(solutions_SP[:, [_E]] + solutions_SP[:, [_A]] * bent[2][0], 5.0))
        return bent, slope_SR, self.powers_XRJ[1, :, 0]

    def log_terms(self, solutions_SP: np.ndarray) -> np.ndarray:
        """u_SRJ, the log of both terms."""
        bent, slope_SR, d_R = self._parts(solutions_SP)
        S, Q, s, B = (solutions_SP[:, [p]] for p in (_S, _Q, _s, _B))
        return np.stack([S + s * bent[0][0], Q + B * bent[1][0] - slope_SR * d_R], axis=2)

    def _log_slopes(self, solutions_SP: np.ndarray, share_SRJ: np.ndarray) -> np.ndarray:
        found = np.empty((*share_SRJ.shape[:2], len(_EVERY)))
        for term, own_SRP in enumerate(self._term_slopes(solutions_SP)):
            found[..., _OWN[term]] = share_SRJ[..., term, None] * own_SRP
        return found

    def _term_slopes(self, solutions_SP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives of the log of each term by its own parameters, in the order of `_OWN`."""
        bent, slope_SR, d_R = self._parts(solutions_SP)
        s, B, A = (solutions_SP[:, [p]] for p in (_s, _B, _A))
        ones_SR, pull_SR = np.ones_like(slope_SR), -slope_SR * d_R
        of_size = [ones_SR, s * bent[0][1], bent[0][0]]
        of_data = [
            ones_SR,
            B * bent[1][1],
            bent[1][0],
            pull_SR * A * bent[2][1],
            pull_SR * bent[2][0],
            pull_SR,
        ]
        return np.stack(of_size, axis=2), np.stack(of_data, axis=2)

    def _term_curvature(self, solutions_SP: np.ndarray, pulled_SRJ: np.ndarray) -> np.ndarray:
        result = np.zeros((len(solutions_SP), len(_EVERY), len(_EVERY)))
        for term, own_SRP in enumerate(self._term_slopes(solutions_SP)):
            pulled_SRP = pulled_SRJ[..., term, None] * own_SRP
            rows, columns = np.ix_(_OWN[term], _OWN[term])
            result[:, rows, columns] = np.matmul(np.swapaxes(own_SRP, 1, 2), pulled_SRP)
        bent, slope_SR, d_R = self._parts(solutions_SP)
        s, B, A = (solutions_SP[:, [p]] for p in (_s, _B, _A))
        one_SR, two_SR = pulled_SRJ[..., 0], pulled_SRJ[..., 1]
        pull_SR = -two_SR * slope_SR * d_R
        h, first, second = bent[2]

        def add(p: int, q: int, value_SR: np.ndarray) -> None:
            result[:, p, q] += value_SR.sum(1)
            if p != q:
                result[:, q, p] += value_SR.sum(1)

        add(_s, _q, one_SR * bent[0][1])
        add(_q, _q, one_SR * s * bent[0][2])
        add(_B, _b, two_SR * bent[1][1])
        add(_b, _b, two_SR * B * bent[1][2])
        add(_E, _E, pull_SR)
        add(_E, _A, pull_SR * h)
        add(_E, _a, pull_SR * A * first)
        add(_A, _A, pull_SR * h**2)
        add(_A, _a, pull_SR * (first + A * h * first))
        add(_a, _a, pull_SR * ((A * first) ** 2 + A * second))
        return result


def _bent(n_R: np.ndarray, exponent_S: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(exp(x n) - 1) / x, which is n at x = 0, with its first two derivatives by x: each (S, R), or (R,) for one x."""
    t = np.minimum(np.multiply.outer(exponent_S, n_R), 50.0)
    near = np.abs(t) < 0.02
    over = 1 / np.where(near, 1.0, t)
    e = np.exp(t)
    # Each from the one before, by parts; products, for powers of arrays are slow.
    zeroth = np.where(near, 1 + t * (1 / 2 + t * (1 / 6 + t / 24)), (e - 1) * over)
    first = np.where(near, 1 / 2 + t * (1 / 3 + t * (1 / 8 + t / 30)), (e - zeroth) * over)
    second = np.where(near, 1 / 3 + t * (1 / 4 + t * (1 / 10 + t / 36)), (e - 2 * first) * over)
    return n_R * zeroth, n_R * n_R * first, n_R * n_R * n_R * second


FARSEER_LAW = FarseerLaw(
    FARSEER,
    {
        "S": {"q": {"N": 1}, "s": {"N": 1}},
        "Q": {"b": {"N": 1}, "B": {"N": 1}, "a": {"N": 1, "D": 1}, "A": {"N": 1, "D": 1}, "E": {"D": 1}},
    },
)
