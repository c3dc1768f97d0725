"""Plans agree with the published law and with arithmetic done by hand."""

import numpy as np
import pytest

from sodakit.errors import ConfigError
from sodakit.scaling.costs import flops_by_size, flops_of_runs, six_n
from sodakit.scaling.design import GridRule, soda_design
from sodakit.scaling.laws import LAWS
from sodakit.scaling.plan import (
    SODA_LAW,
    buildable_plans,
    optimal_tokens,
    over_training_factor,
    overhead,
    plan_budget,
    plan_with_inference,
    tokens_for_loss,
)
from sodakit.scaling.repeats import effective_tokens
from sodakit.scaling.simulate import HOFFMANN, SODA_SURFACE


@pytest.mark.parametrize(
    ("flops", "size", "tokens"),
    [(3e18, 0.316e9, 1.96e9), (3e20, 1.71e9, 28.2e9), (1e21, 2.66e9, 56.5e9), (1e23, 14.4e9, 813e9)],
)
def test_the_published_law_gives_the_paper_s_optima(flops, size, tokens):
    assert SODA_LAW.optimum(flops) == pytest.approx((size, tokens), rel=0.005)


@pytest.mark.parametrize(("size", "factor"), [(131.1e6, 977), (588.6e6, 93), (1.706e9, 18.0), (4.004e9, 4.7)])
def test_the_suite_s_over_training_factors_are_the_published_ones(size, factor):
    assert SODA_LAW.over_training_factor(size, 5e11) == pytest.approx(factor, rel=0.06)


def test_a_plan_is_the_closed_form_under_6nd():
    plan = plan_budget(HOFFMANN, 5.76e23)
    ratio = (0.34 * 406.4 / (0.28 * 410.7)) ** (1 / 0.62)
    assert plan.size == pytest.approx(ratio * (5.76e23 / 6) ** (0.28 / 0.62), rel=1e-6)
    assert 6 * plan.size * plan.tokens == pytest.approx(5.76e23)
    low, high = plan.within[0.001]
    assert low < plan.size < high and plan.within[0.005][0] < low
    assert plan.audio_hours(100.0) == pytest.approx(plan.tokens / 360_000)


@pytest.mark.parametrize(("share", "extra"), [(0.75, 0.028), (0.5, 0.208), (0.3, 1.055)])
def test_leaving_the_optimum_costs_what_is_known_on_hoffmann_s_surface(share, extra):
    assert overhead(HOFFMANN, 5.76e23, share) == pytest.approx(extra, rel=0.03)


def test_exact_flops_move_the_optimum_s_exponents():
    """Under the sweep's exact FLOPs the true optimum is a = 0.40, b = 0.55; C = 6ND would say 0.391 and 0.609."""
    budgets = np.geomspace(3e18, 3e20, 5)
    plans = [plan_budget(SODA_SURFACE, c, flops_per_token=flops_by_size()) for c in budgets]
    slopes = [
        np.polyfit(np.log(budgets), np.log([getattr(p, n) for p in plans]), 1)[0] for n in ("size", "tokens")
    ]
    assert slopes == pytest.approx([0.399, 0.553], abs=0.005)


def test_costs_of_runs_and_of_shapes_agree_where_the_runs_are():
    points = soda_design()
    size = np.array([p.size.two_embeddings for p in points], float)
    cost = flops_of_runs(
        size, np.array([p.tokens for p in points]), np.array([p.training_flops for p in points])
    )
    assert np.allclose(cost(size), flops_by_size()(size), rtol=1e-6)
    assert np.allclose(6 * size / cost(size), [p.row()["6nd_over_c"] for p in points], rtol=1e-6)
    assert cost(np.array([1e12]))[0] / 1e12 == pytest.approx(cost(size.max(keepdims=True))[0] / size.max())


def test_optimal_tokens_of_the_optimal_size_are_the_plan_s():
    for cost in (six_n, flops_by_size()):
        plan = plan_budget(SODA_SURFACE, 1e20, flops_per_token=cost)
        assert optimal_tokens(SODA_SURFACE, plan.size, flops_per_token=cost) == pytest.approx(
            plan.tokens, rel=0.05
        )
        factor = over_training_factor(SODA_SURFACE, plan.size, 10 * plan.tokens, flops_per_token=cost)
        assert factor == pytest.approx(10, rel=0.05)


