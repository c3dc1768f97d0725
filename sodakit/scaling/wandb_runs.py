"""Runs as Weights & Biases keeps them on disk: `wandb/run-*/files/`, one folder a run, finished or offline.

Whether a run crashed is on its server, and in these folders only in a binary log. What can be read here is how far it
came: a run that logged its last step is finished, one that is short of it is not, whether it goes on or is dead. Where
the settings do not tell how many steps there were to be, or nothing tells how many were made, the status stays unknown
and the run counts. A run that crashed after its last step counts, too. An export from the server has the state itself.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from sodakit.files import read_json

SUMMARY = "wandb-summary.json"

_MADE = ("trainer/global_step", "train/global_step", "global_step", "step", "_step")
"""The step of the last log, in the order of trust: W&B's own `_step` counts logs where a trainer does not set it."""
_WANTED = (
    "num_train_steps",
    "trainer.num_train_steps",
    "steps",
    "train_steps",
    "max_steps",
    "trainer.max_steps",
)
"""Settings that tell how many steps a run is to make."""


def wandb_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """One nested row for each run under the folder: its name, what was set and what came out."""
    for summary in sorted(folder.rglob(SUMMARY)):
        run = summary.parent.parent if summary.parent.name == "files" else summary.parent
        settings, came_out = _settings(summary.parent / "config.yaml"), read_json(summary)
        yield {
            "run": run.name,
            "status": _status(settings, came_out),
            "config": settings,
            "summary": {k: v for k, v in came_out.items() if not k.startswith("_")},
        }


def _status(settings: Mapping[str, Any], came_out: Mapping[str, Any]) -> str:
    """`finished` or `running` where the steps tell it, else nothing."""
    trainer = settings.get("trainer")
    nested = {f"trainer.{k}": v for k, v in trainer.items()} if isinstance(trainer, Mapping) else {}
    wanted = _first_count({**settings, **nested}, _WANTED)
    made = _first_count(came_out, _MADE)
    if not wanted or made is None:
        return ""
    # The last of 1000 steps is step 999 for those who count from 0.
    return "finished" if made >= wanted - 1 else "running"


def _first_count(values: Mapping[str, Any], names: tuple[str, ...]) -> float | None:
    """The first that is a number of steps; -1 is how some trainers write "no limit"."""
    counts = (values[name] for name in names if isinstance(values.get(name), (int, float)))
    return next((count for count in counts if count >= 0), None)


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
