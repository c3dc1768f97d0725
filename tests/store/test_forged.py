"""Stores that somebody made or damaged, whose digests agree: what their writer never writes is refused by name."""

import shutil

import pytest

from sodakit.errors import StoreError
from sodakit.store.reader import StoreReader
from tests.hostile.bad_made import forged_stores
from tests.stores import small_store

FORGED = forged_stores()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("forged") / "s", codebooks=8, size=2048)


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_store_is_refused_by_name_before_it_is_used(whole, tmp_path, name):
    """A code or an id beyond its codebook ended training in an IndexError, half a frame the search for leaks."""
    FORGED[name](shutil.copytree(whole, tmp_path / "s"))
    for use in (lambda reader: reader.flat_shards("train"), StoreReader.verify):
        with pytest.raises(StoreError, match=r"train/shard-00000\.arrow (is damaged|has \d+ rows)"):
            use(StoreReader(tmp_path / "s"))
