import pytest

from sodakit.errors import ConfigError
from sodakit.recipes.catalogue import recipe
from sodakit.recipes.demo import DemoConfig, household_readings
from sodakit.recipes.suite import suite
from sodakit.voices.catalogue import SEEN_VOICES, UNSEEN_VOICES
from tests.stores import small_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("store"), recordings=40)


@pytest.mark.parametrize(
    ("size", "peak_lr"),
    [("soda_135m", 0.004243), ("soda_600m", 0.004243), ("soda_1.7b", 0.0030), ("soda_4b", 0.002683)],
)
def test_the_suite_has_the_published_settings(store, size, peak_lr):
    config = suite(size, [store])
    assert config.schedule.peak_lr == pytest.approx(peak_lr, rel=1e-3)
    assert config.steps == 238_419 and config.data.batch_tokens == 2_097_152
    assert (config.optim.beta1, config.optim.beta2, config.optim.eps) == (0.98, 0.98, 1e-16)
    assert (config.optim.weight_decay, config.loss.z_loss, config.optim.clip_norm) == (0.033, 1e-4, 1.0)
    assert round(config.schedule.warmup_fraction * config.steps) == 23_842
    assert not config.loss.slot_softmax and not config.loss.kind_weights


def test_no_sentence_is_in_two_splits_and_unseen_voices_are_only_tested():
    readings = household_readings(DemoConfig(train_sentences=400))
    by_split: dict[str, set[str]] = {}
    for r in readings:
        assert not by_split.setdefault(r.split, set()) & set(r.sentences)
        by_split[r.split] |= set(r.sentences)
    assert not by_split["train"] & (by_split["test"] | by_split["validation"])
    unseen = {v.name for v in UNSEEN_VOICES}
    assert {r.voice.name for r in readings if r.split != "test"} == {v.name for v in SEEN_VOICES}
    assert unseen <= {r.voice.name for r in readings if r.split == "test"}


def test_another_seed_is_another_demo():
    assert household_readings(DemoConfig()) == household_readings(DemoConfig())
    assert household_readings(DemoConfig()) != household_readings(DemoConfig(seed=1))


def test_an_unknown_recipe_gets_the_nearest_one(store):
    with pytest.raises(ConfigError, match="Did you mean 'soda_600m'"):
        recipe("soda_60m", [store])


def test_every_recipe_fits_its_store(store):
    for name in ("demo", "soda_135m", "soda_4b"):
        config = recipe(name, [store])
        assert config.model.vocab_size > 0 and config.data.context <= config.model.context
