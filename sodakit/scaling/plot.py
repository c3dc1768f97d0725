"""Figures of a scaling study, for print and screen: colours that colour-blind readers tell apart, markers that differ too.

Each function returns a matplotlib `Figure`; `save` turns one into SVG or PNG.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from sodakit.errors import ConfigError
from sodakit.eval.figures import svg_text
from sodakit.files import atomic_path
from sodakit.scaling.costs import FlopsPerToken
from sodakit.scaling.fit import Fit
from sodakit.scaling.information import Runs
from sodakit.scaling.plan import Plan
from sodakit.scaling.profiles import Profile
from sodakit.scaling.rollout import Extrapolation
from sodakit.scaling.sweeps import SweepFit
from sodakit.units import format_count

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's."""
MARKERS = "osD^vP*"


def isoflop_figure(
    size_R: np.ndarray,
    tokens_R: np.ndarray,
    loss_R: np.ndarray,
    budget_R: np.ndarray,
    *,
    fit: Fit | None = None,
    sweep: SweepFit | None = None,
    loss_name: str = "loss (nats per token)",
) -> Figure:
    """Loss over size, one curve a budget: runs as points, the surface as a line, its parabola dashed."""
    figure, axes = _canvas()
    for i, budget in enumerate(np.unique(budget_R)):
        rows = np.flatnonzero(budget_R == budget)
        rows = rows[np.argsort(size_R[rows])]
        colour, marker = COLOURS[i % 7], MARKERS[i % 7]
        axes.plot(
            size_R[rows],
            loss_R[rows],
            marker,
            color=colour,
            markersize=5,
            label=f"{budget:.2g} FLOPs",
            zorder=3,
        )
        fine = np.geomspace(size_R[rows[0]], size_R[rows[-1]], 100)
        if fit is not None and len(rows) > 1:
            tokens = np.exp(np.interp(np.log(fine), np.log(size_R[rows]), np.log(tokens_R[rows])))
            values = {"N": fine, "D": tokens, "C": np.full_like(fine, budget)}
            axes.plot(
                fine, fit.predict(**{k: values[k] for k in fit.law.variables}), color=colour, linewidth=1.3
            )
        valley = next((v for v in sweep.valleys if np.isclose(v.budget, budget)), None) if sweep else None
        if valley is not None and np.isfinite(valley.coefficients[0]):
            axes.plot(fine, np.polyval(valley.coefficients, np.log(fine)), "--", color=colour, linewidth=0.9)
    axes.set(xscale="log", xlabel="parameters N", ylabel=loss_name)
    axes.legend(fontsize=8, frameon=False, ncols=2)
    return figure


def streams_figure(losses: Mapping[str, np.ndarray], budget_R: np.ndarray, best_R: np.ndarray) -> Figure:
    """Every loss over compute, of the best run at each budget.

    Args:
        losses: name → loss of each run, nats per token.
        budget_R: FLOPs.
        best_R: the loss that decides which run is the best.
    """
    best = best_runs(budget_R, best_R)
    figure, axes = _canvas()
    for i, (name, loss_R) in enumerate(losses.items()):
        axes.plot(
            budget_R[best],
            loss_R[best],
            MARKERS[i % 7],
            linestyle="-" if i < 7 else "--",
            color=COLOURS[i % 7],
            markersize=4,
            linewidth=1.1,
            label=name,
        )
    axes.set(xscale="log", xlabel="training compute C (FLOPs)", ylabel="loss (nats per token)")
    figure.legend(fontsize=8, frameon=False, loc="outside right upper")
    return figure


def best_runs(budget_R: np.ndarray, loss_R: np.ndarray) -> np.ndarray:
    """Indices of the runs with the lowest loss at each budget, budgets ascending."""
    rows = [np.flatnonzero(budget_R == budget) for budget in np.unique(budget_R)]
    return np.array([r[np.argmin(loss_R[r])] for r in rows])


