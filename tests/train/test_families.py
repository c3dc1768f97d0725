"""Runs of every family: they learn, resume exactly, and weigh a mixture alike."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sodakit.checkpoint.load import load_checkpoint
from sodakit.codec.toy import ToyCodec
from sodakit.config import from_plain, to_plain
from sodakit.data.config import DataConfig, SourceConfig, ViewConfig
from sodakit.data.language import open_language
from sodakit.data.loader import Loader
from sodakit.errors import ConfigError
from sodakit.generate.speech_model import SpeechModel
from sodakit.model.accounting import count_parameters
from sodakit.model.any_config import family_config
from sodakit.model.config import model_size
from sodakit.model.families import build_model, pattern_of
from sodakit.model.frame.config import FrameConfig
from sodakit.train.config import LossConfig, OptimConfig, TrainConfig
from sodakit.train.cost import Machine, cost_of
from sodakit.train.metrics import read_metrics
from sodakit.train.objective import Objective
from sodakit.train.trainer import train
from tests.stores import small_store
from tests.train.test_trainer import config_for, losses

FAMILIES = ("depth", "delay")


def config_of(store, family: str, **changes) -> TrainConfig:
    _, vocabulary = open_language(store)
    backbone = model_size("nano", vocabulary.size, context=64)
    return replace(config_for(store), model=family_config(family, backbone, vocabulary), **changes)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_learns_every_kind_of_id(store, family, tmp_path) -> None:
    config = config_of(store, family, steps=60, loss=LossConfig(slot_softmax=family == "depth"))
    path = train(config, tmp_path)
    table = losses(tmp_path)
    for kind in ("all", "text", "semantic", "acoustic_1", "acoustic_2"):
        assert table[(60, "train")][f"loss/{kind}"] < table[(1, "train")][f"loss/{kind}"]
    checkpoint = load_checkpoint(path)
    assert checkpoint.model_config == config.model
    model = checkpoint.model()
    again = build_model(config.model)
    again.load_state_dict(model.state_dict())


@pytest.mark.parametrize("family", FAMILIES)
def test_one_codebook_is_learnt_and_spoken(family, tmp_path) -> None:
    """As X-Codec2, NeuCodec and WavTokenizer have it: nothing is left for a depth decoder."""
    store = small_store(tmp_path / "store", codebooks=1)
    path = train(config_of(store, family, steps=2), tmp_path / "run")
    reader, vocabulary = open_language(store)
    toy = ToyCodec(1, vocabulary.codebook_size)
    model = SpeechModel(load_checkpoint(path).model(), vocabulary, reader.tokenizer(), toy)
    assert model.speak("open the lamp", max_s=0.5).codes_KF.shape[0] == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_that_was_stopped_goes_on_bit_for_bit(store, family, tmp_path) -> None:
    config = config_of(store, family, steps=12)
    train(config, tmp_path / "whole")
    train(config, tmp_path / "stopped")
    for name in ("step_00000012", "step_00000008"):
        folder = tmp_path / "stopped" / "checkpoints" / name
        if name.endswith("12"):
            for part in sorted(folder.rglob("*"), reverse=True):
                part.rmdir() if part.is_dir() else part.unlink()
            folder.rmdir()
    train(config, tmp_path / "stopped")
    ends = [load_checkpoint(tmp_path / n).weights() for n in ("whole", "stopped")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize("family", ("flat", *FAMILIES))
def test_micro_batches_and_recomputation_give_the_same_gradients(store, family) -> None:
    config = config_of(store, family, loss=LossConfig(kind_weights={"text": 3.0, "acoustic_1": 0.5}))
    _, vocabulary = open_language(store)
    batch = Loader(config.data, vocabulary, pattern_of(config.model)).batch(0)
    model = build_model(config.model)
    objective = Objective(vocabulary, config.loss, config.model, torch.device("cpu"), torch.float32)
    total = objective.total_weights(batch)
    found = []
    for rows in (4, 1):
        model.zero_grad()
        for first in range(0, 4, rows):
            part = objective.targets(batch, slice(first, first + rows), total)
            objective(model, part)[0].backward()
        found.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("family", ("flat", *FAMILIES))
def test_the_loss_of_a_batch_is_that_of_its_conditionals(store, family) -> None:
    """Float64, weights by kind, from logits made whole."""
    config = config_of(store, family, loss=LossConfig(z_loss=0.0, kind_weights={"semantic": 2.0}))
    _, vocabulary = open_language(store)
    batch = Loader(config.data, vocabulary, pattern_of(config.model)).batch(0)
    model = build_model(config.model, seed=1)
    objective = Objective(vocabulary, config.loss, config.model, torch.device("cpu"), torch.float32)
    micro = objective.targets(batch, slice(None), objective.total_weights(batch))
    loss, nll_T = objective(model, micro)
    double = model.double()
    groups = double.told(double(micro.ids_BPW, packing=micro.packing), micro.targets)
    expected = []
    for told in groups:
        logits_TV = told.x_TD @ told.head_VD.T
        for slot in told.slots or ():
            legal = torch.zeros(logits_TV.shape[1], dtype=torch.bool)
            legal[slot.rows] = True
            part = logits_TV[slot.positions_T]
            logits_TV[slot.positions_T] = part.masked_fill(~legal, -torch.inf)
        expected.append(-logits_TV.log_softmax(1).gather(1, told.targets_T[:, None])[:, 0])
    expected_T = torch.cat(expected)
    assert torch.allclose(nll_T.double(), expected_T, atol=1e-5)
    assert float(loss.detach()) == pytest.approx(
        float((expected_T * micro.weights_T).sum().detach()), rel=1e-5
    )
    present = int((batch.ids_BPW[:, 1:] >= 0).sum())
    assert len(nll_T) == present


@pytest.mark.parametrize("family", ("flat", *FAMILIES))
def test_a_mixture_means_the_same_share_of_ids_for_every_family(store, family) -> None:
    _, vocabulary = open_language(store)
    sources = (
        SourceConfig(store=str(store), name="speech", weight=3.0),
        SourceConfig(store=str(store), name="semantic", weight=1.0, view=ViewConfig(composition="semantic")),
    )
    pattern = pattern_of(config_of(store, family).model)
    loader = Loader(DataConfig(sources=sources, context=32, batch_rows=8), vocabulary, pattern)
    ids = np.zeros(2)
    where, _ = loader._mixture.locate_rows(range(2048))
    for row, source in enumerate(where[:600].tolist()):
        ids[source] += (loader.row(row)[0] >= 0).sum()
    assert ids[0] / ids.sum() == pytest.approx(0.75, abs=0.02)


def test_depth_trained_on_a_share_of_the_frames_has_the_same_loss_on_average(store) -> None:
    config = config_of(store, "depth")
    _, vocabulary = open_language(store)
    some = replace(config.model, depth=replace(config.model.depth, share=0.25))
    model = build_model(config.model)
    loader = Loader(config.data, vocabulary, pattern_of(config.model))
    means = []
    for shape in (config.model, some):
        objective = Objective(vocabulary, config.loss, shape, torch.device("cpu"), torch.float32)
        found = []
        for step in range(24):
            batch = loader.batch(step)
            with torch.no_grad():
                micro = objective.targets(batch, slice(None), objective.total_weights(batch))
                found.append(float(objective(model, micro)[0]))
        means.append(np.mean(found))
    assert means[1] == pytest.approx(means[0], rel=0.01)


def test_muon_and_a_config_file_take_a_model_of_frames(store, tmp_path) -> None:
    config = config_of(store, "depth", steps=3, optim=OptimConfig(kind="muon"))
    assert from_plain(TrainConfig, to_plain(config)) == config
    assert isinstance(from_plain(TrainConfig, to_plain(config)).model, FrameConfig)
    train(config, tmp_path)
    plain = to_plain(config)
    plain["model"]["depth"]["layer"] = 3
    with pytest.raises(ConfigError, match="has no field 'layer'"):
        from_plain(TrainConfig, plain)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_without_a_frame_give_every_weight_a_gradient(store, family) -> None:
    """Else ranks that have frames would wait for the one that has none."""
    config = config_of(store, family)
    _, vocabulary = open_language(store)
    batch = Loader(config.data, vocabulary, pattern_of(config.model)).batch(0)
    ids_BPW = np.full_like(batch.ids_BPW, -1)
    ids_BPW[..., 0] = 5
    model = build_model(config.model)
    objective = Objective(vocabulary, config.loss, config.model, torch.device("cpu"), torch.float32)
    rows = replace(batch, ids_BPW=ids_BPW)
    micro = objective.targets(rows, slice(None), objective.total_weights(rows))
    loss, nll_T = objective(model, micro)
    loss.backward()
    assert len(nll_T) == len(micro.kinds_T) and torch.isfinite(loss)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert not name.startswith("depth.") or not parameter.grad.any(), name


@pytest.mark.parametrize("family", ("flat", *FAMILIES))
def test_the_dry_run_foretells_the_hours_that_are_heard(store, family, tmp_path) -> None:
    """Rows of frames hold several times the sound of flat rows as long."""
    config = config_of(store, family, steps=8)
    train(config, tmp_path)
    (heard,) = [
        row["audio_hours"] for row in read_metrics(tmp_path) if row["step"] == 8 and "audio_hours" in row
    ]
    assert cost_of(config, Machine()).audio_hours == pytest.approx(heard, rel=0.1)


@pytest.mark.parametrize("family", ("flat", *FAMILIES))
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_counted_are_those_built(store, family, tied) -> None:
    _, vocabulary = open_language(store)
    backbone = model_size("nano", vocabulary.size, context=64, tied_embeddings=tied)
    config = family_config(family, backbone, vocabulary)
    built = sum(p.numel() for p in build_model(config).parameters())
    assert count_parameters(config).total == built
