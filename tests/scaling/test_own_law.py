"""Laws of one's own: read from a line, refused where the solver could not vouch for them, used by every command."""

import json
import time

import numpy as np
import pytest

from sodakit.commands.scale import main
from sodakit.errors import ConfigError
from sodakit.scaling.fit import fit_law
from sodakit.scaling.intervals import bootstrap
from sodakit.scaling.laws import LAWS, named_law
from sodakit.scaling.own_law import parse_law
from sodakit.scaling.records import table_from_rows
from sodakit.scaling.residuals import MISFITS
from sodakit.scaling.simulate import HOFFMANN
from sodakit.scaling.study import study


def runs(seed: int = 0, count: int = 60) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    n, d = np.exp(rng.uniform(15, 22, count)), np.exp(rng.uniform(19, 25, count))
    loss = LAWS["chinchilla"].loss(HOFFMANN, N=n, D=d) * np.exp(rng.normal(0, 0.004, count))
    return {"N": n, "D": d, "C": 6 * n * d}, loss


@pytest.mark.parametrize(
    ("text", "parameters", "value"),
    [
        ("E + A/N^a + B/(D^b N^c)", dict(E=1.7, A=400, B=410, a=0.34, b=0.28, c=0.02), lambda p, N, D: p["E"] + p["A"] / N**0.34 + p["B"] / (D**0.28 * N**0.02)),
        ("1.69 + A*N^(-a) + B/D**0.3", dict(A=400, B=410, a=0.34), lambda p, N, D: 1.69 + 400 / N**0.34 + 410 / D**0.3),
        ("E + G*M^g/C^h", dict(E=1.7, G=3.0, g=0.1, h=0.2), lambda p, N, D: 1.7 + 3 * (D / N) ** 0.1 / (6 * N * D) ** 0.2),
        ("E + A N^(b-a) + B/D^(2*b)", dict(E=1.7, A=4.0, B=9.0, a=0.5, b=0.2), lambda p, N, D: 1.7 + 4 * N ** (-0.3) + 9 / D**0.4),
    ],
)  # fmt: skip
def test_a_line_means_what_it_says(text, parameters, value):
    law = parse_law(text)
    n, d = np.array([1e8, 3e9]), np.array([2e10, 7e9])
    values = {k: v for k, v in {"N": n, "D": d, "C": 6 * n * d}.items() if k in law.variables}
    np.testing.assert_allclose(
        law.loss({**law.fixed, **parameters}, **values), value(parameters, n, d), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("E + A/N^", "no formula"),
        ("E - A/N^a", "subtracted"),
        ("E + exp(N)", "no power of a column"),
        ("(A/N^a + B/D^b)^c", "no power of a column"),
        ("E + A*B/N^a", "only their product"),
        ("A/N^a + A/D^b", "stands in two terms"),
        ("E + A/N^(a*b)", "no sum of names and numbers"),
        ("E + A/N", "no exponent to be found"),
        ("E + a/N^a", "at once"),
        ("__import__('os')", "no power of a column"),
    ],
)
def test_what_the_solver_could_not_vouch_for_is_refused(text, says):
    with pytest.raises(ConfigError, match=says):
        named_law(text)


def test_the_same_law_under_other_names_has_the_same_minimum():
    values, loss = runs()
    ours, theirs = (
        fit_law(LAWS["chinchilla"], values, loss),
        fit_law(named_law("K + P/N^x + Q/D^y"), values, loss),
    )
    assert theirs.objective == pytest.approx(ours.objective, rel=1e-9) and theirs.certificate.holds
    assert theirs.parameters["x"] == pytest.approx(ours.parameters["alpha"], rel=1e-6)


@pytest.mark.parametrize("held", [{"beta": 0.28}, {"A": 406.4}, {"E": 1.69, "alpha": 0.34}])
def test_any_parameter_can_be_held(held):
    values, loss = runs()
    free, fit = (
        fit_law(LAWS["chinchilla"], values, loss),
        fit_law(LAWS["chinchilla"].given(**held), values, loss),
    )
    for name, value in held.items():
        assert fit.parameters[name] == pytest.approx(value, rel=1e-12)
    assert fit.objective >= free.objective * (1 - 1e-9) and fit.certificate.holds
    error = bootstrap(fit, draws=100).standard_error(lambda p: p["beta"])
    assert error < bootstrap(free, draws=100).standard_error(lambda p: p["beta"]) and (error == 0) == (
        "beta" in held
    )


def test_a_law_over_a_column_of_the_table():
    """Vocabulary, experts, a share of a mixture: any positive column."""
    values, loss = runs(count=90)
    experts = np.tile([1.0, 4.0, 16.0], 30)
    loss = loss + 300 * values["N"] ** -0.34 * (experts**-0.1 - 1)
    rows = [{"N": n, "D": d, "loss": y, "experts": e} for n, d, y, e in zip(values["N"], values["D"], loss, experts, strict=True)]  # fmt: skip
    rows.append({"N": 1e9, "D": 1e10, "loss": 3.0})
    found = study(table_from_rows(rows), law="E + A/N^a + H/(N^a experts^k) + B/D^b", draws=30)
    assert found.fit.certificate.holds and found.fit.parameters["k"] == pytest.approx(0.1, abs=0.1)
    assert any("1 of 91 runs left out" in note for note in found.table.notes)


def test_fit_then_plan_with_a_law_of_one_s_own(tmp_path, capsys):
    values, loss = runs(count=80)
    rows = [{"N": n, "D": d, "loss": y} for n, d, y in zip(values["N"], values["D"], loss, strict=True)]
    (tmp_path / "runs.json").write_text(json.dumps(rows))
    plans = []
    for law in ("chinchilla", "E + A/N^a + B/D^b"):
        fit = str(tmp_path / "fit.json")
        main(["fit", str(tmp_path / "runs.json"), "--law", law, "--draws", "40", "--out", fit])
        capsys.readouterr()
        main(["plan", "--flops", "1e20", "--fit", fit])
        plans.append(capsys.readouterr().out.splitlines()[0])
    assert plans[0] == plans[1] and plans[0].count("95 %") == 3


def test_a_fit_that_goes_through_every_run_is_certified():
    values, _ = runs()
    exact = LAWS["chinchilla"].loss(HOFFMANN, N=values["N"], D=values["D"])
    for misfit in ("huber", "mse"):
        assert fit_law(LAWS["chinchilla"], values, exact, misfit=MISFITS[misfit]).certificate.holds


def test_own_laws_are_as_fast_as_ours():
    values, loss = runs(count=250)
    best = {}
    for text in ("chinchilla", "E + A/N^a + B/(D^b N^c)"):
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            fit_law(named_law(text), values, loss)
            times.append(time.perf_counter() - begin)
        best[text] = min(times)
    assert best["E + A/N^a + B/(D^b N^c)"] < 6 * best["chinchilla"] + 0.05
