"""Run folders of Weights & Biases."""

import json

import pytest

from sodakit.scaling.records import read_table


def wandb_run(root, number, summary, config):
    files = root / "wandb" / f"run-20260101_00000{number}-abc{number}" / "files"
    files.mkdir(parents=True)
    (files / "wandb-summary.json").write_text(
        json.dumps({"eval/loss": 3.8, "throughput/total_tokens": 2e9, "parameter_count": 1.7e8} | summary)
    )
    (files / "config.yaml").write_text("_wandb:\n  value: {}\n" + config)


TRAINER = "trainer:\n  value:\n    num_train_steps: 1000\n    id: x\n"


@pytest.mark.parametrize(
    ("summary", "config", "status"),
    [
        ({"_step": 412}, TRAINER, "running"),
        ({"_step": 999}, TRAINER, "finished"),
        ({"_step": 20, "trainer/global_step": 1000}, TRAINER, "finished"),
        ({"_step": 1000, "trainer/global_step": 500}, TRAINER, "running"),
        ({"_step": 20, "train/global_step": 1000}, "max_steps:\n  value: 1000\n", "finished"),
        ({"_step": 20}, "max_steps:\n  value: -1\n", ""),
        ({"_step": 412}, "num_train_steps:\n  value: 1000\n", "running"),
        ({"_step": 412}, "steps:\n  desc: null\n  value: 413\n", "finished"),
        ({"_step": 412}, "learning_rate:\n  value: 0.1\n", ""),
        ({}, TRAINER, ""),
    ],
)
def test_a_run_that_is_short_of_its_steps_is_not_finished(tmp_path, summary, config, status):
    """Its loss is that of an unfinished schedule, its D that of the plan."""
    wandb_run(tmp_path, 0, summary, config)
    wandb_run(tmp_path, 1, {"_step": 1000}, TRAINER)
    table = read_table(tmp_path)
    assert list(table.columns["status"]) == [status, "finished"]
    assert len(table.usable()) == (1 if status == "running" else 2)


def test_runs_of_wandb_are_read_from_their_folders(tmp_path):
    for number, loss in enumerate((3.8, 3.6)):
        files = tmp_path / "wandb" / f"run-20260101_00000{number}-abc{number}" / "files"
        files.mkdir(parents=True)
        summary = {"_step": 10, "eval/loss": loss, "throughput/total_tokens": 2e9, "parameter_count": 1.7e8}
        (files / "wandb-summary.json").write_text(json.dumps(summary))
        (files / "config.yaml").write_text(
            "_wandb:\n  value: {}\nmodel:\n  value:\n    hidden_dim: 512\n    num_layers: 6\n"
            "learning_rate:\n  desc: null\n  value: 0.002\n"
        )
    table = read_table(tmp_path)
    assert len(table) == 2 and table.runs[0].endswith("abc0")
    assert list(table.loss()) == [3.8, 3.6] and table.columns["lr"][0] == 0.002
    assert table.columns["shape/width"][1] == 512 and len(table.usable()) == 2
