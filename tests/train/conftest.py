"""A store that all tests of training read, made once."""

from pathlib import Path

import pytest

from tests.stores import small_store


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Path:
    """Forty recordings; nobody changes it."""
    return small_store(tmp_path_factory.mktemp("store"), recordings=40)
