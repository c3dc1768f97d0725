"""Curves of the loss over what was tried, a panel for each group of runs and budget, a line for each size."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sodakit.scaling.plot import COLOURS, MARKERS
from sodakit.scaling.response import Response
from sodakit.scaling.table import RunTable
from sodakit.units import format_count

_SHOWN_RISE = 0.25
"""Of the loss over the panel's lowest: what diverged would flatten all else."""


def tune_figure(
    groups: Mapping[str, tuple[RunTable, Sequence[Response]]], setting: str, *, loss: str, size: str
) -> Figure:
    """A row of panels for each group and a column for each budget; stars are the best by the response, where it lies inside.

    Args:
        groups: the runs and their responses by name.
        setting: the column along the x axis.
    """
    budgets = sorted({b for table, _ in groups.values() for b in _budgets(table, size)})
    figure = Figure(figsize=(4.2 * len(budgets), 3.2 * len(groups)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(groups), len(budgets), squeeze=False)
    for (name, (table, found)), row in zip(groups.items(), panels, strict=True):
        budget_R, size_R = _budgets(table, size), table.sizes(size)
        x_R, y_R = table.column(setting).astype(float), table.loss(loss)
        for budget, axes in zip(budgets, row, strict=True):
            here_R = budget_R == budget
            axes.set_xscale("log")
            axes.set_title(f"{name}\n{budget:.2g} FLOPs" if name else f"{budget:.2g} FLOPs", fontsize=9)
            axes.set_xlabel(setting)
            axes.set_ylabel(f"loss {loss}")
            if not here_R.any():
                continue
            for line, n in enumerate(np.unique(size_R[here_R])):
                chosen = np.flatnonzero(here_R & (size_R == n))
                _line(axes, line, x_R[chosen], y_R[chosen], f"{format_count(n)} parameters")
                for r in found:
                    same = abs(np.log(r.size / n)) < 0.01 and any(
                        abs(np.log(r.tokens / d)) < 0.01 for d in table.tokens()[chosen]
                    )
                    if same and setting not in r.edge:
                        axes.plot(r.best[setting], r.loss, "*", color=COLOURS[line % 7], markersize=11)
            lowest = y_R[here_R].min()
            axes.set_ylim(lowest - 0.02 * lowest, lowest * (1 + _SHOWN_RISE))
            axes.legend(fontsize=7)
    return figure


def _line(axes: object, line: int, x: np.ndarray, y: np.ndarray, label: str) -> None:
    """Seeds of one setting are points above each other, the line goes through their mean."""
    xs = np.unique(x)
    style = {"color": COLOURS[line % len(COLOURS)], "marker": MARKERS[line % len(MARKERS)]}
    axes.plot(xs, [y[x == at].mean() for at in xs], markersize=0, label=label, **style)  # type: ignore[attr-defined]
    axes.plot(x, y, linestyle="", markersize=4, **style)  # type: ignore[attr-defined]


def _budgets(table: RunTable, size: str) -> np.ndarray:
    """The budget of each run, 0 for those of none."""
    return np.nan_to_num(table.budgets("given", size), nan=0.0)
