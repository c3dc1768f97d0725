"""What is captured for models of frames and for a `Batch`: the answers of the plain way, and the rules of capture."""

import gc
import weakref
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from unittest.mock import MagicMock, patch

import pytest
import torch

from sodakit.generate import graphs
from sodakit.generate.engine import Batch, Engine
from sodakit.generate.frame_graph import FrameEngine
from sodakit.generate.graphs import Graphs
from sodakit.generate.sampling import GREEDY, Sampling
from sodakit.generate.step_graphs import BatchSteps
from sodakit.model.config import model_size
from sodakit.model.kv_cache import KVCache, attend_cached
from sodakit.model.transformer import Transformer
from tests.fake_cuda import Crossings, fake_cuda, is_possible
from tests.generate.test_frames import FAMILIES, FREE, V, network, requests
from tests.recorded_graphs import recorded_graphs
from tests.train.ranks import together

MIXED = Sampling(temperature=0.9, top_p=0.8, top_k=9)


@pytest.fixture(autouse=True)
def _short_spans(monkeypatch):
    monkeypatch.setattr(graphs, "SPAN_TOKENS", 16)


def model_of(name):
    if name == "flat":
        return Transformer(model_size("nano", V.size, context=256, init_std=0.2), seed=3).double()
    return network(name).double()


def answers(engine, asked):
    return [(c.ids_T.tolist(), c.ended) for c in engine.generate(asked)]


@pytest.mark.parametrize(("name", "how"), [("depth", GREEDY), *((name, MIXED) for name in FAMILIES)])
def test_speech_by_recorded_frames_is_that_of_the_plain_way(name, how):
    """Prompts of other lengths, one whose late codes are given, limits, and text, which goes the other way."""
    model, asked = model_of(name), [replace(r, max_new_tokens=45) for r in requests(how)]
    asked.append(replace(asked[2], max_new_tokens=9, seed=8))
    expected = answers(Engine(model, V, 4), asked)
    with recorded_graphs() as made:
        engine = Engine(model, V, 4, graphs=True)
        for _ in range(2):  # the second time in a used cache
            assert answers(engine, asked) == expected
    assert max(graph.replays for graph in made) > 10 and len(engine._with_graphs) == 2


def test_codebooks_of_which_some_are_late_go_the_other_way():
    kind = {"delays": (0, 0, 1, 1)}
    with patch.dict(FAMILIES, {"mixed": kind}):
        model = model_of("mixed")
    engine = Engine(model, V, 4, graphs=True)
    assert answers(engine, requests()) == answers(Engine(model, V, 4), requests())
    assert not any(isinstance(kept, FrameEngine) for kept in engine._with_graphs.values())


def played(batch, asked):
    """What each request was given, joining as places come free; every third step leaves the first row out."""
    waiting, given, steps = list(asked), {}, 0  # by row, which is kept: another could get its id
    while waiting or batch.rows:
        while waiting and batch.free:
            given[batch.admit(waiting.pop(0))] = []
        steps += 1
        some = batch.rows[1:] if steps % 3 == 0 and len(batch.rows) > 1 else None
        for row, ids in batch.step(some):
            given[row] += ids
    return list(given.values())


@pytest.mark.parametrize("name", ["flat", *FAMILIES])
def test_a_batch_by_recorded_steps_gives_the_same_ids(name):
    """Rows join and leave, wait, share a beginning; places beyond those at work hold rows that wait."""
    model = model_of(name)
    asked = [replace(r, shared_tokens=2, max_new_tokens=40) for r in [*requests(FREE), *requests(MIXED)]]
    expected = played(Batch(Engine(model, V, 4), capacity=3, prefixes=1), asked)
    with recorded_graphs() as made:
        batch = Batch(Engine(model, V, 4, graphs=True), capacity=3, prefixes=1)
        assert played(batch, asked) == expected
    assert sum(graph.replays for graph in made) > 50


def test_rows_that_wait_are_left_as_they_are():
    """The row beyond those at work takes part in a rounded batch: its own keys and values stay."""
    model = model_of("flat")
    cache = KVCache(model.config, 4, 64, dtype=torch.float64)
    with torch.inference_mode():
        model(torch.arange(4 * 5).reshape(4, 5), cache=cache)
        kept = cache.k_LBGTH[:, 3, :, :5].clone()
        steps = BatchSteps(model, cache, 4, 1)
        x_BD = steps(torch.tensor([[[2]], [[3]], [[4]]]))
        assert cache.lengths == [6, 6, 6, 5] and torch.equal(cache.k_LBGTH[:, 3, :, :5], kept)
        alone = KVCache(model.config, 1, 64, dtype=torch.float64)
        expected_BD = model(torch.tensor([[5, 6, 7, 8, 9, 3]]), cache=alone)[:, -1]
    torch.testing.assert_close(x_BD[1:2], expected_BD)


def test_frames_outside_inference_mode_keep_no_history():
    """A benchmark calls them so: buffers that want gradients would hold every frame before."""
    frames = FrameEngine(Engine(model_of("flat"), V, 4), 1, semantic=GREEDY, acoustic=GREEDY)
    frames.frame(4)
    assert not frames._x_BD.requires_grad and not any(h.requires_grad for h in frames._head)


def test_an_engine_that_nobody_uses_frees_its_memory_at_once():
    """Made for samples while a run trains, whose next step needs the memory."""
    engine = Engine(model_of("flat"), V, 4, graphs=True)
    engine.generate(requests(MIXED)[:1])
    frames = weakref.ref(next(iter(engine._with_graphs.values())))
    gc.disable()
    try:
        del engine
        assert frames() is None
    finally:
        gc.enable()


