"""A GPU's memory that runs out: fewer rows at a time, no samples, and the run goes on."""

import pytest
import torch

from sodakit.train.metrics import read_metrics
from sodakit.train.run import Run
from sodakit.train.trainer import train
from tests.train.test_trainer import config_for


def gone(*_):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_fewer_rows_are_tried_from_the_beginning_of_the_step(store, tmp_path, monkeypatch, capsys):
    """What the failed attempt has added to gradients and losses is gone."""
    plain, weights, seen = Run._accumulate, [], []

    def small(run, batch):
        counted = plain(run, batch)
        seen.append(run.micro_rows)
        return counted if run.micro_rows <= 2 else gone()

    for name, micro_rows in (("given", 2), ("auto", "auto")):
        if name == "auto":
            monkeypatch.setattr(Run, "_accumulate", small)
        run = Run(config_for(store, micro_rows=micro_rows), tmp_path / name, torch.device("cpu"))
        for step in (0, 1):
            run.update(run.loader.batch(step))
        weights.append((dict(run.model.named_parameters()), run.vector.read()))
    assert seen == [4, 2, 2] and "going on with 2 rows at a time" in "".join(capsys.readouterr())
    assert weights[0][1] == weights[1][1]
    assert all(torch.equal(weights[0][0][name], weight) for name, weight in weights[1][0].items())


def test_rows_that_are_given_are_not_changed(store, tmp_path, monkeypatch):
    run = Run(config_for(store, micro_rows=4), tmp_path, torch.device("cpu"))
    monkeypatch.setattr(Run, "_accumulate", gone)
    with pytest.raises(torch.OutOfMemoryError):
        run.update(run.loader.batch(0))


def test_samples_that_find_no_memory_are_left_out(store, tmp_path, capsys):
    """Hours of training are worth more than two sentences."""
    config = config_for(store, steps=4, listen_every_steps=2, validation=())
    train(config, tmp_path, device="cpu", listen=gone)
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3, 4]
    told = "".join(capsys.readouterr())
    assert "No samples at step 2, and training goes on: There is not enough memory" in told
