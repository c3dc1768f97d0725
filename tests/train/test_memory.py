from dataclasses import replace

from sodakit.hardware import GPUS
from sodakit.model.accounting import training_memory
from sodakit.model.config import SODA_VOCAB_SIZE, model_size
from sodakit.model.lora import add_adapters
from sodakit.model.transformer import Transformer
from sodakit.recipes.catalogue import RECIPES, recipe
from sodakit.recipes.suite import suite
from sodakit.train.config import LoraConfig, ParallelConfig
from sodakit.train.loss import chunk_positions
from sodakit.train.memory import USABLE, plan_for

GIB = 2**30


def test_more_memory_takes_more_rows_that_divide_the_share():
    rows = [plan_for(suite("soda_600m"), gib * GIB, ranks=8).micro_rows for gib in (24, 40, 80, 140)]
    assert rows == sorted(rows) and rows[0] < rows[-1]
    assert all(64 % n == 0 for n in rows)


def test_what_is_planned_fits():
    for gib in (24, 80, 140):
        plan = plan_for(suite("soda_600m"), gib * GIB)
        assert plan.expected.total_bytes <= gib * GIB


def test_activations_are_computed_again_only_where_memory_asks_for_it():
    assert not plan_for(suite("soda_1.7b"), 80 * GIB, ranks=8).recompute
    tight = suite("soda_4b").model
    config = replace(suite("soda_4b"), model=tight, micro_rows=4)
    assert plan_for(config, 85 * GIB).recompute
    forced = replace(config, parallel=ParallelConfig(activation_checkpointing=False))
    assert not plan_for(forced, 85 * GIB).recompute


def test_shards_make_room():
    alone, shared = (plan_for(suite("soda_4b"), 40 * GIB, ranks=8, shards=n) for n in (1, 8))
    assert alone.expected.total_bytes > 40 * GIB >= shared.expected.total_bytes


def test_given_rows_are_taken():
    config = replace(suite("soda_135m"), micro_rows=2)
    assert plan_for(config, 1 * GIB).micro_rows == 2
    tiny = replace(config, model=model_size("nano"), micro_rows=None)
    assert plan_for(tiny, 400 * GIB, ranks=4).micro_rows == 128


def test_adapters_and_8_bit_products_are_part_of_the_estimate():
    config = replace(suite("soda_1.7b"), micro_rows=1)
    full, lora, low = (
        plan_for(c, 400 * GIB).expected
        for c in (
            config,
            replace(config, lora=LoraConfig(rank=16)),
            replace(config, fp8_from_width=2048),
        )
    )
    assert lora.states_bytes < 0.3 * full.states_bytes  # no gradients and moments of what is frozen
    assert lora.activations_bytes > full.activations_bytes
    assert low.activations_bytes > full.activations_bytes and low.states_bytes == full.states_bytes
    narrow = replace(config, fp8_from_width=10_000)
    assert plan_for(narrow, 400 * GIB).expected == full


def test_the_frozen_weights_and_adapters_are_counted_exactly():
    shape = model_size("nano")
    model = Transformer(shape)
    weights = sum(p.numel() for p in model.parameters())
    add_adapters(model, 4, 8.0, seed=0)
    adapters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert training_memory(shape, 64, lora_rank=4).states_bytes == 4 * weights + 16 * adapters


def test_points_of_the_published_sweep_fit_an_h100():
    """Whole batches at once would not: as many rows as fit are taken, as `scale run` and the recipes ask for."""
    names = [name for name in RECIPES if name.startswith("isoflop")]
    assert len(names) > 50
    usable, whole = USABLE["cuda"] * GPUS["H100"].memory_bytes, 0
    for name in names:
        config = recipe(name, ())
        assert config.micro_rows == "auto"
        plan = plan_for(config, usable)
        # Two are too large for one card however few rows: weights and moments alone take 68 and 87 GB.
        too_large = name in ("isoflop_3e20_d2816", "isoflop_3e20_d3072")
        assert (plan.expected.total_bytes <= usable) != too_large, name
        whole += plan_for(replace(config, micro_rows=None), usable).expected.total_bytes > usable
    assert whole > 0


def test_every_large_recipe_takes_as_many_rows_as_fit():
    """The whole batch at once is for minutes on a CPU, and for who asks for it."""
    small = ("demo", "evening", "starter")
    whole = [name for name in RECIPES if not name.startswith(small) and recipe(name, ()).micro_rows != "auto"]
    assert not whole


def test_a_gpus_share_of_the_head_is_counted():
    """Exponentials of a chunk and a block's logits in float32 live at once: the plan must leave them room."""
    positions = chunk_positions(SODA_VOCAB_SIZE, "cuda")
    assert 4096 < positions < 16384
    plan = plan_for(suite("soda_600m"), 80 * GIB)
    assert plan.expected.logits_bytes >= 2 * positions * SODA_VOCAB_SIZE
