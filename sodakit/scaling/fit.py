"""A law fitted to runs: the global minimum with its certificate, and what can be read off it.

fit = fit_law(LAWS["chinchilla"], {"N": params, "D": tokens}, losses)
fit.parameters["alpha"], fit.optimum_exponents, fit.certificate
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from sodakit.errors import ConfigError
from sodakit.scaling.kinks import settle
from sodakit.scaling.laws import LAWS, Law
from sodakit.scaling.residuals import MISFITS, Misfit
from sodakit.scaling.solve import Problem, Refined, refine

ABSENT_SHARE = 1e-6
"""A term that nowhere reaches this share of the loss is not identified."""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Why the minimum is believed to be the global one."""

    grid_points: int
    """Pairs of exponents at which the other parameters were solved for."""
    starts: int
    """Points of that grid refined to the end: all its local minima, and others spread over its lowest quarter."""
    agreeing: int
    """Refinements that ended within 1e-6 of the lowest objective."""
    decrement: float
    """How far the objective could still fall by its quadratic model, relative to it."""
    gradient: float
    """Largest derivative by a parameter, relative to the objective."""
    condition: float
    """Condition of the Hessian in centred parameters: large means some combination is hardly determined."""
    grid_above: bool
    """No grid point lies below the minimum."""
    exact: bool = False
    """Every residual is zero but for rounding, as of losses that were computed."""

    @property
    def holds(self) -> bool:
        """Whether everything it can show was shown: no grid point lies below, it is a minimum, and it was reached twice; or
        the law goes through every run, and nothing can lie below."""
        return self.exact or (self.grid_above and self.decrement < 1e-8 and self.agreeing >= 2)

    def __str__(self) -> str:
        return (
            f"{'global minimum' if self.holds else 'NOT CERTIFIED'}: {self.agreeing} of {self.starts} starts from a "
            f"{self.grid_points}-point grid end there, relative gradient {self.gradient:.1e}, "
            f"Hessian condition {self.condition:.1e}"
        )


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A law with its parameters, and the runs it was fitted to."""

    law: Law
    misfit: Misfit
    values: Mapping[str, np.ndarray]
    """N, D, C of every run, as far as the law needs or the runs tell."""
    loss_R: np.ndarray
    """Observed losses."""
    weights_R: np.ndarray
    """Weight of each run in the objective."""
    solution_P: np.ndarray
    """Centred parameters: log coefficients, then exponents."""
    centre_XJ: np.ndarray
    """What was taken off the logs."""
    objective: float
    """The weighted sum of misfit costs."""
    certificate: Certificate

    @property
    def parameters(self) -> dict[str, float]:
        """Coefficients and exponents by name, in the units of the runs."""
        return dict(zip(self.names, self.natural(self.solution_P[None])[0].tolist(), strict=True))

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names in order."""
        return self.law.coefficients + self.law.exponents

    @property
    def problem(self) -> Problem:
        """The minimisation that was solved."""
        return self.law.problem(self.values, self.centre_XJ, self.loss_R, self.misfit)

    @property
    def free_P(self) -> np.ndarray:
        """Which parameters were found rather than given."""
        return np.array([name not in self.law.fixed for name in self.names])

    def natural(self, solutions_SP: np.ndarray) -> np.ndarray:
        """Centred parameters as coefficients and exponents in the units of the runs."""
        return self.law.natural(solutions_SP, self.centre_XJ)

    def predict(self, **values: np.ndarray | float) -> np.ndarray:
        """loss_R at these N, D (and C)."""
        return self.law.loss(self.parameters, **values)

    @property
    def residual_R(self) -> np.ndarray:
        """log predicted − log observed loss of each run."""
        return np.log(self.predict(**self.values)) - np.log(self.loss_R)

    @property
    def noise(self) -> float:
        """Robust standard deviation of log loss about the law, corrected for the parameters used up."""
        spread = 1.4826 * float(np.median(np.abs(self.residual_R - np.median(self.residual_R))))
        used = min(self.law.num_free, len(self.loss_R) - 1)
        return spread * float(np.sqrt(len(self.loss_R) / (len(self.loss_R) - used)))

    @property
    def optimum_exponents(self) -> dict[str, float]:
        """a and b of N* ∝ C^a, D* ∝ C^b with C = 6ND; empty where the law has no size and data terms.

        a + b is 1 here by construction. With exact FLOPs it need not be: see `plan.py`.
        """
        p = self.parameters
        if not self.law.trades:
            return {}
        alpha = p["alpha"]
        beta = p.get("beta", alpha)
        return {"a": beta / (alpha + beta), "b": alpha / (alpha + beta)}

    @property
    def unidentified(self) -> dict[str, str]:
        """Parameters these runs say nothing about, with the reason."""
        J = len(self.law.terms)
        u_RJ = self.problem.log_terms(self.solution_P[None])[0]
        share_J = np.exp(u_RJ - np.logaddexp.reduce(u_RJ, axis=1)[:, None]).max(0)
        found: dict[str, str] = {}
        for name, share, terms in zip(self.law.coefficients, share_J, self.law.terms.values(), strict=True):
            if share < ABSENT_SHARE and name not in self.law.fixed:
                found[name] = "driven to 0: the runs do not reach where it would be seen"
                found |= {x: f"its only term, {name}, is absent" for x in terms if self._only_in(x, name)}
        for name, value in zip(self.law.exponents, self.solution_P[J:], strict=True):
            low, high = self.law.told_apart(name)
            if name not in self.law.fixed and not low < value < high:
                found.setdefault(name, f"at {value:.3g}, outside the {low}–{high} that runs can tell apart")
        return found

    def _only_in(self, exponent: str, term: str) -> bool:
        return [t for t, exponents in self.law.terms.items() if exponent in exponents] == [term]


