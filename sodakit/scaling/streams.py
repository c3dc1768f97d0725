"""One law for each loss of a vector (text, semantic, acoustic 1, …), with exponents that all of them share or own.

    loss_K = E_K + A_K / N^alpha + B_K / D^beta          K streams, by default with one alpha and one beta

Sharing says that size and data help every stream at one rate and only the constants differ; whether that holds is read
off the comparison with a law of its own for each stream.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sodakit.errors import ConfigError
from sodakit.scaling.fit import fit_law
from sodakit.scaling.laws import LAWS, Law
from sodakit.scaling.residuals import MISFITS, Misfit
from sodakit.scaling.solve import Problem, exponent_grid, project, refine

_STARTS = 6
_MIDDLE = (0.1587, 0.8413)
"""Quantiles one standard deviation either side of a normal mean."""


@dataclass(frozen=True, kw_only=True)
class StreamFit:
    """Laws of several losses of the same runs."""

    law: Law
    shared: tuple[str, ...]
    """Exponents that all streams share."""
    parameters: Mapping[str, Mapping[str, float]]
    """Stream → the law's parameters by name, shared ones included."""
    standard_errors: Mapping[str, Mapping[str, float]]
    """The same, as `spread` takes them; runs resampled whole, so that a run's streams stay together."""
    objective: float
    """Summed over runs and streams."""
    separate_objective: float
    """The same where every stream has a law of its own; never above `objective`."""
    aicc: float
    """Akaike's criterion, corrected for few runs, of the log residuals; compare with `separate_aicc`."""
    separate_aicc: float
    agreeing: int
    """Starts that ended within 1e-6 of the lowest objective."""
    converged: bool
    """Whether the quadratic model sees nothing left to fall."""

    @property
    def sharing_holds(self) -> bool:
        """Whether shared exponents are the better description by Akaike's criterion."""
        return self.aicc <= self.separate_aicc


def fit_streams(
    values: Mapping[str, np.ndarray],
    losses: Mapping[str, np.ndarray],
    *,
    law: Law = LAWS["chinchilla"],
    shared: Sequence[str] = ("alpha", "beta"),
    misfit: Misfit = MISFITS["huber"],
    draws: int = 200,
    seed: int = 0,
) -> StreamFit:
    """The law of every stream at the minimum of the misfit summed over streams.

    Args:
        values: N, D (and C) of the runs.
        losses: stream → loss_R in nats per token, of the same runs.
        shared: exponents that all streams have in common; empty for none.
        draws: bootstrap refits.
    Raises:
        ConfigError: no streams, an unknown exponent, or fewer runs than parameters.
    """
    unknown = [x for x in shared if x not in law.exponents]
    if unknown or not losses:
        raise ConfigError(
            f"{len(losses)} streams, shared: {', '.join(shared) or 'none'}; needed: at least one stream and exponents among "
            f"{', '.join(law.exponents)}."
        )
    joint = _Joint(law, tuple(x for x in law.exponents if x in shared), values, losses, misfit)
    starts_SP = joint.starts()
    ones_SR = np.ones((1, len(joint.problem.loss_R)))
    free_P = np.ones(starts_SP.shape[1], bool)
    ends = refine(joint.problem, starts_SP, ones_SR, free_P, max_steps=200)
    best = int(np.argmin(ends.objective_S))
    objective = float(ends.objective_S[best])
    alone = {name: fit_law(law, values, loss_R, misfit=misfit) for name, loss_R in losses.items()}
    own = law.num_free
    together = (
        len(losses) * len(law.terms)
        + len(joint.shared)
        + len(losses) * (own - len(law.terms) - len(joint.shared))
    )
    residual_R = joint.residual(ends.solutions_SP[best])
    separate_R = np.concatenate([fit.residual_R for fit in alone.values()])
    draws_SP = joint.resampled(ends.solutions_SP[best], draws, seed)
    return StreamFit(
        law=law,
        shared=joint.shared,
        parameters=joint.natural(ends.solutions_SP[best]),
        standard_errors=joint.spread(draws_SP),
        objective=objective,
        separate_objective=sum(fit.objective for fit in alone.values()),
        aicc=_aicc(residual_R, together, len(losses)),
        separate_aicc=_aicc(separate_R, own * len(losses), len(losses)),
        agreeing=int((ends.objective_S <= objective * (1 + 1e-6)).sum()),
        converged=bool(ends.converged_S[best]),
    )


