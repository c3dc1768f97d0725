"""Approaches 1 and 2, and the bias that the grid gives to parabolas."""

import numpy as np
import pytest

from sodakit.errors import ConfigError
from sodakit.scaling.fit import fit_chinchilla
from sodakit.scaling.laws import LAWS
from sodakit.scaling.simulate import SODA_SURFACE, simulate
from sodakit.scaling.sweeps import (
    PowerLaw,
    bootstrap_parabolas,
    counted_exponents,
    expected_bias,
    fit_envelope,
    fit_parabolas,
)
from tests.scaling.sweeps import soda_runs


def columns(table, size="two_embeddings"):
    return (
        table.flops("soda"),
        table.sizes(size),
        table.tokens(),
        table.loss(),
        table.columns["budget"].astype(float),
    )


@pytest.mark.parametrize(
    ("targets", "size", "a", "b"),
    [
        (False, "two_embeddings", 0.34, 0.593),
        (True, "two_embeddings", 0.388, 0.559),
        (False, "non_embedding", 0.65, 0.593),
        (True, "non_embedding", 0.614, 0.559),
    ],
)
def test_parabolas_on_soda_s_grid_return_other_exponents_than_its_surface_has(targets, size, a, b):
    """Noise-free: all of the difference from the surface's a = 0.391 is grid and convention."""
    fit = fit_parabolas(*columns(soda_runs(noise=0.0, targets=targets), size))
    assert fit.a == pytest.approx(a, abs=0.002) and fit.b == pytest.approx(b, abs=0.002)


def test_the_expected_bias_is_the_bias_that_noise_free_parabolas_have():
    runs = soda_runs(noise=0.0, targets=False)
    c, n, d, losses, budgets = columns(runs)
    surface = fit_chinchilla(n, d, losses)
    bias = expected_bias(surface, c, n, d, budgets)
    assert bias["true_a"] == pytest.approx(0.399, abs=0.004) and bias["true_b"] == pytest.approx(
        0.553, abs=0.004
    )
    assert bias["a"] == pytest.approx(fit_parabolas(c, n, d, losses, budgets).a - bias["true_a"], abs=1e-3)


def test_parabolas_are_exact_where_both_exponents_are_equal_and_windows_centred():
    truth = {"E": 2.0, "A": 900.0, "B": 900.0, "alpha": 0.4, "beta": 0.4}
    c = np.repeat(np.geomspace(1e18, 1e21, 5), 9)
    n = np.sqrt(c / 6) * np.tile(np.geomspace(0.25, 4, 9), 5)
    fit = fit_parabolas(c, n, c / 6 / n, LAWS["chinchilla"].loss(truth, N=n, D=c / 6 / n), c)
    assert fit.a == pytest.approx(0.5, abs=1e-6) and fit.size(6e20) == pytest.approx(1e10, rel=1e-6)
    assert all(not v.problem and abs(v.off_centre) < 1e-6 for v in fit.valleys)


def test_a_minimum_at_the_edge_is_marked_and_can_be_left_out():
    c = np.repeat([1e18, 1e19, 1e20], 9)
    n = np.sqrt(c / 6) * np.tile(np.geomspace(0.25, 4, 9), 3)
    truth = {"E": 2.0, "A": 900.0, "B": 900.0, "alpha": 0.4, "beta": 0.4}
    keep = (c < 1e20) | (n > 1.2 * np.sqrt(c / 6))
    n, c = n[keep], c[keep]
    losses = LAWS["chinchilla"].loss(truth, N=n, D=c / 6 / n)
    fit = fit_parabolas(c, n, c / 6 / n, losses, c)
    assert [v.problem for v in fit.valleys] == ["", "", "minimum outside the runs"]
    assert fit_parabolas(c, n, c / 6 / n, losses, c, keep_edges=False).a == pytest.approx(0.5, abs=1e-6)


def test_one_budget_is_not_enough():
    c = np.full(5, 1e18)
    n = np.geomspace(1e8, 1e9, 5)
    with pytest.raises(ConfigError, match="1 of 1 budgets have a minimum"):
        fit_parabolas(c, n, c / 6 / n, 3 + np.log(n / 3e8) ** 2, c)


def test_the_bootstrap_counts_what_it_drops_and_is_wider_than_the_surface_s():
    c, n, d, losses, budgets = columns(soda_runs(targets=False))
    boot = bootstrap_parabolas(c, n, d, losses, budgets, draws=60)
    assert boot.a[0] < boot.a[1] and 0 < boot.dropped_share < 1
    assert boot.a[1] - boot.a[0] > 0.05


def test_the_envelope_of_training_curves_finds_the_exponent():
    truth = {"E": 2.0, "A": 900.0, "B": 900.0, "alpha": 0.4, "beta": 0.4}
    sizes = np.geomspace(1e7, 1e10, 30)
    n = np.repeat(sizes, 60)
    d = np.tile(np.geomspace(1e7, 1e12, 60), 30)
    keep = (6 * n * d > 1e18) & (6 * n * d < 1e20)
    n, d = n[keep], d[keep]
    losses = simulate(truth, n, d, noise=0.0)
    fit = fit_envelope(6 * n * d, n, d, losses, curves=n.tolist())
    assert fit.a == pytest.approx(0.5, abs=0.03) and fit.b == pytest.approx(0.5, abs=0.03)


def test_a_power_law_is_undone_by_its_inverse():
    law = PowerLaw(factor=52.3, exponent=0.367)
    assert law.inverse(float(law(1e20))) == pytest.approx(1e20)
    assert float(law(3e18)) == pytest.approx(0.316e9, rel=0.01)


def test_the_surface_is_less_biased_than_parabolas_on_soda_s_grid():
    """Over 30 noisy sweeps the parabolas' mean a is further from the truth along the runs than the surface's."""
    runs = soda_runs(targets=False)
    c, n, d, _, budgets = columns(runs)
    found = []
    for losses in simulate(SODA_SURFACE, n, d, noise=0.004, draws=30, seed=1):
        surface = fit_chinchilla(n, d, losses).optimum_exponents["a"]
        found.append((surface, fit_parabolas(c, n, d, losses, budgets).a))
    surface, parabolas = np.mean(found, axis=0)
    assert abs(surface - 0.391) < 0.015 < abs(parabolas - 0.399)


def test_exponents_as_counted_are_those_of_6nd_where_c_is_6nd_and_need_not_sum_to_1_elsewhere():
    runs = soda_runs(noise=0.0)
    n, d = runs.sizes("two_embeddings"), runs.tokens()
    budgets = runs.columns["budget"].astype(float)
    law = LAWS["chinchilla"]
    plain = counted_exponents(law, 6 * n * d, n, d, budgets)
    assert plain["a"](SODA_SURFACE) == pytest.approx(0.439 / 1.123, abs=2e-4)
    assert plain["a"](SODA_SURFACE) + plain["b"](SODA_SURFACE) == pytest.approx(1, abs=1e-9)
    counted = counted_exponents(law, runs.flops("soda"), n, d, budgets)
    assert counted["a"](SODA_SURFACE) + counted["b"](SODA_SURFACE) < 0.96
