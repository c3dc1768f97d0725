from dataclasses import replace
from pathlib import Path

import pytest

from sodakit.data.language import open_language
from sodakit.errors import ConfigError
from sodakit.model.accounting import count_parameters, soda_training_flops
from sodakit.model.frame.config import FrameConfig
from sodakit.recipes.ablations import TEXT_PERCENTS, composition, text_ratio
from sodakit.recipes.catalogue import RECIPES, recipe
from sodakit.recipes.demo import DemoConfig, household_readings
from sodakit.recipes.suite import suite
from sodakit.train.cost import Machine, cost_of
from sodakit.train.schedule import learning_rate
from sodakit.voices.catalogue import SEEN_VOICES, UNSEEN_VOICES
from tests.data.test_interleaved import timed_store
from tests.stores import shaped_store, small_store


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
    assert config.steps == 238_419 and config.data.batch_positions == 2_097_152
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


def test_every_recipe_fits_its_store_or_none(store):
    for name in RECIPES:
        if name.startswith("isoflop"):  # made for one vocabulary
            assert recipe(name, []).model.vocab_size == 144_644
            continue
        if name == "starter_words":  # which needs times of words
            continue
        stores = [store, store] if name in {f"text_{p:g}" for p in TEXT_PERCENTS if 0 < p < 100} else [store]
        config = recipe(name, stores)
        assert config.model.vocab_size == open_language(store)[1].size
        assert config.data.context <= config.model.context
        if not name.startswith(("demo", "evening", "starter")):
            published = 168_059 if name.endswith("_warm") else 144_644
            assert recipe(name, []).model.vocab_size == published


def test_the_published_model_of_frames_has_its_shapes_and_settings():
    """990M and 122M, 2.34B positions over an epoch, 1.17e20 FLOPs in the unit of its authors."""
    config = recipe("soda_hier_1b", [])
    count = count_parameters(config.model)
    depth = count.depth_body + count.depth_tables
    assert count.total - depth == pytest.approx(990e6, rel=0.01)
    assert depth == pytest.approx(122e6, rel=0.01)
    assert (config.model.backbone.width, config.model.backbone.layers, config.model.depth.layers) == (
        1536,
        15,
        4,
    )
    assert (config.model.depth.conditioning, config.model.depth.fed) == ("shifted", "last")
    assert 95_033 * config.data.batch_positions == pytest.approx(23.356e9, rel=1e-3)
    assert soda_training_flops(config.model, config.positions, 1024) == pytest.approx(1.17e20, rel=0.01)
    assert round(config.schedule.warmup_fraction * config.steps) == 9_503
    assert round(config.schedule.decay_fraction * config.steps) == 10_000


@pytest.mark.parametrize("family", ["depth", "delay"])
def test_the_suite_as_models_of_frames_hears_about_as_much_in_a_step(family):
    flat, frames = recipe("soda_600m", []), recipe(f"soda_600m_{family}", [])
    assert frames.model.backbone == replace(flat.model, context=1024)
    assert (frames.schedule, frames.optim, frames.loss, frames.steps) == (
        flat.schedule,
        flat.optim,
        flat.loss,
        flat.steps,
    )
    heard = [cost_of(config, Machine()).audio_hours for config in (flat, frames)]
    assert heard[1] == pytest.approx(heard[0], rel=0.05)


def test_the_published_mixture_is_named_and_weighed():
    weights = {s.store: s.weight for s in suite("soda_600m").data.sources}
    assert sum(weights.values()) == pytest.approx(1, abs=2e-4)
    assert weights["nemotron-hq-actual"] == 0.05
    assert len(recipe("prelim", []).data.sources) == 8


# Rows, steps, peak learning rate, as published.
STUDIES = [
    ("text_5", 128, 19_074, 0.00212),
    ("source_mls", 128, 19_074, 0.0015),
    ("tokens_semantic", 128, 57_221, 0.002),
    ("prelim", 512, 238_419, 0.00424),
    ("anneal_emilia", 512, 240_000, 0.00424),
]


@pytest.mark.parametrize(("name", "rows", "steps", "peak_lr"), STUDIES)
def test_studies_have_the_published_settings(name, rows, steps, peak_lr):
    config = recipe(name, [])
    assert (config.data.batch_rows, config.steps) == (rows, steps)
    assert config.schedule.peak_lr == pytest.approx(peak_lr, rel=2e-3)


def test_a_warm_start_without_stores_is_costed_with_the_published_ids_of_its_text_model():
    """Qwen3's text ids, a BOS at 151,670, eight codebooks of 2,048, four markers."""
    assert recipe("soda_600m_warm", []).model.vocab_size == 151_671 + 8 * 2048 + 4


def test_an_anneal_begins_where_the_preliminary_run_keeps_its_checkpoint():
    config, trunk = recipe("anneal_mls", []), recipe("prelim", [])
    assert trunk.keep_steps == (config.first_step,) == (190_000,)
    assert config.init_from.endswith("checkpoints/step_00190000") and config.keep_steps == ()


def test_an_anneal_begins_at_the_stable_rate_and_falls_to_nothing():
    config = recipe("anneal_yodas", [])
    rates = [learning_rate(s, config.steps, config.schedule) for s in (190_000, 215_000, 239_999)]
    assert rates == pytest.approx([0.004243, 0.0021213, 8.5e-8], rel=1e-2)
    assert config.positions == pytest.approx(105e9, rel=0.01)


