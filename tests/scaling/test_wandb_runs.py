"""Run folders of Weights & Biases."""

import json

from sodakit.scaling.records import read_table


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
