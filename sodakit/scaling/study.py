"""Everything a table of runs says, in one call: the laws side by side, their intervals, checks and plans."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sodakit.errors import ConfigError
from sodakit.scaling.checks import (
    ConventionRow,
    Influence,
    convention_table,
    diagnose,
    influence,
    joint_influence,
)
from sodakit.scaling.costs import FlopsPerToken, flops_of_runs, six_n
from sodakit.scaling.fit import Fit, fit_law
from sodakit.scaling.groups import clusters as cluster_names
from sodakit.scaling.intervals import Bootstrap, Resample, bootstrap, delta_method, quantities
from sodakit.scaling.laws import LAWS, Law, named_law
from sodakit.scaling.plan import plan_budget
from sodakit.scaling.profiles import Profile, profile, profile_exponent_a
from sodakit.scaling.repeats import RepeatFit, effective_tokens, fit_repeats
from sodakit.scaling.residuals import MISFITS, named_misfit
from sodakit.scaling.rollout import HELD_OUT_LAWS, Extrapolation, Rollout, extrapolate, rollout
from sodakit.scaling.sweeps import (
    WINDOWED,
    SweepBootstrap,
    SweepFit,
    ValleyRule,
    bootstrap_parabolas,
    counted_exponents,
    expected_bias,
    fit_envelope,
    fit_parabolas,
)
from sodakit.scaling.table import RunTable
from sodakit.units import format_count

WIDER = 1.5
"""Times the width of the bootstrap's interval of a from which a profile is said to disagree."""
DATA_REPEAT = "data_repeat"
"""The Chinchilla law of effective tokens (`repeats.py`)."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A table of runs and what was read off it."""

    table: RunTable
    """The runs that were used."""
    settings: Mapping[str, Any]
    """Loss, law, misfit and conventions."""
    fit: Fit
    boot: Bootstrap
    boot_runs: Bootstrap
    """Of resampled runs, whatever `boot` resamples: wider, and what most publications give."""
    profiles: Sequence[Profile]
    profile_a: tuple[float | None, float | None] | None
    """Profile interval of a with C = 6ND, None at an end that the runs do not give; None where the law has no a."""
    parabolas: SweepFit | None
    parabolas_boot: SweepBootstrap | None
    envelope: SweepFit | None
    bias: Mapping[str, float]
    """Of the parabolas, expected on this grid; empty where unknown."""
    rollouts: Sequence[Rollout]
    extrapolations: Sequence[Extrapolation]
    """The law of this study fitted to fewer and fewer budgets; empty where there are too few."""
    influences: Sequence[Influence]
    """Each run left out."""
    budget_influences: Sequence[Influence]
    """Each budget left out; empty where too few runs would stay."""
    joint: Influence | None
    """The fewest runs that together take a out of its interval; None where a few do not."""
    conventions: Sequence[ConventionRow]
    budget_R: np.ndarray
    ratio: tuple[float, float]
    """Lowest and highest 6ND/C."""
    skipped: Sequence[str] = ()
    """What could not be read off these runs, and why."""
    clusters: str = ""
    """Which rows were drawn as a whole, in words; empty where each stands for itself."""
    valley_rule: ValleyRule = WINDOWED
    repeats: RepeatFit | None = None
    """What repeated data are worth, where the law is of them; `fit` is then of effective tokens."""

    @property
    def shown_budget_R(self) -> np.ndarray:
        """The budget of each run for figures: those that form none by half decades of C."""
        coarse_R = 10 ** (np.round(2 * np.log10(self.fit.values["C"])) / 2)
        return np.where(np.isfinite(self.budget_R), self.budget_R, coarse_R)

    @property
    def is_6nd(self) -> bool:
        """Whether the runs' own FLOPs are 6ND, so that there is nothing to say of how they are counted."""
        return self.repeats is None and bool(np.abs(np.log(self.ratio)).max() < 1e-3)

    @property
    def findings(self) -> list[str]:
        """What a careful reader would object to."""
        lr = self.table.columns.get("lr")
        said = [] if self.repeats is None or self.repeats.identified else [f"{self.repeats}."]
        if not len(self.boot.draws_SP):
            said.append(
                "No refit settled on a minimum, so there are no intervals: take a law with fewer parameters, or add runs."
            )
        elif self.profile_a is not None:
            said += self._doubts_of_a(self.profile_a)
        said += [f"No {line}" for line in self.skipped]
        if self.joint is not None:
            said.append(
                f"Without {self.joint.left_out} together a would be {self.joint.a:.3f}, outside its interval."
            )
        return said + diagnose(
            self.fit,
            self.parabolas,
            profiles=self.profiles,
            ratio=self.ratio,
            bias=self.bias,
            influences=self.influences,
            rollouts=self.rollouts,
            names=self.table.runs,
            lr_R=None if lr is None or not np.isfinite(lr.astype(float)).all() else lr.astype(float),
        )

    def _doubts_of_a(self, profile_95: tuple[float | None, float | None]) -> list[str]:
        """Where the profile of a has no end, or is so much wider than the bootstrap's interval that the law is no parabola
        there and refits near its minimum do not tell."""
        low, high = profile_95
        drawn = self.boot.interval(quantities(self.fit)["a"])
        if low is None or high is None:
            return [f"a: its profile {_ends(profile_95)} has no end on one side at least."]
        if high - low < WIDER * (drawn[1] - drawn[0]):
            return []
        return [
            f"a is within {_ends(drawn)} by refits and {_ends(profile_95)} by its profile: believe the wider."
        ]

    def parameter_rows(self) -> list[tuple[str, float, float, str, str, str]]:
        """Name, value and bootstrap standard error of each quantity; its intervals by the bootstrap, by that of runs and
        by the profile."""
        profiles: dict[str, tuple[float | None, float | None]] = {
            p.name: (p.low, p.high) for p in self.profiles
        }
        if self.profile_a is not None:
            low, high = self.profile_a
            profiles |= {"a": self.profile_a, "b": (_rest(high), _rest(low))}
        own = []
        if self.repeats is not None:
            r = self.repeats
            own = [("R*", r.half_life, float("nan"), "–", "–", _ends((r.low, r.high)))]
        return own + [
            (
                name,
                float(quantity(self.fit.parameters)),
                self.boot.standard_error(quantity),
                _ends(self.boot.interval(quantity)),
                _ends(self.boot_runs.interval(quantity)),
                _ends(profiles[name]) if name in profiles else "–",
            )
            for name, quantity in quantities(self.fit).items()
        ]

    def approach_rows(self) -> list[tuple[str, str, str, str]]:
        """Approach, a, b and how, side by side."""
        rows = []
        if self.envelope is not None:
            rows.append(
                ("1: envelope", f"{self.envelope.a:.3f}", f"{self.envelope.b:.3f}", "best run at each budget")
            )
        if self.parabolas is not None and self.parabolas_boot is not None:
            boot = self.parabolas_boot
            rows.append(
                (
                    "2: parabolas",
                    f"{self.parabolas.a:.3f} ({_three(boot.a)})",
                    f"{self.parabolas.b:.3f} ({_three(boot.b)})",
                    f"losses drawn anew, scatter {boot.noise:.2%}: {boot.dropped_share:.0%} of parabolas without a minimum, "
                    f"{boot.edge_share:.0%} with one outside the runs, {boot.num_failed} draws without a line",
                )
            )
        if self.fit.optimum_exponents:
            q = quantities(self.fit)
            ends = {name: self.boot.interval(q[name]) for name in ("a", "b")}
            at = self.fit.optimum_exponents
            rows.append(
                (
                    "3: surface, C = 6ND",
                    *(f"{at[n]:.3f} ({ends[n][0]:.3f} – {ends[n][1]:.3f})" for n in ("a", "b")),
                    f"{self.fit.law.name}, {self.settings['misfit']}",
                )  # type: ignore[arg-type]
            )
        if "true_a" in self.bias and not self.is_6nd:
            counted = self.counted_intervals()
            rows.append(
                (
                    "3: surface, C as counted",
                    f"{self.bias['true_a']:.3f} ({counted['a'][0]:.3f} – {counted['a'][1]:.3f})",
                    f"{self.bias['true_b']:.3f} ({counted['b'][0]:.3f} – {counted['b'][1]:.3f})",
                    "its optimum with the runs' own FLOPs per token",
                )
            )
        projected = self.settings.get("projected")
        if projected:
            rows.append(
                (
                    "variable projection",
                    f"{projected['a']:.3f}",
                    f"{projected['b']:.3f}",
                    "squares of the loss itself",
                )
            )
        return rows

    def optima_rows(self, budgets: Sequence[float]) -> list[dict[str, str]]:
        """N* and D* at budgets by every approach that these runs allow, with 95 % intervals, beside each other."""
        rows = []
        for flops in budgets:
            for approach, size, tokens in self._optima(flops):
                rows.append({"C": f"{flops:.3g}", "approach": approach, "N*": _of(*size), "D*": _of(*tokens)})
        return rows

    def _optima(self, flops: float) -> "Iterator[tuple[str, _Read, _Read]]":
        if self.envelope is not None:
            yield (
                "1: envelope",
                (float(self.envelope.size(flops)), None),
                (float(self.envelope.tokens(flops)), None),
            )
        if self.parabolas is not None and self.parabolas_boot is not None:
            size, tokens = self.parabolas_boot.at(flops)
            yield (
                "2: parabolas",
                (float(self.parabolas.size(flops)), size),
                (float(self.parabolas.tokens(flops)), tokens),
            )
        if not {"N", "D"} <= set(self.fit.law.variables) <= {"N", "D", "C"}:
            return
        values = self.fit.values
        draws = [dict(zip(self.fit.names, row, strict=True)) for row in self.boot.draws_SP[:200]]
        costs: list[tuple[str, FlopsPerToken]] = [("3: surface, C = 6ND", six_n)]
        if not self.is_6nd:
            costs.append(("3: surface, C as counted", flops_of_runs(values["N"], values["D"], values["C"])))
        for name, cost in costs:
            plan = plan_budget(
                self.fit.parameters, flops, law=self.fit.law, draws=draws, flops_per_token=cost
            )
            yield name, (plan.size, plan.size_interval), (plan.tokens, plan.tokens_interval)

    def counted_intervals(self) -> dict[str, tuple[float, float]]:
        """Intervals of a and b with the runs' own FLOPs per token; empty where the law has no optimum of N and D."""
        if "true_a" not in self.bias:
            return {}
        values = self.fit.values
        counted = counted_exponents(self.fit.law, values["C"], values["N"], values["D"], self.budget_R)
        return {name: self.boot.interval(quantity) for name, quantity in counted.items()}

    def to_json(self) -> dict[str, Any]:
        """All numbers, JSON-ready, with the fingerprint of the table."""
        q = quantities(self.fit)
        return {
            "table": self.table.origin,
            "fingerprint": self.table.fingerprint,
            "runs": len(self.table),
            "ranges": {name: [float(v.min()), float(v.max())] for name, v in self.fit.values.items()},
            "rule": self.table.rule(),
            "tokens_per_audio_s": self.table.tokens_per_audio_s(),
            "settings": dict(self.settings),
            "parameters": self.fit.parameters,
            "law": {
                "name": self.fit.law.name,
                "terms": {c: {x: dict(p) for x, p in t.items()} for c, t in self.fit.law.terms.items()},
                "fixed": dict(self.fit.law.fixed),
            },
            "standard_errors": {n: self.boot.standard_error(v) for n, v in q.items()},
            "delta_standard_errors": {n: delta_method(self.fit, v)[0] for n, v in q.items()},
            "intervals_95": {n: self.boot.interval(v) for n, v in q.items()},
            "intervals_95_of_runs": {n: self.boot_runs.interval(v) for n, v in q.items()},
            "profile_95": {p.name: (p.low, p.high) for p in self.profiles}
            | ({} if self.profile_a is None else {"a": self.profile_a}),
            "optimum_exponents": self.fit.optimum_exponents,
            "counted_exponents": {k: self.bias[f"true_{k}"] for k in ("a", "b") if f"true_{k}" in self.bias},
            "counted_intervals_95": self.counted_intervals(),
            "objective": self.fit.objective,
            "noise": self.fit.noise,
            "certificate": str(self.fit.certificate),
            "unidentified": self.fit.unidentified,
            "approaches": self.approach_rows(),
            "rollout": [vars(r) | {"misses": r.misses} for r in self.rollouts],
            "extrapolation": [e.row() for e in self.extrapolations],
            "influence": [vars(i) for i in self.influences[:10]],
            "budget_influence": [vars(i) for i in self.budget_influences],
            "joint_influence": None if self.joint is None else vars(self.joint),
            "conventions": [vars(c) for c in self.conventions],
            "six_nd_over_c": self.ratio,
            "findings": self.findings,
            "skipped": list(self.skipped),
            "clusters": self.clusters,
            "valley_rule": vars(self.valley_rule),
            "repeats": None
            if self.repeats is None
            else {"half_life": self.repeats.half_life, "interval_95": [self.repeats.low, self.repeats.high]},
            # Refits are kept, thinned, so that plans made from this file have intervals.
            "draws": [
                dict(zip(self.fit.names, row.tolist(), strict=True))
                for row in self.boot.draws_SP[:: max(len(self.boot.draws_SP) // 200, 1)]
            ],
        }


def study(
    table: RunTable,
    *,
    loss: str = "all",
    law: str = "chinchilla",
    misfit: str = "huber",
    size: str = "total",
    flops: str = "given",
    draws: int = 1000,
    seed: int = 0,
    hold_out: int = 1,
    fixed: Mapping[str, float] | None = None,
    resample: Resample | None = None,
    cluster: str | None = None,
    valley_rule: ValleyRule = WINDOWED,
    delta: float | None = None,
) -> Study:
    """Fit, check and compare.

    Args:
        loss: `all`, `text`, `semantic`, `acoustic_1` … or `bits_per_audio_s`.
        law: a name in `LAWS`, a formula (`own_law.py`), or `data_repeat` where the runs tell their unique tokens.
        misfit: a name in `MISFITS`.
        delta: of Huber's cost, in place of the misfit's own.
        size: convention for N.
        flops: convention for C.
        draws: bootstrap refits.
        hold_out: largest budgets to predict from the rest.
        fixed: parameters that are held, by name: `{"E": 1.69, "beta": 0.35}`.
        cluster: column of rows that the bootstrap draws as a whole, or `none`; `groups.clusters` says which by default.
        valley_rule: how the optimum of a budget is read off its runs.
        resample: what the bootstrap draws anew, `residuals` or `runs`; `bootstrap` says which it is by default.
    Raises:
        ConfigError: the table lacks what the law needs.
    """
    cost = named_misfit(misfit, delta)
    chosen = named_law("chinchilla" if law == DATA_REPEAT else law)
    chosen = chosen.given(**(fixed or {}))
    table = _with_variables(table.usable(loss=loss, size=size, flops=flops), chosen)
    ratio = table.consistency(flops, size)
    n, d, c, losses = table.sizes(size), table.tokens(), table.flops(flops, size), table.loss(loss)
    budget_R, weights = table.budgets(flops, size), table.weights()
    values: dict[str, np.ndarray] = {"N": n, "D": d, "C": c}
    values |= {v: table.variable(v) for v in chosen.variables if v not in values}
    _check_varied(chosen, values, losses)
    repeats = None
    if law == DATA_REPEAT:
        unique_R = table.columns.get("unique_tokens", np.full(len(table), np.nan)).astype(float)
        repeats = fit_repeats(values, unique_R, losses, law=chosen, misfit=cost, weights_R=weights)
        values["D"] = effective_tokens(d, unique_R, repeats.half_life)
    fit = fit_law(chosen, values, losses, misfit=cost, weights_R=weights)
    clusters, told = cluster_names(table, cluster)
    boot = bootstrap(fit, draws=draws, seed=seed, clusters=clusters, resample=resample)
    boot_runs = (
        boot
        if boot.resample == "runs"
        else bootstrap(fit, draws=draws, seed=seed, clusters=clusters, resample="runs")
    )
    used = weights > 0
    skipped: list[str] = []

    def tried(what: str, function: Any, *arguments: Any, **options: Any) -> Any:
        """What the function finds, or None where the runs do not allow it: why is kept."""
        try:
            return function(*arguments, **options)
        except ConfigError as error:
            skipped.append(f"{what}: {error}")
            return None

    parabolas = tried(
        "optimum by budgets", fit_parabolas, c, n, d, losses, budget_R, weights_R=weights, rule=valley_rule
    )
    return Study(
        table=table,
        settings={
            "loss": loss,
            "law": law,
            "misfit": misfit,
            "delta": cost.delta,
            "size": size,
            "flops": flops,
            "draws": draws,
            "seed": seed,
            "resample": boot.resample,
            "half_life": None if repeats is None else repeats.half_life,
            "projected": fit_law(
                chosen, values, losses, misfit=MISFITS["mse"], weights_R=weights
            ).optimum_exponents,
        },
        fit=fit,
        boot=boot,
        boot_runs=boot_runs,
        profile_a=tried("profile of a", profile_exponent_a, fit) if fit.optimum_exponents else None,
        profiles=[profile(fit, n) for n in chosen.profiled if n not in chosen.fixed],
        parabolas=parabolas,
        parabolas_boot=bootstrap_parabolas(
            c, n, d, losses, budget_R, weights_R=weights, rule=valley_rule, draws=draws, seed=seed
        )
        if parabolas
        else None,
        envelope=tried(
            "envelope",
            fit_envelope,
            *(v[used] for v in (_at_budgets(table, flops, size), n, d, losses)),
            curves=np.array(clusters or n.tolist())[used],
        ),
        # The grid of effective tokens is not the grid of the runs.
        bias=(tried("bias of the grid", expected_bias, fit, c, n, d, budget_R, valley_rule) or {})
        if parabolas and set(chosen.variables) == {"N", "D"} and "G" not in fit.names and repeats is None
        else {},
        rollouts=tried(
            "held-out budgets",
            rollout,
            values,
            losses,
            budget_R,
            weights_R=weights,
            hold_out=hold_out,
            laws=HELD_OUT_LAWS if chosen == LAWS.get(chosen.name) else (*HELD_OUT_LAWS, chosen),
        )
        or [],
        extrapolations=tried("extrapolation", extrapolate, fit, budget_R) or [],
        influences=influence(fit, table.runs),
        joint=joint_influence(fit, table.runs, boot.interval(quantities(fit)["a"]))
        if fit.optimum_exponents
        else None,
        budget_influences=influence(
            fit, table.runs, [f"{b:.3g} FLOPs" if np.isfinite(b) else None for b in budget_R]
        )
        if _budgets_can_go(fit, budget_R)
        else [],
        conventions=convention_table(table, loss=loss, misfit=cost, rule=valley_rule),
        budget_R=budget_R,
        ratio=ratio,
        skipped=skipped,
        clusters=told,
        valley_rule=valley_rule,
        repeats=repeats,
    )


_Read = tuple[float, tuple[float, float] | None]
"""A value and its interval."""


def _of(value: float, ends: tuple[float, float] | None) -> str:
    shown = format_count(value)
    return (
        shown
        if ends is None or not np.isfinite(ends).all()
        else f"{shown} ({format_count(ends[0])} – {format_count(ends[1])})"
    )


def _check_varied(law: Law, values: Mapping[str, np.ndarray], loss_R: np.ndarray) -> None:
    """Refuse what no law can be read off: losses that are all the same, and a variable with a free exponent that is."""
    if np.ptp(loss_R) == 0:
        raise ConfigError(
            f"All losses are {loss_R[0]:.4g}. Check the column, or name another: --alias my_loss=loss."
        )
    free = {v for t in law.terms.values() for x, powers in t.items() if x not in law.fixed for v in powers}
    for name in sorted(free & set(values)):
        if np.ptp(values[name]) <= 1e-9 * np.abs(values[name]).max():
            other = "D" if name == "N" else "N"
            raise ConfigError(
                f"All runs have {name} = {values[name][0]:.4g}, so nothing tells how the loss changes with it. Add runs of another, or fit "
                f'a law without it: --law "E + B/{other}^b".'
            )


def _at_budgets(table: RunTable, flops: str, size: str) -> np.ndarray:
    """C of every run, of those of a budget its middle: else the run that is a percent cheaper counts as the best of its own C."""
    budget_R = table.budgets_of_flops(flops, size)
    return np.where(np.isfinite(budget_R), budget_R, table.flops(flops, size))


def _with_variables(table: RunTable, law: Law) -> RunTable:
    """The runs that have every variable of the law, positive; how many have not is noted."""
    keep = np.ones(len(table), bool)
    for name in law.variables:
        if name not in ("N", "D", "C"):
            keep &= table.variable(name) > 0
    if keep.all():
        return table
    left_out = f"{int((~keep).sum())} of {len(table)} runs left out: not all of {', '.join(law.variables)} are positive numbers."
    return replace(table.select(keep), notes=(*table.notes, left_out))


def _budgets_can_go(fit: Fit, budget_R: np.ndarray) -> bool:
    """Whether the law can still be fitted without any one budget."""
    levels, weighted_R = np.unique(budget_R[np.isfinite(budget_R)]), fit.weights_R > 0
    return len(levels) > 2 and all(
        (weighted_R & (budget_R != level)).sum() > fit.law.num_free for level in levels
    )


def _ends(ends: tuple[float | None, float | None]) -> str:
    return " – ".join("?" if end is None or np.isnan(end) else f"{end:.4g}" for end in ends)


def _three(ends: tuple[float, float]) -> str:
    return " – ".join(f"{end:.3f}" if np.isfinite(end) else "?" for end in ends)


def _rest(share: float | None) -> float | None:
    return None if share is None else 1 - share
