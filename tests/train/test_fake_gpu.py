"""Steps and validations on a GPU that is not there: nothing waits for the device, nothing lies in the wrong place."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch

from sodakit.data.language import open_language
from sodakit.data.loader import Loader
from sodakit.model.any_config import family_config
from sodakit.model.config import model_size
from sodakit.model.families import build_model, pattern_of
from sodakit.model.frame.network import FrameTransformer
from sodakit.train.config import LossConfig, OptimConfig, TrainConfig
from sodakit.train.fp8 import use_fp8
from sodakit.train.objective import LossVector, Objective
from sodakit.train.optim import Optimizer
from sodakit.train.parallel import Ranks
from sodakit.train.recompute import recompute_blocks
from sodakit.train.run import Run
from sodakit.train.validate import Validation
from tests.fake_cuda import Crossings, fake_cuda, is_possible
from tests.stores import small_store
from tests.train.ranks import together
from tests.train.test_trainer import config_for

CUDA = torch.device("cuda")
pytestmark = pytest.mark.skipif(not is_possible(), reason="needs a C++ compiler, for fake tensors on a GPU")

SETTINGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "slot softmax": {"loss": LossConfig(slot_softmax=True)},
    "two means": {"loss": LossConfig(recipe="moshi_means")},
    "adamw": {"optim": OptimConfig(kind="adamw")},
    "muon": {"optim": OptimConfig(kind="muon")},
    "fp8": {"fp8_from_width": 64},
    "recomputed": {},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("store"), recordings=40)


def step_config(store: Path, family: str, settings: dict[str, Any]) -> TrainConfig:
    _, vocabulary = open_language(store)
    backbone = model_size("nano", vocabulary.size, context=64, layers=1, tied_embeddings=False)
    model = family_config(family, backbone, vocabulary)  # type: ignore[arg-type]
    return replace(config_for(store), model=model, precision="bfloat16", **settings)


def run_of(store: Path, config: TrainConfig, recompute: bool = False) -> Run:
    """A run without a folder, its model and moments on the fake device."""
    run = Run.__new__(Run)
    run.config, run.device, run.ranks = config, CUDA, Ranks(0, 1, CUDA, "ddp")
    run.vocabulary = open_language(store)[1]
    run.micro_rows, run.step, run.audio_frames, run.tokens = 1, 0, 0, 0
    run.plan = SimpleNamespace(recompute=recompute)  # type: ignore[assignment]
    run.objective = Objective(run.vocabulary, config.loss, config.model, CUDA, torch.bfloat16)
    run.vector = LossVector(run.vocabulary, 12.5, CUDA)
    with CUDA, patch("sodakit.model.transformer.initialise"), patch("sodakit.model.frame.network.initialise"):
        run.model = run.forward = build_model(config.model)
    if config.fp8_from_width:
        use_fp8(run.model, config.fp8_from_width)
    if recompute:
        recompute_blocks(run.model.units(), alone_on_cpu=False)
    run.optimizer = Optimizer(run.model.named_parameters(), config.optim, 1e-3)
    run.model.rotary_tables()  # made on the host, once
    if isinstance(run.model, FrameTransformer) and run.model.depth:
        run.model.depth.rotary_tables()
    return run


def backward_of(model: torch.nn.Module) -> Any:
    """In place of torch's engine: gradients of every weight."""

    def backward(loss: torch.Tensor) -> None:
        assert loss.requires_grad and loss.device.type == "cuda"
        for parameter in model.parameters():
            parameter.grad = torch.empty_like(parameter)

    return patch.object(torch.Tensor, "backward", backward)


def steps_never_wait(store: Path, family: str, names: list[str]) -> None:
    """Two steps of two micro-batches each; the second is watched."""
    for name in names:
        config = step_config(store, family, SETTINGS[name])
        batch = Loader(config.data, open_language(store)[1], pattern_of(config.model)).batch(0)
        with fake_cuda():
            run = run_of(store, config, name == "recomputed")
            with backward_of(run.model):
                run.update(batch)
                with Crossings() as crossings:
                    told = run.update(batch)
            assert crossings.copies and not crossings.waiting, (name, crossings.waiting)
            assert told["grad_norm"].device.type == "cuda" and run.step == 2, name
            assert all(m.device.type == "cuda" for m in run.optimizer.state_dict().values()), name


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("flat", ["as it is", "recomputed", "slot softmax"]),
        ("depth", ["as it is"]),
        pytest.param("flat", list(SETTINGS), marks=pytest.mark.slow),
        pytest.param("depth", ["slot softmax"], marks=pytest.mark.slow),
        pytest.param("delay", ["as it is"], marks=pytest.mark.slow),
    ],
)
def test_a_step_never_waits_for_the_device(store, family, names):
    """Else every step takes as long as its launches and its kernels together."""
    together(1, steps_never_wait, store, family, names, timeout_s=200)


def validations_never_wait(store: Path) -> None:
    for family in ("flat", "depth", "delay"):
        config = step_config(store, family, {})
        vocabulary = open_language(store)[1]
        rows = Validation(config.data.sources, config.data, 3, vocabulary, pattern_of(config.model))
        with fake_cuda():
            run, vector = run_of(store, config), LossVector(vocabulary, 12.5, CUDA)
            with patch.object(vector, "read", lambda _: {}), Crossings() as crossings:
                rows(run.model, run.objective, vector)
        assert crossings.copies and not crossings.waiting, (family, crossings.waiting)


def test_a_validation_waits_for_nothing_but_its_sums(store):
    together(1, validations_never_wait, store, timeout_s=200)


def to_empty(model: torch.nn.Module, *, device: torch.device) -> None:
    """torch's own, without the exchange in place that fake tensors do not allow."""
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, torch.nn.Parameter(torch.empty_like(parameter, device=device)))


def a_model_is_made_on_the_device(store: Path) -> None:
    """As a run makes it: without memory, then filled, for each family; blocks keep what wraps them."""
    for family in ("flat", "depth", "delay"):
        config = step_config(store, family, {})
        with fake_cuda():
            run = Run.__new__(Run)
            run.config, run.device, run.ranks = config, CUDA, Ranks(0, 1, CUDA, "ddp")
            run.model, is_empty = run._empty_or_new_model(begins=True)
            assert is_empty and run.model.device.type == "meta", family
            run._prepare_model()  # there is no compiler, which is said
            with patch.object(torch.nn.Module, "to_empty", to_empty):
                run._to_device(is_empty, begins=True)
            assert {p.device.type for p in run.model.parameters()} == {"cuda"}, family


def test_a_run_makes_its_model_on_the_device(store):
    together(1, a_model_is_made_on_the_device, store, timeout_s=100)
