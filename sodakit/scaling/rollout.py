"""Laws fitted to the smaller budgets and scored on the larger: which predicts best, and how fast one goes wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from sodakit.errors import ConfigError
from sodakit.scaling.fit import Fit, fit_law
from sodakit.scaling.intervals import delta_method
from sodakit.scaling.laws import LAWS, Law
from sodakit.scaling.residuals import MISFITS


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A law fitted to the smaller budgets and scored on the largest."""

    law: str
    misfit: str
    num_fitted: int
    num_held_out: int
    error: float
    """Mean absolute relative error of the loss on the held-out runs."""
    bias: float
    """Mean relative error: above zero where the law predicts too much loss."""
    bias_error: float
    """Standard error of the bias if the law were true: of its parameters (delta method) and of the held-out runs' noise."""
    spread: float
    """Mean absolute relative error when the held-out runs' own mean is predicted: what a law must beat."""

    @property
    def misses(self) -> bool:
        """Whether the bias is over three standard errors: more than the law, were it true, and the noise allow."""
        return abs(self.bias) > 3 * self.bias_error


HELD_OUT_LAWS = ("chinchilla", "tied", "interaction", "over_training")
"""That are scored on held-out budgets, beside the one that was asked for."""


def rollout(
    values: Mapping[str, np.ndarray],
    loss_R: np.ndarray,
    budget_R: np.ndarray,
    *,
    weights_R: np.ndarray | None = None,
    hold_out: int = 1,
    laws: Sequence[str | Law] = HELD_OUT_LAWS,
    misfits: Sequence[str] = ("huber", "mse"),
) -> list[Rollout]:
    """Every law by every misfit on all but the `hold_out` largest budgets, the best first.

    Raises:
        ConfigError: too few budgets to hold any out.
    """
    levels = np.unique(budget_R[np.isfinite(budget_R)])
    if len(levels) <= hold_out:
        raise ConfigError(f"{len(levels)} budgets; needed: more than the {hold_out} to hold out.")
    weights_R = np.ones(len(loss_R)) if weights_R is None else weights_R
    late_R = (budget_R >= levels[-hold_out]) & (weights_R > 0)
    early_R = budget_R < levels[-hold_out]  # runs of no budget are in neither
    found = []
    for asked in laws:
        law = LAWS[asked] if isinstance(asked, str) else asked
        if not set(law.variables) <= set(values) or (early_R & (weights_R > 0)).sum() <= law.num_free:
            continue
        for misfit in misfits:
            fit = fit_law(
                law,
                {k: v[early_R] for k, v in values.items()},
                loss_R[early_R],
                misfit=MISFITS[misfit],
                weights_R=weights_R[early_R],
            )
            late = {k: values[k][late_R] for k in law.variables}
            found.append(score(fit, late, loss_R[late_R], misfit=misfit))
    return sorted(found, key=lambda r: r.error)


def score(
    fit: Fit, late: Mapping[str, np.ndarray], loss_R: np.ndarray, *, misfit: str, name: str = ""
) -> Rollout:
    """A law scored on runs that it was not fitted to.

    Args:
        late: N, D and C of those runs.
        loss_R: their losses.
        name: of the way it was fitted; that of the law by default.
    """
    wrong = fit.predict(**{k: late[k] for k in fit.law.variables}) / loss_R - 1
    known, *_ = delta_method(fit, partial(_mean_log_loss, fit.law, late))
    return Rollout(
        law=name or fit.law.name,
        misfit=misfit,
        num_fitted=int((fit.weights_R > 0).sum()),
        num_held_out=len(loss_R),
        error=float(np.abs(wrong).mean()),
        bias=float(wrong.mean()),
        bias_error=float(np.hypot(known, fit.noise / np.sqrt(len(loss_R)))),
        spread=float(np.abs(loss_R.mean() / loss_R - 1).mean()),
    )


def _mean_log_loss(law: Law, at: Mapping[str, np.ndarray], parameters: Mapping[str, float]) -> float:
    return float(np.log(law.loss(parameters, **{k: at[k] for k in law.variables})).mean())


FEWEST_BUDGETS = 3
"""That a law is extrapolated from."""


@dataclass(frozen=True, kw_only=True)
class Extrapolation:
    """A law fitted up to one budget, and by how much it then misses every larger one."""

    last_budget: float
    """The largest budget of the fit."""
    num_fitted: int
    """Runs up to it."""
    budget_B: np.ndarray
    """The larger budgets, ascending."""
    error_B: np.ndarray
    """Mean over the runs of each budget of predicted − observed loss, in the unit of the loss."""
    reach_R: np.ndarray
    """How many times the last budget of the fit each held-out run's budget is."""
    error_R: np.ndarray
    """Predicted − observed loss of each held-out run."""

    @property
    def reach_B(self) -> np.ndarray:
        """How many times the last budget of the fit each larger one is."""
        return self.budget_B / self.last_budget

    def row(self) -> dict[str, float | int]:
        """Its numbers for a file: the smallest and the largest reach and the mean errors there."""
        return {
            "last_budget": self.last_budget,
            "num_fitted": self.num_fitted,
            "reach_next": float(self.reach_B[0]),
            "error_next": float(self.error_B[0]),
            "reach_last": float(self.reach_B[-1]),
            "error_last": float(self.error_B[-1]),
        }


def extrapolate(fit: Fit, budget_R: np.ndarray, *, most: int = 4) -> list[Extrapolation]:
    """The law refitted to ever more of the smaller budgets, each time scored on all the larger ones.

    `rollout` asks which law predicts best; this asks how fast the chosen one goes wrong with distance.

    Args:
        most: cuts between budgets, spread evenly from the earliest that leaves enough runs to the last.
    Raises:
        ConfigError: too few budgets, or too few runs below the largest.
    """
    levels = np.unique(budget_R[np.isfinite(budget_R)])
    cuts = [
        k
        for k in range(FEWEST_BUDGETS, len(levels))
        if (fit.weights_R[budget_R < levels[k]] > 0).sum() > 2 * fit.law.num_free
    ]
    if not cuts:
        raise ConfigError(
            f"{len(levels)} budgets and {len(budget_R)} runs; needed: more than {FEWEST_BUDGETS} budgets, and two runs a parameter below the largest."
        )
    chosen = np.unique(np.linspace(cuts[0], cuts[-1], most).round().astype(int))
    return [_extrapolate(fit, budget_R, levels[k - 1]) for k in chosen]


def _extrapolate(fit: Fit, budget_R: np.ndarray, last: float) -> Extrapolation:
    early_R = budget_R <= last
    known = fit_law(
        fit.law,
        {k: v[early_R] for k, v in fit.values.items()},
        fit.loss_R[early_R],
        misfit=fit.misfit,
        weights_R=fit.weights_R[early_R],
    )
    later = budget_R > last
    error_R = known.predict(**{k: fit.values[k][later] for k in fit.law.variables}) - fit.loss_R[later]
    late_R = budget_R[later]
    budgets = np.unique(late_R)
    return Extrapolation(
        last_budget=float(last),
        num_fitted=int(early_R.sum()),
        budget_B=budgets,
        error_B=np.array([error_R[late_R == b].mean() for b in budgets]),
        reach_R=late_R / last,
        error_R=error_R,
    )
