"""The run as a whole: it learns, resumes exactly, and refuses what is not its own."""

import json
import re
import shutil
import signal
import time
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch

from sodakit.checkpoint.load import latest_checkpoint, load_checkpoint
from sodakit.data.config import DataConfig, SourceConfig
from sodakit.data.language import open_language
from sodakit.errors import CheckpointError, ConfigError, Diverged
from sodakit.files import read_json_lines
from sodakit.model.config import model_size
from sodakit.train.config import LossConfig, ScheduleConfig, TrainConfig
from sodakit.train.objective import Objective
from sodakit.train.trainer import Run, train
from tests.stores import small_store
from tests.train.ranks import apart

ROOT = Path(__file__).parents[2]


def config_for(store, **changes) -> TrainConfig:
    source = SourceConfig(store=str(store))
    _, vocabulary = open_language(store)
    config = TrainConfig(
        model=model_size("nano", vocabulary.size, context=64),
        data=DataConfig(sources=(source,), context=64, batch_rows=4),
        steps=12,
        schedule=ScheduleConfig(peak_lr=1e-2),
        precision="float32",
        log_every_steps=1,
        save_every_steps=4,
        validation=(replace(source, split="validation"),),
        validate_every_steps=6,
    )
    return replace(config, **changes)


def losses(run: Path) -> dict[int, dict[str, float]]:
    kept = ("loss/", "grad_norm", "lr", "validation/")
    return {
        (row["step"], "validation" if any(k.startswith("validation") for k in row) else "train"): {
            k: v for k, v in row.items() if k.startswith(kept)
        }
        for row in read_json_lines(run / "metrics.jsonl")
    }


def test_a_run_learns_and_leaves_everything_behind(store, tmp_path):
    path = train(config_for(store, steps=40), tmp_path)
    table = losses(tmp_path)
    assert table[(40, "train")]["loss/all"] < 0.8 * table[(1, "train")]["loss/all"]
    assert {"loss/text", "loss/markers", "loss/semantic", "loss/acoustic_2"} <= set(table[(40, "train")])
    assert "validation/loss/semantic" in table[(40, "validation")]
    assert load_checkpoint(path).state["step"] == 40
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2
    assert {"config.json", "environment.json", "metrics.jsonl", "tensorboard", "vocabulary"} <= {
        p.name for p in tmp_path.iterdir()
    }


def test_a_run_killed_at_any_moment_goes_on_with_the_same_losses(store, tmp_path):
    """SIGKILL at three different moments, the last run to the end: every number equals the run left alone, bit for bit."""
    config = config_for(store, steps=60, log_every_steps=3)
    train(config, tmp_path / "whole")
    metrics = tmp_path / "killed" / "metrics.jsonl"
    for rows_before_kill in (2, 5, 8):
        process = apart(train, config, tmp_path / "killed", threads=torch.get_num_threads())
        deadline_s = time.monotonic() + 120
        while process.is_alive() and time.monotonic() < deadline_s:
            if metrics.exists() and metrics.read_bytes().count(b"\n") >= rows_before_kill:
                process.kill()
                break
            time.sleep(0.005)
        process.join()
        assert process.exitcode == -signal.SIGKILL, "the run ended before it could be killed"
    train(config, tmp_path / "killed")
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    ends = [
        load_checkpoint(latest_checkpoint(tmp_path / n / "checkpoints")).weights()
        for n in ("whole", "killed")
    ]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_micro_batches_give_the_same_update(store, tmp_path):
    """Also where rows weigh unlike: a mean of the micro-batches' means would be another loss."""
    results = []
    loss = LossConfig(kind_weights={"text": 3.0, "acoustic_1": 0.0})
    for micro_rows in (None, 1):
        config = config_for(store, micro_rows=micro_rows, loss=loss)
        run = Run(config, tmp_path / str(micro_rows), torch.device("cpu"))
        batch = run.loader.batch(0)
        rows = [slice(n, n + 1) for n in range(len(batch.ids_BPW))]
        weights = [float(run.objective.targets(batch, row).weights_T.sum()) for row in rows]
        assert max(weights) > 1.2 * min(weights)
        run.update(batch)
        results.append((run.vector.read(), dict(run.model.named_parameters())))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    for name, parameter in results[0][1].items():
        torch.testing.assert_close(parameter, results[1][1][name], rtol=1e-3, atol=2e-5)


def test_a_folder_of_another_run_is_refused(store, tmp_path):
    train(config_for(store, steps=2), tmp_path)
    with pytest.raises(ConfigError, match=r"train\.steps: 2 there, 3 now"):
        train(config_for(store, steps=3), tmp_path)


def test_a_folder_whose_store_has_changed_is_refused(tmp_path):
    store = small_store(tmp_path / "store", recordings=40)
    train(config_for(store, steps=2), tmp_path / "run")
    small_store(tmp_path / "other", recordings=40, seed=1)
    shutil.rmtree(store)
    (tmp_path / "other").rename(store)
    with pytest.raises(ConfigError, match="store"):
        train(config_for(store, steps=2), tmp_path / "run")


def test_a_vocabulary_of_another_size_is_refused(store, tmp_path):
    with pytest.raises(ConfigError, match="vocab_size"):
        train(config_for(store, model=model_size("nano", 1000, context=64)), tmp_path)


def test_an_unknown_kind_of_token_is_refused(store, tmp_path):
    with pytest.raises(ConfigError, match="kind_weights"):
        train(config_for(store, loss=LossConfig(kind_weights={"txet": 2.0})), tmp_path)


