"""What first contact with a GPU must show, each thing in seconds. The same runs on a CPU, so that the tests are right."""

import math
from dataclasses import replace

import pytest
import torch

from sodakit.checkpoint.load import latest_checkpoint, load_checkpoint
from sodakit.data.language import open_language
from sodakit.files import read_json
from sodakit.generate.engine import Engine
from sodakit.model.any_config import family_config
from sodakit.model.attention import take_route
from sodakit.model.attention_routes import parities
from sodakit.model.config import model_size
from sodakit.model.families import build_model
from sodakit.train.config import TrainConfig
from sodakit.train.metrics import read_metrics
from sodakit.train.trainer import train
from tests.generate.test_frames import network, requests
from tests.stores import small_store
from tests.train.test_trainer import config_for

DEVICES = [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=pytest.mark.gpu)]
FAMILIES = ("flat", "depth", "delay")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("store"), recordings=40)


@pytest.fixture(autouse=True)
def _no_route_is_kept():
    yield
    take_route(None)


def config_of(store, family: str, **changes) -> TrainConfig:
    _, vocabulary = open_language(store)
    backbone = model_size("nano", vocabulary.size, context=64, layers=1, tied_embeddings=False)
    return replace(config_for(store), model=family_config(family, backbone, vocabulary), **changes)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_learns_as_on_a_cpu_and_is_taken_up_on_the_device(store, family, device, tmp_path):
    """Begun on a CPU, resumed on the device: losses of the steps that follow are those of a run that stayed."""
    config = config_of(store, family, steps=8, save_every_steps=4, validation=(), precision="float32")
    train(replace(config, steps=8), tmp_path / "stayed", device="cpu")
    train(config, tmp_path / "moved", device="cpu")
    for path in (tmp_path / "moved" / "checkpoints").glob("step_00000008"):
        path.rename(tmp_path / "last")
    train(config, tmp_path / "moved", device=device)
    ends = [read_metrics(tmp_path / name)[-1]["loss/all"] for name in ("stayed", "moved")]
    assert ends[1] == pytest.approx(ends[0], rel=1e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_a_run_in_bfloat16_learns_compiled_recomputed_and_validated(store, device, tmp_path):
    config = config_of(store, "flat", steps=12, precision="bfloat16", micro_rows=1, validate_every_steps=6)
    config = replace(config, parallel=replace(config.parallel, activation_checkpointing=True))
    train(config, tmp_path, device=device)
    losses = [row["loss/all"] for row in read_metrics(tmp_path) if "loss/all" in row]
    assert losses[-1] < losses[0] and all(map(math.isfinite, losses))
    told = read_json(tmp_path / "environment.json")["attention"]
    assert (told is None) == (device == "cpu")
    assert load_checkpoint(latest_checkpoint(tmp_path / "checkpoints")).state["step"] == 12


@pytest.mark.parametrize("device", DEVICES)
def test_routes_of_attention_that_are_here_are_right(device):
    found = parities(torch.device(device))
    assert any(isinstance(error, float) for error in found.values()), found
    assert not any("wrong" in str(problem) for problem in found.values()), found


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("family", ["flat", "depth"])
def test_answers_are_those_of_a_cpu(family, device):
    """In float64, where rounding decides nothing."""
    if family == "flat":
        from sodakit.generate.sampling import Sampling
        from tests.generate.test_frame_graph import V, speak

        model = build_model(model_size("nano", V.size, context=256, init_std=0.2))
        asked = [speak(n, Sampling(temperature=0.9, top_p=0.8)) for n in (3, 17)]
    else:
        from tests.generate.test_frames import V

        model, asked = network("depth"), requests()
    model = model.double()
    expected = [answer.ids_T.tolist() for answer in Engine(model, V, 4).generate(asked)]
    found = [answer.ids_T.tolist() for answer in Engine(model.to(device), V, 4).generate(asked)]
    assert found == expected


@pytest.mark.gpu
def test_eight_bit_products_learn(store, tmp_path):
    config = config_of(store, "flat", steps=12, precision="bfloat16", fp8_from_width=64)
    train(config, tmp_path, device="cuda")
    losses = [row["loss/all"] for row in read_metrics(tmp_path) if "loss/all" in row]
    assert losses[-1] < losses[0]
