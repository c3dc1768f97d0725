from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sodakit.data.mixture import Mixture
from sodakit.errors import ConfigError


@settings(max_examples=30, deadline=None)
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


def test_a_phase_changes_the_shares_and_every_source_goes_on_where_it_was():
    """A cooldown mix: from row 700 on the second source takes most of each block, and nothing is read twice."""
    mixture = Mixture([3.0, 1.0], seed=1, block_rows=64, changes=[(700, [1.0, 7.0])])
    located = [mixture.locate(row) for row in range(2000)]
    for source in (0, 1):
        numbers = [n for s, n in located if s == source]
        assert numbers == list(range(len(numbers)))
    late = [s for s, _ in located[700 : 700 + 640]]
    assert (late.count(0), late.count(1)) == (80, 560)
    assert mixture.rows_before(1500).tolist() == [
        sum(s == source for s, _ in located[:1500]) for source in (0, 1)
    ]
    sources, numbers = mixture.locate_rows(range(650, 800))
    assert list(zip(sources.tolist(), numbers.tolist(), strict=True)) == located[650:800]


def test_without_phases_the_order_is_what_it_was():
    """A later phase must not reorder what comes before it."""
    plain, phased = Mixture([3, 1], 5), Mixture([3, 1], 5, changes=[(3000, [1, 1])])
    assert [plain.locate(r) for r in range(2990, 3000)] == [phased.locate(r) for r in range(2990, 3000)]


def test_a_source_at_its_limit_leaves_its_place_to_the_others():
    mixture = Mixture([1.0, 1.0, 2.0], seed=0, block_rows=64, limits=[100, None, None])
    located = [mixture.locate(row) for row in range(1600)]
    first = [n for s, n in located if s == 0]
    assert first == list(range(100))  # six whole blocks of 16, and the 4 that are left in the seventh
    later = [s for s, _ in located[-64:]]
    assert later.count(0) == 0 and abs(later.count(2) - 2 * later.count(1)) <= 1


def test_every_row_of_a_source_that_cannot_fill_a_block_is_read_once():
    """It was dropped from the first row on, without a word."""
    mixture = Mixture([1.0, 1.0], seed=0, block_rows=64, limits=[5, None])
    located = [mixture.locate(row) for row in range(200)]
    assert [n for s, n in located if s == 0] == list(range(5))
    assert all(s == 1 for s, _ in located[64:])
    assert mixture.rows_before(200).tolist() == [5, 195]
    both = Mixture([1.0, 1.0], seed=0, block_rows=64, limits=[5, 7])
    assert both.end_row == 12 and both.rows_before(12).tolist() == [5, 7]
    assert sorted(both.locate(row) for row in range(12)) == [(0, n) for n in range(5)] + [
        (1, n) for n in range(7)
    ]


def test_when_every_source_is_at_its_limit_the_next_row_says_so():
    mixture = Mixture([1.0, 1.0], seed=0, block_rows=64, limits=[64, 128])
    assert mixture.end_row is not None and sum(mixture.rows_before(mixture.end_row)) == mixture.end_row
    mixture.locate(mixture.end_row - 1)
    with pytest.raises(ConfigError, match="max_epochs"):
        mixture.locate(mixture.end_row)


def test_a_source_with_exactly_one_block_left_gives_it():
    """Another ends at the same border; one row less would lose what is there."""
    mixture = Mixture([1.0, 1.0, 62.0], seed=0, block_rows=64, limits=[1, 2, None])
    given = Counter(mixture.locate(row)[0] for row in range(64 * 4))
    assert (given[0], given[1]) == (1, 2)


def test_a_limit_at_the_end_of_a_block_changes_nothing_before_it():
    weights = [2.0, 5.0, 8.0]
    free = Mixture(weights, seed=0, block_rows=10)
    assert free.counts.tolist() == [2, 3, 5]
    held = Mixture(weights, seed=0, block_rows=10, limits=[None, 3, None])
    assert [held.locate(row) for row in range(10)] == [free.locate(row) for row in range(10)]


def test_a_source_ends_at_its_limit_and_not_a_row_later_or_earlier():
    for limit in (31, 32, 33, 63, 64, 65):
        mixture = Mixture([1.0, 1.0], seed=0, block_rows=64, limits=[limit, None])
        given = Counter(mixture.locate(row)[0] for row in range(64 * 5))
        assert given[0] == limit  # in its last block what is left of it


def test_a_limit_counts_over_phases():
    mixture = Mixture([1.0, 1.0], seed=0, block_rows=64, limits=[96, None], changes=[(64, [3.0, 1.0])])
    located = [mixture.locate(row) for row in range(64 * 4)]
    assert [n for s, n in located if s == 0] == list(range(96))
    assert mixture.rows_before(64).tolist() == [32, 32]