def test_non_finite_steps_are_skipped_counted_and_end_the_run(store, tmp_path):
    run = Run(config_for(store), tmp_path, torch.device("cpu"))
    with torch.no_grad():
        run.model.blocks[0].feed_forward_norm.weight[0] = float("inf")
    before = {n: p.detach().clone() for n, p in run.model.named_parameters()}
    with pytest.raises(Diverged, match="not finite for 10 steps"):
        for step in range(20):
            run.update(run.loader.batch(step))
    assert run.skipped_steps == 10
    assert all(torch.equal(before[n], p) for n, p in run.model.named_parameters())
    assert list(run.vector.read()) == ["loss/all"]  # nothing was learnt from, nothing is counted


def test_a_step_that_is_not_finite_leaves_the_others_mean_and_the_page_whole(store, tmp_path, monkeypatch):
    """One step of six; between readings of three the loss vector must not become NaN, nor the page be no JSON."""
    make, calls = Objective.__call__, count(1)

    def once_not_finite(self, *args):
        loss, nll_T = make(self, *args)
        return (loss * float("nan"), nll_T * float("nan")) if next(calls) == 2 else (loss, nll_T)

    monkeypatch.setattr(Objective, "__call__", once_not_finite)
    config = config_for(store, steps=6, log_every_steps=1, validation=())
    train(config, tmp_path / "each")
    rows = (tmp_path / "each" / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(row, parse_constant=no_json) for row in rows]
    assert [row["step"] for row in found if row["loss/all"] is None] == [2]
    assert found[-1]["skipped_steps"] == 1
    calls = count(1)
    train(replace(config, log_every_steps=3), tmp_path / "third")
    means = [row["loss/all"] for row in read_json_lines(tmp_path / "third" / "metrics.jsonl")]
    assert means[0] == pytest.approx((found[0]["loss/all"] + found[2]["loss/all"]) / 2)
    page = (tmp_path / "each" / "run.html").read_text()
    json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1], parse_constant=no_json)


def test_a_run_ends_by_bad_steps_in_a_row_and_not_by_many_among_good_ones(store, tmp_path, monkeypatch):
    make, calls = Objective.__call__, count(1)

    def every_other(self, *args):
        loss, nll_T = make(self, *args)
        return (loss * float("nan"), nll_T) if next(calls) % 2 else (loss, nll_T)

    monkeypatch.setattr(Objective, "__call__", every_other)
    path = train(config_for(store, steps=22, validation=()), tmp_path)
    assert load_checkpoint(path).state["step"] == 22
    assert read_json_lines(tmp_path / "metrics.jsonl")[-1]["skipped_steps"] == 11


def no_json(name):
    raise AssertionError(f"{name} is no JSON")


def test_a_damaged_checkpoint_is_passed_over_and_leftovers_of_killed_saves_go(store, tmp_path):
    config = config_for(store, steps=6, save_every_steps=2, keep_checkpoints=3)
    train(config, tmp_path / "whole")
    train(config, tmp_path / "run")
    checkpoints = tmp_path / "run" / "checkpoints"
    newest = latest_checkpoint(checkpoints)
    with open(newest / "model.safetensors", "r+b") as file:
        file.truncate(100)
    (checkpoints / ".step_00000006.77.tmp").mkdir()
    path = train(config, tmp_path / "run")
    assert path == newest and not list(checkpoints.glob(".step_*"))
    ends = [load_checkpoint(tmp_path / name / "checkpoints").weights() for name in ("whole", "run")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    for folder in checkpoints.glob("step_*"):
        (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="damaged"):
        train(config, tmp_path / "run")


def test_a_step_that_others_begin_from_is_kept_and_asked_for(store, tmp_path):
    config = config_for(store, steps=8, save_every_steps=2, keep_checkpoints=1, keep_steps=(4,))
    train(config, tmp_path / "trunk")
    checkpoints = tmp_path / "trunk" / "checkpoints"
    assert sorted(p.name for p in checkpoints.glob("step_*")) == ["step_00000004", "step_00000008"]
    leg = replace(config, first_step=4, keep_steps=(), init_from=str(tmp_path / "trunk"))
    with pytest.raises(CheckpointError, match="is of step 8, and the run goes on from step 4"):
        train(leg, tmp_path / "wrong")
    train(replace(leg, init_from=str(checkpoints / "step_00000004")), tmp_path / "leg")
    trained = [
        (row["step"], row["positions"])
        for row in read_json_lines(tmp_path / "leg" / "metrics.jsonl")
        if "lr" in row
    ]
    assert trained == [(step, (step - 4) * config.data.batch_positions) for step in range(5, 9)]
    with pytest.raises(ConfigError, match="multiples of it"):
        replace(config, keep_steps=(3,))


def test_loss_weights_move_the_loss_between_kinds(store, tmp_path):
    """A kind of weight 0 is not learnt; reported losses stay unweighted."""
    kinds = {"text": 0.0, "markers": 0.0, "acoustic_1": 0.0, "acoustic_2": 0.0}
    train(config_for(store, steps=40, loss=LossConfig(kind_weights=kinds, z_loss=0.0)), tmp_path)
    table = losses(tmp_path)
    assert table[(40, "train")]["loss/semantic"] < table[(1, "train")]["loss/semantic"] - 0.5
    assert table[(40, "train")]["loss/text"] > table[(1, "train")]["loss/text"] - 0.5


def test_the_slot_softmax_is_lower_than_the_full_one_on_the_same_model(store, tmp_path):
    values = []
    for slot_softmax in (False, True):
        loss = LossConfig(slot_softmax=slot_softmax)
        run = Run(config_for(store, loss=loss), tmp_path / str(slot_softmax), torch.device("cpu"))
        run.update(run.loader.batch(0))
        values.append(run.vector.read())
    assert all(values[1][k] < values[0][k] for k in ("loss/semantic", "loss/acoustic_1", "loss/acoustic_2"))
