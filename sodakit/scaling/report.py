"""One self-contained HTML page of a scaling study."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sodakit.eval.report import Report
from sodakit.scaling.costs import flops_of_runs
from sodakit.scaling.plan import Plan, plan_budget
from sodakit.scaling.plot import (
    contour_figure,
    describe_extrapolation,
    describe_isoflop,
    describe_streams,
    extrapolation_figure,
    frontier_figure,
    isoflop_figure,
    profile_figure,
    residual_figure,
    streams_figure,
    svg_text,
)
from sodakit.scaling.study import Study
from sodakit.units import format_count


@dataclass(frozen=True)
class Picture:
    """A matplotlib figure on a page, with the sentence for who cannot see it."""

    figure: Figure
    description: str

    def html(self) -> str:
        """A `<figure>` whose picture is an SVG `data:` address, so that two of them never share an id."""
        data = base64.b64encode(svg_text(self.figure).encode()).decode("ascii")
        return (
            f'<figure><img style="max-width:100%;background:#fff" alt="{escape(self.description)}" '
            f'src="data:image/svg+xml;base64,{data}"><figcaption>{escape(self.description)}</figcaption></figure>'
        )


def plans_of(study: Study, budgets: Sequence[float]) -> list[Plan]:
    """Plans at budgets, C counted as in the study's runs, with the intervals of its refits; empty where the law has no
    optimum."""
    if not study.fit.optimum_exponents:
        return []
    values = study.fit.values
    cost = flops_of_runs(values["N"], values["D"], values["C"])
    draws = [dict(zip(study.fit.names, row, strict=True)) for row in study.boot.draws_SP[:150]]
    return [
        plan_budget(study.fit.parameters, c, law=study.fit.law, draws=draws, flops_per_token=cost)
        for c in budgets
    ]


def study_report(study: Study, title: str = "Scaling laws") -> Report:
    """The page of a study: what it found, what speaks against it, and every number."""
    fit, n = study.fit, study.table.sizes(study.settings["size"])
    report = Report(
        title,
        f"{len(study.table)} runs, {len(np.unique(study.budget_R))} budgets; loss: {study.settings['loss']}",
    )
    rows = {name: (value, error, interval) for name, value, error, interval, _ in study.parameter_rows()}
    for name in ("a", "b", "E"):
        if name in rows:
            report.headline(name, f"{rows[name][0]:.3f}", f"95 %: {rows[name][2]}")
    report.section("What could be wrong")
    for sentence in study.findings or ["Nothing was found by the checks below."]:
        report.text(sentence)
    report.section("Exponents by approach", "N* grows with compute to the power a, D* to the power b.")
    report.table(
        ("Approach", "a", "b", "How"),
        study.approach_rows(),
        "Four readings of the same runs, with 95 % intervals",
    )
    report.section("Loss over size").add(
        Picture(
            isoflop_figure(
                n, study.table.tokens(), fit.loss_R, study.budget_R, fit=fit, sweep=study.parabolas
            ),
            describe_isoflop(study.budget_R, fit.loss_R),
        )
    )
    losses = {name: study.table.loss(name) for name in study.table.losses if name != "bits_per_audio_s"}
    if len(losses) > 1:
        report.section(
            "Every loss over compute",
            "A loss that has only begun to fall at the largest budgets follows no power law yet, and neither does a mean it is part of.",
        ).add(
            Picture(
                streams_figure(losses, study.budget_R, fit.loss_R),
                describe_streams(losses, study.budget_R, fit.loss_R),
            )
        )
    budgets = np.geomspace(study.budget_R.min(), study.budget_R.max() * 10, 13)
    plans = plans_of(study, [float(c) for c in budgets])
    if plans:
        report.section("Where the optimum lies").add(
            Picture(
                frontier_figure(plans, study.parabolas),
                f"Best size and tokens over compute, up to ten times the largest budget; at {plans[-1].flops:.2g} FLOPs "
                f"{format_count(plans[-1].size)} parameters and {format_count(plans[-1].tokens)} tokens.",
            )
        )
        values = fit.values
        report.add(
            Picture(
                contour_figure(
                    fit,
                    plans,
                    flops_of_runs(values["N"], values["D"], values["C"]),
                    values["C"],
                    loss_name=_loss_name(study),
                ),
                "Lines of equal fitted loss over compute and size, each the loss of the best run where it touches the path of "
                f"optima, with the {len(study.table)} runs.",
            )
        )
        report.table(
            ("C (FLOPs)", "N*", "D*", "D*/N*", "Loss", "N within 0.1 %", "N within 0.5 %"),
            [_plan_row(p) for p in plans[::3]],
            "Plans by the surface, FLOPs per token as in these runs",
        )
    _parameters(report, study)
    _checks(report, study)
    return report.provenance(
        {
            "Table": study.table.origin,
            "Fingerprint": study.table.fingerprint,
            **{k: v for k, v in study.settings.items() if k != "projected"},
        }
    )


def write_report(study: Study, path: Path | str, title: str = "Scaling laws") -> None:
    """Write the page."""
    study_report(study, title).write(path)


def _parameters(report: Report, study: Study) -> None:
    report.section(
        "Parameters",
        f"{study.fit.law.name}, misfit {study.settings['misfit']}. {str(study.fit.certificate).capitalize()}. "
        f"Robust noise of log loss {study.fit.noise:.4f}. {study.boot.num_failed} of {study.settings['draws']} refits ({study.boot.resample} resampled) did not settle.",
    )
    report.table(
        ("Parameter", "Value", "Standard error", "Bootstrap 95 %", "Profile 95 %"),
        [(name, f"{v:.4g}", f"{e:.3g}", i, p) for name, v, e, i, p in study.parameter_rows()],
        "The law at its global minimum",
    )
    if study.profiles:
        report.add(Picture(profile_figure(study.profiles), "; ".join(map(str, study.profiles)) + "."))
    report.add(
        Picture(
            residual_figure(study.fit),
            f"Residuals over N, D and C; grey: two standard deviations of {study.fit.noise:.2%}.",
        )
    )


def _checks(report: Report, study: Study) -> None:
    if study.rollouts:
        report.section(
            "Largest budgets held out", "Laws fitted to the smaller budgets, scored on the largest."
        )
        report.table(
            ("Law", "Misfit", "Fitted", "Held out", "Error", "Bias", "Own mean"),
            [
                (
                    r.law,
                    r.misfit,
                    r.num_fitted,
                    r.num_held_out,
                    f"{r.error:.2%}",
                    f"{r.bias:+.2%}",
                    f"{r.spread:.2%}",
                )
                for r in study.rollouts
            ],
            "Mean relative error of the loss",
        )
    if study.extrapolations:
        if not study.rollouts:
            report.section("Largest budgets held out")
        report.add(
            Picture(
                extrapolation_figure(
                    study.extrapolations,
                    study.fit.noise * float(np.median(study.fit.loss_R)),
                    loss_name=_loss_name(study),
                ),
                describe_extrapolation(study.extrapolations),
            )
        )
    report.section("Conventions", "The same runs, counted differently.")
    report.table(
        ("N", "C", "a, b of the surface", "a, b of parabolas", "b / a", "6ND/C"),
        [
            (
                c.size,
                c.flops,
                _pair(c.surface),
                _pair(c.parabolas),
                "–" if c.data_over_model is None else f"{c.data_over_model:.2f}",
                f"{c.ratio[0]:.2f} – {c.ratio[1]:.2f}",
            )
            for c in study.conventions
        ],
        "Exponents by what counts as N and C",
    )
    report.section("Influence")
    report.table(
        ("Without", "a", "Shift"),
        [(i.left_out, f"{i.a:.4f}", f"{i.shift:+.1f}") for i in study.influences[:8]],
        "The runs that move the answer most, in units of the usual shift",
    )


def _loss_name(study: Study) -> str:
    name = study.settings["loss"]
    if name == "bits_per_audio_s":
        return "bits per second of audio"
    return "loss (nats per token)" if name == "all" else f"{name} loss (nats per token)"


def _plan_row(plan: Plan) -> tuple[str, ...]:
    ranges = [f"{format_count(low)} – {format_count(high)}" for low, high in plan.within.values()]
    return (
        f"{plan.flops:.2g}",
        format_count(plan.size),
        format_count(plan.tokens),
        f"{plan.tokens_per_parameter:.1f}",
        f"{plan.loss:.4f}",
        *ranges,
    )


def _pair(values: tuple[float, float] | None) -> str:
    return "not identified" if values is None else f"{values[0]:.3f}, {values[1]:.3f}"
