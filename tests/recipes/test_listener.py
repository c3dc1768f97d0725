"""`sodakit train` makes sound and transcripts at fixed steps, and trains on where it cannot."""

from pathlib import Path

import pytest

from sodakit.commands.train import main
from sodakit.files import read_json, read_json_lines
from tests.pair_stores import pair_store
from tests.stores import small_store


def train_a_little(store: Path, run: Path, *settings: str) -> None:
    shape = (
        "model.layers=1 model.width=32 model.heads=1 model.kv_heads=1 model.head_width=32 model.ffn_width=64"
    )
    words = ["--data", str(store), "--out", str(run), "--device", "cpu", *shape.split(), *settings]
    main([*words, "steps=4", "data.batch_rows=1", "validation_rows=1"])


def test_samples_are_made_at_the_steps_asked_for_and_at_the_end(tmp_path: Path) -> None:
    store = pair_store(tmp_path / "store", pairs=24)
    train_a_little(store, tmp_path / "run", "listen_every_steps=3")
    folders = sorted((tmp_path / "run" / "samples").iterdir())
    assert [f.name for f in folders] == ["step_00000003", "step_00000004"]
    said = read_json(folders[0] / "samples.json")
    assert len(said) == 2 and all(s["text"] and isinstance(s["heard"], str) for s in said)
    rows = [r for r in read_json_lines(tmp_path / "run" / "metrics.jsonl") if "samples/wer" in r]
    assert [r["step"] for r in rows] == [3, 4] and all(r["samples/wer"] > 0 for r in rows)
    page = (tmp_path / "run" / "run.html").read_text()
    assert said[0]["text"] in page
    assert list(folders[0].glob("speech_*.wav")) and "data:audio" in page


def test_none_are_made_unless_asked_for(tmp_path: Path) -> None:
    store = pair_store(tmp_path / "store", pairs=24)
    train_a_little(store, tmp_path / "run", "listen_every_steps=null")
    assert not (tmp_path / "run" / "samples").exists()


def test_a_codec_that_is_not_here_is_said_and_training_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = small_store(tmp_path / "store")
    train_a_little(store, tmp_path / "run", "listen_every_steps=2")
    assert "".join(capsys.readouterr()).count("No samples are made while it trains") == 1
    rows = read_json_lines(tmp_path / "run" / "metrics.jsonl")
    assert rows[-1]["step"] == 4 and not any("samples/wer" in r for r in rows)
