"""The queue: finished runs are skipped, killed ones go on, diverged ones are marked."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sodakit.commands.scale import main
from sodakit.data.language import open_language
from sodakit.errors import ConfigError, Diverged
from sodakit.files import read_json, read_json_lines, write_json, write_json_lines
from sodakit.recipes.isoflop import isoflop
from sodakit.scaling.design import GridRule, isoflop_grid, soda_design
from sodakit.scaling.design_file import read_design, write_design
from sodakit.scaling.records import read_runs
from sodakit.scaling.run import claim_design, held_by_others, progress, run_design, train_group
from sodakit.scaling.trunks import segment_folder, share_trunks, trunk_groups, trunk_name
from sodakit.train.trainer import train
from tests.stores import small_store
from tests.train.killed import assert_same_run, killed_at
from tests.train.ranks import apart


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
    losses[points[0].name] = Diverged("The gradient was not finite for 10 steps in a row")
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


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("peak_lr", 0.00123),
        ("steps", 17),
        ("batch_rows", 3),
        ("context", 2048),
        ("beta2", 0.5),
        ("budget_flops", 3.0000000001e18),
        ("trunk_warmup_steps", 5),
    ],
)
def test_a_design_whose_points_only_have_the_same_names_is_refused(points, tmp_path, field, value):
    """Half a sweep at one learning rate and half at another looks like a sweep, and its law is of neither."""
    trainer = fake_train({p.name: 3.0 for p in points})
    run_design(points[:2], tmp_path, lambda p: p, trainer)
    other = replace(points[1], **{field: value})
    assert other.name == points[1].name
    with pytest.raises(ConfigError) as refused:
        run_design([points[0], other, points[2]], tmp_path, lambda p: p, trainer)
    there = getattr(points[1], field)
    assert f"{points[1].name} has other settings ({field}: {there} there, {value} here)" in str(refused.value)
    assert read_design(tmp_path / "design.jsonl") == points[:2]


def test_a_model_of_another_shape_is_told_by_the_shape_alone(points, tmp_path):
    claim_design(tmp_path, points)
    deeper = replace(points[0], model=replace(points[0].model, layers=points[0].model.layers + 1))
    with pytest.raises(ConfigError, match=r"settings \(model\.layers: \d+ there, \d+ here\)"):
        claim_design(tmp_path, [deeper, *points[1:]])


def test_a_group_tells_whether_it_is_settled_and_a_queue_what_it_left_to_others(points, tmp_path, capsys):
    """A task on a cluster that found its dead predecessor's lock would else pass for a run that has finished."""
    trainer = fake_train({p.name: 3.0 for p in points})
    elsewhere = tmp_path / points[0].name / "lock.json"
    write_json(elsewhere, {"pid": 1, "host": "elsewhere"})
    assert not train_group(points[:1], tmp_path, lambda p: p, trainer)
    run_design(points, tmp_path, lambda p: p, trainer)
    assert f"Others hold 1 points, which were left to them: {points[0].name}." in capsys.readouterr().err
    elsewhere.unlink()
    assert train_group(points[:1], tmp_path, lambda p: p, trainer)
    run_design(points, tmp_path, lambda p: p, trainer)
    assert "Others hold" not in capsys.readouterr().err


def test_points_of_a_trunk_that_another_holds_are_not_settled(points, tmp_path, capsys):
    shared = share_trunks(points)
    (group,) = [g for g in trunk_groups(shared) if shared[0] in g]
    write_json(tmp_path / "trunks" / trunk_name(shared[0]) / "lock.json", {"pid": 1, "host": "elsewhere"})
    assert not train_group(group, tmp_path, lambda p: p, fake_train({}))
    assert held_by_others(tmp_path, shared) == [p.name for p in group]


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


def two_runs(store, *, shared):
    """A short and a long run of the smallest model, which share a trunk or do not."""
    _, vocabulary = open_language(store)
    rule = GridRule(vocab_size=vocabulary.size, context=64, min_batch_rows=1, raise_to_min=True)
    points = isoflop_grid([2e9, 8e9], [64], rule=rule)
    return share_trunks(points) if shared else points


@pytest.mark.parametrize(("more", "rows"), [([], "auto"), (["--micro-rows", "2"], 2)])
def test_the_command_takes_as_many_rows_as_fit(points, tmp_path, monkeypatch, more, rows):
    """The whole batch at once, as `isoflop` alone takes it, exceeds an H100 at a third of the published points."""
    asked = []
    monkeypatch.setattr(
        "sodakit.recipes.isoflop.isoflop", lambda *_, **told: asked.append(told["micro_rows"])
    )
    monkeypatch.setattr(
        "sodakit.scaling.run.run_design",
        lambda points, out, make, teach: make(points[0]) or SimpleNamespace(states={}),
    )
    write_design(tmp_path / "design.jsonl", points)
    main(["run", str(tmp_path / "design.jsonl"), "--data", str(tmp_path), *more])
    assert asked == [rows]


