"""What could be wrong with a fit: single runs that carry it, conventions, and a diagnosis in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sodakit.errors import ConfigError
from sodakit.scaling.fit import Fit, fit_law
from sodakit.scaling.intervals import refit
from sodakit.scaling.laws import LAWS
from sodakit.scaling.profiles import Profile
from sodakit.scaling.residuals import MISFITS, Misfit
from sodakit.scaling.rollout import Rollout
from sodakit.scaling.sweeps import WINDOWED, SweepFit, ValleyRule, expected_bias, fit_parabolas
from sodakit.scaling.table import RunTable


@dataclass(frozen=True, kw_only=True)
class Influence:
    """How far one run, or one budget, moves the answer."""

    left_out: str
    parameters: Mapping[str, float]
    a: float
    """nan where the law has none."""
    shift: float
    """Of `watched`, in units of the spread over all single leave-outs."""
    watched: str = "a"
    """The exponent a, or the law's first exponent where it fixes a or has none."""
    value: float = float("nan")
    """Of `watched`, without this run or budget."""


def influence(fit: Fit, names: Sequence[str], groups: Sequence[object] | None = None) -> list[Influence]:
    """The fit without each run, or without each group of runs (budgets), the most influential first."""
    keys = [None if k is None else str(k) for k in (names if groups is None else groups)]
    labels = [k for k in dict.fromkeys(keys) if k is not None]
    weights_SR = np.array(
        [[w * (k != label) for k, w in zip(keys, fit.weights_R, strict=True)] for label in labels]
    )
    natural_SP = fit.natural(refit(fit, weights_SR).solutions_SP)
    rows = [dict(zip(fit.names, row.tolist(), strict=True)) for row in natural_SP]
    beta_of = [(p.get("beta", p.get("alpha", np.nan)), p.get("alpha", np.nan)) for p in rows]
    exponent_S = np.array([b / (a + b) for b, a in beta_of])
    if (
        not fit.optimum_exponents or np.ptp(exponent_S) < 1e-9
    ):  # a law of one exponent fixes a to its last digit or so
        watched = next((x for x in fit.law.exponents if x not in fit.law.fixed), fit.names[0])
        watched_S, here = natural_SP[:, fit.names.index(watched)], fit.parameters[watched]
    else:
        watched, watched_S, here = "a", exponent_S, fit.optimum_exponents["a"]
    spread = max(1.4826 * float(np.median(np.abs(watched_S - here))), 1e-12)
    found = [
        Influence(
            left_out=label,
            parameters=p,
            a=float(a),
            shift=float((w - here) / spread),
            watched=watched,
            value=float(w),
        )
        for label, p, a, w in zip(labels, rows, exponent_S, watched_S, strict=True)
    ]
    return sorted(found, key=lambda i: -abs(i.shift))


FEW = 5
"""Runs that may be left out together; of fewer than twenty a quarter."""


