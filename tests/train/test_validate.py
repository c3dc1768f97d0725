"""Validation reads the same rows in every run, and those of the run's own length."""

from dataclasses import replace

import numpy as np

from sodakit.data.language import open_language
from sodakit.train.validate import Validation
from tests.stores import small_store
from tests.train.test_trainer import config_for


def test_runs_of_other_seeds_are_validated_on_the_same_rows(tmp_path):
    store = small_store(tmp_path, recordings=40)
    config = config_for(store)
    _, vocabulary = open_language(store)
    rows = []
    for seed in (0, 1):
        made = Validation(config.validation, replace(config.data, seed=seed), 3, vocabulary)
        rows.append(np.concatenate([b.ids_BPW for b in made._batches]))
    assert np.array_equal(rows[0], rows[1])


def test_a_small_set_is_read_once_and_not_over_again(tmp_path):
    store = small_store(tmp_path, recordings=40)
    config = config_for(store)
    _, vocabulary = open_language(store)
    batches = Validation(config.validation, config.data, 10_000, vocabulary)._batches
    rows = {batch.ids_BPW.tobytes() for batch in batches}
    assert 3 < len(batches) == len(rows) < 10_000
