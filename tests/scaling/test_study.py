"""The whole study of a table: what it warns of, its page, and the command."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from sodakit.commands.scale import main
from sodakit.errors import ConfigError
from sodakit.scaling.checks import convention_table, diagnose, influence
from sodakit.scaling.costs import flops_of_runs
from sodakit.scaling.fit import fit_chinchilla, fit_law
from sodakit.scaling.laws import LAWS
from sodakit.scaling.plot import (
    contour_figure,
    contours,
    describe_streams,
    extrapolation_figure,
    save,
    streams_figure,
)
from sodakit.scaling.report import plans_of, study_report
from sodakit.scaling.residuals import MISFITS
from sodakit.scaling.rollout import extrapolate, rollout
from sodakit.scaling.study import study
from sodakit.scaling.table import RunTable
from tests.eval.test_report import Page
from tests.scaling.sweeps import chinchilla_runs, soda_runs


@pytest.fixture(scope="module")
def soda():
    return study(soda_runs(), size="two_embeddings", flops="soda", draws=80)


def test_a_study_warns_that_c_is_not_6nd_and_says_how_much_the_grid_explains(soda):
    text = " ".join(soda.findings)
    assert "6ND/C runs from 0.95 to 1.66" in text and "the grid alone explains" in text
    assert [row[0][0] for row in soda.approach_rows()] == ["1", "2", "3", "3", "v"]


def test_the_1_6_times_claim_depends_on_what_counts_as_a_parameter():
    rows = {(r.size, r.flops): r for r in convention_table(soda_runs(noise=0.0))}
    assert rows["two_embeddings", "soda"].data_over_model == pytest.approx(1.38, abs=0.05)
    assert rows["two_embeddings", "6nd"].data_over_model == pytest.approx(1.56, abs=0.1)
    assert rows["non_embedding", "soda"].data_over_model < 0.95
    assert not any(r.size == "total" or r.flops == "given" for r in rows.values())


def test_the_true_law_predicts_the_held_out_budget_best():
    runs = soda_runs(noise=0.001)
    values = {"N": runs.sizes("two_embeddings"), "D": runs.tokens(), "C": runs.flops("soda")}
    found = rollout(values, runs.loss(), runs.columns["budget"].astype(float), hold_out=2)
    errors = {r.law: r.error for r in reversed(found)}
    assert errors["chinchilla"] < 0.003 < errors["tied"] and found[0].error < found[0].spread / 5
    with pytest.raises(ConfigError, match="more than the 7 to hold out"):
        rollout(values, runs.loss(), runs.columns["budget"].astype(float), hold_out=7)


def test_the_run_that_carries_the_answer_is_named():
    runs = soda_runs()
    losses = runs.loss().copy()
    losses[6] *= 1.06
    fit = fit_chinchilla(runs.sizes("two_embeddings"), runs.tokens(), losses)
    squares = fit_law(LAWS["chinchilla"], fit.values, losses, misfit=MISFITS["mse-log"])
    assert influence(squares, runs.runs)[0].left_out == runs.runs[6]
    by_budget = influence(squares, runs.runs, groups=runs.columns["budget"].tolist())
    assert len(by_budget) == 7


@pytest.mark.parametrize("law", ["tied", "compute"])
def test_of_a_law_that_fixes_a_another_exponent_is_watched(law):
    """Influence on an a that is one half whatever the runs say was nan, or nine times the usual shift of nothing."""
    runs = soda_runs()
    losses = runs.loss().copy()
    losses[6] *= 1.06
    values = {"N": runs.sizes("two_embeddings"), "D": runs.tokens(), "C": runs.flops("soda")}
    fit = fit_law(LAWS[law], values, losses, misfit=MISFITS["mse-log"])
    first = influence(fit, runs.runs)[0]
    exponent = fit.law.exponents[0]
    assert first.watched == exponent and first.value == first.parameters[exponent] != fit.parameters[exponent]
    assert np.isfinite(first.shift)
    heavy = [line for line in diagnose(fit, influences=influence(fit, runs.runs)) if "would be" in line]
    assert all(f" {exponent} would be" in line and "nan" not in line for line in heavy)
    if law == "tied":
        assert first.left_out == runs.runs[6] and heavy


def test_a_law_is_extrapolated_from_ever_more_budgets():
    runs = soda_runs(noise=0.0005)
    budgets = runs.columns["budget"].astype(float)
    fit = fit_chinchilla(runs.sizes("two_embeddings"), runs.tokens(), runs.loss())
    found = extrapolate(fit, budgets)
    levels = np.unique(budgets)
    assert [e.last_budget for e in found] == levels[2:6].tolist()
    assert [len(e.budget_B) for e in found] == [4, 3, 2, 1]
    last = found[-1]
    late = budgets == levels[-1]
    assert last.reach_B[0] == pytest.approx(levels[-1] / levels[-2]) and last.num_fitted == (~late).sum()
    alone = fit_chinchilla(fit.values["N"][~late], fit.values["D"][~late], fit.loss_R[~late])
    assert last.error_R == pytest.approx(
        alone.predict(N=fit.values["N"][late], D=fit.values["D"][late]) - fit.loss_R[late]
    )
    assert last.error_B[0] == pytest.approx(last.error_R.mean()) and abs(last.error_B[0]) < 0.005
    with pytest.raises(ConfigError, match="more than 3 budgets"):
        extrapolate(fit, np.minimum(budgets, levels[2]))


def test_a_contour_touches_the_path_of_optima_at_the_budget_whose_loss_it_is(soda):
    plans = plans_of(soda, [3e18, 3e19, 3e20])
    values = soda.fit.values
    found = contours(soda.fit, plans, flops_of_runs(values["N"], values["D"], values["C"]))
    for plan, level in zip(plans, found.level_P, strict=True):
        column = found.loss_NC[:, np.abs(np.log(found.flops_C / plan.flops)).argmin()]
        assert column.min() == pytest.approx(level, rel=1e-3)
        assert np.log(found.size_N[column.argmin()] / plan.size) == pytest.approx(0, abs=0.1)
    drawn = contour_figure(
        soda.fit, plans, flops_of_runs(values["N"], values["D"], values["C"]), values["C"]
    ).axes[0]
    assert any(np.array_equal(line.get_ydata(), values["N"]) for line in drawn.lines)


def test_the_figure_of_extrapolation_shows_every_held_out_run_and_budget(soda):
    axes = extrapolation_figure(soda.extrapolations, 0.01).axes[0]
    shown = [(line.get_xdata(), line.get_ydata()) for line in axes.lines[1:]]
    for i, one in enumerate(soda.extrapolations):
        assert np.array_equal(shown[2 * i], (one.reach_R, one.error_R))
        assert np.array_equal(shown[2 * i + 1], (one.reach_B, one.error_B))


def test_a_and_b_as_counted_have_intervals_and_go_into_the_file(soda):
    stored = json.loads(json.dumps(soda.to_json(), default=str))
    for name in ("a", "b"):
        low, high = stored["counted_intervals_95"][name]
        assert low < stored["counted_exponents"][name] < high
    assert sum(stored["counted_exponents"].values()) < 0.97 and stored["settings"]["resample"] == "residuals"
    assert len(stored["extrapolation"]) == 4


def test_an_interval_without_an_end_is_shown_with_a_question_mark(soda):
    """It was `None – 1.929`."""
    alpha = next(profile for profile in soda.profiles if profile.name == "alpha")
    open_ended = replace(soda, profiles=[replace(alpha, low=None)], profile_a=(None, 0.5))
    shown = {name: ends for name, *_, ends in open_ended.parameter_rows()}
    assert (shown["alpha"], shown["a"], shown["b"]) == (f"? – {alpha.high:.4g}", "? – 0.5", "0.5 – ?")
    assert "a: its profile ? – 0.5 has no end on one side at least." in open_ended.findings


def test_an_outlier_is_counted():
    runs = soda_runs()
    losses = runs.loss().copy()
    losses[10] *= 1.2
    table = RunTable({**runs.columns, "loss/all": losses})
    found = study(table, size="two_embeddings", draws=10).findings
    said = f"1 of {len(runs)} runs lie more than 5 standard deviations from the law: {runs.runs[10]}."
    assert said in found


def test_losses_that_fall_faster_than_any_law_are_a_finding(soda):
    assert "misses their losses" not in " ".join(soda.findings)
    runs = soda_runs()
    budget_R = runs.columns["budget"].astype(float)
    # What a small sweep does whose last codebooks only begin to be learnt at the largest budget.
    falling_R = np.where(budget_R == budget_R.max(), 0.93, 1.0)
    table = RunTable({**runs.columns, "loss/all": runs.loss() * falling_R})
    text = " ".join(study(table, size="two_embeddings", draws=10).findings)
    assert re.search(r"misses their losses by \+\d\.\d% on average", text)


def test_the_page_is_whole_and_holds_its_figures(soda):
    html = study_report(soda).html()
    page = Page(html)
    pictures = [a for tag, a in page.elements if tag == "img"]
    assert len(pictures) == 6 and all(
        a["src"].startswith("data:image/svg+xml") and a["alt"] for a in pictures
    )
    assert "NaN" not in page.text and "two_embeddings" in page.text and soda.table.fingerprint in page.text
    assert not re.search(r'(src|href)="https?:', html)


def test_every_loss_is_shown_of_the_best_run_at_each_budget():
    budget_R, all_R = np.array([1e13, 1e13, 3e13]), np.array([5.0, 4.0, 3.0])
    losses = {"all": all_R, "semantic": np.array([1.0, 2.0, 1.5])}
    lines = streams_figure(losses, budget_R, all_R).axes[0].lines
    assert [line.get_ydata().tolist() for line in lines] == [[4.0, 3.0], [2.0, 1.5]]
    assert "semantic 2.00 to 1.50" in describe_streams(losses, budget_R, all_R)
    runs = soda_runs()
    table = RunTable({**runs.columns, "loss/semantic": 0.6 * runs.loss()})
    assert "semantic" in study_report(study(table, size="two_embeddings", flops="soda", draws=5)).html()


def test_figures_are_written_as_svg_and_png(soda, tmp_path):
    from sodakit.scaling.design import soda_design
    from sodakit.scaling.information import runs_of
    from sodakit.scaling.plot import design_figure, residual_figure

    save(residual_figure(soda.fit), tmp_path / "residuals.svg")
    save(design_figure(runs_of(soda_design())), tmp_path / "design.png")
    assert (tmp_path / "residuals.svg").read_text().startswith("<?xml")
    assert (tmp_path / "design.png").read_bytes()[:4] == b"\x89PNG"


def test_a_study_of_single_runs_falls_back_to_what_they_allow():
    """The Chinchilla table has no budgets of its own: the surface still comes out, and nothing breaks."""
    found = study(chinchilla_runs(), draws=20)
    assert found.fit.objective <= 0.001018274018 * (1 + 1e-6)
    assert json.loads(json.dumps(found.to_json(), default=str))["runs"] == 240


def test_fit_then_plan_by_command(tmp_path, capsys):
    soda_runs().write(tmp_path / "runs.csv")
    main(
        f"fit {tmp_path}/runs.csv --size two_embeddings --flops soda --draws 40 --out {tmp_path}/fit.json "
        f"--report {tmp_path}/scale.html".split()
    )
    said = capsys.readouterr().out
    assert "global minimum" in said and (tmp_path / "scale.html").exists()
    main(["plan", "--flops", "1e22", "--fit", str(tmp_path / "fit.json")])
    assert "95 %" in capsys.readouterr().out


def test_the_published_law_by_command(capsys):
    main(["plan", "--flops", "1e23", "--size", "4.004e9", "--tokens", "5e11"])
    said = capsys.readouterr().out
    assert "by the published power laws: N* 14.4B, D* 813" in said and "and 4.6 times" in said


def test_designs_and_next_runs_by_command(tmp_path, capsys):
    main(["design", "--out", str(tmp_path / "soda.jsonl")])
    assert len(capsys.readouterr().out.splitlines()) == 67
    main(
        [
            "design",
            "--question",
            "both",
            "--total",
            "2e21",
            "--runs",
            "30",
            "--out",
            str(tmp_path / "best.jsonl"),
        ]
    )
    capsys.readouterr()
    assert 20 <= len((tmp_path / "best.jsonl").read_text().splitlines()) <= 30
    soda_runs().write(tmp_path / "runs.csv")
    main(
        [
            "next",
            str(tmp_path / "runs.csv"),
            "--budgets",
            "3e18",
            "3e19",
            "--widths",
            "384",
            "768",
            "1536",
            "--runs",
            "3",
        ]
    )
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_an_unknown_surface_or_alias_is_explained(tmp_path):
    with pytest.raises(ConfigError, match="neither a known surface"):
        main(["plan", "--flops", "1e22", "--fit", "nothing.json"])
    soda_runs().write(tmp_path / "runs.csv")
    with pytest.raises(ConfigError, match="is no alias"):
        main(["fit", str(tmp_path / "runs.csv"), "--alias", "loss"])
    with pytest.raises(ConfigError, match="No misfit 'l1'"):
        study(soda_runs(), misfit="l1")


def test_weights_of_a_table_reach_the_fit():
    runs = soda_runs()
    weights = np.where(np.arange(len(runs)) < 5, 0.0, 1.0)
    found = study(RunTable({**runs.columns, "weight": weights}), size="two_embeddings", draws=10)
    assert (found.fit.weights_R == weights).all()


def test_optima_at_a_budget_stand_beside_each_other_by_every_approach(soda):
    rows = soda.optima_rows([1e20, 1e21])
    assert [r["approach"] for r in rows[:4]] == [
        "1: envelope",
        "2: parabolas",
        "3: surface, C = 6ND",
        "3: surface, C as counted",
    ]
    assert len(rows) == 8 and all(
        "–" in r["N*"] and "–" in r["D*"] for r in rows if "envelope" not in r["approach"]
    )
    size, _ = soda.parabolas_boot.at(1e20)
    assert size[0] < soda.parabolas.size(1e20) < size[1]
