"""Everything a table of runs says, in one call: the laws side by side, their intervals, checks and plans."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sodakit.errors import ConfigError
from sodakit.scaling.checks import (
    ConventionRow,
    Influence,
    convention_table,
    diagnose,
    influence,
)
from sodakit.scaling.fit import Fit, fit_law
from sodakit.scaling.intervals import Bootstrap, Resample, bootstrap, delta_method, quantities
from sodakit.scaling.laws import named_law
from sodakit.scaling.profiles import Profile, profile
from sodakit.scaling.repeats import RepeatFit, effective_tokens, fit_repeats
from sodakit.scaling.residuals import MISFITS
from sodakit.scaling.rollout import Extrapolation, Rollout, extrapolate, rollout
from sodakit.scaling.sweeps import (
    SweepBootstrap,
    SweepFit,
    bootstrap_parabolas,
    counted_exponents,
    expected_bias,
    fit_envelope,
    fit_parabolas,
)
from sodakit.scaling.table import RunTable

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
    profiles: Sequence[Profile]
    parabolas: SweepFit | None
    parabolas_boot: SweepBootstrap | None
    envelope: SweepFit | None
    bias: Mapping[str, float]
    """Of the parabolas, expected on this grid; empty where unknown."""
    rollouts: Sequence[Rollout]
    extrapolations: Sequence[Extrapolation]
    """The law of this study fitted to fewer and fewer budgets; empty where there are too few."""
    influences: Sequence[Influence]
    conventions: Sequence[ConventionRow]
    budget_R: np.ndarray
    ratio: tuple[float, float]
    """Lowest and highest 6ND/C."""
    repeats: RepeatFit | None = None
    """What repeated data are worth, where the law is of them; `fit` is then of effective tokens."""

    @property
    def findings(self) -> list[str]:
        """What a careful reader would object to."""
        lr = self.table.columns.get("lr")
        said = [] if self.repeats is None or self.repeats.identified else [f"{self.repeats}."]
        return said + diagnose(
            self.fit,
            self.parabolas,
            profiles=self.profiles,
            ratio=self.ratio,
            bias=self.bias,
            influences=self.influences,
            rollouts=self.rollouts,
            lr_R=None if lr is None or not np.isfinite(lr.astype(float)).all() else lr.astype(float),
        )

    def parameter_rows(self) -> list[tuple[str, float, float, str, str]]:
        """Name, value, bootstrap standard error and interval, and profile interval of each quantity."""
        profiles = {p.name: p for p in self.profiles}
        rows = []
        for name, quantity in quantities(self.fit).items():
            low, high = self.boot.interval(quantity)
            one = profiles.get(name)
            shown = (
                "–"
                if one is None
                else (f"{one.low:.4g} – {one.high:.4g}" if one.identified else "not identified")
            )
            rows.append(
                (
                    name,
                    float(quantity(self.fit.parameters)),
                    self.boot.standard_error(quantity),
                    f"{low:.4g} – {high:.4g}",
                    shown,
                )
            )
        return rows

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
                    f"{self.parabolas.a:.3f} ({boot.a[0]:.3f} – {boot.a[1]:.3f})",
                    f"{self.parabolas.b:.3f} ({boot.b[0]:.3f} – {boot.b[1]:.3f})",
                    f"{boot.dropped_share:.0%} of resampled parabolas dropped, {boot.num_failed} resamples without a line",
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
        if "true_a" in self.bias:
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
            "settings": dict(self.settings),
            "parameters": self.fit.parameters,
            "standard_errors": {n: self.boot.standard_error(v) for n, v in q.items()},
            "delta_standard_errors": {n: delta_method(self.fit, v)[0] for n, v in q.items()},
            "intervals_95": {n: self.boot.interval(v) for n, v in q.items()},
            "optimum_exponents": self.fit.optimum_exponents,
            "counted_exponents": {k: self.bias[f"true_{k}"] for k in ("a", "b") if f"true_{k}" in self.bias},
            "counted_intervals_95": self.counted_intervals(),
            "objective": self.fit.objective,
            "noise": self.fit.noise,
            "certificate": str(self.fit.certificate),
            "unidentified": self.fit.unidentified,
            "approaches": self.approach_rows(),
            "rollout": [vars(r) for r in self.rollouts],
            "extrapolation": [e.row() for e in self.extrapolations],
            "influence": [vars(i) for i in self.influences[:10]],
            "conventions": [vars(c) for c in self.conventions],
            "six_nd_over_c": self.ratio,
            "findings": self.findings,
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
    given_e: float | None = None,
    resample: Resample | None = None,
) -> Study:
    """Fit, check and compare.

    Args:
        loss: `all`, `text`, `semantic`, `acoustic_1` … or `bits_per_audio_s`.
        law: a name in `LAWS`, or `data_repeat` where the runs tell their unique tokens.
        misfit: a name in `MISFITS`.
        size: convention for N.
        flops: convention for C.
        draws: bootstrap refits.
        hold_out: largest budgets to predict from the rest.
        given_e: irreducible loss, where it is known.
        resample: what the bootstrap draws anew, `residuals` or `runs`; `bootstrap` says which it is by default.
    Raises:
        ConfigError: the table lacks what the law needs.
    """
    if misfit not in MISFITS:
        raise ConfigError(f"No misfit {misfit!r}. Misfits: {', '.join(MISFITS)}.")
    chosen = named_law("chinchilla" if law == DATA_REPEAT else law)
    if given_e is not None:
        chosen = chosen.given(E=given_e)
    table = table.usable(loss=loss, size=size, flops=flops)
    ratio = table.consistency(flops, size)
    n, d, c, losses = table.sizes(size), table.tokens(), table.flops(flops, size), table.loss(loss)
    budget_R = _budgets(table, flops, size)
    values, repeats = {"N": n, "D": d, "C": c}, None
    if law == DATA_REPEAT:
        unique_R = table.columns.get("unique_tokens", np.full(len(table), np.nan)).astype(float)
        repeats = fit_repeats(values, unique_R, losses, law=chosen, misfit=MISFITS[misfit])
        values["D"] = effective_tokens(d, unique_R, repeats.half_life)
    fit = fit_law(chosen, values, losses, misfit=MISFITS[misfit], weights_R=table.weights())
    clusters = table.columns["cluster"].tolist() if "cluster" in table.columns else None
    boot = bootstrap(fit, draws=draws, seed=seed, clusters=clusters, resample=resample)
    parabolas = _or_none(fit_parabolas, c, n, d, losses, budget_R)
    return Study(
        table=table,
        settings={
            "loss": loss,
            "law": law,
            "misfit": misfit,
            "size": size,
            "flops": flops,
            "draws": draws,
            "seed": seed,
            "resample": boot.resample,
            "half_life": None if repeats is None else repeats.half_life,
            "projected": fit_law(chosen, values, losses, misfit=MISFITS["mse"]).optimum_exponents,
        },
        fit=fit,
        boot=boot,
        profiles=[
            profile(fit, n) for n in ("E", *chosen.exponents) if n in fit.names and n not in chosen.fixed
        ],
        parabolas=parabolas,
        parabolas_boot=bootstrap_parabolas(c, n, d, losses, budget_R, draws=min(draws, 300), seed=seed)
        if parabolas
        else None,
        envelope=_or_none(fit_envelope, c, n, d, losses, curves=clusters or n.tolist()),
        # The grid of effective tokens is not the grid of the runs.
        bias=(_or_none(expected_bias, fit, c, n, d, budget_R) or {})
        if fit.optimum_exponents and repeats is None
        else {},
        rollouts=_or_none(rollout, values, losses, budget_R, hold_out=hold_out) or [],
        extrapolations=_or_none(extrapolate, fit, budget_R) or [],
        influences=influence(fit, table.runs),
        conventions=convention_table(table, loss=loss, misfit=MISFITS[misfit]),
        budget_R=budget_R,
        ratio=ratio,
        repeats=repeats,
    )


def _budgets(table: RunTable, flops: str, size: str) -> np.ndarray:
    given = table.columns.get("budget")
    if given is not None and np.isfinite(given.astype(float)).all():
        return given.astype(float)
    return table.budgets(flops, size)


def _or_none(function: Any, *arguments: Any, **options: Any) -> Any:
    """What the function finds, or None where the runs do not allow it; the page then shows no such row."""
    try:
        return function(*arguments, **options)
    except ConfigError:
        return None
