"""Shared trunks: cheaper sweeps whose runs are the ones that would have been trained alone."""

from dataclasses import replace

import pytest

from sodakit.data.language import open_language
from sodakit.errors import ConfigError
from sodakit.files import read_json
from sodakit.recipes.isoflop import isoflop
from sodakit.scaling.design import GridRule, isoflop_grid, soda_design
from sodakit.scaling.design_file import read_design, write_design
from sodakit.scaling.records import read_runs
from sodakit.scaling.run import progress, run_design
from sodakit.scaling.trunks import adopt, computed_flops, decay_start, leg_config, share_trunks, trunk_groups
from sodakit.train.trainer import train
from tests.stores import small_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("store"), recordings=40)


@pytest.fixture(scope="module")
def points(store):
    _, vocabulary = open_language(store)
    rule = GridRule(
        vocab_size=vocabulary.size, context=64, reference_steps=12, min_batch_rows=1, tolerance=0.2
    )
    return share_trunks(isoflop_grid([1e9, 2e9], [64], rule=rule))


def test_runs_of_one_model_share_everything_but_their_length():
    shared = share_trunks(soda_design())
    for group in trunk_groups(shared):
        assert len({(p.batch_rows, p.peak_lr, p.beta2, p.trunk_warmup_steps) for p in group}) == 1
    for before, after in zip(
        sorted(soda_design(), key=lambda p: p.name), sorted(shared, key=lambda p: p.name), strict=True
    ):
        assert after.tokens == pytest.approx(before.tokens, rel=1e-3) and after.name == before.name


def test_shared_steps_are_paid_once():
    """Three budgets of one model, 1, 2 and 4: trunk to 80 % of the longest, and three legs of 20 %: 4.6 of 7."""
    points = [p for p in soda_design() if p.model.width == 896][:3]
    points = [replace(p, steps=s, batch_rows=8) for p, s in zip(points, (1000, 2000, 4000), strict=True)]
    shared = [replace(p, trunk_warmup_steps=100) for p in points]
    alone, together = computed_flops(points), computed_flops(shared)
    assert together / alone == pytest.approx((3200 + 200 + 400 + 800) / 7000)
    assert sum(p.training_flops for p in points) == pytest.approx(alone)


def test_a_design_keeps_its_trunks_in_its_file(points, tmp_path):
    write_design(tmp_path / "design.jsonl", points)
    assert read_design(tmp_path / "design.jsonl") == points


def test_a_leg_ends_where_the_run_from_scratch_ends_and_the_trunk_is_trained_once(store, points, tmp_path):
    """Weights, moments and data order are carried over; a lost moment or a shifted row would show in the loss."""

    def make(point):
        return isoflop(point, [store], validation_rows=4)

    trained = []

    def remember(config, folder):
        before = sorted(folder.glob("checkpoints/step_*"))
        trained.append((folder.name, int(before[-1].name[5:]) if before else 0, config.steps))
        return train(config, folder, device="cpu")

    assert str(run_design(points, tmp_path / "queue", make, remember)) == "2 finished"
    first, second = sorted(points, key=lambda p: p.steps)
    assert [(start, end) for _, start, end in trained] == [
        (0, decay_start(first)),
        (decay_start(first), first.steps),
        (decay_start(first), decay_start(second)),
        (decay_start(second), second.steps),
    ]
    train(leg_config(second, make(second)), tmp_path / "alone" / second.name, device="cpu")
    alone, leg = read_runs(tmp_path / "alone"), read_runs(tmp_path / "queue")
    assert len(leg) == 2
    assert leg.loss()[leg.runs.index(second.name)] == pytest.approx(alone.loss()[0], rel=1e-6)


def test_a_killed_trunk_goes_on(store, points, tmp_path):
    calls = []

    def killed_once(config, folder):
        calls.append(folder.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(config, folder, device="cpu")

    def make(point):
        return isoflop(point, [store], validation_rows=4)

    with pytest.raises(KeyboardInterrupt):
        run_design(points, tmp_path, make, killed_once)
    assert str(progress(tmp_path, points)) == "1 finished, 1 waiting"
    assert str(run_design(points, tmp_path, make, killed_once)) == "2 finished"
    assert calls[2] == calls[3] == f"to_{decay_start(max(points, key=lambda p: p.steps)):08d}"
    assert read_json(tmp_path / points[0].name / "finished.json")["loss"] > 0


def test_a_trunk_that_is_gone_is_said_so(tmp_path):
    with pytest.raises(ConfigError, match="where the trunk was left"):
        adopt(tmp_path / "nowhere" / "step_00000001", tmp_path / "run")
