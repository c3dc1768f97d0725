"""What torch compiles in a run: blocks, under every wrapper; never a step of decoding."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from sodakit.compiler import COMPILERS
from sodakit.errors import ConfigError
from sodakit.generate.step_graphs import BatchSteps
from sodakit.model.attention import Packing
from sodakit.model.families import targets_of
from sodakit.model.kv_cache import KVCache
from sodakit.recipes.suite import suite
from sodakit.train import update
from sodakit.train.config import ParallelConfig
from sodakit.train.parallel import Ranks, lay_out, start_ranks
from sodakit.train.recompute import recompute_blocks
from sodakit.train.run import Run
from tests.generate.test_frames import V, network
from tests.model.strategies import lively_model, small_config, some_ids
from tests.train.ranks import together

GRAPHS = 4
"""Before and after the attention, each forward and resumed; all blocks share them."""
LAYERS = 10
"""More than torch compiles variants of one function (8): blocks must share their graphs."""


@pytest.fixture(autouse=True)
def _nothing_compiled_before():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def graphs_of(model, forward) -> int:
    """Graphs compiled in two steps over other documents, the second of which must compile none."""
    counter = model.counter
    for lengths in ((64, 64), (50, 14, 64)):
        before = counter.frame_count
        forward(some_ids(2, 64), packing=Packing.from_lengths(lengths)).square().sum().backward()
    assert counter.frame_count == before
    return counter.frame_count


def compiled_model(layers: int = LAYERS):
    model = lively_model(small_config(layers=layers, tied_embeddings=True))
    model.counter = CompileCounter()
    model.compile_blocks(backend=model.counter)
    return model


@pytest.mark.parametrize("recompute", [False, True])
def test_blocks_are_compiled_whether_or_not_their_activations_are_made_again(recompute):
    """A checkpoint inside what is to be compiled makes torch compile nothing, and say nothing."""
    model = compiled_model()
    if recompute:
        recompute_blocks(model.units(), alone_on_cpu=False)
    assert graphs_of(model, model) == GRAPHS


def count_under_layouts() -> None:
    """What each rank does: the same under DDP and FSDP, with activations made again."""
    for kind in ("ddp", "fsdp"):
        ranks = start_ranks(ParallelConfig(kind=kind), "cpu")
        torch._dynamo.reset()
        model = compiled_model(layers=3)
        assert graphs_of(model, lay_out(model, ranks, recompute=True)) == GRAPHS, kind


@pytest.mark.slow
def test_blocks_are_compiled_under_ddp_and_fsdp_too():
    together(2, count_under_layouts, timeout_s=120)


def frames_of(model, rows: int, frames: int) -> Tensor:
    """Loss of rows of 24 positions, so many of which are frames and the others text."""
    ids_BPW = np.full((rows, 24, 4), -1)
    ids_BPW[..., 0] = 2
    ids_BPW[:, 1 : 1 + frames] = [V.codebook_range(k)[0] for k in range(4)]
    targets = targets_of(model.config, ids_BPW, np.ones((rows, 24), bool))
    x_BPD = model(torch.from_numpy(ids_BPW), packing=Packing.from_rows(rows, 24))
    return torch.stack([(t.x_TD @ t.head_VD.T).square().sum() for t in model.told(x_BPD, targets)]).sum()


@pytest.mark.slow
def test_a_model_of_frames_stays_compiled_whatever_a_run_meets():
    """Training, validation, rows without a frame and with one, fewer rows after memory ran out: more variants than torch
    allows a function by itself. What came next would run uncompiled for good."""
    model = network("depth")
    model.compile_blocks(backend=CompileCounter())
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        for rows, frames in ((4, 9), (4, 12), (4, 0), (2, 5), (1, 7), (1, 1)):
            frames_of(model, rows, frames).backward()
            with torch.no_grad():
                frames_of(model, 1, frames)


@pytest.mark.parametrize(
    ("lacking", "wanted", "times", "said"),
    [
        (None, None, 1, ""),
        (None, False, 0, ""),
        ("a C compiler", None, 0, "Nothing is compiled: needed is a C compiler."),
        ("a C compiler", False, 0, "Nothing is compiled: needed is a C compiler."),
    ],
)
def test_a_gpu_without_a_c_compiler_trains_uncompiled_and_says_so(
    lacking, wanted, times, said, monkeypatch, capsys
):
    """Triton fails at its first kernel; who asked for compiling is told at once."""
    compiled = []
    monkeypatch.setattr("sodakit.train.run.lacks_for_gpu", lambda: lacking)
    run = Run.__new__(Run)
    run.device = torch.device("cuda")
    run.ranks = Ranks(0, 1, run.device, "ddp")
    run.model = SimpleNamespace(embedding=SimpleNamespace(), compile_blocks=lambda: compiled.append(1))
    run.config = replace(suite("soda_135m"), compile_blocks=wanted)
    run._prepare_model()
    heard = " ".join("".join(capsys.readouterr()).split())
    assert len(compiled) == times and heard.startswith(said) and bool(heard) == bool(said)
    run.config = replace(run.config, compile_blocks=True)
    if lacking:
        with pytest.raises(ConfigError, match="without a C compiler"):
            run._prepare_model()


@torch.inference_mode()
def test_a_compiled_model_decodes_without_compiling():
    """Layer and step are guards: samples made while a run trains would use up what torch compiles of a block."""
    model = compiled_model(layers=2)
    cache = KVCache(model.config, 2, 32)
    model(some_ids(2, 9), cache=cache)
    for _ in range(3):
        model(some_ids(2, 1), cache=cache)
    assert model.counter.frame_count == 0


@torch.inference_mode()
def test_steps_by_graph_compile_nothing():
    """What is captured is the block as it stands: compiled, its layers and spans would be variants too."""
    model = compiled_model(layers=2)
    steps = BatchSteps(model, KVCache(model.config, 2, 32), 2, 1)
    for _ in range(3):
        steps(torch.ones(2, 1, 1, dtype=torch.int64))
    assert model.counter.frame_count == 0


@torch.inference_mode()
def test_frames_are_written_without_compiling():
    model = network("depth")
    counter = CompileCounter()
    model.compile_blocks(backend=counter)
    inside = model.inside(torch.randn(2, model.config.backbone.width))
    for k in range(1, model.frame.num_codebooks):
        inside.put(torch.full((2,), model.frame.audio_base))
        inside.logits(k)
    assert counter.frame_count == 0


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="needs a C++ compiler")
def test_blocks_that_torch_has_compiled_learn_as_plain_ones():
    """By inductor, as on a GPU, here for a CPU: states and gradients, with activations made again too."""
    plain, compiled = (lively_model(small_config(layers=1)) for _ in range(2))
    compiled.compile_blocks()
    recompute_blocks(compiled.units(), alone_on_cpu=False)
    packing, found = Packing.from_lengths((50, 14, 64)), []
    for model in (plain, compiled):
        x_BTD = model(some_ids(2, 64), packing)
        x_BTD.square().mean().backward()
        found.append([x_BTD, *(p.grad for p in model.parameters() if p.grad is not None)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="needs a C++ compiler")
def test_the_update_that_torch_has_compiled_is_the_update():
    """As a GPU makes it: one kernel a pass, here compiled for a CPU."""
    generator = torch.Generator().manual_seed(0)
    p, g, m = (torch.randn(300, generator=generator) for _ in range(3))
    v = torch.rand(300, generator=generator)
    ok, factor, small = torch.ones((), dtype=torch.bool), torch.tensor(0.5), torch.tensor(0.01)
    found = []
    for moments, weights in (
        (update._moments, update._weights),
        [torch.compile(f, dynamic=True) for f in (update._moments, update._weights)],
    ):
        p_, m_, v_ = p.clone(), m.clone(), v.clone()
        count = moments(g, m_, v_, factor, ok, 0.9, 0.95)
        weights(p_, g, m_, v_, small, torch.tensor(0.99), torch.tensor(1e-8), ok, True)
        found.append([count, p_, m_, v_])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)
