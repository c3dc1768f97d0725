"""`sodakit prepare` as it is typed."""

from pathlib import Path

import numpy as np
import pytest

from sodakit.audio.files import write_wave
from sodakit.audio.wave import Wave
from sodakit.commands.prepare import main
from sodakit.store.reader import StoreReader


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for name in "abc":
        samples_S = 0.1 * np.sin(np.arange(16_000) / 10).astype(np.float32)
        write_wave(tmp_path / f"corpus/{name}.wav", Wave(samples_S, 16_000))
        (tmp_path / f"corpus/{name}.txt").write_text(f"this is {name}")
    return tmp_path / "corpus"


def words(corpus: Path, out: Path, *more: str) -> list[str]:
    return [str(corpus), "--out", str(out), "--codec", "toy", "--validation", "0", "--test", "0", *more]


def test_a_folder_becomes_a_store(corpus, tmp_path):
    main(words(corpus, tmp_path / "out"))
    found = StoreReader(tmp_path / "out").utterances("train")
    assert [u.text for u in found] == ["this is a", "this is b", "this is c"]
    assert found[0].source == "corpus"


def test_a_dry_run_prints_the_plan_and_writes_nothing(corpus, tmp_path, capsys):
    (corpus / "broken.wav").write_bytes(b"no sound")
    main(words(corpus, tmp_path / "out", "--dry-run"))
    printed = capsys.readouterr().out
    assert "train" in printed and "audio tokens" in printed
    assert "undecodable" in printed and "broken.wav" in printed and "times real time" in printed
    assert not (tmp_path / "out").exists()


def test_the_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = capsys.readouterr().out
    assert "sodakit prepare recordings/ --out stores/mine" in printed and "--dry-run" in printed
