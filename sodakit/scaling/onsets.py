"""Where a loss begins to fall, and which law tells it: the choice is of held-out budgets.

Every loss has the law of `onset.py`, which finds its plateau and its onset; and is told by each of

    chinchilla, tied            a power law of all runs
    onset, onset_tied           the same with a plateau before it
    from onset                  a power law of the runs past the onset alone

The one whose fit to the smaller budgets misses the largest least is kept. Where that one misses too, it is said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy import stats

from sodakit.errors import ConfigError
from sodakit.scaling.costs import FlopsPerToken, flops_of_runs
from sodakit.scaling.fit import Fit, fit_law
from sodakit.scaling.intervals import delta_method, refit, simulated_losses
from sodakit.scaling.laws import LAWS
from sodakit.scaling.onset import ONSET_LAWS, OnsetLaw
from sodakit.scaling.residuals import MISFITS
from sodakit.scaling.rollout import Rollout, score

FROM_ONSET = "from onset"
"""The name of a power law of the runs past the onset."""
_PLAIN = ("chinchilla", "tied")
_WAYS = (*_PLAIN, "onset", "onset_tied", FROM_ONSET)
_FEWEST_BEFORE = 2
"""Runs before the onset, without which none is in the data."""
_SETTLED = 0.02
"""Share of the objective that a refit may still have to fall: less than half of what moves a parameter by its standard error."""


@dataclass(frozen=True, kw_only=True)
class StreamOnset:
    """One loss: where it begins to fall, and its law."""

    name: str
    fit: Fit
    """The law with an onset, of all runs."""
    plateau_95: tuple[float, float]
    onset_flops: float
    """Training FLOPs at which the best size has fallen by `onset.FALLEN` of the plateau; nan where none does."""
    onset_95: tuple[float, float]
    num_before: int
    """Runs before the onset."""
    rollouts: Sequence[Rollout]
    """Every way to tell it, by what it misses of the held-out budgets, the best first; empty where there are too few."""
    kept: Fit
    """The best of them, fitted to all runs."""
    rivals: Sequence[Fit] = ()
    """Others that missed the held-out budgets by no more than one standard error more, fitted to all runs."""

    @property
    def plateau(self) -> float:
        """The loss before anything is learnt."""
        assert isinstance(self.fit.law, OnsetLaw)
        return self.fit.law.plateau(self.fit.parameters)

    @property
    def has_onset(self) -> bool:
        """Whether the onset lies among the runs, some on either side."""
        return self.num_before >= _FEWEST_BEFORE and self.onset_flops <= float(self.fit.values["C"].max())

    @property
    def onset(self) -> str:
        """Where it begins to fall, in words."""
        if self.num_before < _FEWEST_BEFORE:
            return "no onset inside these runs, it falls from the first budget on"
        if self.has_onset:
            return f"begins to fall at {self.onset_flops:.2g} FLOPs ({_ends(self.onset_95)}) from {self.plateau:.2f}"
        return "no onset inside these runs, it has not begun to fall"

    @property
    def best(self) -> Rollout | None:
        """What was kept, as it did on the held-out budgets."""
        return self.rollouts[0] if self.rollouts else None

    @property
    def holds(self) -> bool:
        """Whether what was kept tells the held-out budgets within three standard errors, or within twice the scatter of a run."""
        best = self.best
        return best is not None and (not best.misses or abs(best.bias) <= 2 * self.kept.noise)

    @property
    def error(self) -> float:
        """By how much the held-out budgets were missed on average, in log loss; nan where none was held out."""
        return abs(self.best.bias) if self.best else float("nan")

    def predict(self, **at: float) -> tuple[float, tuple[float, float]]:
        """The loss of a run and its 95 % interval: of the law, of a single run, of what the law missed when it was held to the
        smaller budgets, and of what its rivals say, which those budgets cannot tell from it.

        Args:
            at: N, D and C of the run.
        """
        values = {k: np.array([at[k]]) for k in self.kept.law.variables}
        loss = float(self.kept.predict(**values)[0])
        error, *_ = delta_method(self.kept, lambda p: float(np.log(self.kept.law.loss(p, **values)[0])))
        spare = max(int((self.kept.weights_R > 0).sum()) - self.kept.law.num_free, 1)
        missed = self.error if np.isfinite(self.error) else 0.0
        half = float(stats.t.ppf(0.975, spare) * np.hypot(error, self.kept.noise)) + missed
        said = [loss, *(float(f.predict(**{k: at[k] for k in f.law.variables})[0]) for f in self.rivals)]
        return loss, (min(said) * float(np.exp(-half)), max(said) * float(np.exp(half)))

    def __str__(self) -> str:
        best = self.best
        if best is None:
            return f"{self.name}: {self.onset}; too few budgets to hold one out."
        told = f"{best.law} ({best.misfit}) misses the held-out budgets by {best.bias:+.1%} ± {best.bias_error:.1%}"
        return f"{self.name}: {self.onset}; {told}: {'kept' if self.holds else 'NO LAW HOLDS, the least wrong is shown'}."

    def _best_of_each(self) -> list[Rollout]:
        """The best misfit of each law, the best first."""
        found: dict[str, Rollout] = {}
        for r in self.rollouts:
            found.setdefault(r.law, r)
        return list(found.values())

    def row(self) -> dict[str, Any]:
        """Its numbers for a table."""
        best = self.best
        return {
            "loss": self.name,
            "onset_C": self.onset_flops if self.has_onset else float("nan"),
            "onset_95": _ends(self.onset_95) if self.has_onset else "none",
            "plateau": self.plateau if self.has_onset else float("nan"),
            "before": self.num_before,
            "law": f"{best.law}, {best.misfit}" if best else "–",
            "held_out": f"{best.bias:+.2%}" if best else "–",
            "error": f"{best.bias_error:.2%}" if best else "–",
            "others": ", ".join(f"{r.law} {r.bias:+.1%}" for r in self._best_of_each()[1:]),
            "holds": "yes" if self.holds else "no",
        }

    def to_json(self) -> dict[str, Any]:
        """All numbers, JSON-ready."""
        return {
            "name": self.name,
            "has_onset": self.has_onset,
            "onset_flops": self.onset_flops,
            "onset_95": self.onset_95,
            "plateau": self.plateau,
            "plateau_95": self.plateau_95,
            "runs_before": self.num_before,
            "onset_parameters": self.fit.parameters,
            "law": self.kept.law.name,
            "way": self.best.law if self.best else None,
            "parameters": self.kept.parameters,
            "noise": self.kept.noise,
            "runs_fitted": int((self.kept.weights_R > 0).sum()),
            "holds": self.holds,
            "rollout": [vars(r) | {"misses": r.misses} for r in self.rollouts],
        }


def fit_onset(
    name: str,
    values: Mapping[str, np.ndarray],
    loss_R: np.ndarray,
    budget_R: np.ndarray,
    *,
    misfits: Sequence[str] = ("mse-log", "huber"),
    hold_out: int = 1,
    draws: int = 300,
    seed: int = 0,
) -> StreamOnset:
    """Where a loss begins to fall, and the law of it that the held-out budgets keep.

    Args:
        values: N, D and C of the runs.
        loss_R: of the same runs.
        budget_R: which budget each belongs to.
        misfits: tried with every law; the onset is that of the first.
        hold_out: largest budgets that decide.
        draws: refits for the intervals.
    Raises:
        ConfigError: too few runs.
    """
    law, cost = ONSET_LAWS["onset"], flops_of_runs(values["N"], values["D"], values["C"])
    fit = fit_law(law, values, loss_R, misfit=MISFITS[misfits[0]])
    levels = np.unique(budget_R[np.isfinite(budget_R)])
    rollouts: list[Rollout] = []
    if len(levels) > hold_out:
        early_R, late_R = budget_R < levels[-hold_out], budget_R >= levels[-hold_out]
        early, late = ({k: v[rows] for k, v in values.items()} for rows in (early_R, late_R))
        for way, misfit in product(_WAYS, misfits):
            known = _told(way, early, loss_R[early_R], misfit)
            if known is not None:
                rollouts.append(score(known, late, loss_R[late_R], misfit=misfit, name=way))
    rollouts.sort(key=lambda r: r.error)
    level = rollouts[0].error + rollouts[0].bias_error if rollouts else 0.0
    ways = [(r.law, r.misfit) for r in rollouts if r.error <= level] or [("onset", misfits[0])]
    told = [k for way, m in ways if (k := _told(way, values, loss_R, m)) is not None]
    onset_S, plateau_S = _drawn(fit, cost, draws, seed)
    return StreamOnset(
        name=name,
        fit=fit,
        plateau_95=_quantiles(plateau_S),
        onset_flops=law.onset_flops(fit.parameters, cost, values["N"]),
        onset_95=_quantiles(onset_S),
        num_before=int((law.past_onset(fit.parameters, values) < 1).sum()),
        rollouts=rollouts,
        kept=told[0],
        rivals=told[1:],
    )


def _told(way: str, values: Mapping[str, np.ndarray], loss_R: np.ndarray, misfit: str) -> Fit | None:
    """A loss fitted in one of the ways; None where there are too few runs for it."""
    try:
        if way in _PLAIN:
            return fit_law(LAWS[way], values, loss_R, misfit=MISFITS[misfit])
        if way in ONSET_LAWS:
            return fit_law(ONSET_LAWS[way], values, loss_R, misfit=MISFITS[misfit])
        law = ONSET_LAWS["onset"]
        onset = fit_law(law, values, loss_R, misfit=MISFITS[misfit])
        past_R = law.past_onset(onset.parameters, values) > 1
        if past_R.all():  # the law of all runs, which is there already
            return None
        return fit_law(
            LAWS["chinchilla"], values, loss_R, misfit=MISFITS[misfit], weights_R=past_R.astype(float)
        )
    except ConfigError:
        return None


def _drawn(fit: Fit, cost: FlopsPerToken, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Onset and plateau of refits to losses as they might have come out.

    Far from its floor E a loss says little of it, and refits still creep along that valley when they are stopped. The onset, which
    lies at the other end, does not move with them: those that could fall by no more than `_SETTLED` count.
    """
    law = fit.law
    assert isinstance(law, OnsetLaw)
    weights_SR = np.broadcast_to(fit.weights_R, (draws, len(fit.weights_R)))
    ends = refit(fit, weights_SR, simulated_losses(fit, draws, seed))
    kept_S = np.isfinite(ends.objective_S) & (ends.decrement_S < _SETTLED)
    rows = [dict(zip(fit.names, row, strict=True)) for row in fit.natural(ends.solutions_SP[kept_S])]
    sizes = fit.values["N"]
    return (
        np.array([law.onset_flops(p, cost, sizes) for p in rows]),
        np.array([law.plateau(p) for p in rows]),
    )


def _quantiles(values_S: np.ndarray) -> tuple[float, float]:
    """95 % of the refits, those without an end counted as endless; nan where most have none."""
    if not len(values_S) or np.isnan(values_S).mean() > 0.5:
        return float("nan"), float("nan")
    low, high = np.quantile(np.where(np.isnan(values_S), np.inf, values_S), [0.025, 0.975], method="nearest")
    return float(low), float(high)


def _ends(ends: tuple[float, float]) -> str:
    return " – ".join("?" if not np.isfinite(end) else f"{end:.2g}" for end in ends)
