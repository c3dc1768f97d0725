"""Repeated data: what a second pass is worth, and when the runs cannot say."""

import numpy as np
import pytest

from sodakit.errors import ConfigError
from sodakit.scaling.laws import LAWS
from sodakit.scaling.repeats import effective_tokens, fit_repeats
from sodakit.scaling.residuals import MISFITS
from sodakit.scaling.simulate import BESIROGLU

SIZES = np.repeat(np.geomspace(5e7, 2e9, 6), 12)
TOKENS = np.tile(np.geomspace(5e8, 4e10, 12), 6)


def losses(unique: np.ndarray, half_life: float, noise: float) -> np.ndarray:
    true = LAWS["chinchilla"].loss(BESIROGLU, N=SIZES, D=effective_tokens(TOKENS, unique, half_life))
    return true * np.exp(noise * np.random.default_rng(1).standard_normal(len(true)))


def test_the_worth_of_repeats_is_found_with_its_interval():
    unique = np.full(len(SIZES), 1e9)
    found = fit_repeats(
        {"N": SIZES, "D": TOKENS}, unique, losses(unique, 6.0, 0.001), misfit=MISFITS["mse-log"]
    )
    assert found.identified and found.low is not None and found.high is not None
    assert found.low < 6.0 < found.high and found.half_life == pytest.approx(6.0, rel=0.2)
    assert found.fit.parameters["alpha"] == pytest.approx(BESIROGLU["alpha"], abs=0.03)


def test_runs_that_hardly_repeat_say_so():
    unique = np.full(len(SIZES), 2e10)
    found = fit_repeats(
        {"N": SIZES, "D": TOKENS}, unique, losses(unique, 6.0, 0.01), misfit=MISFITS["mse-log"]
    )
    assert not found.identified and "not identified by runs of at most 2.0 passes" in str(found)


def test_runs_without_repeats_are_refused():
    with pytest.raises(ConfigError, match="No run repeats"):
        fit_repeats({"N": SIZES, "D": TOKENS}, np.full(len(SIZES), 1e12), np.ones(len(SIZES)))
