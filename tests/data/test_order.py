import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sodakit.data.order import derive_key, permute


@settings(deadline=None)
@given(st.integers(1, 5000), st.integers(0, 2**64 - 1))
def test_every_key_and_size_gives_a_bijection(size, key):
    assert np.array_equal(np.sort(permute(np.arange(size), size, key)), np.arange(size))


def test_one_position_equals_its_place_in_the_whole():
    whole = permute(np.arange(1000), 1000, 7)
    assert [int(permute(np.array([i]), 1000, 7)[0]) for i in (0, 1, 999)] == whole[[0, 1, 999]].tolist()


def test_the_shuffle_looks_random():
    """Neighbours land far apart, and two keys agree about as often as chance."""
    size = 10_000
    first, second = (permute(np.arange(size), size, derive_key("x", k)) for k in (1, 2))
    assert abs(np.corrcoef(np.arange(size), first)[0, 1]) < 0.05
    assert np.mean(np.abs(np.diff(first))) == pytest.approx(size / 3, rel=0.05)
    assert np.sum(first == second) < 10


def test_a_position_outside_is_refused():
    with pytest.raises(ValueError, match="outside"):
        permute(np.array([5]), 5, 0)
