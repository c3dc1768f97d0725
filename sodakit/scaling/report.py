"""A scaling study to look at: its figures, and one self-contained HTML page with them and every number."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sodakit.eval.figures import svg_text
from sodakit.eval.report import Report
from sodakit.scaling.costs import flops_of_runs
from sodakit.scaling.onset_vector import Onsets
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
    save,
    streams_figure,
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


def pictures_of(study: Study) -> dict[str, Picture]:
    """The figures of a study by name: `isoflop`, `residuals`, and as far as the runs and the law allow `losses`, `optimum`,
    `contours`, `profiles` and `extrapolation`."""
    fit, values = study.fit, study.fit.values
    pictures = {
        "isoflop": Picture(
            isoflop_figure(
                study.table.sizes(study.settings["size"]),
                study.table.tokens(),
                fit.loss_R,
                study.shown_budget_R,
                fit=fit,
                sweep=study.parabolas,
                loss_name=_loss_name(study),
            ),
            describe_isoflop(study.shown_budget_R, fit.loss_R),
        )
    }
    losses = {name: study.table.loss(name) for name in study.table.losses if name != "bits_per_audio_s"}
    if len(losses) > 1:
        pictures["losses"] = Picture(
            streams_figure(losses, study.shown_budget_R, fit.loss_R),
            describe_streams(losses, study.shown_budget_R, fit.loss_R),
        )
    if plans := plans_of(study, _plan_budgets(study)):
        pictures["optimum"] = Picture(
            frontier_figure(plans, study.parabolas),
            f"Best size and tokens over compute, up to ten times the largest budget; at {plans[-1].flops:.2g} FLOPs "
            f"{format_count(plans[-1].size)} parameters and {format_count(plans[-1].tokens)} tokens.",
        )
        cost = flops_of_runs(values["N"], values["D"], values["C"])
        pictures["contours"] = Picture(
            contour_figure(fit, plans, cost, values["C"], loss_name=_loss_name(study)),
            "Lines of equal fitted loss over compute and size, each the loss of the best run where it touches the path of "
            f"optima, with the {len(study.table)} runs.",
        )
    if study.profiles:
        pictures["profiles"] = Picture(
            profile_figure(study.profiles), "; ".join(map(str, study.profiles)) + "."
        )
    pictures["residuals"] = Picture(
        residual_figure(fit),
        f"Residuals over N, D and C; grey: two standard deviations of {fit.noise:.2%}.",
    )
    if study.extrapolations:
        noise = fit.noise * float(np.median(fit.loss_R))
        pictures["extrapolation"] = Picture(
            extrapolation_figure(study.extrapolations, noise, loss_name=_loss_name(study)),
            describe_extrapolation(study.extrapolations),
        )
    return pictures


def save_pictures(study: Study, folder: Path | str, formats: Sequence[str] = ("svg", "png")) -> list[Path]:
    """Write every figure of a study as `NAME.svg` and `NAME.png`; what was written."""
    paths = []
    for name, picture in pictures_of(study).items():
        for ending in formats:
            paths.append(Path(folder) / f"{name}.{ending}")
            save(picture.figure, paths[-1])
    return paths


def study_report(study: Study, title: str = "Scaling laws", onsets: Onsets | None = None) -> Report:
    """The page of a study: what it found, what speaks against it, and every number.

    Args:
        onsets: where each loss begins to fall, for a section of its own.
    """
    pictures = pictures_of(study)
    report = Report(
        title,
        f"{len(study.table)} runs, {len(np.unique(study.budget_R[np.isfinite(study.budget_R)]))} budgets; loss: {study.settings['loss']}",
    )
    rows = {name: (value, interval) for name, value, _, interval, *_ in study.parameter_rows()}
    for name in ("a", "b", "E"):
        if name in rows:
            report.headline(name, f"{rows[name][0]:.3f}", f"95 %: {rows[name][1]}")
    report.section("What could be wrong")
    for sentence in study.findings or ["Nothing was found by the checks below."]:
        report.text(sentence)
    report.section("Exponents by approach", "N* grows with compute to the power a, D* to the power b.")
    report.table(
        ("Approach", "a", "b", "How"),
        study.approach_rows(),
        "Four readings of the same runs, with 95 % intervals",
    )
    report.section("Loss over size").add(pictures["isoflop"])
    if "losses" in pictures:
        report.section(
            "Every loss over compute",
            "A loss that has only begun to fall at the largest budgets follows no power law yet, and neither does a mean it is part of.",
        ).add(pictures["losses"])
    if onsets is not None:
        _onsets(report, onsets)
    if plans := plans_of(study, _plan_budgets(study)[::3]):
        report.section("Where the optimum lies").add(pictures["optimum"]).add(pictures["contours"])
        report.table(
            ("C (FLOPs)", "N*", "D*", "D*/N*", "Loss", "N within 0.1 %", "N within 0.5 %"),
            [_plan_row(p) for p in plans],
            "Plans by the surface, FLOPs per token as in these runs",
        )
    _parameters(report, study, pictures)
    _checks(report, study, pictures)
    return report.provenance(
        {
            "Table": study.table.origin,
            "Fingerprint": study.table.fingerprint,
            **{k: v for k, v in study.settings.items() if k != "projected"},
        }
    )


def write_report(
    study: Study, path: Path | str, title: str = "Scaling laws", onsets: Onsets | None = None
) -> None:
    """Write the page."""
    study_report(study, title, onsets).write(path)


def _onsets(report: Report, onsets: Onsets) -> None:
    report.section(
        "Where each loss begins to fall",
        "Every loss by the law that misses the held-out budgets least: a power law of all runs, the same with a plateau before it, or "
        "one of the runs past the onset alone. Where that one misses too, none holds.",
    )
    rows = onsets.rows()
    names = (
        "Loss",
        "Onset (FLOPs)",
        "95 %",
        "Plateau",
        "Runs before",
        "Law",
        "Misses by",
        "±",
        "Others",
        "Holds",
    )
    cells = [
        tuple("–" if v != v else f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values())
        for row in rows
    ]
    report.table(names, cells, "Onsets and laws by loss")


def _plan_budgets(study: Study) -> list[float]:
    return [float(c) for c in np.geomspace(study.shown_budget_R.min(), study.shown_budget_R.max() * 10, 13)]


def _parameters(report: Report, study: Study, pictures: Mapping[str, Picture]) -> None:
    report.section(
        "Parameters",
        f"{study.fit.law.name}, misfit {study.settings['misfit']}. {str(study.fit.certificate).capitalize()}. "
        f"Robust noise of log loss {study.fit.noise:.4f}. {study.boot.num_failed} of {study.settings['draws']} refits ({study.boot.resample} resampled) "
        f"and {study.boot_runs.num_failed} of those of resampled runs did not settle.",
    )
    report.table(
        ("Parameter", "Value", "Standard error", "Bootstrap 95 %", "Runs resampled 95 %", "Profile 95 %"),
        [
            (name, f"{v:.4g}", "–" if e != e else f"{e:.3g}", *ends)
            for name, v, e, *ends in study.parameter_rows()
        ],
        f"The law at its global minimum; the bootstrap is of {study.boot.resample}",
    )
    if "profiles" in pictures:
        report.add(pictures["profiles"])
    report.add(pictures["residuals"])


def _checks(report: Report, study: Study, pictures: Mapping[str, Picture]) -> None:
    if study.rollouts or study.extrapolations:
        report.section(
            "Largest budgets held out", "Laws fitted to the smaller budgets, scored on the largest."
        )
    if study.rollouts:
        report.table(
            ("Law", "Misfit", "Fitted", "Held out", "Error", "Bias", "Its standard error", "Own mean"),
            [
                (
                    r.law,
                    r.misfit,
                    r.num_fitted,
                    r.num_held_out,
                    f"{r.error:.2%}",
                    f"{r.bias:+.2%}",
                    f"{r.bias_error:.2%}",
                    f"{r.spread:.2%}",
                )
                for r in study.rollouts
            ],
            "Mean relative error of the loss",
        )
    if "extrapolation" in pictures:
        report.add(pictures["extrapolation"])
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
        ("Without", study.influences[0].watched if study.influences else "a", "Shift"),
        [(i.left_out, f"{i.value:.4f}", f"{i.shift:+.1f}") for i in study.influences[:8]],
        "The runs that move the answer most, in units of the usual shift",
    )
    if study.budget_influences:
        report.table(
            ("Without", study.budget_influences[0].watched, "Shift"),
            [(i.left_out, f"{i.value:.4f}", f"{i.shift:+.1f}") for i in study.budget_influences],
            "Each budget left out",
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
