"""What every test owes the others."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _threads_are_left_as_found() -> Iterator[None]:
    """Another number of threads changes the last digits of every later test that compares bit for bit."""
    before = torch.get_num_threads()
    yield
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert after == before, f"the test left {after} threads behind instead of {before}"
