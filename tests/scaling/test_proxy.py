"""Rank correlations of losses with scores."""

import numpy as np
import pytest
from scipy import stats

from sodakit.errors import ConfigError
from sodakit.scaling.proxy import rank_correlations


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
    with pytest.raises(ConfigError, match="3 models have both"):
        rank_correlations({"all": loss[:3]}, {"asr": loss[:3]})
