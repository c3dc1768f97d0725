"""Models of frames on 2 and 4 ranks: the losses of one, another number of ranks on resuming, kills."""

from pathlib import Path

import pytest
import torch

from sodakit.train.trainer import train
from tests.train.ranks import rank_config, together, train_all
from tests.train.test_parallel import from_step_8, losses, train_with_kills, weights

LAYOUTS = [
    ("depth", "ddp", 2),
    ("depth", "fsdp", 2),
    ("delay", "fsdp", 2),
    ("depth", "hsdp", 4),
    ("delay", "ddp", 4),
]


@pytest.fixture(scope="module")
def runs(store, tmp_path_factory) -> Path:
    """Each family on each layout, and alone."""
    root = tmp_path_factory.mktemp("runs")
    for family in ("depth", "delay"):
        train(rank_config(store, family=family), root / f"{family}_alone", device="cpu")
    for world in (2, 4):
        jobs = [
            (
                rank_config(store, kind, family, micro_rows=1 if kind == "ddp" and world == 2 else None),
                root / f"{family}_{kind}{world}",
            )
            for family, kind, w in LAYOUTS
            if w == world
        ]
        together(world, train_all, jobs)
    return root


@pytest.mark.parametrize(("family", "kind", "world"), LAYOUTS)
def test_any_layout_has_the_losses_of_one_rank(runs, family, kind, world):
    alone, shared = losses(runs / f"{family}_alone"), losses(runs / f"{family}_{kind}{world}")
    assert shared.keys() == alone.keys() and len(alone) > 50
    for name, value in alone.items():
        assert shared[name] == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize("first", ["depth_hsdp4", "depth_alone"])
def test_a_run_goes_on_with_another_number_of_ranks(runs, store, tmp_path, first):
    expected = losses(runs / "depth_alone")
    folder = from_step_8(runs / first, tmp_path / "run")
    if first == "depth_alone":
        together(2, train_all, [(rank_config(store, "fsdp", "depth"), folder)])
    else:
        train(rank_config(store, family="depth"), folder, device="cpu")
    assert losses(folder) == pytest.approx(expected, rel=1e-5)


def test_ranks_killed_at_random_moments_end_with_the_same_weights(store, tmp_path):
    config = rank_config(store, "fsdp", "depth", steps=18, save_every_steps=3)
    together(2, train_all, [(config, tmp_path / "whole")])
    train_with_kills(config, tmp_path / "killed", kills=1, seed=1)
    whole, killed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
