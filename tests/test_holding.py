"""Whoever writes a folder bit by bit holds it, so that a second process is refused; who only reads it is not."""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from sodakit.codec.fit.config import FitConfig
from sodakit.codec.fit.trainer import train as train_codec
from sodakit.codec.toy import ToyCodec
from sodakit.errors import ConfigError
from sodakit.eval.outputs import Output, generate_folder
from sodakit.holding import NAME, hold
from sodakit.prepare.checks import Limits
from sodakit.prepare.listening import Transcriber, transcribe
from sodakit.prepare.options import PrepareOptions
from sodakit.prepare.recording import Item
from sodakit.prepare.splits import SplitRule
from sodakit.prepare.stages import prepare
from tests.prepare.test_bad_input import sound_bytes


@contextmanager
def held(folder: Path):
    """The folder, held by another process; its number."""
    code = (
        "import sys; from pathlib import Path; from sodakit.holding import hold\n"
        "with hold(Path(sys.argv[1]), 'filled'):\n    print('held', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        yield other.pid
        other.stdin.close()


def items_in(folder: Path) -> list[Item]:
    (folder / "a.wav").write_bytes(sound_bytes())
    return [Item(id="a", audio=folder / "a.wav")]


def prepared(folder: Path, out: Path) -> None:
    rule = SplitRule(validation_fraction=0, test_fraction=0)
    prepare(items_in(folder), out, ToyCodec(), PrepareOptions(split=rule))


def heard(folder: Path, out: Path) -> None:
    transcribe(items_in(folder), out, Transcriber("nobody", "0", lambda waves: ["hi"] * len(waves)), Limits())


def answered(folder: Path, out: Path) -> None:
    generate_folder(1, lambda part: [Output(id="a", text="hi")], out, {"task": "x"})


def codec_trained(folder: Path, out: Path) -> None:
    items_in(folder)
    train_codec(FitConfig(out=out, data=(folder,), voices_hours=0.0, steps=1))


@pytest.mark.parametrize("write", [prepared, heard, answered, codec_trained])
def test_a_folder_that_another_process_fills_is_refused(tmp_path, write):
    out = tmp_path / "out"
    with held(out) as other, pytest.raises(ConfigError, match=f"by process {other} on"):
        write(tmp_path, out)


@pytest.mark.parametrize("write", [prepared, answered])
def test_what_is_whole_is_read_while_another_process_holds_it(tmp_path, write):
    out = tmp_path / "out"
    write(tmp_path, out)
    assert not (out / NAME).exists()
    with held(out):
        write(tmp_path, out)


def test_nothing_is_left_of_a_hold(tmp_path):
    again = hold(tmp_path / "new/er", "filled")
    with hold(tmp_path / "new/er", "filled"), pytest.raises(ConfigError, match="by process"), again:
        pass
    assert not (tmp_path / "new/er").exists()
    (tmp_path / "old").mkdir()
    for _ in range(2):
        with hold(tmp_path / "old", "filled"):
            (tmp_path / "old/kept").write_text("x")
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["kept"]


def test_what_a_killed_process_left_holds_nothing(tmp_path):
    (tmp_path / NAME).write_text("process 1 on elsewhere")
    with hold(tmp_path, "filled"):
        assert "on elsewhere" not in (tmp_path / NAME).read_text()
