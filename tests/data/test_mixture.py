from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sodakit.data.mixture import Mixture
from sodakit.errors import ConfigError


@settings(max_examples=30)
@given(st.lists(st.floats(0.1, 5), min_size=1, max_size=5), st.integers(0, 9))
def test_every_block_has_the_same_shares_and_no_row_is_skipped_or_repeated(weights, seed):
    mixture = Mixture(weights, seed, block_rows=256)
    located = [mixture.locate(row) for row in range(512)]
    for block in (located[:256], located[256:]):
        counts = Counter(source for source, _ in block)
        assert [counts[s] for s in range(len(weights))] == mixture.counts.tolist()
    for source in range(len(weights)):
        numbers = [n for s, n in located if s == source]
        assert numbers == list(range(2 * int(mixture.counts[source])))


def test_shares_are_the_recipe_s_to_one_row():
    mixture = Mixture([0.05, 0.5164, 0.2878, 0.1458], seed=0)
    assert np.abs(mixture.counts / 2048 - [0.05, 0.5164, 0.2878, 0.1458]).max() < 1 / 2048


def test_a_share_too_small_to_appear_is_refused():
    with pytest.raises(ConfigError, match="smallest"):
        Mixture([1.0, 1e-6], seed=0)
