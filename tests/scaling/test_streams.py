"""Laws of a loss vector with shared exponents."""

import numpy as np
import pytest
from scipy import optimize

from sodakit.errors import ConfigError
from sodakit.scaling.fit import fit_law
from sodakit.scaling.laws import LAWS
from sodakit.scaling.residuals import MISFITS
from sodakit.scaling.streams import fit_streams
from tests.scaling.sweeps import soda_runs

TRUTH = {
    "text": {"E": 1.1, "A": 9_000.0, "B": 3_000.0},
    "semantic": {"E": 2.2, "A": 60_000.0, "B": 5_000.0},
    "acoustic_1": {"E": 3.4, "A": 20_000.0, "B": 1_500.0},
}
EXPONENTS = {"alpha": 0.60, "beta": 0.43}


@pytest.fixture(scope="module")
def values():
    runs = soda_runs()
    return {"N": runs.sizes("two_embeddings"), "D": runs.tokens()}


def losses(values, noise, own=None):
    rng = np.random.default_rng(5)
    return {
        name: LAWS["chinchilla"].loss({**p, **EXPONENTS, **(own or {}).get(name, {})}, **values)
        * np.exp(noise * rng.standard_normal(len(values["N"])))
        for name, p in TRUTH.items()
    }


def test_noise_free_streams_give_their_constants_and_the_shared_exponents_back(values):
    found = fit_streams(values, losses(values, 0.0), misfit=MISFITS["mse-log"], draws=2)
    for name, constants in TRUTH.items():
        for parameter, value in {**constants, **EXPONENTS}.items():
            assert found.parameters[name][parameter] == pytest.approx(value, rel=1e-3)


def test_one_stream_is_the_plain_fit(values):
    one = {"text": losses(values, 0.004)["text"]}
    found, plain = fit_streams(values, one, draws=2), fit_law(LAWS["chinchilla"], values, one["text"])
    assert found.objective == pytest.approx(plain.objective, rel=1e-8)
    assert found.parameters["text"]["alpha"] == pytest.approx(plain.parameters["alpha"], rel=1e-4)


def test_no_scipy_start_finds_a_lower_sum_over_streams(values):
    observed = losses(values, 0.006)
    found = fit_streams(values, observed, misfit=MISFITS["mse-log"], draws=2)
    log_n, log_d = np.log(values["N"]), np.log(values["D"])
    log_l = np.log(np.stack(list(observed.values())))

    def residual(at):
        logs = at[:9].reshape(3, 3, 1) - np.stack([0 * log_n, at[9] * (log_n - 20), at[10] * (log_d - 22)])
        return (np.logaddexp.reduce(logs, axis=1) - log_l).reshape(-1)

    rng = np.random.default_rng(0)
    for _ in range(5):
        start = np.concatenate([rng.normal(0, 1, 9), rng.uniform(0.2, 1, 2)])
        ended = optimize.least_squares(residual, start, max_nfev=2000)
        assert found.objective <= ended.cost * (1 + 1e-8)


def test_akaike_s_criterion_prefers_sharing_where_it_is_true_and_not_where_it_is_not(values):
    same = fit_streams(values, losses(values, 0.004), misfit=MISFITS["mse-log"], draws=40)
    assert same.sharing_holds and same.converged and same.separate_objective <= same.objective
    assert same.standard_errors["text"]["alpha"] == same.standard_errors["semantic"]["alpha"] > 0
    for name in TRUTH:
        off = abs(same.parameters[name]["alpha"] - EXPONENTS["alpha"])
        assert off < 4 * same.standard_errors[name]["alpha"]
    other = losses(values, 0.004, own={"text": {"alpha": 0.45}})
    apart = fit_streams(values, other, misfit=MISFITS["mse-log"], draws=2)
    assert not apart.sharing_holds
    partly = fit_streams(values, other, shared=("beta",), misfit=MISFITS["mse-log"], draws=2)
    assert (
        partly.aicc < apart.aicc
        and partly.parameters["text"]["alpha"] < partly.parameters["semantic"]["alpha"]
    )
    assert partly.parameters["text"]["beta"] == partly.parameters["semantic"]["beta"]


def test_an_exponent_the_law_does_not_have_cannot_be_shared(values):
    with pytest.raises(ConfigError, match="among alpha, beta"):
        fit_streams(values, losses(values, 0.0), shared=("eta",))