def joint_influence(fit: Fit, names: Sequence[str], interval_95: tuple[float, float]) -> Influence | None:
    """The fewest runs whose joint absence takes a out of its interval, or None.

    Runs are taken in the order of what each does alone, those that raise a and those that lower it apart: outliers of one kind
    hide each other, because without one the others still hold the law.
    """
    most = min(FEW, len(names) // 4)
    alone = influence(fit, [str(i) for i in range(len(names))])
    sets = []
    for sign in (1, -1):
        ordered = [int(i.left_out) for i in alone if sign * i.shift > 0]
        sets += [ordered[:k] for k in range(2, most + 1) if len(ordered) >= k]
    if not sets:
        return None
    weights_SR = np.array([[w * (i not in left) for i, w in enumerate(fit.weights_R)] for left in sets])
    natural_SP = fit.natural(refit(fit, weights_SR).solutions_SP)
    low, high = interval_95
    for left, row in sorted(zip(sets, natural_SP, strict=True), key=lambda pair: len(pair[0])):
        p = dict(zip(fit.names, row.tolist(), strict=True))
        a = p.get("beta", p["alpha"]) / (p["alpha"] + p.get("beta", p["alpha"]))
        if not low <= a <= high:
            told = ", ".join(names[i] for i in left)
            shift = (a - fit.optimum_exponents["a"]) / max((high - low) / 3.92, 1e-12)
            return Influence(left_out=told, parameters=p, a=float(a), shift=float(shift), value=float(a))
    return None


@dataclass(frozen=True, kw_only=True)
class ConventionRow:
    """The exponents under one way to count parameters and FLOPs."""

    size: str
    flops: str
    surface: tuple[float, float] | None
    """a and b of the surface's optimum along each budget's own runs."""
    parabolas: tuple[float, float] | None
    """a and b of approach 2."""
    ratio: tuple[float, float]
    """Lowest and highest 6ND/C."""

    @property
    def data_over_model(self) -> float | None:
        """b / a: how many times faster data grows than the model."""
        return None if self.surface is None else self.surface[1] / self.surface[0]


def convention_table(
    table: RunTable,
    *,
    loss: str = "all",
    misfit: Misfit = MISFITS["huber"],
    rule: ValleyRule = WINDOWED,
) -> list[ConventionRow]:
    """Every convention for N with every one for C on the same runs.

    The paper's "data grows 1.6 times faster than the model" depends on both; a table with one convention cannot know.
    """
    sizes, flops = table.conventions()
    # What the table gives is often one of the named conventions: said once, under its name.
    sizes = [
        s
        for s in sizes
        if s != "total" or not any(_same(table.sizes(s), table.sizes(o)) for o in sizes if o != s)
    ]
    flops = [
        f
        for f in flops
        if f != "given" or not any(_same(table.flops(f), table.flops(o)) for o in flops if o != f)
    ]
    rows = []
    tokens, losses, weights = table.tokens(), table.loss(loss), table.weights()
    for size in sizes:
        n = table.sizes(size)
        try:
            surface = fit_law(
                LAWS["chinchilla"], {"N": n, "D": tokens}, losses, misfit=misfit, weights_R=weights
            )
        except ConfigError:
            surface = None
        for convention in flops:
            c = table.flops(convention, size)
            budgets = table.budgets(convention, size)
            ratio = 6 * n * tokens / c
            rows.append(
                ConventionRow(
                    size=size,
                    flops=convention,
                    surface=_surface_exponents(surface, c, n, tokens, budgets, rule),
                    parabolas=_parabola_exponents(c, n, tokens, losses, budgets, weights, rule),
                    ratio=(float(ratio.min()), float(ratio.max())),
                )
            )
    return rows


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.allclose(one, other, rtol=1e-6))


def _surface_exponents(
    surface: Fit | None, c: np.ndarray, n: np.ndarray, d: np.ndarray, budgets: np.ndarray, rule: ValleyRule
) -> tuple[float, float] | None:
    if surface is None or surface.unidentified:
        return None
    try:
        bias = expected_bias(surface, c, n, d, budgets, rule)
    except ConfigError:
        return None
    return (bias["true_a"], bias["true_b"]) if "true_a" in bias else None


def _parabola_exponents(
    c: np.ndarray,
    n: np.ndarray,
    d: np.ndarray,
    losses: np.ndarray,
    budgets: np.ndarray,
    weights: np.ndarray,
    rule: ValleyRule,
) -> tuple[float, float] | None:
    try:
        found = fit_parabolas(c, n, d, losses, budgets, weights_R=weights, rule=rule)
    except ConfigError:
        return None
    return found.a, found.b


