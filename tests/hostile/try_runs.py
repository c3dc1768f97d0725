"""Damaged run folders through the commands that go on with a run, use its model, or read its numbers."""

import re
import shutil
from functools import partial
from pathlib import Path

from tests.hostile.bad_runs import REFUSED, bad_runs
from tests.hostile.trial import CPU, PREPARE, Trial, expect, run
from tests.prepare.test_bad_input import sound_bytes

SMALL = [
    "model.layers=1",
    "model.width=32",
    "model.heads=2",
    "model.kv_heads=1",
    "model.head_width=16",
    "model.ffn_width=32",
    "data.context=64",
    "model.context=64",
    "data.batch_rows=2",
    "save_every_steps=2",
    "keep_checkpoints=2",
]


def make_whole(folder: Path) -> None:
    """A run of four steps on its store, with two checkpoints."""
    (folder / "sounds").mkdir()
    for n in range(4):
        (folder / f"sounds/{n}.wav").write_bytes(sound_bytes())
        (folder / f"sounds/{n}.txt").write_text(f"words number {n}")
    expect(0, "", ["prepare", folder / "sounds", "--out", folder / "trained-on", *PREPARE])
    expect(0, "", train(folder, folder / "trained", 4))


def train(whole: Path, out: Path, steps: int) -> list[object]:
    return ["train", "--data", whole / "trained-on", "--out", out, *CPU, f"steps={steps}", *SMALL]


def run_used(name: str, whole: Path, folder: Path) -> int:
    """Resumed, spoken with, transcribed with, scored, served and looked at: each goes well, or ends in a line that names
    the file and says what to do."""
    damage, expected = bad_runs()[name]
    damaged = shutil.copytree(whole / "trained", folder / "r", symlinks=True)
    damage(damaged)
    (folder / "good.wav").write_bytes(sound_bytes())
    store = whole / "trained-on"
    uses: dict[str, list[object]] = {
        "scale": ["scale", "fit", folder],
    }
    if expected.model:
        uses |= {
            "spoken": ["speak", "say it", "--model", damaged, "--out", folder / "a.wav", "--max-s", 0.2, *CPU],
            "transcribed": ["transcribe", folder / "good.wav", "--model", damaged, *CPU],
            "scored": ["eval", "nll", "--store", store, "--model", damaged, "--split", "train", "--out", folder / "e", *CPU],
        }  # fmt: skip
    if expected.model == REFUSED:
        uses["served"] = ["serve", damaged, *CPU]
    uses["resumed"] = train(whole, damaged, 4)  # last: it makes the damaged checkpoint anew
    for use, words in uses.items():
        status, said = run(*words)
        want = getattr(expected, use, expected.model)
        flat = re.sub(r"\s+", "", said)
        assert "Traceback" not in said and status in want, (use, status, said[-1200:])
        assert status == 0 or str(folder) in flat, (use, said[-600:])
        assert not expected.says or use != "resumed" or expected.says in said, (use, said[-600:])
    return 1


def trials() -> dict[str, Trial]:
    """Every trial by name."""
    return {f"run: {name}": partial(run_used, name) for name in bad_runs()}
