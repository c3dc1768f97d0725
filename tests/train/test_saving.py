"""Whole checkpoints that are written while training goes on."""

import threading
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from sodakit.checkpoint import background
from sodakit.checkpoint.load import load_checkpoint
from sodakit.train import saving
from sodakit.train.config import OptimConfig
from sodakit.train.optim import Optimizer
from sodakit.train.parallel import Ranks
from sodakit.train.saving import Saver, Small
from tests.fake_cuda import Crossings, fake_cuda, is_possible
from tests.model.strategies import lively_model, small_config
from tests.train.ranks import together

ELSEWHERE = Ranks(0, 1, torch.device("meta"), "ddp")
"""Any device but a CPU has its checkpoints written behind its back."""


@pytest.fixture
def parts(tmp_path):
    vocabulary = tmp_path / "vocabulary"
    vocabulary.mkdir()
    model = lively_model(small_config())
    optimizer = Optimizer(model.named_parameters(), OptimConfig(), 1e-3)
    small = Small({"step": 1}, {}, vocabulary, {})
    return Saver(tmp_path / "checkpoints", 2, ELSEWHERE), model, optimizer, small


def held_back(monkeypatch) -> threading.Event:
    """Writing waits until it is set."""
    go, plain = threading.Event(), saving.save_checkpoint
    monkeypatch.setattr(saving, "save_checkpoint", lambda *a, **k: go.wait(30) and plain(*a, **k))
    return go


def test_a_checkpoint_holds_the_weights_of_its_step_whatever_training_does_meanwhile(parts, monkeypatch):
    saver, model, optimizer, small = parts
    go = held_back(monkeypatch)
    expected = {n: w.clone() for n, w in model.state_dict().items()}
    moments = {n: m.clone() for n, m in optimizer.state_dict().items()}
    path = saver.save(1, model, optimizer, small)
    assert not path.exists()
    with torch.no_grad():
        for tensor in (*model.parameters(), *optimizer.state_dict().values()):
            tensor.add_(1)
    go.set()
    saver.finish()
    found = load_checkpoint(path)
    assert all(torch.equal(found.weights()[n], w) for n, w in expected.items())
    assert all(torch.equal(found.optimizer_state()[n], m) for n, m in moments.items())


def test_the_next_checkpoint_waits_for_the_one_before_and_old_ones_go(parts, monkeypatch):
    saver, model, optimizer, small = parts
    go = held_back(monkeypatch)
    saver.save(1, model, optimizer, small)
    threading.Timer(0.2, go.set).start()
    for step in (2, 3):
        saver.save(step, model, optimizer, small)
    assert (saver.folder / "step_00000002").exists()  # whole before its copies are used again
    saver.finish()
    assert [path.name[-1] for path in sorted(saver.folder.glob("step_*"))] == ["2", "3"]


def test_what_goes_wrong_in_writing_stops_the_run(parts, monkeypatch):
    saver, model, optimizer, small = parts

    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(saving, "save_checkpoint", full)
    saver.save(1, model, optimizer, small)
    while not saver._whole.done():
        pass
    with pytest.raises(OSError, match="No space"):
        saver.poll()
    saver.finish()


def test_the_hosts_copies_are_made_once(monkeypatch):
    writer, seen = background.WholeWriter(), []
    tensor = torch.zeros(3)
    for value in (1.0, 2.0):
        tensor.fill_(value)
        writer.start(
            {"a": tensor}, lambda copies: seen.append((copies["a"].data_ptr(), copies["a"].tolist()))
        )
    writer.finish()
    assert seen[0][0] == seen[1][0] and [values for _, values in seen] == [[1.0] * 3, [2.0] * 3]


@pytest.mark.parametrize("told", ["CUDA error: out of memory", "CUDA error: an illegal memory access"])
def test_a_host_that_holds_no_copy_writes_while_training_waits(told, monkeypatch, capsys):
    """Three times the weights in memory that cannot move: the first checkpoint of a large model must not end the run."""
    writer, written = background.WholeWriter(), []

    def refuse(*_, pin_memory=False, **__):
        raise RuntimeError(told)

    monkeypatch.setattr(torch, "empty", refuse)
    if "out of memory" not in told:
        with pytest.raises(RuntimeError, match="illegal"):
            writer.start({"a": torch.ones(3)}, written.append)
        return
    writer.start({"a": torch.ones(3)}, written.append)
    assert [part["a"].tolist() for part in written] == [[1.0] * 3] and writer.done()
    assert "training waits while a checkpoint is written" in " ".join("".join(capsys.readouterr()).split())


def test_on_a_cpu_it_is_written_at_once(parts, tmp_path):
    _, model, optimizer, small = parts
    saver = Saver(tmp_path / "here", 2, Ranks(0, 1, torch.device("cpu"), "ddp"))
    assert Path(saver.save(1, model, optimizer, small) / "state.json").exists()


def copies_wait_once() -> None:
    """A snapshot of what lies on a GPU: every copy into pinned memory without waiting, then one wait for all."""
    waits, pinned, plain = [], [], torch.empty
    writer, written = background.WholeWriter(), []
    with (
        fake_cuda(),
        patch("torch.cuda.synchronize", lambda *_: waits.append(1)),
        patch("torch.empty", lambda *a, pin_memory=False, **k: pinned.append(pin_memory) or plain(*a, **k)),
        Crossings() as crossings,
    ):
        tensors = {name: torch.zeros(4, device="cuda") for name in "abc"}
        writer.start(tensors, lambda copies: written.append({t.device.type for t in copies.values()}))
        writer.finish()
    assert written == [{"cpu"}] and waits == [1] and sum(pinned) == 3
    assert len(crossings.copies) == 3 and not crossings.waiting


@pytest.mark.skipif(not is_possible(), reason="needs a C++ compiler, for fake tensors on a GPU")
def test_a_snapshot_of_a_gpu_waits_once():
    together(1, copies_wait_once, timeout_s=60)
