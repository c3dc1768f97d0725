"""The queue: finished runs are skipped, killed ones go on, diverged ones are marked."""

import os
import subprocess
import sys

import pytest

from sodakit.data.language import open_language
from sodakit.errors import CheckpointError, ConfigError
from sodakit.files import read_json, write_json, write_json_lines
from sodakit.recipes.isoflop import isoflop
from sodakit.scaling.design import GridRule, isoflop_grid, soda_design
from sodakit.scaling.records import read_runs
from sodakit.scaling.run import progress, run_design
from sodakit.train.trainer import train
from tests.stores import small_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("store"), recordings=40)


@pytest.fixture
def points():
    return soda_design()[:4]


def fake_train(losses):
    """A trainer that writes a loss, or raises what it is given."""

    def run(config, folder):
        loss = losses[folder.name]
        if isinstance(loss, Exception):
            raise loss
        write_json_lines(folder / "metrics.jsonl", [{"step": 1, "loss/all": loss}])
        return folder

    return run


def test_a_finished_run_is_not_trained_again(points, tmp_path):
    seen = []

    def remember(config, folder):
        seen.append(folder.name)
        return fake_train({p.name: 3.0 for p in points})(config, folder)

    run_design(points[:2], tmp_path, lambda p: p, remember)
    run_design(points, tmp_path, lambda p: p, remember)
    assert sorted(seen) == sorted(p.name for p in points)
    assert str(progress(tmp_path, points)) == "4 finished"


def test_divergence_is_marked_and_the_queue_goes_on(points, tmp_path):
    losses = dict(zip([p.name for p in points], [3.0, float("nan"), 14.0, 2.0], strict=True))
    losses[points[0].name] = CheckpointError("The gradient was not finite for 10 steps in a row")
    done = run_design(points, tmp_path, lambda p: p, fake_train(losses))
    assert [done.states[p.name] for p in points] == ["diverged", "diverged", "diverged", "finished"]
    assert "finite" in read_json(tmp_path / points[0].name / "diverged.json")["why"]


def test_a_mistake_stops_the_queue_and_leaves_the_run_waiting(points, tmp_path):
    losses = {p.name: ConfigError("wrong") for p in points}
    with pytest.raises(ConfigError):
        run_design(points, tmp_path, lambda p: p, fake_train(losses))
    assert str(progress(tmp_path, points)) == "4 waiting"


def test_a_run_that_another_process_holds_is_left_alone_and_a_dead_one_s_is_taken_over(points, tmp_path):
    import socket

    folder = tmp_path / points[0].name
    write_json(folder / "lock.json", {"pid": os.getppid(), "host": socket.gethostname()})
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    write_json(tmp_path / points[1].name / "lock.json", {"pid": dead.pid, "host": socket.gethostname()})
    done = run_design(points, tmp_path, lambda p: p, fake_train({p.name: 3.0 for p in points}))
    assert [done.states[p.name] for p in points] == ["running", "finished", "finished", "finished"]


def test_another_design_in_the_folder_is_refused_and_added_points_are_welcome(points, tmp_path):
    trainer = fake_train({p.name: 3.0 for p in points})
    run_design(points[:3], tmp_path, lambda p: p, trainer)
    with pytest.raises(ConfigError, match="1 points that this one lacks"):
        run_design(points[:2], tmp_path, lambda p: p, trainer)
    with pytest.raises(ConfigError, match="different seeds"):
        run_design([points[0], points[0]], tmp_path / "b", lambda p: p, trainer)
    assert str(run_design(points, tmp_path, lambda p: p, trainer)) == "4 finished"


def test_a_small_sweep_is_trained_killed_resumed_and_read(store, tmp_path):
    """The real trainer on four tiny runs, the second one stopped half-way."""
    _, vocabulary = open_language(store)
    rule = GridRule(
        vocab_size=vocabulary.size, context=64, reference_steps=12, min_batch_rows=1, tolerance=0.2
    )
    points = isoflop_grid([1e9, 2e9], [64, 80], rule=rule)
    assert len(points) == 4
    calls = []

    def interrupted(config, folder):
        calls.append(folder.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(config, folder, device="cpu")

    def make(point):
        return isoflop(point, [store], validation_rows=4)

    with pytest.raises(KeyboardInterrupt):
        run_design(points, tmp_path, make, interrupted)
    assert str(progress(tmp_path, points)) == "1 finished, 3 waiting"
    done = run_design(points, tmp_path, make, interrupted)
    assert str(done) == "4 finished" and len(calls) == 5
    table = read_runs(tmp_path).usable(flops="soda")
    assert len(table) == 4 and len(set(table.columns["budget"])) == 2
    assert table.flops("soda") == pytest.approx(
        [p.training_flops for p in sorted(points, key=lambda p: p.name)]
    )
    assert {"text", "semantic", "acoustic_1"} <= set(table.losses)
