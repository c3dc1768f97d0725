"""Laws with an onset: exact derivatives, their own minimum, where a loss begins to fall, and who decides which law is kept."""

import numpy as np
import pytest

from sodakit.commands.scale import main
from sodakit.errors import ConfigError
from sodakit.files import read_json
from sodakit.scaling.costs import flops_of_runs
from sodakit.scaling.fit import fit_law
from sodakit.scaling.laws import LAWS, named_law
from sodakit.scaling.onset import FALLEN, ONSET_LAWS, capped
from sodakit.scaling.onset_vector import MEAN, fit_onsets, weights_of_mean
from sodakit.scaling.onsets import fit_onset
from sodakit.scaling.plan import plan_budget
from sodakit.scaling.records import table_from_rows
from sodakit.scaling.residuals import MISFITS
from sodakit.scaling.simulate import HOFFMANN, simulate

LAW = named_law("onset")
TRUTH = {"E": 4.0, "A": 3e3, "B": 4e4, "H": 2.9, "alpha": 0.6, "beta": 0.7}
SIZES, TOKENS = np.repeat(np.geomspace(1e6, 3e7, 6), 6), np.tile(np.geomspace(3e5, 3e7, 6), 6)
RUNS = {"N": SIZES, "D": TOKENS}
BUDGETS = np.repeat(np.geomspace(1e13, 3e14, 4), 6)
STUDY_SIZES = np.tile(np.geomspace(8e5, 6e6, 6), 4)
STUDY = {"N": STUDY_SIZES, "D": BUDGETS / 6 / STUDY_SIZES, "C": BUDGETS}
BEYOND = {"N": 6e6, "D": 9e14 / 36e6, "C": 9e14}


def steep(scale: float) -> dict[str, float]:
    """A loss that begins to fall later the larger the scale of its terms: at 3e13 FLOPs at 1."""
    return {"E": 4.0, "A": 4.7e6 * scale, "B": 5.7e6 * scale, "H": 2.9, "alpha": 0.9, "beta": 0.9}


def stream(scale: float, noise: float = 0.004, seed: int = 0) -> np.ndarray:
    """The same in a study's runs."""
    return simulate(steep(scale), STUDY["N"], STUDY["D"], noise=noise, seed=seed)


@pytest.mark.parametrize("misfit", ["mse-log", "mse"])
@pytest.mark.parametrize("name", ["onset", "onset_tied", "onset_data"])
def test_gradient_and_hessian_are_those_of_finite_differences(name, misfit):
    law = ONSET_LAWS[name]
    values = {v: RUNS[v] for v in law.variables}
    observed = LAW.loss(TRUTH, **RUNS)
    problem = law.problem(values, law.centre(values, np.ones(36)), observed, MISFITS[misfit])
    P = len(law.coefficients + law.exponents)
    solution = np.random.default_rng(2).uniform(-0.3, 1.0, P)
    weights, step = np.ones((1, 36)), 1e-6
    _, gradient, hessian = (x[0] for x in problem.derivatives(solution[None], weights))
    for p in range(P):
        ends = [solution + sign * step * np.eye(P)[p] for sign in (1, -1)]
        values_at = [float(problem.value(end[None], weights)[0]) for end in ends]
        slopes = [problem.derivatives(end[None], weights)[1][0] for end in ends]
        assert (values_at[0] - values_at[1]) / (2 * step) == pytest.approx(gradient[p], rel=1e-5, abs=1e-5)
        np.testing.assert_allclose((slopes[0] - slopes[1]) / (2 * step), hessian[p], rtol=1e-4, atol=1e-3)


def test_runs_of_the_law_give_it_back_and_chinchilla_s_does_not():
    loss = LAW.loss(TRUTH, **RUNS)
    fit = fit_law(LAW, RUNS, loss)
    assert fit.certificate.holds and np.abs(fit.residual_R).max() < 1e-8
    for name, value in TRUTH.items():
        assert fit.parameters[name] == pytest.approx(value, rel=1e-4), name
    assert np.abs(fit_law(LAWS["chinchilla"], RUNS, loss).residual_R).max() > 0.005
    assert fit.optimum_exponents == pytest.approx({"a": 0.7 / 1.3, "b": 0.6 / 1.3}, rel=1e-3)


def test_the_optimum_of_size_and_data_is_not_moved_by_a_plateau():
    plain = {k: v for k, v in TRUTH.items() if k != "H"}
    ours, theirs = plan_budget(TRUTH, 1e15, law=LAW), plan_budget(plain, 1e15)
    assert ours.size == pytest.approx(theirs.size, rel=1e-3) and ours.loss < theirs.loss


def test_far_past_the_plateau_the_law_is_chinchilla_s_and_says_that_the_plateau_is_not_told():
    values = {"N": SIZES * 1e2, "D": TOKENS * 1e3}
    loss = LAWS["chinchilla"].loss(HOFFMANN, **values)
    fit = fit_law(LAW, values, loss, misfit=MISFITS["mse-log"])
    assert LAW.plateau(fit.parameters) > 20 * loss.max()
    np.testing.assert_allclose(fit.predict(**values), loss, rtol=1e-5)


