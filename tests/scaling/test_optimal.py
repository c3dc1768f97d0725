"""Designs: the bound, sweeps near it, and what to run next."""

from itertools import pairwise

import numpy as np
import pytest

from sodakit.errors import ConfigError
from sodakit.scaling.design import GridRule, isoflop_grid, soda_design
from sodakit.scaling.fit import fit_law
from sodakit.scaling.information import (
    Runs,
    Surface,
    buildable_candidates,
    exponent_a,
    ideal_candidates,
    runs_of,
    standard_error,
)
from sodakit.scaling.intervals import log_optimal_size
from sodakit.scaling.laws import LAWS
from sodakit.scaling.optimal import compound_design, elfving_bound
from sodakit.scaling.residuals import MISFITS
from sodakit.scaling.sequential import fresh_seeds, next_runs
from sodakit.scaling.simulate import SODA_SURFACE, simulate

SODA = Surface(parameters=SODA_SURFACE)
QUESTIONS = {"a": exponent_a, "size": log_optimal_size(3e22)}
LIMITS = {"budget_flops": 4.1e21, "max_runs": 63, "noise": 0.004}


def plain(num_budgets: int, num_sizes: int, window: float) -> Runs:
    c = np.repeat(np.geomspace(3e18, 3e20, num_budgets), num_sizes)
    n = SODA.optimal_size(c) * np.tile(np.geomspace(1 / window, window, num_sizes), num_budgets)
    return Runs(size_R=n, tokens_R=c / 6 / n, cost_R=c)


@pytest.fixture(scope="module")
def candidates():
    return ideal_candidates(SODA, budgets=(3e18, 3e20), window=8)


def test_soda_s_own_sweep_has_the_known_standard_errors():
    runs = runs_of(soda_design(targets=False))
    assert runs.cost_R.sum() == pytest.approx(4.1e21, rel=0.01)
    assert standard_error(SODA, runs, exponent_a, noise=0.004) == pytest.approx(0.0161, abs=1e-4)
    assert standard_error(SODA, runs, QUESTIONS["size"], noise=0.004) == pytest.approx(0.122, abs=1e-3)


@pytest.mark.parametrize(("window", "error"), [(2, 0.0220), (4, 0.0106), (8, 0.0065), (16, 0.0043)])
def test_plain_grids_get_better_with_their_width(window, error):
    assert standard_error(SODA, plain(7, 9, window), exponent_a, noise=0.004) == pytest.approx(
        error, rel=0.05
    )


def test_elfving_s_bound_and_its_support_are_the_reference_ones(candidates):
    bounds = {name: elfving_bound(SODA, candidates, q, **LIMITS) for name, q in QUESTIONS.items()}
    assert bounds["a"].error == pytest.approx(0.0034, abs=5e-5)
    assert bounds["size"].error == pytest.approx(0.033, abs=5e-4)
    used = np.flatnonzero(bounds["a"].counts_R > 0.5)
    around = candidates.size_R[used] / SODA.optimal_size(candidates.cost_R[used])
    assert len(used) == 4 and ((around < 0.2) | (around > 5)).all()


def test_no_sweep_beats_the_bound(candidates):
    """Random sweeps within both limits never have a smaller standard error."""
    bound = elfving_bound(SODA, candidates, exponent_a, **LIMITS)
    rng = np.random.default_rng(0)
    for _ in range(200):
        chosen = rng.choice(len(candidates), 63)
        while candidates.cost_R[chosen].sum() > 4.1e21:
            chosen = chosen[1:]
        assert standard_error(SODA, candidates.take(chosen), exponent_a, noise=0.004) > bound.error


def test_the_compound_design_is_efficient_and_monte_carlo_confirms_it(candidates):
    sweep = compound_design(SODA, candidates, QUESTIONS, **LIMITS)
    assert len(sweep.runs) <= 63 and sweep.cost_flops <= 4.1e21 and sweep.distinct >= 30
    assert sweep.errors["a"] <= 0.0045 and sweep.errors["size"] <= 0.0435
    assert min(sweep.efficiency.values()) >= 0.6
    n, d = sweep.runs.size_R, sweep.runs.tokens_R
    found = [
        fit_law(
            LAWS["chinchilla"],
            {"N": n, "D": d},
            losses,
            misfit=MISFITS["mse-log"],
            max_starts=2,
            grid_points=12,
        ).optimum_exponents["a"]
        for losses in simulate(SODA_SURFACE, n, d, noise=0.004, seed=3, draws=120)
    ]
    assert np.std(found) == pytest.approx(sweep.errors["a"], rel=0.25)
    assert np.mean(found) == pytest.approx(exponent_a(SODA_SURFACE), abs=0.002)


