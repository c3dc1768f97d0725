"""The dry run says what the paper says of its runs."""

from dataclasses import replace

import pytest
import torch

from sodakit.commands.train import main
from sodakit.data.config import SourceConfig, ViewConfig
from sodakit.data.language import open_language
from sodakit.data.views import DocumentView
from sodakit.errors import ConfigError
from sodakit.files import read_json_lines
from sodakit.recipes.catalogue import recipe
from sodakit.train.cost import Machine, cost_of
from sodakit.train.run import Run
from sodakit.train.trainer import train
from tests.stores import shaped_store, small_store
from tests.train.ranks import rank_config

# Without embeddings, with one, with two, in millions; peak learning rate.
SUITE = [
    ("soda_135m", 57.0, 131.1, 205.1, "0.00424264"),
    ("soda_600m", 440.5, 588.6, 736.7, "0.00424264"),
    ("soda_1.7b", 1409, 1706, 2002, "0.003"),
    ("soda_4b", 3634, 4004, 4374, "0.00268328"),
]


@pytest.mark.parametrize(("name", "bare", "one", "two", "peak_lr"), SUITE)
def test_the_dry_run_prints_the_published_counts(capsys, name, bare, one, two, peak_lr):
    main(["--recipe", name, "--dry-run", "--gpu", "H100", "--gpus", "8"])
    out = capsys.readouterr().out
    lines = dict(line.split("  ", 1) for line in out.splitlines() if line[:1].isalpha())
    for millions, what in ((bare, "without embeddings"), (one, "with one"), (two, "with two")):
        text = f"{millions / 1000:.2f}B" if millions >= 1000 else f"{millions:.1f}M"
        assert f"{text} {what}" in lines["Parameters"]
    assert "500.0B in 238,419 steps of 2.10M" in lines["Tokens"]
    assert f"learning rate {peak_lr}, warm-up 23,841 steps, decay 47,683" in lines["Schedule"]
    assert "8 x H100" in lines["Time"] and "assumption" in lines["Price"]
    assert {"Audio", "Compute", "Memory"} <= lines.keys()


def test_the_largest_run_costs_what_was_published():
    cost = cost_of(recipe("soda_4b", ()), Machine())
    assert f"{cost.soda_flops:.2e}" == "1.32e+22"


def test_hours_of_audio_follow_from_the_token_rate():
    """500B tokens, 95 % speech at 100 audio and 3 text tokens a second: 1.28 million hours."""
    assert cost_of(recipe("soda_600m", ()), Machine()).audio_hours == pytest.approx(1.281e6, rel=1e-3)
    semantic = cost_of(recipe("tokens_semantic", ()), Machine())
    full = cost_of(recipe("tokens_semantic_acoustic", ()), Machine())
    assert semantic.audio_hours == pytest.approx(8 * full.audio_hours)


def test_time_and_price_follow_from_the_machine():
    config = recipe("soda_135m", ())
    one = cost_of(config, Machine(mfu=0.5, price_per_gpu_hour=2.0))
    eight = cost_of(config, Machine(num_gpus=8, mfu=0.25, price_per_gpu_hour=2.0))
    assert one.duration_s == pytest.approx(one.flops / (0.5 * 989e12))
    assert eight.duration_s == pytest.approx(one.duration_s / 4)
    assert eight.price == pytest.approx(2 * one.price)


# Published training budget, width: batch rows, steps, peak learning rate, tokens (B), total parameters (M).
POINTS = [
    ("isoflop_3e18_d256", 32, 82031, 0.00729, 10.75, 77),
    ("isoflop_9e19_d1408", 128, 35314, 0.00265, 18.51, 851),
    ("isoflop_3e20_d3072", 64, 33266, 0.00086, 8.72, 5419),
]


@pytest.mark.parametrize(("name", "rows", "steps", "peak_lr", "billions", "millions"), POINTS)
def test_isoflop_points_are_recipes_with_their_published_settings(
    name, rows, steps, peak_lr, billions, millions
):
    config = recipe(name, ())
    assert (config.data.batch_rows, config.steps) == (rows, steps)
    assert config.schedule.peak_lr == pytest.approx(peak_lr, abs=5e-6)
    assert config.positions / 1e9 == pytest.approx(billions, abs=0.005)
    cost = cost_of(config, Machine())
    assert cost.soda_flops == pytest.approx(float(name.split("_")[1]), rel=0.01)


def test_an_unknown_gpu_is_refused():
    with pytest.raises(ConfigError, match="TPU"):
        Machine.named("TPU")


@pytest.mark.parametrize(
    "view",
    [
        ViewConfig(),
        ViewConfig(num_codebooks=1),
        ViewConfig(num_codebooks=2, order="audio_first"),
        ViewConfig(composition="semantic", order="audio_first"),
    ],
    ids=["whole", "first", "two", "semantic"],
)
def test_hours_of_audio_are_those_of_the_sound_whatever_the_view_writes(tmp_path, view):
    """They were K/k too low for every view but the whole codec, in the run and in the dry run."""
    store = shaped_store(tmp_path / "store", [[(n, 25, 3) for n in range(40)]])
    reader, vocabulary = open_language(store)
    document = DocumentView(reader, "train", view, vocabulary)
    base = rank_config(store, steps=4, validation=())
    config = replace(base, data=replace(base.data, sources=(SourceConfig(store=str(store), view=view),)))
    train(config, tmp_path / "run", device="cpu")
    heard = read_json_lines(tmp_path / "run" / "metrics.jsonl")[-1]["audio_hours"]
    # Each order tells all of the sound; a run of part of a pass tells that part.
    wanted = config.positions / document.num_tokens * document.orders * document.hours
    assert heard == pytest.approx(wanted, rel=0.1)
    assert cost_of(config, Machine()).audio_hours == pytest.approx(wanted, rel=0.1)


def test_hours_are_not_counted_again_by_each_rank_that_resumes(tmp_path, monkeypatch):
    store = small_store(tmp_path / "store", recordings=40)
    config = rank_config(store, steps=4, validation=())
    train(config, tmp_path / "run", device="cpu")
    run = Run(config, tmp_path / "run", torch.device("cpu"))
    assert run.audio_frames > 0
    state = {"step": 4, "audio_frames": 7, "loss_vectors": [run.vector.state()]}
    run.ranks = replace(run.ranks, rank=1, size=2)
    run._take_up(state)
    assert run.audio_frames == 0
