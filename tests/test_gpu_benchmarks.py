"""Scripts that measure on a GPU, tried without one: what would cost the half hour, or tell a wrong figure."""

import gc
import sys
import time
import weakref
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from sodakit.ceilings import Ceilings
from sodakit.hardware import GPUS
from sodakit.model.accounting import count_parameters
from sodakit.model.config import model_size

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SIZES = ("soda_135m", "soda_600m", "soda_1.7b", "soda_4b")
FOUND = Ceilings("this one", 1e12, 1e14, 1e13, None, 80e9, "2.13")


@pytest.fixture(autouse=True)
def _scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def gone():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize("size", SIZES)
def test_256_rows_fit_an_h100_while_they_are_decoded(size, monkeypatch):
    """Room for the whole context in each of them would be 120 GB at 600M."""
    import decode_gpu

    asked, plain = [], decode_gpu.model_size
    monkeypatch.setattr(decode_gpu, "model_size", lambda *a, **k: asked.append(plain(*a, **k)) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        decode_gpu.ours(size, 256, Namespace(prompt=512, frames=32), CUDA)
    weights, cache = 2 * count_parameters(asked[0]).total, 256 * 4 * asked[0].layers * asked[0].key_width
    assert weights + cache * asked[0].context < 0.8 * GPUS["H100"].memory_bytes


def test_a_size_that_breaks_takes_no_other_row_with_it_and_every_row_is_kept_as_it_comes(
    tmp_path, monkeypatch
):
    import decode_gpu

    out, lines = tmp_path / "table.md", []

    def alone(script, words, limit_s):
        lines.append(out.read_text().count("soda_") if out.exists() else 0)
        told = dict(zip(words[::2], words[1::2], strict=True))
        broken = (told["--sizes"], told["--batches"]) == ("soda_600m", "1")
        return {"error": "CUDA out of memory"} if broken else {"speeds": [3.0, 5.0, 4.0], "peak_bytes": 1e9}

    monkeypatch.setattr(decode_gpu, "alone", alone)
    monkeypatch.setattr(decode_gpu, "measured", lambda name: FOUND)
    words = [
        "--device",
        "cpu",
        "--sizes",
        "soda_135m",
        "soda_600m",
        "--batches",
        "1",
        "256",
        "--contenders",
        "sodakit",
        "--out",
    ]
    monkeypatch.setattr(sys, "argv", ["decode_gpu.py", *words, str(out)])
    decode_gpu.main()
    assert lines == [0, 1, 2, 3]
    rows = [line for line in out.read_text().splitlines() if line.startswith("| soda_")]
    assert len(rows) == 4 and "out of memory" in rows[1] and "| 4 (3 to 5) |" in rows[3]


def test_training_tables_are_kept_as_they_come_and_nothing_is_begun_after_the_limit(tmp_path, monkeypatch):
    """Ten minutes end a command: what was measured by then must stand."""
    import training_gpu

    out, kept, left = tmp_path / "table.md", [], [9.0, 9.0, 9.0, 9.0, 0.0]

    def run_alone(name, size, options, limit_s):
        kept.append(out.read_text().count("(7 to 7)") if out.exists() else 0)
        left.pop(0)
        return {"tokens_per_s": 7.0, "rows": "1", "peak_bytes": 1e9}

    monkeypatch.setattr(
        training_gpu, "Clock", lambda limit_s: type("Clock", (), {"left_s": property(lambda _: left[0])})()
    )
    monkeypatch.setattr(training_gpu, "run_alone", run_alone)
    monkeypatch.setattr(training_gpu, "measure_ceilings", lambda device: FOUND)
    words = [
        "--device",
        "cpu",
        "--sizes",
        "nano",
        "soda_135m",
        "--contenders",
        "sodakit",
        "transformers",
        "--rounds",
        "3",
        "--out",
    ]
    monkeypatch.setattr(sys, "argv", ["training_gpu.py", *words, str(out)])
    training_gpu.main()
    assert kept == [0, 1, 2, 3] and out.read_text().count("(7 to 7)") == 4


def test_what_did_not_fit_leaves_neither_memory_nor_its_peak(monkeypatch):
    """Its peak would stand beside our speed as the memory that we need; its weights would let the next not fit either."""
    import training_gpu

    events, models = [], []
    cuda = {name: lambda *_, name=name: events.append(name) for name in ("empty_cache", "synchronize")}
    for name, stub in cuda.items():
        monkeypatch.setattr(torch.cuda, name, stub)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda *_: events.append("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda *_: events.append("read") or 5)

    def ours(size, context, rows, packed, fp8, recompute, device):
        gc.collect()
        assert not any(model() for model in models), "what did not fit is still there"
        model = torch.nn.Linear(2, 2)
        models.append(weakref.ref(model))
        events.append((rows, recompute))
        return lambda: gone() if not recompute else model

    monkeypatch.setattr(training_gpu, "ours", ours)
    found = training_gpu.measure("sodakit", "soda_1.7b", 4096, 1, CUDA, memory=1e12)
    tries = [event for event in events if event not in ("empty_cache", "synchronize")]
    assert tries == [
        "reset",
        (4, False),
        "reset",
        (2, False),
        "reset",
        (1, False),
        "reset",
        (1, True),
        "read",
    ]
    assert found["rows"] == "1, activations made again" and found["peak_bytes"] == 5


def test_a_measurement_ends_at_its_limit_with_all_that_it_has_begun(tmp_path, monkeypatch):
    from alone import alone

    script = tmp_path / "long.py"
    script.write_text("import time; time.sleep(20)")
    start_s = time.monotonic()
    assert alone(str(script), [], 1.5) == {"error": "not done in 2 s"}
    assert time.monotonic() - start_s < 10
    assert "no time was left" in alone(str(script), [], 0.5)["error"]


@pytest.mark.parametrize("memory", [80e9, 141e9])
def test_what_cannot_fit_a_card_is_not_tried(memory):
    """Each try is compiled: a minute of the half hour in vain. What is left out takes more than all memory."""
    from training_gpu import CONTENDERS, ROWS, first_try

    found = {(n, s): first_try(n, s, 4096, memory) for n in CONTENDERS for s in ROWS}
    for (name, size), (rows, recompute) in found.items():
        assert 1 <= rows <= ROWS[size] and (not recompute or (rows == 1 and name.startswith("sodakit")))
    vocab = model_size("soda_135m").vocab_size
    # Scores of 16 rows in 16 bits, in 32 and their gradient.
    assert (found["transformers", "soda_135m"][0] == 16) == (16 * 4096 * vocab * 10 < memory - 4e9)
    assert found["transformers, Liger", "soda_135m"][0] == 16
    assert found["sodakit, packed", "soda_135m"] == (16, False)
    assert found["sodakit, packed", "soda_4b"] == ((2, False) if memory > 120e9 else (1, True))


def test_models_to_be_measured_are_drawn_where_they_work(monkeypatch):
    """The 4B's numbers take a host half a minute, each time they are tried with fewer rows."""
    from made_on import made_on

    from sodakit.model.transformer import Transformer

    shapes = []
    plain = torch.Tensor.normal_
    monkeypatch.setattr(torch, "randn", lambda *_, **__: 1 / 0)
    monkeypatch.setattr(
        torch.Tensor, "normal_", lambda self, **k: shapes.append(self.device.type) or plain(self, **k)
    )
    model = made_on(CPU, lambda: Transformer(model_size("nano")), torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16} and set(shapes) == {"cpu"}
    assert bool((model.final_norm.weight == 1).all())
    assert 0.015 < float(model.embedding.weight.float().std()) < 0.025
    made_on(torch.device("meta"), lambda: Transformer(model_size("soda_4b")), torch.bfloat16)
    assert "meta" in shapes
