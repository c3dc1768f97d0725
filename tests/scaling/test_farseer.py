"""Farseer's law: exact derivatives, its own minimum, and every word of `scale` that takes a law."""

import csv

import numpy as np
import pytest

from sodakit.commands.scale import main
from sodakit.errors import ConfigError
from sodakit.files import read_json
from sodakit.scaling.fit import fit_law
from sodakit.scaling.intervals import bootstrap
from sodakit.scaling.laws import LAWS, named_law
from sodakit.scaling.plan import plan_budget
from sodakit.scaling.residuals import MISFITS

LAW = named_law("farseer")
TRUTH = {"S": 0.446, "Q": 0.4, "q": -0.2, "s": 17.7, "b": -0.05, "B": 15.0, "a": 0.1, "A": -0.05, "E": -0.9}
ENDLESS = {**TRUTH, "Q": -3.17, "b": -0.0875, "B": 31.92, "a": 0.1738, "A": -0.0313, "E": -1.0355}
"""One like it that falls without end far beyond the runs."""
SIZES, TOKENS = np.repeat(np.geomspace(2e8, 6e9, 6), 8), np.tile(np.geomspace(1e9, 3e11, 8), 6)
RUNS = {"N": SIZES, "D": TOKENS}


def test_the_law_is_the_published_one():
    """Li et al. 2025, by hand."""
    n, d = 1e9, 2e10
    slope = np.exp(-0.05 * n**0.1 - 0.9)
    wanted = np.exp(17.7 * n**-0.2 + 0.446) + np.exp(15.0 * n**-0.05 + 0.4) / d**slope
    assert LAW.loss(TRUTH, N=n, D=d)[0] == pytest.approx(wanted, rel=1e-12)
    assert LAW.num_free == 9 and LAW.variables == ("N", "D")


@pytest.mark.parametrize("misfit", ["mse-log", "mse"])
def test_gradient_and_hessian_are_those_of_finite_differences(misfit):
    centre = LAW.centre(RUNS, np.ones(48))
    problem = LAW.problem(RUNS, centre, LAW.loss(TRUTH, **RUNS), MISFITS[misfit])
    # The second exponent lies where the powers are told by their series.
    solution = np.array([0.6, 4.0, 0.1, -0.2, 1e-4, -0.4, -0.3, 0.1, -1.2])
    weights, step = np.ones((1, 48)), 1e-6
    _, gradient, hessian = (x[0] for x in problem.derivatives(solution[None], weights))
    for p in range(9):
        ends = [solution + sign * step * np.eye(9)[p] for sign in (1, -1)]
        values = [float(problem.value(end[None], weights)[0]) for end in ends]
        slopes = [problem.derivatives(end[None], weights)[1][0] for end in ends]
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(gradient[p], rel=1e-5, abs=1e-5)
        np.testing.assert_allclose((slopes[0] - slopes[1]) / (2 * step), hessian[p], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("exponent", [0.2, -0.3, 1e-3, 0.0, -1e-9])
def test_what_is_fitted_and_what_is_published_are_the_same_law(exponent):
    """Also where an exponent of N passes through 0, and powers of it would grow without bound."""
    centre = LAW.centre(RUNS, np.ones(48))
    problem = LAW.problem(RUNS, centre, np.ones(48), MISFITS["mse-log"])
    solution = np.array([0.6, 4.0, exponent, -0.2, exponent, -0.4, exponent, 0.1, -1.2])
    parameters = dict(
        zip(LAW.coefficients + LAW.exponents, LAW.natural(solution[None], centre)[0], strict=True)
    )
    np.testing.assert_allclose(
        np.log(LAW.loss(parameters, **RUNS)), problem.residual(solution[None])[0], atol=2e-5
    )


def test_runs_of_the_law_give_it_back_and_chinchilla_s_does_not():
    loss = LAW.loss(TRUTH, **RUNS)
    fit = fit_law(LAW, RUNS, loss)
    assert fit.certificate.holds and np.abs(fit.residual_R).max() < 1e-8
    for name, value in TRUTH.items():
        assert fit.parameters[name] == pytest.approx(value, rel=1e-4), name
    plain = fit_law(LAWS["chinchilla"], RUNS, loss)
    assert np.abs(plain.residual_R).max() > 0.01 and not fit.unidentified


def test_its_optimum_is_planned_with_an_interval():
    noise = np.random.default_rng(0).normal(0, 0.002, 48)
    fit = fit_law(LAW, RUNS, LAW.loss(TRUTH, **RUNS) * np.exp(noise))
    boot = bootstrap(fit, draws=20)
    draws = [dict(zip(fit.names, row, strict=True)) for row in boot.draws_SP]
    plan, true = plan_budget(fit.parameters, 3e20, law=LAW, draws=draws), plan_budget(TRUTH, 3e20, law=LAW)
    assert plan.size == pytest.approx(true.size, rel=0.2) and plan.loss == pytest.approx(true.loss, rel=0.002)
    assert plan.loss_interval[0] < plan.loss_interval[1] < 1.01 * plan.loss_interval[0]


def test_an_optimum_lies_among_the_runs_though_the_law_falls_without_end_beyond_them():
    """A model of 1e14 parameters and half a million tokens would have the lowest loss of all."""
    plan = plan_budget(ENDLESS, 3e20, law=LAW)
    assert 2e8 < plan.size < 6e9
    assert LAW.loss(ENDLESS, N=1e14, D=3e20 / 6e14)[0] < plan.loss - 0.1


@pytest.mark.slow
def test_fit_then_plan_by_command(tmp_path, capsys):
    noise = np.random.default_rng(0).normal(0, 0.002, 48)
    with open(tmp_path / "runs.csv", "w", newline="") as file:
        rows = zip(SIZES, TOKENS, LAW.loss(TRUTH, **RUNS) * np.exp(noise), strict=True)
        csv.writer(file).writerows([("N", "D", "loss"), *rows])
    fit = str(tmp_path / "fit.json")
    main(["fit", str(tmp_path / "runs.csv"), "--law", "farseer", "--draws", "20", "--out", fit])
    said = capsys.readouterr().out
    assert "global minimum" in said and "nan" not in said
    assert read_json(fit)["law"]["name"] == "farseer" and set(read_json(fit)["parameters"]) == set(TRUTH)
    main(["plan", "--flops", "3e20", "--fit", fit])
    loss = float(capsys.readouterr().out.splitlines()[0].split("loss ")[1].split()[0])
    assert loss == pytest.approx(plan_budget(TRUTH, 3e20, law=LAW).loss, rel=0.002)
    with pytest.raises(ConfigError, match="one's own"):
        main(["design", "--prior", fit])


def test_what_is_made_for_sums_of_powers_says_so():
    with pytest.raises(ConfigError, match="cannot be held"):
        LAW.given(q=0.1)
    with pytest.raises(ConfigError, match="no sum of powers"):
        LAW.powers(RUNS)
    with pytest.raises(ConfigError, match=r"No law 'farsear'.*farseer"):
        named_law("farsear")