def test_a_buildable_design_holds_runs_that_the_rule_allows():
    rule = GridRule(min_batch_rows=4)
    candidates = buildable_candidates(
        SODA, rule, [float(c) for c in np.geomspace(3e18, 3e20, 7)], range(256, 3073, 128)
    )
    sweep = compound_design(SODA, candidates, QUESTIONS, budget_flops=4.1e21, max_runs=60)
    assert len(sweep.runs.points) == len(sweep.runs) <= 60
    assert all(p.batch_rows >= 4 and p.training_flops <= 3.1e20 for p in sweep.runs.points)
    soda = standard_error(SODA, runs_of(soda_design(targets=False)), exponent_a)
    assert sweep.errors["a"] < 0.8 * soda
    with pytest.raises(ConfigError, match="No run is buildable"):
        buildable_candidates(SODA, rule, [1e12], [1024])


def test_each_next_run_lowers_the_expected_error():
    done = runs_of(isoflop_grid([3e18, 9e18], [384, 512, 640, 768, 896]))
    candidates = buildable_candidates(SODA, GridRule(), [3e18, 9e18, 3e19], range(256, 2049, 128), window=1e9)
    other = Surface(parameters={**SODA_SURFACE, "alpha": 0.6, "A": 40_000.0})
    picked, errors = next_runs([SODA, other], done, candidates, exponent_a, count=6, budget_flops=1e20)
    chosen = candidates.take(picked)
    before = np.mean([standard_error(s, done, exponent_a) for s in (SODA, other)])
    assert len(chosen) == 6 and chosen.cost_R.sum() <= 1e20
    assert all(b < a for a, b in zip([before, *errors], errors, strict=False))
    random = candidates.take(np.random.default_rng(0).choice(len(candidates), 6))
    both = Runs(
        size_R=np.concatenate([done.size_R, random.size_R]),
        tokens_R=np.concatenate([done.tokens_R, random.tokens_R]),
        cost_R=np.concatenate([done.cost_R, random.cost_R]),
    )
    assert errors[-1] < np.mean([standard_error(s, both, exponent_a) for s in (SODA, other)])
    with pytest.raises(ConfigError, match="No candidate costs less"):
        next_runs([SODA], done, candidates, exponent_a, count=1, budget_flops=1e10)


def pool_of(runs: Runs, *, of: float) -> list[int]:
    """A random half of the pool's cost, or another share."""
    order = np.random.default_rng(1).permutation(len(runs))
    return order[np.cumsum(runs.cost_R[order]) <= of * runs.cost_R.sum()].tolist()


@pytest.mark.parametrize("aim", ["law", "losses"])
def test_a_pool_is_chosen_from_once_and_better_than_by_chance(aim):
    """D-optimal: the volume of the parameters' ellipsoid; V-optimal: the mean variance of the pool's losses. Both by hand."""
    pool = plain(6, 12, 8.0)
    done = plain(2, 4, 3.0)
    budget = 0.1 * pool.cost_R.sum()
    chosen, errors = next_runs([SODA], done, pool, aim, count=99, budget_flops=budget, noise=1.0, once=True)
    assert len(set(chosen)) == len(chosen) and pool.cost_R[chosen].sum() <= budget
    assert all(b < a for a, b in pairwise(errors))

    def error(indices: list[int]) -> float:
        raw_RP = SODA.slopes(pool)
        scale_P = np.sqrt((raw_RP**2).sum(0))
        J_RP, known_RP = raw_RP / scale_P, SODA.slopes(done) / scale_P
        information = known_RP.T @ known_RP + J_RP[indices].T @ J_RP[indices] + 1e-9 * np.eye(5)
        if aim == "law":
            return float(np.linalg.det(J_RP.T @ J_RP) / np.linalg.det(information)) ** (1 / 10)
        return float(np.sqrt(np.mean(np.einsum("rp,pq,rq->r", J_RP, np.linalg.inv(information), J_RP))))

    assert errors[-1] == pytest.approx(error(chosen), rel=1e-3)
    assert errors[-1] < 0.8 * error(pool_of(pool, of=0.1))


def test_runs_of_one_size_determine_nothing():
    runs = Runs(size_R=np.full(9, 1e8), tokens_R=np.geomspace(1e9, 1e11, 9), cost_R=np.ones(9))
    assert standard_error(SODA, runs, exponent_a) == float("inf")


def test_a_chosen_run_gets_the_lowest_seed_that_no_equal_run_has():
    points = [p for p in soda_design() if p.model.width in (384, 512)][:2]
    runs = runs_of(points)
    chosen = runs.take([0, 0, 1, 0])
    # Of the first, seeds 0 and 2 are done; a run of other tokens has 1.
    done = Runs(
        size_R=runs.size_R[[0, 0, 0]],
        tokens_R=runs.tokens_R[[0, 0, 0]] * np.array([1.0, 1.0002, 1.5]),
        cost_R=runs.cost_R[[0, 0, 0]],
    )
    assert [p.seed for p in fresh_seeds(chosen, done, np.array([0.0, 2.0, 1.0]))] == [1, 3, 0, 4]
    assert [p.seed for p in fresh_seeds(chosen, done)] == [2, 3, 0, 4]
    assert len({p.name for p in fresh_seeds(chosen, done)}) == 4