def test_text_shares_are_token_shares():
    weights = [s.weight for s in text_ratio(7.5).data.sources]
    assert weights == pytest.approx([0.925, 0.075])
    assert len(text_ratio(0).data.sources) == len(text_ratio(100).data.sources) == 1
    with pytest.raises(ConfigError, match="takes 2: speech then text"):
        text_ratio(5, ["one"])


def test_composition_keeps_what_its_name_says():
    assert composition("semantic").data.sources[0].view.order == "audio_first"
    assert composition("semantic_acoustic_text").data.sources[0].view.order == "both"


def test_the_evening_mixes_speech_by_the_root_of_its_hours_and_a_twentieth_of_text(tmp_path):
    long, short = (
        shaped_store(tmp_path / name, [[(n, 30, 5) for n in range(count)]])
        for name, count in (("long", 1600), ("short", 400))
    )
    books = shaped_store(tmp_path / "books", [[(n, 0, 40) for n in range(50)]])
    config = recipe("evening", [long, books, short])
    shares = {store.name: 0.0 for store in (long, books, short)}
    for source in config.data.sources:
        shares[Path(source.store).name] += source.weight
    assert shares["books"] == pytest.approx(0.05)
    assert shares["long"] / shares["short"] == pytest.approx(2.0, rel=0.01)
    assert sum(shares.values()) == pytest.approx(1.0)
    with pytest.raises(ConfigError, match="at least one store of speech"):
        recipe("evening", [books])
    with pytest.raises(ConfigError, match="--data"):
        recipe("evening", [])


def test_the_starter_mixes_as_the_evening_does_and_writes_words_where_their_times_are_known(tmp_path):
    plain = shaped_store(tmp_path / "plain", [[(n, 30, 5) for n in range(100)]])
    books = shaped_store(tmp_path / "books", [[(n, 0, 40) for n in range(50)]])
    timed = timed_store(tmp_path / "timed", [[(n, 9, 2, 4) for n in range(100)]])
    config = recipe("starter", [plain, books, timed])
    assert isinstance(config.model, FrameConfig) and config.model.depth is not None
    assert config.steps % config.save_every_steps == 0 and config.keep_steps
    evening = recipe("evening", [plain, books, timed])
    assert config.data.sources == evening.data.sources
    words = recipe("starter_words", [plain, books, timed])
    shares: dict[str, float] = {}
    for source in words.data.sources:
        if source.view.interleave.spans != "none":
            assert Path(source.store).name == "timed"
        shares[Path(source.store).name] = shares.get(Path(source.store).name, 0) + source.weight
    inside = sum(s.weight for s in words.data.sources if s.view.interleave.spans != "none")
    assert inside / shares["timed"] == pytest.approx(0.2) and sum(shares.values()) == pytest.approx(1)
    with pytest.raises(ConfigError, match="times of words"):
        recipe("starter_words", [plain, books])


def test_the_shares_of_the_final_mixture_are_the_published_ones():
    """5 % text; speech in proportion 131 (YODAS) : 73 (Emilia-YODAS) : 37 (Emilia)."""
    config = suite("soda_600m", [])
    assert [s.store for s in config.data.sources] == [
        "yodas-en",
        "emilia-yodas-en",
        "emilia-en",
        "nemotron-hq-actual",
    ]
    shares = [s.weight for s in config.data.sources]
    assert shares == pytest.approx([0.95 * part / 241 for part in (131, 73, 37)] + [0.05], abs=2e-4)


def test_an_anneal_falls_to_zero_over_the_last_50_000_steps():
    config = recipe("anneal_yodas", [])
    rates = [learning_rate(config.first_step + n, config.steps, config.schedule) for n in (0, 25_000, 49_999)]
    peak = config.schedule.peak_lr
    assert config.steps - config.first_step == 50_000 and config.optim.kind == "adamw"
    assert rates == pytest.approx([peak, peak / 2, 0.0], abs=peak * 1e-3)


def test_a_store_that_is_not_used_is_an_error(store):
    with pytest.raises(ConfigError, match="trains on one store; 2 were given"):
        recipe("demo", [store, store])


def test_plain_text_is_written_once_a_pass_and_speech_in_both_orders(store):
    """With the published shares; who weighs stores of their own says nothing of what is in them."""
    for config in (
        suite("soda_600m"),
        suite("soda_600m", [store] * 4),
        text_ratio(5),
        recipe("cooldown_135m", []),
    ):
        orders = [s.view.order for s in config.data.sources]
        (text,) = (n for n, s in enumerate(config.data.sources) if s.weight == 0.05 and n != 4)
        assert orders.pop(text) == "audio_first" and set(orders) == {"both"}
    own = suite("soda_600m", [store] * 4, weights=[1, 1, 1, 1])
    assert {s.view.order for s in own.data.sources} == {"both"}


def test_the_cool_down_leaves_the_135m_where_other_anneals_leave_theirs():
    config = recipe("cooldown_135m", [])
    assert (config.model.width, config.first_step, config.steps) == (512, 190_000, 240_000)
    weights = {s.store: s.weight for s in config.data.sources}
    assert sum(weights.values()) == pytest.approx(1) and weights["emilia-en"] == 0.642
    assert {s.weight for s in recipe("source_mix3", []).data.sources} == {1 / 3}