def test_tokens_for_a_loss_give_that_loss_and_never_one_below_the_size_s_floor():
    tokens = tokens_for_loss(HOFFMANN, 1e10, 2.1)
    assert LAWS["chinchilla"].loss(HOFFMANN, N=1e10, D=tokens)[0] == pytest.approx(2.1)
    assert tokens_for_loss(HOFFMANN, 1e6, 2.0) == float("inf")


def test_repeated_tokens_are_worth_less_and_less():
    worth = effective_tokens(np.array([0.5e9, 1e9, 2e9, 5e9, 1e12]), 1e9)
    assert worth[0] == 0.5e9 and worth[1] == 1e9
    assert 1.9e9 < worth[2] < 2e9 and worth[4] == pytest.approx(1e9 * (1 + 15.39))
    plenty, scarce = plan_budget(HOFFMANN, 1e22), plan_budget(HOFFMANN, 1e22, unique_tokens=2e10)
    assert scarce.loss > plenty.loss and scarce.size > plenty.size
    assert scarce.passes == pytest.approx(scarce.tokens / 2e10) and plenty.passes is None


def test_serving_makes_smaller_models_longer_trained():
    plan = plan_budget(HOFFMANN, 1e22)
    size, tokens, total = plan_with_inference(HOFFMANN, 1e22, 1e13)
    assert size < 0.8 * plan.size and tokens > plan.tokens
    assert total < 1e22 + 2 * plan.size * 1e13
    assert LAWS["chinchilla"].loss(HOFFMANN, N=size, D=tokens)[0] == pytest.approx(plan.loss, rel=1e-6)


def test_refits_give_intervals_that_hold_the_plan():
    draws = [{**HOFFMANN, "alpha": 0.34 + e} for e in (-0.01, -0.005, 0.0, 0.005, 0.01)]
    plan = plan_budget(HOFFMANN, 1e22, draws=draws)
    for name in ("size", "tokens", "loss"):
        low, high = getattr(plan, f"{name}_interval")
        assert low < getattr(plan, name) < high


def test_buildable_plans_are_near_the_optimum_and_cost_the_budget():
    best, second, _ = buildable_plans(SODA_SURFACE, 3e20)
    assert best.model.width % 128 == 0 and best.loss < second.loss
    plan = plan_budget(SODA_SURFACE, 3e20, flops_per_token=flops_by_size())
    assert best.loss == pytest.approx(plan.loss, rel=1e-4) and best.size == pytest.approx(plan.size, rel=0.2)


def test_the_excess_of_a_buildable_shape_is_over_the_optimum_and_not_over_the_best_of_them():
    """With a small vocabulary shapes are a factor apart in size, so that even the best lies beside the optimum."""
    rule = GridRule(vocab_size=144_644, context=4096)
    for flops in (1e17, 3e17, 1e18, 3e18):
        plan = plan_budget(SODA_SURFACE, flops, flops_per_token=flops_by_size(rule))
        for found in buildable_plans(SODA_SURFACE, flops, rule):
            assert found.excess == pytest.approx(found.loss / plan.loss - 1)
            assert found.excess > -1e-5


def test_scarce_data_make_buildable_shapes_larger_too():
    plenty = buildable_plans(HOFFMANN, 1e22)[0]
    scarce = buildable_plans(HOFFMANN, 1e22, unique_tokens=2e10)[0]
    assert scarce.size > 1.5 * plenty.size and scarce.loss > plenty.loss
    plan = plan_budget(HOFFMANN, 1e22, flops_per_token=flops_by_size(), unique_tokens=2e10)
    assert scarce.loss == pytest.approx(plan.loss, rel=1e-3)


def test_a_law_without_a_trade_of_size_for_data_is_refused():
    with pytest.raises(ConfigError, match="does not trade size for data"):
        plan_budget({"E": 2.0, "K": 1.0, "gamma": 0.1}, 1e20, law=LAWS["compute"])
