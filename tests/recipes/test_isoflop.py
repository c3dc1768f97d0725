"""A design point becomes a run with the published settings."""

import pytest

from sodakit.data.language import open_language
from sodakit.errors import ConfigError
from sodakit.recipes.isoflop import isoflop
from sodakit.scaling.design import GridRule, point_at, soda_design
from tests.stores import small_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("store"), recordings=40)


def test_a_point_has_the_published_settings(store):
    _, vocabulary = open_language(store)
    rule = GridRule(vocab_size=vocabulary.size, context=512, reference_steps=2000, min_batch_rows=2)
    point = point_at(1e14, 128, rule, seed=3)
    assert point is not None
    config = isoflop(point, [store, store], weights=[3.0, 1.0])
    assert (config.optim.beta1, config.optim.eps, config.optim.weight_decay) == (0.95, 1e-15, 0.1)
    assert config.optim.beta2 == pytest.approx(0.98 ** (point.batch_rows / 128))
    assert config.schedule.peak_lr == pytest.approx(0.33 * point.batch_rows**0.5 / 128)
    assert (config.schedule.warmup_fraction, config.schedule.decay_fraction) == (0.1, 0.2)
    assert config.loss.z_loss == 0 and config.positions == point.tokens and config.seed == 3
    assert [s.weight for s in config.data.sources] == [3.0, 1.0]
    assert config.model == point.model and not config.model.tied_embeddings


def test_a_design_for_another_vocabulary_is_refused(store):
    with pytest.raises(ConfigError, match="vocabulary of 144644 ids"):
        isoflop(soda_design()[0], [store])