def diagnose(
    fit: Fit,
    sweep: SweepFit | None = None,
    *,
    profiles: Sequence[Profile] = (),
    ratio: tuple[float, float] | None = None,
    bias: Mapping[str, float] | None = None,
    influences: Sequence[Influence] = (),
    rollouts: Sequence[Rollout] = (),
    lr_R: np.ndarray | None = None,
    names: Sequence[str] = (),
) -> list[str]:
    """What a careful reader would object to, one sentence each; empty where nothing was found.

    Args:
        rollouts: the best first.
        names: of the runs.
    """
    said = []
    if not fit.certificate.holds:
        said.append(f"The minimum is not certified: {fit.certificate}.")
    said += [f"{name} is not identified: {why}." for name, why in fit.unidentified.items()]
    said += [f"{p}: the interval has no end." for p in profiles if not p.identified]
    if ratio is not None and not 0.9 <= ratio[0] <= ratio[1] <= 1.1:
        said.append(
            f"6ND/C runs from {ratio[0]:.2f} to {ratio[1]:.2f} over these runs, so C is not 6ND and the exponents depend on the convention."
        )
    if sweep is not None:
        problems = [v.problem for v in sweep.valleys if v.problem]
        if problems:
            counted = ", ".join(f"{problems.count(p)} × {p}" for p in dict.fromkeys(problems))
            said.append(
                f"{len(problems)} of {len(sweep.valleys)} budgets have no minimum of their own ({counted})."
            )
        centres = [v.off_centre for v in sweep.valleys if not v.problem]
        if len(centres) > 2 and np.ptp(centres) > np.log(2):
            said.append(
                f"The optimum wanders off the middle of the runs by a factor of {np.exp(np.ptp(centres)):.1f} between budgets, which "
                "biases the parabolas' exponent."
            )
    if sweep is not None and bias and fit.optimum_exponents:
        gap = sweep.a - bias.get("true_a", fit.optimum_exponents["a"])
        said.append(
            f"Parabolas give a = {sweep.a:.3f}, the surface {bias.get('true_a', fit.optimum_exponents['a']):.3f}; "
            f"of the difference of {gap:+.3f} the grid alone explains {bias['a']:+.3f}."
        )
    heavy = [i for i in influences if abs(i.shift) > 8]
    said += [
        f"Without {i.left_out} {i.watched} would be {i.value:.3f}, {abs(i.shift):.0f} times the usual shift."
        for i in heavy[:3]
    ]
    residual_R = fit.residual_R
    outliers = np.flatnonzero(np.abs(residual_R - np.median(residual_R)) > 5 * max(fit.noise, 1e-9))
    if len(outliers):
        shown = ", ".join(names[i] for i in outliers[:5]) if names else ""
        which = f": {shown}{', …' if len(outliers) > 5 else ''}" if shown else ""
        said.append(
            f"{len(outliers)} of {len(residual_R)} runs lie more than 5 standard deviations from the law{which}."
        )
    if rollouts:
        said += _missed_budgets(rollouts[0], fit.noise)
    if lr_R is not None and len(np.unique(lr_R)) > 2:
        said += _lr_at_edge(fit, lr_R)
    return said


def _missed_budgets(best: Rollout, noise: float) -> list[str]:
    """Where the held-out budgets are missed by more than runs scatter, or than the law itself allows for."""
    if abs(best.bias) <= 2 * noise and not best.misses:
        return []
    return [
        f"Fitted without the largest budgets, even the best law ({best.law}, {best.misfit}) misses their losses by "
        f"{best.bias:+.1%} on average, {abs(best.bias) / max(noise, 1e-12):.1f} times the scatter of a run and "
        f"{abs(best.bias) / best.bias_error:.1f} times the standard error that the law claims: expect no better of what is "
        "said beyond the runs, whatever the intervals, which take the law for true."
    ]


def _lr_at_edge(fit: Fit, lr_R: np.ndarray) -> list[str]:
    """Where the same N and D were run at several learning rates and the best is the largest or smallest tried."""
    keys = [
        (round(float(n), -3), round(float(d), -3))
        for n, d in zip(fit.values["N"], fit.values["D"], strict=True)
    ]
    edges = 0
    for key in set(keys):
        rows = [i for i, k in enumerate(keys) if k == key]
        tried = sorted({float(lr_R[i]) for i in rows})
        if len(tried) > 2 and float(lr_R[min(rows, key=lambda i: fit.loss_R[i])]) in (tried[0], tried[-1]):
            edges += 1
    if not edges:
        return []
    return [
        f"At {edges} sizes the best learning rate is the largest or smallest tried; the optimum may lie outside."
    ]