class _Joint:
    """All streams as one problem: each has its own terms, absent (−inf) in the rows of the others."""

    def __init__(
        self,
        law: Law,
        shared: tuple[str, ...],
        values: Mapping[str, np.ndarray],
        losses: Mapping[str, np.ndarray],
        misfit: Misfit,
    ) -> None:
        self.law, self.shared, self.names = law, shared, tuple(losses)
        raw_XRJ = law.powers(values)
        self.centre_XJ = raw_XRJ.mean(1)
        self.powers_XRJ = raw_XRJ - self.centre_XJ[:, None, :]
        _, R, J = self.powers_XRJ.shape
        K = len(losses)
        for name, loss_R in losses.items():
            if len(loss_R) != R or not (np.isfinite(loss_R).all() and (loss_R > 0).all()):
                raise ConfigError(f"The loss {name!r} is not a positive number in each of the {R} runs.")
        if law.num_free >= R:
            raise ConfigError(f"{R} runs for {law.num_free} parameters of each stream; needed: more runs.")
        columns = [(x, None) for x in shared] + [
            (x, k) for x in law.exponents if x not in shared for k in range(K)
        ]
        powers = np.zeros((len(columns), K * R, K * J))
        offsets = np.full((K * R, K * J), -np.inf)
        for k in range(K):
            rows, terms = slice(k * R, (k + 1) * R), slice(k * J, (k + 1) * J)
            offsets[rows, terms] = 0.0
            for c, (exponent, owner) in enumerate(columns):
                if owner in (None, k):
                    powers[c, rows, terms] = self.powers_XRJ[law.exponents.index(exponent)]
        self.columns = columns
        self.loss_KR = np.stack([np.asarray(loss_R, float) for loss_R in losses.values()])
        self.problem = Problem(powers, self.loss_KR.reshape(-1), misfit, offsets)

    def starts(self) -> np.ndarray:
        """starts_SP: the lowest points of a grid of exponents that all streams share, coefficients projected out."""
        theta_SX, _ = exponent_grid(np.full(len(self.law.exponents), np.nan))
        J, R = len(self.law.terms), self.powers_XRJ.shape[1]
        coefficients, objective_S = [], np.zeros(len(theta_SX))
        for loss_R in self.loss_KR:
            one = Problem(self.powers_XRJ, loss_R, self.problem.misfit)
            solutions_SP, cost_S = project(one, theta_SX, np.ones(R), np.full(J, np.nan))
            coefficients.append(solutions_SP[:, :J])
            objective_S += cost_S
        lowest = np.argsort(objective_S)[: max(len(theta_SX) // 4, 1)]
        chosen = lowest[:: max(len(lowest) // _STARTS, 1)][:_STARTS]
        exponents = [theta_SX[:, self.law.exponents.index(x)][:, None] for x, _ in self.columns]
        return np.concatenate([*coefficients, *exponents], axis=1)[chosen]

    def residual(self, solution_P: np.ndarray) -> np.ndarray:
        """log predicted − log observed, stream after stream."""
        parameters = self.natural(solution_P, centred=True)
        parts = []
        for name, loss_R in zip(self.names, self.loss_KR, strict=True):
            p = parameters[name]
            exponents_X = np.array([p[x] for x in self.law.exponents])
            terms_RJ = np.exp(-np.tensordot(exponents_X, self.powers_XRJ, 1))
            parts.append(np.log(terms_RJ @ np.array([p[c] for c in self.law.coefficients])) - np.log(loss_R))
        return np.concatenate(parts)

    def resampled(self, solution_P: np.ndarray, draws: int, seed: int) -> np.ndarray:
        """Refits of resampled runs; a run is drawn with all its streams."""
        R, K = self.powers_XRJ.shape[1], len(self.names)
        counts_SR = np.random.default_rng(seed).multinomial(R, np.full(R, 1 / R), draws).astype(float)
        starts_SP = np.repeat(solution_P[None], draws, 0)
        free_P = np.ones(starts_SP.shape[1], bool)
        ends = refine(
            self.problem, starts_SP, np.tile(counts_SR, (1, K)), free_P, max_steps=60, tolerance=1e-9
        )
        return ends.solutions_SP[np.isfinite(ends.objective_S)]

    def natural(self, solution_P: np.ndarray, centred: bool = False) -> dict[str, dict[str, float]]:
        """Stream → parameters by name, in the units of the runs unless `centred`."""
        J, K = len(self.law.terms), len(self.names)
        exponents_C = solution_P[K * J :]
        found = {}
        for k, name in enumerate(self.names):
            mine = {
                x: float(v)
                for (x, owner), v in zip(self.columns, exponents_C, strict=True)
                if owner in (None, k)
            }
            exponents_X = np.array([mine[x] for x in self.law.exponents])
            shift_J = 0.0 if centred else exponents_X @ self.centre_XJ
            logs_J = np.minimum(solution_P[k * J : (k + 1) * J] + shift_J, 700.0)
            found[name] = dict(zip(self.law.coefficients, np.exp(logs_J).tolist(), strict=True)) | mine
        return found

    def spread(self, draws_SP: np.ndarray) -> dict[str, dict[str, float]]:
        """Half of what the middle 68 % of refits span, by stream and parameter.

        The standard deviation where refits are normal; A and B span so many powers of ten that theirs has no meaning.
        """
        rows = [self.natural(row) for row in draws_SP]
        parameters = self.law.coefficients + self.law.exponents
        return {
            name: {p: float(np.ptp(np.quantile([r[name][p] for r in rows], _MIDDLE))) / 2 for p in parameters}
            for name in self.names
        }


def _aicc(residual_R: np.ndarray, parameters: int, streams: int) -> float:
    """Of normal log residuals with a noise of its own for each stream."""
    parts = residual_R.reshape(streams, -1)
    runs = parts.shape[1]
    n, k = residual_R.size, parameters + streams
    fit = float(sum(runs * np.log(max(float((p**2).mean()), 1e-300)) for p in parts))
    return fit + 2 * k + 2 * k * (k + 1) / max(n - k - 1, 1)
