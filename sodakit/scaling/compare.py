"""One law fitted to each group of a table, and whether the groups agree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from sodakit.errors import ConfigError
from sodakit.scaling.fit import Fit, fit_law
from sodakit.scaling.groups import by, clusters
from sodakit.scaling.intervals import Bootstrap, bootstrap, quantities
from sodakit.scaling.laws import named_law
from sodakit.scaling.residuals import named_misfit
from sodakit.scaling.table import RunTable


@dataclass(frozen=True, kw_only=True)
class GroupFit:
    """The law of one group."""

    name: str
    num_runs: int
    fit: Fit
    boot: Bootstrap


@dataclass(frozen=True, kw_only=True)
class GroupFits:
    """The law of every group that has runs enough."""

    column: str
    groups: Sequence[GroupFit]
    left_out: Mapping[str, str]
    """Groups without a fit, and why."""

    def rows(self) -> list[dict[str, Any]]:
        """One dict for each group: its runs, and every parameter with its 95 % interval."""
        rows = []
        for group in self.groups:
            row: dict[str, Any] = {self.column: group.name, "runs": group.num_runs}
            for name, quantity in quantities(group.fit).items():
                low, high = group.boot.interval(quantity)
                row[name] = f"{quantity(group.fit.parameters):.4g} ({low:.4g} – {high:.4g})".replace(
                    "nan", "?"
                )
            rows.append(row)
        return rows

    def verdicts(self) -> list[str]:
        """For each exponent, whether the groups differ by more than their standard errors (Cochran's Q); and who has no fit."""
        said = []
        for name in dict.fromkeys(("a", *self.groups[0].fit.law.exponents)):
            read = [quantities(g.fit).get(name) for g in self.groups]
            if any(q is None for q in read) or len(self.groups) < 2:
                continue
            values = np.array(
                [q(g.fit.parameters) for q, g in zip(read, self.groups, strict=True) if q is not None]
            )
            # Half the middle 68 %: a few refits that ran away do not count as error.
            errors = np.array(
                [
                    np.ptp(g.boot.interval(q, 0.6827)) / 2
                    for q, g in zip(read, self.groups, strict=True)
                    if q is not None
                ]
            )
            weight = 1 / np.maximum(errors, 1e-12) ** 2
            mean = float((weight * values).sum() / weight.sum())
            chance = float(stats.chi2.sf((weight * (values - mean) ** 2).sum(), len(values) - 1))
            verdict = (
                "they differ: one law for all hides it"
                if chance < 0.01
                else "no more than their errors allow"
            )
            said.append(
                f"{name}: {values.min():.3f} to {values.max():.3f} over {len(values)} groups, p = {chance:.2g}; {verdict}."
            )
        return said + [f"{name} has no fit: {why}" for name, why in self.left_out.items()]

    def to_json(self) -> dict[str, Any]:
        """All numbers, JSON-ready."""
        return {
            "by": self.column,
            "groups": [
                {
                    "name": g.name,
                    "runs": g.num_runs,
                    "parameters": g.fit.parameters,
                    "intervals_95": {n: g.boot.interval(q) for n, q in quantities(g.fit).items()},
                    "objective": g.fit.objective,
                    "certificate": str(g.fit.certificate),
                }
                for g in self.groups
            ],
            "left_out": dict(self.left_out),
            "verdicts": self.verdicts(),
        }


def fit_groups(
    table: RunTable,
    column: str,
    *,
    law: str = "chinchilla",
    misfit: str = "huber",
    loss: str = "all",
    size: str = "total",
    flops: str = "given",
    fixed: Mapping[str, float] | None = None,
    draws: int = 300,
    seed: int = 0,
    cluster: str | None = None,
    delta: float | None = None,
) -> GroupFits:
    """The law of each value of a column.

    Raises:
        ConfigError: no such column, or no group with runs enough.
    """
    chosen = named_law(law).given(**(fixed or {}))
    cost = named_misfit(misfit, delta)
    groups, left_out = [], {}
    for name, part in by(table, column):
        values = {"N": part.sizes(size), "D": part.tokens(), "C": part.flops(flops, size)}
        try:
            fit = fit_law(chosen, values, part.loss(loss), misfit=cost, weights_R=part.weights())
            names, _ = clusters(part, cluster)
        except ConfigError as error:
            left_out[name] = str(error)
            continue
        boot = bootstrap(fit, draws=draws, seed=seed, clusters=names)
        groups.append(GroupFit(name=name, num_runs=len(part), fit=fit, boot=boot))
    if not groups:
        raise ConfigError(f"No group of {column} can be fitted: {next(iter(left_out.values()))}")
    return GroupFits(column=column, groups=groups, left_out=left_out)
