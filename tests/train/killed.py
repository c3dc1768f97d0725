"""Training that dies between two checkpoints, wherever it was started from, and what two runs have in common."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from sodakit.checkpoint.load import latest_checkpoint, load_checkpoint
from sodakit.files import read_json_lines
from sodakit.train.saving import Saver


class Killed(BaseException):
    """Nothing that is an error catches it."""


@contextmanager
def killed_at(run: Path, step: int) -> Iterator[None]:
    """Whoever trains in `run` dies in place of saving `step`: what was learnt since the last checkpoint is lost."""
    save = Saver.save

    def dies(saver: Saver, at: int, *rest: Any) -> Path:
        if saver.folder == run / "checkpoints" and at == step:
            raise Killed
        return save(saver, at, *rest)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Saver, "save", dies)
        yield
    found = latest_checkpoint(run / "checkpoints")
    assert found is None or load_checkpoint(found).state["step"] < step


def assert_same_run(one: Path, other: Path) -> None:
    """Weights, losses and samples to the last bit; speed and memory may differ."""
    ends = [load_checkpoint(latest_checkpoint(run / "checkpoints")).weights() for run in (one, other)]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert _losses(one) == _losses(other)
    sounds = [
        {path.relative_to(run): path.read_bytes() for path in run.glob("samples/**/*.wav")}
        for run in (one, other)
    ]
    assert sounds[0] == sounds[1]


def _losses(run: Path) -> list[dict[str, Any]]:
    rows = read_json_lines(run / "metrics.jsonl")
    return [{name: v for name, v in row.items() if name == "step" or "loss/" in name} for row in rows]
