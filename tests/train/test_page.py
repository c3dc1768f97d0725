"""The page of a run: whole at any moment, and nothing outside it."""

import json
import re

import numpy as np
import pytest

from sodakit.audio.files import write_wave
from sodakit.audio.wave import Wave
from sodakit.files import write_json
from sodakit.train.page import MAX_POINTS, page
from sodakit.train.trainer import train
from tests.stores import small_store
from tests.train.ranks import rank_config


def embedded(html: str) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', html, re.DOTALL)[1])


def test_a_run_leaves_a_page_with_its_curves_and_sounds(tmp_path):
    store = small_store(tmp_path / "store", recordings=40)
    config = rank_config(store, steps=4, listen_every_steps=2)

    def listen(model, step, folder):
        assert not model.training
        write_wave(folder / "speech_0.wav", Wave(np.zeros(800, np.float32), 8000))
        write_json(folder / "samples.json", [{"text": "</script><b>", "heard": "x"}])
        return {"samples/wer": 0.5}

    train(config, tmp_path / "run", device="cpu", listen=listen)
    html = (tmp_path / "run" / "run.html").read_text()
    data = embedded(html)
    assert data["finished"] and "http-equiv" not in html
    assert {"lr", "grad_norm", "tokens_per_s", "loss/semantic", "audio_hours", "peak_memory_bytes"} <= set(
        data["rows"][0]
    )
    assert any("validation/loss/all" in row for row in data["rows"])
    assert [s["step"] for s in data["samples"]] == [2, 4]
    assert data["samples"][0]["sounds"][0]["uri"].startswith("data:audio/wav;base64,")
    assert data["samples"][0]["texts"][0]["text"] == "</script><b>"
    assert not re.search(r'(src|href)="?https?:', html)


def test_a_page_can_be_opened_while_it_trains(tmp_path):
    """Thousands of rows are thinned; the last one, what people look at, is kept."""
    rows = [{"step": s, "loss/all": 1.0, "tokens_per_s": 9.0} for s in range(1, 4 * MAX_POINTS)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows) + '{"step": 99')
    store = small_store(tmp_path / "store", recordings=12)
    html = page(tmp_path, rank_config(store))
    shown = embedded(html)["rows"]
    assert len(shown) <= MAX_POINTS and shown[-1] == rows[-1]
    assert 'http-equiv="refresh"' in html


def test_weights_and_biases_is_asked_for_by_name(tmp_path, monkeypatch):
    import sys

    from sodakit.errors import MissingExtra
    from sodakit.train.metrics import Metrics

    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtra, match=r"sodakit\[wandb\]"):
        Metrics(tmp_path, 0, "project")
