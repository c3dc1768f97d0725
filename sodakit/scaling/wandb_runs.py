"""Runs as Weights & Biases keeps them on disk: `wandb/run-*/files/`, one folder a run, finished or offline."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from sodakit.files import read_json

SUMMARY = "wandb-summary.json"


def wandb_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """One nested row for each run under the folder: its name, what was set and what came out."""
    for summary in sorted(folder.rglob(SUMMARY)):
        run = summary.parent.parent if summary.parent.name == "files" else summary.parent
        yield {
            "run": run.name,
            "status": "",
            "config": _settings(summary.parent / "config.yaml"),
            "summary": {k: v for k, v in read_json(summary).items() if not k.startswith("_")},
        }


def _settings(path: Path) -> dict[str, Any]:
    """config.yaml without W&B's wrapping: each setting is `{desc, value}` there."""
    if not path.exists():
        return {}
    given = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return {
        name: setting["value"] if isinstance(setting, dict) and "value" in setting else setting
        for name, setting in given.items()
        if not name.startswith(("_", "wandb_version"))
    }
