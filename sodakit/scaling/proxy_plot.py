"""The figure of `scale proxy`: how each loss goes with each score, with intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from sodakit.scaling.plot import COLOURS, MARKERS, tidy
from sodakit.scaling.proxy import Correlation


def correlation_figure(found: Sequence[Correlation]) -> Figure:
    """A line for each score, on it the rank correlation with each loss and its interval; pairs without one are left out."""
    losses, scores = (
        list(dict.fromkeys(getattr(c, kind) for c in found if np.isfinite(c.rho)))
        for kind in ("loss", "score")
    )
    figure = Figure(figsize=(7.2, 1.2 + 0.16 * len(scores) * (len(losses) + 1)), layout="constrained")
    axes = figure.subplots()
    tidy(axes)
    for i, loss in enumerate(losses):
        row = [c for c in found if c.loss == loss and np.isfinite(c.rho)]
        # From above, in the order of the table.
        height = [-scores.index(c.score) - 0.8 * (i - (len(losses) - 1) / 2) / len(losses) for c in row]
        error = np.abs([[c.rho - c.low for c in row], [c.high - c.rho for c in row]])
        style: dict[str, Any] = {
            "fmt": MARKERS[i % 7],
            "color": COLOURS[i % 7],
            "markersize": 4,
            "elinewidth": 1,
        }
        axes.errorbar([c.rho for c in row], height, xerr=error, label=loss, **style)
    axes.axvline(0, color="#888888", linewidth=0.8)
    axes.set_yticks([-i for i in range(len(scores))], scores)
    axes.set(xlim=(-1.03, 1.03), xlabel="Spearman's ρ of −loss with score, 95 % over resampled models")
    figure.legend(loc="outside upper center", ncols=min(len(losses), 5), frameon=False)
    return figure
