"""Rank correlations of losses with scores."""

import numpy as np
import pytest
from scipy import stats

from sodakit.errors import ConfigError
from sodakit.scaling.proxy import correlation_lines, rank_correlations


def test_correlations_are_scipy_s_and_their_intervals_hold_them():
    rng = np.random.default_rng(0)
    loss = np.linspace(4.2, 3.4, 40)
    scores = {"tWUGGY": -loss + 0.1 * rng.standard_normal(40), "sBLIMP": rng.standard_normal(40)}
    strong, weak = rank_correlations({"all": loss}, scores)
    assert strong.rho == pytest.approx(stats.spearmanr(-loss, scores["tWUGGY"]).statistic)
    assert strong.low < strong.rho < strong.high and strong.low > 0.6
    assert weak.low < 0 < weak.high and weak.num_models == 40


def test_models_without_a_score_are_left_out_and_three_are_too_few():
    loss = np.array([4.0, 3.9, 3.8, 3.7, 3.6])
    (one,) = rank_correlations({"all": loss}, {"asr": np.array([9.0, 8.0, np.nan, 7.0, 6.0])})
    assert one.rho == -1.0 and one.num_models == 4
    with pytest.raises(ConfigError, match="at most 3 have both"):
        rank_correlations({"all": loss[:3]}, {"asr": loss[:3]})
    with pytest.raises(ConfigError, match="No loss and score"):
        rank_correlations({"all": loss}, {})


def test_one_pair_of_too_few_models_does_not_take_the_others_with_it():
    loss = np.array([4.0, 3.9, 3.8, 3.7, 3.6])
    rare = np.array([np.nan, np.nan, 3.0, 2.0, 1.0])
    scores = {"asr": np.array([9.0, 8.0, 7.5, 7.0, 6.0]), "chance": np.full(5, 50.0)}
    found = rank_correlations({"all": loss, "semantic": rare}, scores, draws=50)
    by_pair = {(c.loss, c.score): c for c in found}
    assert by_pair["all", "asr"].rho == -1.0
    for pair in (("semantic", "asr"), ("all", "chance")):
        assert np.isnan([by_pair[pair].rho, by_pair[pair].low, by_pair[pair].high]).all()
    lines = list(correlation_lines(found))
    assert lines[0] == "| score | models | all | semantic |"
    # Every resample of a perfect order is perfect; that of five models proves nothing.
    assert lines[2] == "| asr | 3–5 | -1.000 (-1.00 to +0.17) | – |"
    assert lines[3] == "| chance | 3–5 | – | – |"
