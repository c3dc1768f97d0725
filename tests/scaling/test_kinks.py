"""Absolute, asymmetric and quantile costs: the exact corner, on the loss and on its logarithm, whatever the delta."""

import numpy as np
import pytest
from scipy import optimize

from sodakit.scaling.fit import fit_law
from sodakit.scaling.intervals import bootstrap
from sodakit.scaling.laws import LAWS
from sodakit.scaling.residuals import MISFITS, Misfit, quantile
from sodakit.scaling.simulate import HOFFMANN


def noisy_runs(seed: int = 1) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    n, d = np.exp(rng.uniform(15, 22, 70)), np.exp(rng.uniform(19, 25, 70))
    noise = 0.01 * rng.standard_t(2, 70)
    return {"N": n, "D": d}, LAWS["chinchilla"].loss(HOFFMANN, N=n, D=d) * np.exp(noise)


def least_by_programmes(values, loss, over, under) -> float:
    """The least absolute cost of the loss itself: at given exponents a linear programme, and a search over the exponents."""

    def at(exponents: np.ndarray) -> float:
        alpha, beta = exponents
        design = np.stack(
            [np.ones(len(loss)), (values["N"] / 1e8) ** -alpha, (values["D"] / 1e10) ** -beta], 1
        )
        n = len(loss)
        found = optimize.linprog(
            np.concatenate([np.zeros(3), np.full(n, over), np.full(n, under)]),
            A_eq=np.hstack([design, -np.eye(n), np.eye(n)]),
            b_eq=loss,
            bounds=[(0, None)] * (3 + 2 * n),
        )
        return float(found.fun)

    ends = [
        optimize.minimize(
            at, start, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-10, "maxfev": 400}
        ).fun
        for start in ((0.34, 0.28), (0.5, 0.3))
    ]
    return min(ends)


@pytest.mark.parametrize(("over", "under"), [(1.0, 1.0), (10.0, 1.0), (0.9, 0.1)])
def test_costs_of_the_loss_itself_are_as_low_as_linear_programmes_find_them(over, under):
    values, loss = noisy_runs()
    misfit = Misfit(space="linear", delta=1e-6, over=over, under=under)
    fit = fit_law(LAWS["chinchilla"], values, loss, misfit=misfit)
    absolute = fit.objective / misfit.delta
    assert absolute <= least_by_programmes(values, loss, over, under) * (1 + 1e-5) and fit.certificate.holds


@pytest.mark.parametrize("delta", [1e-4, 1e-6, 1e-8])
def test_the_corner_is_the_same_for_every_small_delta(delta):
    """It was 0.1 to 4 % too high at small ones."""
    values, loss = noisy_runs(2)
    exact = fit_law(LAWS["chinchilla"], values, loss, misfit=quantile(0.3, 1e-7))
    near = fit_law(LAWS["chinchilla"], values, loss, misfit=quantile(0.3, delta))
    cost = quantile(0.3, 1e-9)
    a, b = (float(cost.cost(f.residual_R).sum()) for f in (near, exact))
    assert a <= b * (1 + 20 * delta / 1e-3) and near.certificate.holds


def test_a_quantile_leaves_its_share_of_the_runs_below():
    values, loss = noisy_runs(3)
    fit = fit_law(LAWS["chinchilla"], values, loss, misfit=MISFITS["lower-decile"])
    below = (fit.residual_R > 1e-6).sum()  # predicted above observed
    assert below <= 7 <= below + (np.abs(fit.residual_R) <= 1e-6).sum()
    # It goes through as many runs as it has parameters.
    assert (np.abs(fit.residual_R) < 1e-5).sum() >= 5


def test_refits_of_sharp_costs_settle():
    values, loss = noisy_runs(4)
    boot = bootstrap(fit_law(LAWS["chinchilla"], values, loss, misfit=MISFITS["absolute"]), draws=60)
    assert boot.num_failed <= 3 and boot.standard_error(lambda p: p["alpha"]) < 0.2