def test_the_command_killed_within_a_run_ends_as_one_left_alone(store, tmp_path):
    """The first run is passed over, the second resumed, the third begun."""
    _, vocabulary = open_language(store)
    rule = GridRule(
        vocab_size=vocabulary.size, context=64, reference_steps=12, min_batch_rows=1, tolerance=0.2
    )
    points = sorted(isoflop_grid([1e9, 2e9], [64, 80], rule=rule)[:3], key=lambda p: p.training_flops)
    write_design(tmp_path / "design.jsonl", points)
    words = [
        "run",
        str(tmp_path / "design.jsonl"),
        "--data",
        str(store),
        "--device",
        "cpu",
        "--validation-rows",
        "4",
    ]
    roots = [tmp_path / name for name in ("whole", "killed")]
    main([*words, "--out", str(roots[0])])
    with killed_at(roots[1] / points[1].name, points[1].steps):
        main([*words, "--out", str(roots[1])])
    assert str(progress(roots[1], points)) == "1 finished, 2 waiting"
    finished = roots[1] / points[0].name / "metrics.jsonl"
    made_ns = finished.stat().st_mtime_ns
    main([*words, "--out", str(roots[1])])
    assert str(progress(roots[1], points)) == "3 finished" and finished.stat().st_mtime_ns == made_ns
    for point in points:
        assert_same_run(*(root / point.name for root in roots))
        ends = [read_json(root / point.name / "finished.json")["loss"] for root in roots]
        assert ends[0] == ends[1]


def newest_step(folder):
    return max((int(p.name[5:]) for p in (folder / "checkpoints").glob("step_*")), default=0)


def train_two_runs(store, root, shared):
    """Train them, noting where each part begins; run in a process of its own by the test below."""

    def noting(config, folder):
        with open(root / "begun.txt", "a") as file:
            file.write(f"{folder.name} {newest_step(folder)}\n")
        return train(config, folder, device="cpu")

    root.mkdir(parents=True, exist_ok=True)
    points = two_runs(store, shared=shared)
    run_design(points, root, lambda p: isoflop(p, [store], validation_rows=4), noting)


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "trunk"])
def test_a_queue_killed_within_a_run_ends_with_the_same_losses(store, tmp_path, shared):
    """SIGKILL between two checkpoints of the long run, or of the trunk's second part: nothing can tidy up before it."""
    _, long = two_runs(store, shared=shared)
    folder = segment_folder(tmp_path / "killed", long) if shared else tmp_path / "killed" / long.name
    threads = torch.get_num_threads()
    process = apart(train_two_runs, store, tmp_path / "killed", shared, threads=threads)
    deadline_s = time.monotonic() + 120
    begun = tmp_path / "killed" / "begun.txt"
    while process.is_alive() and time.monotonic() < deadline_s:
        parts = dict(line.split() for line in begun.read_text().splitlines()) if begun.exists() else {}
        if newest_step(folder) > int(parts.get(folder.name, sys.maxsize)):
            time.sleep(0.1)  # some steps beyond the checkpoint, which must be made again
            process.kill()
            break
        time.sleep(0.005)
    process.join(30)
    assert process.exitcode == -signal.SIGKILL, "the queue ended before it could be killed"
    begun_at, kept = dict(line.split() for line in begun.read_text().splitlines()), newest_step(folder)
    assert int(begun_at[folder.name]) < kept < long.steps
    assert str(progress(tmp_path / "killed", [long])) == "1 waiting"

    train_two_runs(store, tmp_path / "killed", shared)
    again = begun.read_text().splitlines()[len(begun_at) :]
    assert again[0] == f"{folder.name} {kept}", "it began anew"
    train_two_runs(store, tmp_path / "whole", shared)
    for point in two_runs(store, shared=shared):
        ends, rows = [], []
        for root in ("killed", "whole"):
            ends.append(read_json(tmp_path / root / point.name / "finished.json")["loss"])
            metrics = read_json_lines(tmp_path / root / point.name / "metrics.jsonl")
            rows.append([{k: v for k, v in row.items() if k == "step" or "loss/" in k} for row in metrics])
        assert ends[0] == ends[1] and rows[0] == rows[1]
        assert rows[0][-1]["step"] == point.steps


def test_families_are_designed_trained_and_read_beside_each_other(store, tmp_path):
    """Equal budgets, each family's own tokens; what was read back is what the design foretold."""
    _, vocabulary = open_language(store)
    books = {"num_codebooks": vocabulary.num_codebooks, "codebook_size": vocabulary.codebook_size}
    rule = GridRule(
        vocab_size=vocabulary.size, context=64, reference_steps=8, min_batch_rows=1, tolerance=0.2, **books
    )
    points = [
        point
        for family in ("flat", "depth", "delay")
        for point in isoflop_grid([1.2e10], [64], rule=replace(rule, family=family))
    ]
    assert [p.family for p in points] == ["flat", "depth", "delay"]
    write_design(tmp_path / "design.jsonl", points)
    assert read_design(tmp_path / "design.jsonl") == points
    run_design(points, tmp_path / "queue", lambda p: isoflop(p, [store], validation_rows=2), train)
    table = read_runs(tmp_path / "queue")
    assert sorted(table.others["family"]) == ["delay", "depth", "flat"]
    order = [table.runs.index(p.name) for p in points]
    for index, point in zip(order, points, strict=True):
        assert table.sizes("two_embeddings")[index] == point.size.two_embeddings
        assert table.flops("soda")[index] == pytest.approx(point.training_flops)
        # The store's speech is not the published mixture's.
        assert table.tokens()[index] == pytest.approx(point.tokens, rel=0.5)
    heard = np.array(table.others["audio_hours"], float)[order]
    # Positions of a model with heads side by side cost as much as flat ones, and hold whole frames.
    assert heard[2] > 1.3 * heard[0]
    assert table.select(np.array(table.others["family"]) == "depth").rule()["family"] == "depth"
