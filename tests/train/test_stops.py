"""How a run ends before its last step: by a signal, or because it has learnt enough; alone and on two ranks."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from sodakit.checkpoint.load import latest_checkpoint, load_checkpoint
from sodakit.checkpoint.save import save_checkpoint
from sodakit.errors import Stopped
from sodakit.files import read_json_lines
from sodakit.signals import STOPS, StopSignals
from sodakit.train import saving
from sodakit.train.trainer import train
from tests.train.ranks import rank_config, together
from tests.train.test_trainer import config_for


@pytest.mark.parametrize("number", STOPS, ids=lambda number: signal.Signals(number).name)
def test_each_signal_ends_the_step_saves_and_ends_with_status_0(store, tmp_path, number):
    """Raised while samples are made, so that the moment is known."""
    config = config_for(store, steps=6, listen_every_steps=3, save_every_steps=100, validation=())

    def raise_signal(model, step, folder):
        signal.raise_signal(number)
        return {}

    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stopped:
        train(config, tmp_path / "run", device="cpu", listen=raise_signal)
    assert stopped.value.code == 0 and stopped.value.step == 3 and signal.getsignal(number) == before
    assert load_checkpoint(latest_checkpoint(tmp_path / "run" / "checkpoints")).state["step"] == 3
    train(config, tmp_path / "run", device="cpu")
    train(config, tmp_path / "whole", device="cpu")
    ends = [
        load_checkpoint(latest_checkpoint(tmp_path / n / "checkpoints")).weights() for n in ("run", "whole")
    ]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_second_ctrl_c_stops_at_once():
    with StopSignals() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def stop_early(store: str, folder: Path) -> None:
    """What each rank does: samples at steps 4 and 8, enough at 8."""
    made: list[int] = []

    def listen(model, step, samples):
        made.append(step)
        (samples / "sample.txt").write_text("heard")
        return {"samples/wer": 1 / step}

    config = rank_config(store, listen_every_steps=4, save_every_steps=100, validate_every_steps=4)
    train(config, folder, device="cpu", listen=listen, enough=lambda: made[-1] == 8)


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_early_stop_leaves_what_a_last_step_leaves(store, tmp_path, ranks):
    if ranks == 1:
        stop_early(str(store), tmp_path)
    else:
        together(2, stop_early, str(store), tmp_path, timeout_s=120)
    rows = read_json_lines(tmp_path / "metrics.jsonl")
    assert {name for row in rows if row["step"] == 8 for name in row} >= {
        "loss/all", "validation/loss/all", "samples/wer",
    }  # fmt: skip
    assert rows[-1]["step"] == 8
    assert (tmp_path / "samples" / "step_00000008" / "sample.txt").exists()
    assert load_checkpoint(latest_checkpoint(tmp_path / "checkpoints")).state["step"] == 8
    page = (tmp_path / "run.html").read_text()
    assert "http-equiv" not in page and '"finished": true' in page


def signal_one_rank(store: str, folder: Path) -> None:
    """The signal comes to rank 1 alone; both stop, after rank 0 has written."""
    config = rank_config(store, steps=10_000, save_every_steps=10_000, validation=(), log_every_steps=1)

    def when_it_trains() -> None:
        metrics = folder / "metrics.jsonl"
        while not (metrics.exists() and metrics.stat().st_size):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    def slowly(*args: object, **more: object) -> Path:
        time.sleep(1)
        return save_checkpoint(*args, **more)

    saving.save_checkpoint = slowly  # a large model's; the other rank would have left meanwhile
    if os.environ["RANK"] == "1":
        threading.Thread(target=when_it_trains, daemon=True).start()
    with pytest.raises(Stopped) as stopped:
        train(config, folder, device="cpu")
    found = latest_checkpoint(folder / "checkpoints")
    assert found is not None and load_checkpoint(found).state["step"] == stopped.value.step


def test_ranks_stop_together_and_after_the_checkpoint(store, tmp_path):
    together(2, signal_one_rank, str(store), tmp_path, timeout_s=120)


def test_ctrl_c_of_the_command_ends_with_status_0_and_resumes(store, tmp_path):
    words = [
        "train", "--recipe", "demo", "--data", str(store), "--out", str(tmp_path / "run"), "steps=100000",
        "data.context=64", "data.batch_rows=2", "model.layers=1", "listen_every_steps=null",
        "validate_every_steps=null", "save_every_steps=50000", "log_every_steps=2",
    ]  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "sodakit", *words], stderr=subprocess.PIPE, text=True)
    metrics, deadline_s = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 100
    while time.monotonic() < deadline_s and not (metrics.exists() and metrics.read_bytes().count(b"\n") >= 2):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 0 and "the same command resumes" in said
    assert list((tmp_path / "run" / "checkpoints").glob("step_*"))