def test_what_cannot_be_captured_runs_as_it_stands_and_says_so(monkeypatch, capsys):
    def refuse(work, *_):
        work()
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(graphs, "can_capture", lambda device: True)
    monkeypatch.setattr(graphs, "capture", refuse)
    engine = Engine(model_of("depth"), V, 4, graphs=True)
    assert answers(engine, requests()) == answers(Engine(model_of("depth"), V, 4), requests())
    assert "without CUDA graphs, more slowly: operation not permitted" in "".join(capsys.readouterr())


def test_graphs_are_captured_on_the_models_device_while_other_threads_go_on(monkeypatch):
    """A stream of another device would hold an empty graph, and a server's codec would spoil the capture."""
    events, side = [], MagicMock()

    def entered(name):
        def context(*args, **told):
            events.append((name, *args, told))
            return MagicMock()

        return context

    cuda = SimpleNamespace(
        device=entered("device"),
        graph=entered("graph"),
        stream=entered("stream"),
        Stream=lambda: side,
        current_stream=MagicMock(),
        CUDAGraph=lambda: "graph",
        graph_pool_handle=lambda: (0, 7),
    )
    monkeypatch.setattr(graphs.torch, "cuda", cuda)
    ran, place = [], torch.device("cuda:1")
    made = graphs.capture(lambda: ran.append(events[-1][0]), place, (0, 7))
    assert made == "graph" and ran == ["stream", "stream", "graph"] and events[0] == ("device", place, {})
    told = {"pool": (0, 7), "stream": side, "capture_error_mode": "thread_local"}
    assert events[-1] == ("graph", "graph", told)


def test_graphs_that_are_not_used_go(monkeypatch):
    monkeypatch.setattr(graphs, "KEPT_GRAPHS", 2)
    with recorded_graphs() as made:
        kept, buffer = Graphs(torch.device("cpu")), torch.zeros(1)
        for key in (1, 2, 1, 3, 1, 2):
            kept.run(key, lambda key=key: buffer.add_(key), moved=[buffer])
    assert float(buffer) == 10 and len(made) == 4


def nothing_is_asked_of_the_device() -> None:
    """What is captured reads no value and copies nothing, for each family: frames, a batch's step, the codes of a frame."""
    prefill_of_float32_keeps_no_scores()
    for name in ("flat", "depth, shifted", "delay"):
        with fake_cuda(), patch("sodakit.model.transformer.initialise"):
            torch.set_default_dtype(torch.bfloat16)
            with torch.device("cuda"), patch("sodakit.model.frame.network.initialise"):
                flat = model_size("nano", V.size, context=256, layers=1)
                model = Transformer(flat) if name == "flat" else network(name)
            torch.set_default_dtype(torch.float32)
            engine = Engine(model, V, 4)
            assert engine.has_graphs and engine.dtype == torch.bfloat16
            model.rotary_tables()
            if getattr(model, "depth", None):
                model.depth.rotary_tables()
            captured, watched = [], []
            with patch.object(Graphs, "run", partial(noted, captured)):
                frames = FrameEngine(engine, 2, semantic=MIXED, acoustic=GREEDY)
                frames.frame(64)
                cache = KVCache(model.config, 5, 64, "cuda", torch.bfloat16)
                BatchSteps(model, cache, 4, engine.layout.width)(engine.latest([row_of(engine)] * 3))
                if name != "flat":
                    x_BD, uniform_BS = (
                        torch.zeros(3, 64, device="cuda"),
                        torch.rand(3, 3, dtype=torch.float64),
                    )
                    first_B = torch.zeros(3, dtype=torch.int64, device="cuda")
                    engine.decoder.inside(x_BD.bfloat16()).write(
                        first_B, uniform_BS.cuda(), [(0.9, 0.8, 9)] * 3
                    )
            for work in captured:
                with torch.inference_mode(), Crossings() as crossings:
                    work()
                watched += crossings.copies
            assert watched == [] and len(captured) == (2 if name == "flat" else 3), (name, watched)


def prefill_of_float32_keeps_no_scores() -> None:
    """Of grouped heads in float32 torch writes all scores down."""
    asked = []
    with fake_cuda():
        config = model_size("nano", V.size, context=64, heads=4, kv_heads=2)
        for dtype in (torch.float32, torch.bfloat16):
            q, k = (torch.zeros(1, 5, n, config.head_width, device="cuda", dtype=dtype) for n in (4, 2))
            cache = KVCache(config, 1, 64, "cuda", dtype)
            with patch("torch.nn.functional.scaled_dot_product_attention", partial(heads_of, asked)):
                attend_cached(q, k, k, cache, 0, cache.plan(5))
    assert asked == [(4, 4, False), (4, 2, True)]


def heads_of(asked, q, k, v, enable_gqa=False, **_):
    asked.append((q.shape[1], k.shape[1], enable_gqa))
    return q


def noted(captured, key, work, moved=()):
    captured.append(work)


def row_of(engine):
    return SimpleNamespace(last_W=[2] * engine.layout.width)


@pytest.mark.skipif(not is_possible(), reason="needs a C++ compiler, for fake tensors on a GPU")
def test_frames_and_steps_of_every_family_can_be_captured():
    together(1, nothing_is_asked_of_the_device, timeout_s=120)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["flat", *FAMILIES])
def test_graphs_give_what_the_steps_give(name):
    model = model_of(name).cuda()
    plain, with_graphs = (Engine(model, V, 4, graphs=g) for g in (False, True))
    assert answers(with_graphs, requests(MIXED)) == answers(plain, requests(MIXED))
    found, expected = (played(Batch(e, capacity=3), requests(MIXED)) for e in (with_graphs, plain))
    assert found == expected
