"""What runs tell about a law: derivatives of log loss, the standard error of a question, and the runs one could do.

The information of a run on the law's parameters is J Jᵀ / noise², J being the derivative of its log loss.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sodakit.errors import ConfigError
from sodakit.scaling.design import GridRule, point_at
from sodakit.scaling.intervals import Quantity, log_optimal_size
from sodakit.scaling.laws import LAWS, Law
from sodakit.scaling.point import DesignPoint
from sodakit.scaling.residuals import Misfit
from sodakit.scaling.solve import Problem

NOISE = 0.005
"""Standard deviation of log loss expected between equal runs until a sweep has seeds (0.003–0.009 in published ones)."""


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Runs that exist or might: sizes, tokens and what each costs."""

    size_R: np.ndarray
    tokens_R: np.ndarray
    cost_R: np.ndarray
    """Training FLOPs."""
    points: Sequence[DesignPoint] = ()
    """The buildable run behind each, where there is one."""

    def __len__(self) -> int:
        return len(self.size_R)

    def equal_to(self, size: float, tokens: float) -> np.ndarray:
        """Which runs have this N and D, as far as a table tells that may give them rounded."""
        return np.isclose(self.size_R, size, rtol=1e-3) & np.isclose(self.tokens_R, tokens, rtol=1e-3)

    def take(self, indices: Sequence[int] | np.ndarray) -> "Runs":
        """Some of them, repeats allowed."""
        chosen = np.asarray(indices, int)
        points = [self.points[i] for i in chosen] if self.points else ()
        return Runs(
            size_R=self.size_R[chosen],
            tokens_R=self.tokens_R[chosen],
            cost_R=self.cost_R[chosen],
            points=points,
        )


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A law believed for now: what it expects of runs, and how quantities depend on its parameters."""

    parameters: Mapping[str, float]
    law: Law = LAWS["chinchilla"]

    def slopes(self, runs: Runs) -> np.ndarray:
        """J_RP: the derivative of each run's log loss by log coefficients and exponents."""
        powers_XRJ = self.law.powers({"N": runs.size_R, "D": runs.tokens_R, "C": runs.cost_R})
        problem = Problem(powers_XRJ, np.ones(len(runs)), Misfit(delta=None))
        return problem.slopes(self._solution_P[None])[1][0]

    def gradient(self, quantity: Quantity) -> np.ndarray:
        """g_P: the derivative of a quantity by log coefficients and exponents."""
        J = len(self.law.terms)
        names = self.law.coefficients + self.law.exponents
        slope_P = np.zeros(len(names))
        for p in range(len(names)):
            read = []
            for sign in (1, -1):
                at = self._solution_P.copy()
                at[p] += sign * 1e-6
                read.append(quantity(dict(zip(names, np.concatenate([np.exp(at[:J]), at[J:]]), strict=True))))
            slope_P[p] = (read[0] - read[1]) / 2e-6
        return slope_P

    def optimal_size(self, flops: float | np.ndarray) -> np.ndarray:
        """N* with C = 6ND."""
        flops = np.atleast_1d(np.asarray(flops, float))
        return np.exp([log_optimal_size(c)(self.parameters) for c in flops])

    @property
    def _solution_P(self) -> np.ndarray:
        p = self.parameters
        return np.array(
            [np.log(p[c]) for c in self.law.coefficients] + [p[x] for x in self.law.exponents], float
        )


def exponent_a(p: Mapping[str, float]) -> float:
    """The question most sweeps ask: how fast the best size grows with compute."""
    return p["beta"] / (p["alpha"] + p["beta"])


def standard_error(
    surface: Surface,
    runs: Runs,
    quantity: Quantity,
    *,
    noise: float = NOISE,
    counts_R: np.ndarray | None = None,
) -> float:
    """The standard error of a quantity that these runs will give, by the law's own information; inf where they cannot
    determine it."""
    slopes_RP = surface.slopes(runs)
    counts_R = np.ones(len(runs)) if counts_R is None else counts_R
    # Scaling columns first: coefficients and exponents differ by orders of magnitude.
    scale_P = np.sqrt((slopes_RP**2).sum(0)) + 1e-300
    scaled_RP = slopes_RP / scale_P * np.sqrt(counts_R)[:, None]
    gradient_P = surface.gradient(quantity) / scale_P
    _, singular, basis = np.linalg.svd(scaled_RP, full_matrices=False)
    if len(singular) < len(gradient_P) or singular[-1] < 1e-11 * singular[0]:
        return float("inf")
    return float(noise * np.linalg.norm((basis @ gradient_P) / singular))


def ideal_candidates(
    surface: Surface,
    *,
    budgets: tuple[float, float],
    window: float,
    num_budgets: int = 25,
    num_sizes: int = 25,
) -> Runs:
    """Runs with C = 6ND on an even grid of log C and log N, within `window` times N* at each budget."""
    flops = np.geomspace(*budgets, num_budgets)
    around = np.geomspace(1 / window, window, num_sizes)
    size = surface.optimal_size(flops)[:, None] * around
    cost = np.repeat(flops, num_sizes)
    return Runs(size_R=size.reshape(-1), tokens_R=cost / 6 / size.reshape(-1), cost_R=cost)


def buildable_candidates(
    surface: Surface,
    rule: GridRule,
    budgets_flops: Sequence[float],
    widths: Sequence[int],
    *,
    window: float = 8.0,
    size: str = "two_embeddings",
) -> Runs:
    """Every run the rule allows at these budgets and widths, within `window` times the surface's own N*.

    Raises:
        ConfigError: none is left.
    """
    points: list[DesignPoint] = []
    for budget in budgets_flops:
        row = [p for w in widths if (p := point_at(budget, w, rule, source="optimal")) is not None]
        if not row:
            continue
        sizes = np.array([getattr(p.size, size) for p in row], float)
        tokens = np.array([p.tokens for p in row], float)
        best = int(np.argmin(surface.law.loss(surface.parameters, N=sizes, D=tokens)))
        points += [p for p, n in zip(row, sizes, strict=True) if 1 / window <= n / sizes[best] <= window]
    if not points:
        raise ConfigError(
            "No run is buildable at these budgets and widths. Lower min_batch_rows, or widen both."
        )
    return runs_of(points, size)


def runs_of(points: Sequence[DesignPoint], size: str = "two_embeddings") -> Runs:
    """Design points as runs."""
    return Runs(
        size_R=np.array([getattr(p.size, size) for p in points], float),
        tokens_R=np.array([p.tokens for p in points], float),
        cost_R=np.array([p.training_flops for p in points]),
        points=list(points),
    )