def fit_law(
    law: Law,
    values: Mapping[str, np.ndarray],
    loss_R: np.ndarray,
    *,
    misfit: Misfit = MISFITS["huber"],
    weights_R: np.ndarray | None = None,
    max_starts: int = 6,
    grid_points: int | None = None,
) -> Fit:
    """The law at the global minimum of its misfit.

    Coefficients are projected out on a grid of exponents; every local minimum of that grid is refined in all
    parameters by Newton's method with exact derivatives. 64 runs take some tens of milliseconds.

    Args:
        values: N, D and C of the runs, those the law uses.
        loss_R: their losses in nats, positive.
        weights_R: 1 for every run by default.
        max_starts: grid points to refine, local minima first; four times as many where only one ends at the lowest value.
        grid_points: per exponent.
    Raises:
        ConfigError: fewer runs than parameters, or a value that is not positive and finite.
    """
    loss_R = np.asarray(loss_R, float)
    weights_R = np.ones(len(loss_R)) if weights_R is None else np.asarray(weights_R, float)
    if (weights_R > 0).sum() <= law.num_free:
        raise ConfigError(
            f"{int((weights_R > 0).sum())} runs for the {law.num_free} parameters of the law {law.name!r}; needed: more runs "
            "than parameters. Add runs, hold E, or take a law with fewer parameters."
        )
    if not (np.isfinite(loss_R).all() and (loss_R > 0).all()):
        raise ConfigError(
            "Some losses are not positive numbers. Leave those runs out, or mark them as diverged."
        )
    given = {len(np.atleast_1d(values[name])) for name in law.variables if name in values}
    if given - {len(loss_R)}:
        raise ConfigError(f"{max(given)} runs with N and D, {len(loss_R)} with a loss; needed: the same.")
    centre_XJ = law.centre(values, weights_R)
    problem = law.problem(values, centre_XJ, loss_R, misfit)
    free_P = np.array([n not in law.fixed for n in law.coefficients + law.exponents])
    on_grid_SP, grid_S, shape = law.grid(problem, weights_R, grid_points)
    ends = _refined(problem, on_grid_SP[_starts(grid_S, shape, max_starts)], weights_R, free_P)
    if max_starts > 2 and _agreeing(ends.objective_S) < 2:
        more = _starts(grid_S, shape, 4 * max_starts)
        ends = _refined(problem, on_grid_SP[more], weights_R, free_P)
    best = int(np.argmin(ends.objective_S))
    objective = float(ends.objective_S[best])
    return Fit(
        law=law,
        misfit=misfit,
        values={k: np.asarray(v, float) for k, v in values.items()},
        loss_R=loss_R,
        weights_R=weights_R,
        solution_P=ends.solutions_SP[best],
        centre_XJ=centre_XJ,
        objective=objective,
        certificate=_certify(
            problem, ends.solutions_SP[best], weights_R, free_P, objective, grid_S, ends.objective_S
        ),
    )