def frontier_figure(plans: Sequence[Plan], sweep: SweepFit | None = None) -> Figure:
    """N* and D* over budget, with 95 % bands, and the parabolas' minima as points."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    flops = np.array([p.flops for p in plans])
    left, right = figure.subplots(1, 2)
    for axes, name, colour in ((left, "size", COLOURS[0]), (right, "tokens", COLOURS[1])):
        axes.plot(flops, [getattr(p, name) for p in plans], color=colour, label="surface")
        bands = [getattr(p, f"{name}_interval") for p in plans]
        if all(bands):
            axes.fill_between(flops, *np.array(bands).T, color=colour, alpha=0.2, linewidth=0, label="95 %")
        if sweep is not None:
            valleys = sweep.valleys if name == "size" else sweep.token_valleys
            good = [v for v in valleys if np.isfinite(v.optimum)]
            axes.plot(
                [v.budget for v in good],
                [v.optimum for v in good],
                "o",
                color="black",
                label="parabola minima",
            )
            axes.plot(
                flops,
                getattr(sweep, name)(flops),
                "--",
                color="black",
                linewidth=0.9,
                label="line through them",
            )
        axes.set(xscale="log", yscale="log", xlabel="training compute C (FLOPs)")
        axes.set_ylabel("parameters N*" if name == "size" else "training tokens D*")
        tidy(axes)
        axes.legend(fontsize=8, frameon=False)
    return figure


@dataclass(frozen=True, kw_only=True)
class Contours:
    """Loss over compute and size, and the losses worth a line: those of the best runs."""

    flops_C: np.ndarray
    size_N: np.ndarray
    loss_NC: np.ndarray
    """With the tokens that the compute buys at that size."""
    level_P: np.ndarray
    """The loss of each plan, falling with compute: its line touches the path of optima at the plan's budget."""


def contours(
    fit: Fit, plans: Sequence[Plan], flops_per_token: FlopsPerToken, *, points: int = 240
) -> Contours:
    """The fitted surface over the budgets of the plans and the sizes of runs and plans, and half as far again.

    Raises:
        ConfigError: the law does not trade size for data.
    """
    if not {"N", "D"} <= set(fit.law.variables):
        raise ConfigError(
            f"The law {fit.law.name!r} does not trade size for data; contours need 'chinchilla' or 'tied'."
        )
    sizes = np.concatenate([fit.values["N"], [p.size for p in plans]])
    flops_C = np.geomspace(min(p.flops for p in plans) / 1.5, max(p.flops for p in plans) * 1.5, points)
    size_N = np.geomspace(sizes.min() / 1.5, sizes.max() * 1.5, points)
    c, n = (a.reshape(-1) for a in np.meshgrid(flops_C, size_N))
    given = {"N": n, "D": c / flops_per_token(n), "C": c}
    loss = fit.predict(**{k: given[k] for k in fit.law.variables})
    return Contours(
        flops_C=flops_C,
        size_N=size_N,
        loss_NC=loss.reshape(points, points),
        level_P=np.array([p.loss for p in plans]),
    )


def contour_figure(
    fit: Fit,
    plans: Sequence[Plan],
    flops_per_token: FlopsPerToken,
    flops_R: np.ndarray,
    *,
    loss_name: str = "loss (nats per token)",
) -> Figure:
    """Contours of the fitted loss over compute and size, with the runs, the path of optima and its 95 % band."""
    figure, axes = _canvas()
    found = contours(fit, plans, flops_per_token)
    axes.contour(
        found.flops_C,
        found.size_N,
        found.loss_NC,
        levels=np.unique(found.level_P),
        colors="#777777",
        linewidths=0.8,
    )
    for plan in plans[1:]:
        # Where a line turns, left of the path, nothing else is drawn.
        axes.annotate(
            f"{plan.loss:.3g}",
            (plan.flops, plan.size),
            xytext=(-3, 6),
            textcoords="offset points",
            ha="right",
            fontsize=7,
            color="#444444",
        )
    flops = [p.flops for p in plans]
    axes.plot(flops, [p.size for p in plans], color=COLOURS[1], linewidth=1.6, label="best size N*")
    bands = [p.size_interval for p in plans]
    if all(bands):
        axes.fill_between(flops, *np.array(bands).T, color=COLOURS[1], alpha=0.2, linewidth=0, label="95 %")
    axes.plot(flops_R, fit.values["N"], "o", color=COLOURS[0], markersize=4, label="runs", zorder=3)
    axes.plot([], [], color="#777777", linewidth=0.8, label=loss_name)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="training compute C (FLOPs)",
        ylabel="parameters N",
        ylim=(found.size_N[0], found.size_N[-1]),
    )
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    return figure


