"""Laws of loss: sums of power terms, so that every one of them is fitted by the same solver.

Axes of this package: R runs, J terms, X exponents, S solutions refined side by side.

    loss_R = Σ_J exp(log_coefficient_J − Σ_X exponent_X · powers_XRJ)

With the exponents held, the loss is linear in its coefficients; with logs taken it is smooth in everything.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from sodakit.errors import ConfigError, nearest
from sodakit.scaling.residuals import Misfit
from sodakit.scaling.solve import GRID_HIGH, GRID_LOW, Problem, exponent_grid, project


@dataclass(frozen=True)
class Law:
    """A law by name: its terms, and what each exponent multiplies in them."""

    name: str
    """As in `LAWS`."""
    terms: Mapping[str, Mapping[str, Mapping[str, float]]]
    """Coefficient → exponent → variable → power: `{"A": {"alpha": {"N": 1}}}` is A / N^alpha."""
    fixed: Mapping[str, float] = field(default_factory=dict)
    """Coefficients and exponents that are given, by name, for example an irreducible loss E."""

    @property
    def coefficients(self) -> tuple[str, ...]:
        """Names of the terms."""
        return tuple(self.terms)

    @property
    def exponents(self) -> tuple[str, ...]:
        """Names of the exponents, in order of first use."""
        return tuple(dict.fromkeys(x for term in self.terms.values() for x in term))

    @property
    def variables(self) -> tuple[str, ...]:
        """What a run must tell: some of N, D and C."""
        named = (v for term in self.terms.values() for powers in term.values() for v in powers)
        return tuple(dict.fromkeys(named))

    @property
    def num_free(self) -> int:
        """Parameters to be found."""
        return len(self.terms) + len(self.exponents) - len(self.fixed)

    @property
    def trades(self) -> bool:
        """Whether size is traded for data as in Chinchilla's law: the optimum of N and D is where A/N^alpha and B/D^beta balance."""
        return (
            self.name in LAWS
            and {"A", "B", "alpha"} <= {*self.terms, *self.exponents}
            and "G" not in self.terms
        )

    @property
    def profiled(self) -> tuple[str, ...]:
        """Parameters whose intervals are told by profiles, those that are given among them."""
        return tuple(name for name in ("E", *self.exponents) if name in (*self.terms, *self.exponents))

    def told_apart(self, name: str) -> tuple[float, float]:
        """The values of an exponent that runs can tell apart."""
        return GRID_LOW, GRID_HIGH

    def powers(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """powers_XRJ: what each exponent multiplies in the log of each term, for the runs in `values`.

        Raises:
            ConfigError: a variable is missing, or not positive and finite in some run.
        """
        logs = self.logs(values)
        runs = max((len(v) for v in logs.values()), default=1)
        powers_XRJ = np.zeros((len(self.exponents), runs, len(self.terms)))
        for j, term in enumerate(self.terms.values()):
            for exponent, powers in term.items():
                x = self.exponents.index(exponent)
                powers_XRJ[x, :, j] = sum(power * logs[v] for v, power in powers.items())
        return powers_XRJ

    def logs(self, values: Mapping[str, np.ndarray | float]) -> dict[str, np.ndarray]:
        """The logarithm of every variable of the law, for the runs in `values`.

        Raises:
            ConfigError: a variable is missing, or not positive and finite in some run.
        """
        logs = {}
        for name in self.variables:
            if name not in values:
                raise ConfigError(
                    f"The law {self.name!r} needs {name} for every run; given: {', '.join(values)}."
                )
            given = np.atleast_1d(np.asarray(values[name], float))
            if not (np.isfinite(given).all() and (given > 0).all()):
                raise ConfigError(
                    f"{name} of some runs is not a positive number. Leave those runs out of the fit."
                )
            logs[name] = np.log(given)
        return logs

    def loss(self, parameters: Mapping[str, float], **values: np.ndarray | float) -> np.ndarray:
        """loss_R of runs with these N, D (and C), under named parameters."""
        return self.losses(values)(parameters)

    def losses(self, values: Mapping[str, np.ndarray | float]) -> Callable[[Mapping[str, float]], np.ndarray]:
        """loss_R of runs with these N, D (and C), as a function of named parameters."""
        powers_XRJ = self.powers({k: np.atleast_1d(np.asarray(v, float)) for k, v in values.items()})

        def of(parameters: Mapping[str, float]) -> np.ndarray:
            exponents_X = np.array([parameters[x] for x in self.exponents])
            coefficients_J = np.array([parameters[c] for c in self.coefficients])
            return np.exp(-np.tensordot(exponents_X, powers_XRJ, 1)) @ coefficients_J

        return of

    def centre(self, values: Mapping[str, np.ndarray], weights_R: np.ndarray) -> np.ndarray:
        """centre_XJ: what is taken off the logs, so that parameters are of one scale."""
        centre_XJ = np.average(self.powers(values), axis=1, weights=weights_R)
        # A given coefficient stays what it is: its logs are not centred.
        centre_XJ[:, [name in self.fixed for name in self.coefficients]] = 0.0
        return centre_XJ

    def problem(
        self, values: Mapping[str, np.ndarray], centre_XJ: np.ndarray, loss_R: np.ndarray, misfit: Misfit
    ) -> Problem:
        """What is minimised, in centred parameters."""
        return Problem(self.powers(values) - centre_XJ[:, None, :], loss_R, misfit)

    def natural(self, solutions_SP: np.ndarray, centre_XJ: np.ndarray) -> np.ndarray:
        """Centred parameters as coefficients and exponents in the units of the runs."""
        J = len(self.terms)
        logs_SJ = solutions_SP[:, :J] + solutions_SP[:, J:] @ centre_XJ
        return np.concatenate([np.exp(np.minimum(logs_SJ, 700.0)), solutions_SP[:, J:]], axis=1)

    def grid(
        self, problem: Problem, weights_R: np.ndarray, points: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
        """Where minima are looked for: centred solutions_SP on a grid of exponents, coefficients projected out, with their
        objective_S, and the points of each axis.

        Args:
            points: per exponent.
        """
        fixed_log_J = np.log([self.fixed.get(name, np.nan) for name in self.coefficients])
        held_X = np.array([self.fixed.get(name, np.nan) for name in self.exponents], float)
        theta_SX, shape = exponent_grid(held_X, points)
        return *project(problem, theta_SX, weights_R, fixed_log_J), shape

    def given(self, **fixed: float) -> "Law":
        """The same law with some parameters held: `LAWS["chinchilla"].given(E=1.69, beta=0.35)`.

        Raises:
            ConfigError: a name that is no parameter, or a coefficient that is not positive.
        """
        for name, value in fixed.items():
            known = (*self.coefficients, *self.exponents)
            if name not in known or not (np.isfinite(value) and (value > 0 or name in self.exponents)):
                raise ConfigError(
                    f"{name}={value}; needed: a value for one of {', '.join(known)}, positive for a coefficient."
                )
        return Law(self.name, self.terms, {**self.fixed, **fixed})


LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        # Hoffmann et al. 2022: E + A/N^α + B/D^β.
        Law("chinchilla", {"E": {}, "A": {"alpha": {"N": 1}}, "B": {"beta": {"D": 1}}}),
        # One exponent for both: optima move at equal pace.
        Law("tied", {"E": {}, "A": {"alpha": {"N": 1}}, "B": {"alpha": {"D": 1}}}),
        # Size and data interact: a further term G / (N^α · D^β).
        Law(
            "interaction",
            {
                "E": {},
                "A": {"alpha": {"N": 1}},
                "B": {"beta": {"D": 1}},
                "G": {"alpha": {"N": 1}, "beta": {"D": 1}},
            },
        ),
        # Gadre et al. 2024: E + (A·M^η + B·M^-η) · C^-η with M = D/N, for runs far from the optimum.
        Law(
            "over_training",
            {
                "E": {},
                "A": {"eta": {"C": 1, "D": -1, "N": 1}},
                "B": {"eta": {"C": 1, "D": 1, "N": -1}},
            },
        ),
        # One sweep of equally shaped optima: E + K / C^γ.
        Law("compute", {"E": {}, "K": {"gamma": {"C": 1}}}),
    )
}
"""Laws by name."""
FARSEER = "farseer"
"""The name of the law of `farseer.py`, which is no sum of powers."""


def named_law(name: str) -> Law:
    """A law by its name, or one's own as it is written: `E + A/N^a + B/(D^b N^c)`.

    Raises:
        ConfigError: no such law, or a formula that is no sum of powers.
    """
    if name in LAWS:
        return LAWS[name]
    if name == FARSEER:
        from sodakit.scaling.farseer import FARSEER_LAW  # imports this file

        return FARSEER_LAW
    from sodakit.scaling.onset import ONSET_LAWS  # imports this file

    if name in ONSET_LAWS:
        return ONSET_LAWS[name]
    if not re.fullmatch(r"[\w-]+", name):
        from sodakit.scaling.own_law import parse_law  # imports this file

        return parse_law(name)
    hint = nearest(name, (*LAWS, *ONSET_LAWS, FARSEER), "Laws")
    raise ConfigError(f"No law {name!r}.{hint} Or write your own: E + A/N^a + B/(D^b N^c).")