def _refined(problem: Problem, starts_SP: np.ndarray, weights_R: np.ndarray, free_P: np.ndarray) -> Refined:
    """Every start taken down to its minimum; misfits with kinks by way of their smooth relatives."""
    if problem.misfit.is_sharp:
        for misfit in problem.misfit.road:
            easier = replace(problem, misfit=misfit)
            starts_SP = refine(
                easier, starts_SP, weights_R[None], free_P, max_steps=20, tolerance=1e-8
            ).solutions_SP
    elif problem.misfit.smoothed is not None:
        easier = replace(problem, misfit=problem.misfit.smoothed)
        starts_SP = refine(
            easier, starts_SP, weights_R[None], free_P, max_steps=12, tolerance=1e-4
        ).solutions_SP
    found = refine(problem, starts_SP, weights_R[None], free_P)
    return settle(problem, found, weights_R, free_P) if problem.misfit.is_sharp else found


def _agreeing(ends_S: np.ndarray) -> int:
    """Refinements that ended within 1e-6 of the lowest objective."""
    return int((ends_S <= ends_S.min() * (1 + 1e-6) + 1e-20).sum())


def _certify(
    problem: Problem,
    solution_P: np.ndarray,
    weights_R: np.ndarray,
    free_P: np.ndarray,
    objective: float,
    grid_S: np.ndarray,
    ends_S: np.ndarray,
) -> Certificate:
    _, gradient_SP, hessian_SPP = problem.derivatives(solution_P[None], weights_R[None])
    gradient_P, hessian_PP = gradient_SP[0][free_P], hessian_SPP[0][free_P][:, free_P]
    size_P = np.abs(np.linalg.eigvalsh(hessian_PP))
    scale = max(objective, 1e-300)
    decrement = 0.5 * float(gradient_P @ np.linalg.lstsq(hessian_PP, gradient_P, rcond=1e-14)[0])
    return Certificate(
        grid_points=len(grid_S),
        starts=len(ends_S),
        agreeing=_agreeing(ends_S),
        decrement=abs(decrement) / scale,
        gradient=float(np.abs(gradient_P).max()) / scale,
        condition=float(size_P.max() / max(size_P.min(), 1e-300)),
        grid_above=bool(grid_S.min() >= objective * (1 - 1e-9) - 1e-20),
        exact=bool(
            np.abs(problem.residual(solution_P[None])).max() < 1e-7 * max(1.0, float(problem.loss_R.max()))
        ),
    )


def _starts(grid_S: np.ndarray, shape: tuple[int, ...], most: int) -> np.ndarray:
    """The grid's local minima, then points spread over its lowest quarter."""
    minima = _local_minima(grid_S, shape)[:most]
    low = np.argsort(grid_S, kind="stable")[: max(len(grid_S) // 4, 1)]
    others = low[:: max(len(low) // most, 1)]
    return np.array(list(dict.fromkeys([*minima.tolist(), *others.tolist()]))[:most])


def _local_minima(grid_S: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Indices of grid points no neighbour undercuts, the lowest first."""
    if not shape:
        return np.array([0])
    cube = grid_S.reshape(shape)
    padded = np.pad(cube, 1, constant_values=np.inf)
    lowest = np.ones(cube.shape, bool)
    for axis, points in enumerate(shape):
        for shift in (0, 2):
            window = [slice(1, -1)] * len(shape)
            window[axis] = slice(shift, shift + points)
            lowest &= cube <= padded[tuple(window)]
    found = np.flatnonzero(lowest.reshape(-1))
    return found[np.argsort(grid_S[found], kind="stable")]


def predicted_optimum(fit: Fit, flops: float) -> tuple[float, float]:
    """N* and D* for C = 6ND, in closed form; nan where the law has none."""
    exponents = fit.optimum_exponents
    if not exponents:
        return float("nan"), float("nan")
    p = fit.parameters
    alpha = p["alpha"]
    beta = p.get("beta", alpha)
    size = (alpha * p["A"] / (beta * p["B"])) ** (1 / (alpha + beta)) * (flops / 6) ** exponents["a"]
    return size, flops / 6 / size


def fit_chinchilla(
    size_R: np.ndarray, tokens_R: np.ndarray, loss_R: np.ndarray, misfit: Misfit = MISFITS["huber"]
) -> Fit:
    """`fit_law` for the law everyone starts with."""
    return fit_law(LAWS["chinchilla"], {"N": size_R, "D": tokens_R}, loss_R, misfit=misfit)