def extrapolation_figure(
    found: Sequence[Extrapolation], noise: float, *, loss_name: str = "loss (nats per token)"
) -> Figure:
    """Predicted − observed loss over how far beyond the fitted budgets it lies: runs as points, their mean as a line."""
    figure, axes = _canvas()
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.axhspan(-2 * noise, 2 * noise, color="grey", alpha=0.12, linewidth=0)
    for i, one in enumerate(found):
        colour, marker = COLOURS[i % 7], MARKERS[i % 7]
        axes.plot(one.reach_R, one.error_R, marker, color=colour, markersize=3, alpha=0.45)
        axes.plot(
            one.reach_B,
            one.error_B,
            marker,
            linestyle="-",
            color=colour,
            markersize=7,
            label=f"fitted up to {one.last_budget:.2g} FLOPs, {one.num_fitted} runs",
            zorder=3,
        )
    axes.set(
        xscale="log",
        xlabel="budget, times the largest fitted budget",
        ylabel=f"predicted − observed {loss_name}",
    )
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}×")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.legend(fontsize=8, frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def residual_figure(fit: Fit) -> Figure:
    """Residuals over every variable: a pattern says that the law is wrong."""
    names = list(fit.values)
    figure = Figure(figsize=(3.2 * len(names), 3.2), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names), sharey=True)), names, strict=True):
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.axhspan(-2 * 100 * fit.noise, 2 * 100 * fit.noise, color="grey", alpha=0.12, linewidth=0)
        axes.plot(fit.values[name], 100 * fit.residual_R, "o", color=COLOURS[0], markersize=4)
        axes.set(xscale="log", xlabel=name)
        tidy(axes)
    figure.axes[0].set_ylabel("predicted / observed loss − 1 (%)")
    return figure


def profile_figure(profiles: Sequence[Profile]) -> Figure:
    """How fast the misfit rises on both sides of each parameter; 4 is about the 95 % level."""
    figure = Figure(figsize=(3.2 * len(profiles), 3.0), layout="constrained")
    for axes, one in zip(
        np.atleast_1d(figure.subplots(1, len(profiles), sharey=True)), profiles, strict=True
    ):
        axes.plot(one.values_S, one.rise_S, color=COLOURS[0])
        axes.axhline(4, color="grey", linewidth=0.8, linestyle="--")
        for end in (one.low, one.high):
            if end is not None:
                axes.axvline(end, color=COLOURS[1], linewidth=0.9)
        axes.set(xlabel=one.name, ylim=(0, 16))
        tidy(axes)
    figure.axes[0].set_ylabel("rise of the misfit (standard errors²)")
    return figure


def design_figure(runs: Runs, *, optimum: tuple[np.ndarray, np.ndarray] | None = None) -> Figure:
    """The runs of a design by compute and size, their area as often as they are repeated, and the expected optimum."""
    figure, axes = _canvas()
    places, counts = np.unique(np.stack([runs.cost_R, runs.size_R], 1), axis=0, return_counts=True)
    axes.scatter(places[:, 0], places[:, 1], s=30 * counts, color=COLOURS[0], alpha=0.7)
    if optimum is not None:
        axes.plot(*optimum, "--", color=COLOURS[1], label="expected optimum")
        axes.legend(fontsize=8, frameon=False)
    axes.set(xscale="log", yscale="log", xlabel="training compute C (FLOPs)", ylabel="parameters N")
    return figure


def describe_isoflop(budget_R: np.ndarray, loss_R: np.ndarray) -> str:
    """The IsoFLOP figure in words."""
    lowest: Mapping[float, float] = {
        float(b): float(loss_R[budget_R == b].min()) for b in np.unique(budget_R)
    }
    said = "; ".join(f"{b:.2g} FLOPs {v:.3f}" for b, v in lowest.items())
    return f"Loss over model size at {len(lowest)} budgets, {format_count(len(loss_R))} runs. Lowest loss: {said}."


def describe_streams(losses: Mapping[str, np.ndarray], budget_R: np.ndarray, best_R: np.ndarray) -> str:
    """The figure of losses in words."""
    best = best_runs(budget_R, best_R)
    said = "; ".join(f"{name} {v[best[0]]:.2f} to {v[best[-1]]:.2f}" for name, v in losses.items())
    return f"The best run of each budget, from {budget_R[best[0]]:.2g} to {budget_R[best[-1]]:.2g} FLOPs: {said}."


def describe_extrapolation(found: Sequence[Extrapolation]) -> str:
    """The extrapolation figure in words."""
    said = "; ".join(
        f"up to {one.last_budget:.2g} FLOPs: {one.error_B[-1]:+.4f} at {one.reach_B[-1]:.3g} times that"
        for one in found
    )
    return f"Predicted − observed loss over distance from the fitted budgets. Fitted {said}. Grey: twice the noise."


def save(figure: Figure, path: Path | str) -> None:
    """Write the figure, atomically: SVG or PNG by the ending of the name."""
    with atomic_path(path) as temporary:
        if Path(path).suffix == ".svg":
            temporary.write_text(svg_text(figure), encoding="utf-8")
        else:
            FigureCanvasAgg(figure)
            figure.savefig(temporary, format="png", dpi=160)


def _canvas() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.subplots()
    tidy(axes)
    return figure, axes


def tidy(axes: Axes) -> None:
    """Grid behind, no frame above and on the right."""
    axes.grid(True, which="major", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