def test_where_the_fall_begins_a_twentieth_of_the_plateau_has_gone():
    cost = flops_of_runs(STUDY["N"], STUDY["D"], STUDY["C"])
    truth = steep(2.0)
    flops = LAW.onset_flops(truth, cost, STUDY["N"])
    sizes = np.geomspace(8e5, 6e6, 400)
    assert LAW.loss(truth, N=sizes, D=flops / 6 / sizes).min() == pytest.approx(
        (1 - FALLEN) * LAW.plateau(truth), rel=1e-3
    )


def test_each_loss_has_its_onset_and_its_interval_holds_the_truth():
    cost = flops_of_runs(STUDY["N"], STUDY["D"], STUDY["C"])
    for scale in (0.6, 2.0):
        found = fit_onset("x", STUDY, stream(scale), BUDGETS, draws=100)
        truth = steep(scale)
        low, high = found.onset_95
        assert found.has_onset and low < LAW.onset_flops(truth, cost, STUDY["N"]) < high
        assert found.best.law.startswith("onset") and found.holds
        loss, (least, most) = found.predict(**BEYOND)
        assert least < LAW.loss(truth, N=BEYOND["N"], D=BEYOND["D"])[0] < most
        assert abs(loss / LAW.loss(truth, N=BEYOND["N"], D=BEYOND["D"])[0] - 1) < 0.03


def test_without_an_onset_inside_the_runs_it_says_so_and_a_power_law_does():
    early = fit_onset("text", STUDY, stream(0.01), BUDGETS, draws=20)
    assert not early.has_onset and "falls from the first budget on" in str(early)
    assert early.num_before == 0 and early.holds
    late = fit_onset("acoustic_7", STUDY, stream(1e4), BUDGETS, draws=20)
    assert not late.has_onset and early.row()["onset_95"] == late.row()["onset_95"] == "none"


def test_a_loss_that_falls_anew_is_told_by_no_law_and_that_is_said():
    """Held-out budgets lie 12 % below what any of the laws expects of them: nothing before them can tell."""
    loss = stream(0.3) * np.where(BUDGETS.max() == BUDGETS, 0.88, 1.0)
    found = fit_onset("x", STUDY, loss, BUDGETS, draws=20)
    assert not found.holds and "NO LAW HOLDS" in str(found)


def test_the_mean_is_the_sum_of_its_parts_where_it_is_one():
    parts = {"text": stream(0.1, seed=1), "semantic": stream(1.0, seed=2)}
    mean = 0.2 * parts["text"] + 0.8 * parts["semantic"]
    assert weights_of_mean(mean, parts) == pytest.approx({"text": 0.2, "semantic": 0.8}, rel=1e-6)
    assert weights_of_mean(mean * np.linspace(1, 1.05, 24), parts) is None
    said = fit_onsets(STUDY, {"all": mean, **parts}, BUDGETS, draws=10).predict(**BEYOND)
    assert said[MEAN][0] == pytest.approx(0.2 * said["text"][0] + 0.8 * said["semantic"][0], rel=1e-6)


def test_a_law_without_a_floor_has_no_plateau():
    with pytest.raises(ConfigError, match="has no E"):
        capped(named_law("A/N^a + B/D^b"), "mine")


@pytest.fixture
def table(tmp_path):
    rows = zip(STUDY["N"], STUDY["D"], BUDGETS, stream(0.02, seed=1), stream(2.0, seed=2), strict=True)
    names = ("params", "tokens", "flops", "loss/text", "loss/acoustic_7")
    runs = table_from_rows([dict(zip(names, row, strict=True)) for row in rows])
    runs.write(tmp_path / "runs.csv")
    return tmp_path / "runs.csv"


def test_onsets_by_command(table, capsys):
    out = table.parent / "onsets.json"
    words = ["--loss", "text", "--onsets", "--draws", "20", "--out", str(out)]
    main(["fit", str(table), *words])
    said = capsys.readouterr().out
    assert "- text: no onset inside these runs" in said and "- acoustic_7: begins to fall at" in said
    found = read_json(out)["losses"]
    assert found["acoustic_7"]["has_onset"] and not found["text"]["has_onset"]
    with pytest.raises(ConfigError, match="scale report --onsets"):
        main(["fit", str(table), "--loss", "text", "--onsets", "--report", "x.html"])


@pytest.mark.slow
def test_a_page_has_the_onsets_and_a_plan_is_made_by_a_law_with_one(table, capsys):
    out = table.parent / "report"
    main(["report", str(table), "--loss", "acoustic_7", "--onsets", "--draws", "20", "--out", str(out), "--formats", "svg"])  # fmt: skip
    assert "Where each loss begins to fall" in (out / "report.html").read_text()
    fit = str(table.parent / "fit.json")
    main(["fit", str(table), "--loss", "acoustic_7", "--law", "onset", "--draws", "20", "--out", fit])
    assert "global minimum" in capsys.readouterr().out
    main(["plan", "--flops", "3e15", "--fit", fit])
    assert "N*" in capsys.readouterr().out
