"""A run says how many tests were skipped, and why; recordings that are not there have stand-ins or are named."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sodakit.audio.files import read_wave
from sodakit.files import read_json_lines
from tests import recordings as places
from tests.conftest import wants_gpu
from tests.fixtures.stand_ins import HERE, STAND_INS
from tests.skips import skip_lines

ROOT = Path(__file__).parents[1]
EXAMPLE = """
import pytest
from tests.recordings import real_recordings, recordings

def test_one():
    recordings("nothing")

@pytest.mark.parametrize("n", range(2))
def test_two(n):
    real_recordings("vctk")

@pytest.mark.skipif(True, reason="needs a GPU")
def test_three():
    pass

def test_four():
    assert (recordings("vctk") / "manifest.jsonl").is_file()
"""


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without any recordings."""
    monkeypatch.setattr(places, "BESIDE", tmp_path / "nothing")
    monkeypatch.setattr(places, "stood_in", set())


def test_tests_that_are_not_about_a_gpu_do_not_see_one(request: pytest.FixtureRequest) -> None:
    """They train on the default device and compare bit for bit, which the order of a GPU's sums does not allow."""
    assert wants_gpu(request.config.getoption("markexpr")) or os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_a_run_counts_its_skips_by_reason(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "from pathlib import Path\nfrom tests import recordings\nfrom tests.conftest import *\n"
        "recordings.BESIDE = Path('nothing')\n"
    )
    (tmp_path / "test_example.py").write_text(EXAMPLE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    run = subprocess.run([*command, str(tmp_path)], check=False, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "1 passed, 4 skipped" in run.stdout
    said = run.stdout.split("not run, and why")[1].splitlines()
    assert said[1:4] == [
        "3 tests were skipped for want of recordings beside the checkout (../shared/data): nothing 1, vctk 2.",
        "1 test was skipped: needs a GPU",
        "Stand-ins from tests/fixtures took the place of: vctk.",
    ]


def test_a_run_without_skips_says_nothing() -> None:
    assert skip_lines([]) == []


@pytest.mark.parametrize("name", [n for n in STAND_INS if n not in ("arc", "hellaswag", "tts_zero_shot")])
def test_every_stand_in_is_a_manifest_of_sounds_that_are_read(name: str, alone: None) -> None:
    if name == "format_variants":
        pytest.importorskip("av")
    folder = places.recordings(name)
    rows = read_json_lines(folder / "manifest.jsonl")
    assert rows and all(read_wave(folder / row["audio"]).duration_s > 0.2 for row in rows)


def test_what_has_no_stand_in_is_skipped(alone: None) -> None:
    for look in (places.recordings, places.real_recordings):
        with pytest.raises(pytest.skip.Exception, match="no recordings: books_en"):
            look("books_en")
    with pytest.raises(pytest.skip.Exception, match="no recordings: vctk"):
        places.real_recordings("vctk")


def test_the_fixture_is_small_and_says_whose_it_is() -> None:
    assert sum(path.stat().st_size for path in HERE.rglob("*") if "__pycache__" not in path.parts) < 300_000
    assert "CC0" in (HERE / "README.md").read_text()


@pytest.mark.parametrize(
    ("marks", "wanted"),
    [("not slow", False), ("gpu", True), ("gpu and not slow", True), ("not gpu", False), ("", False)],
)
def test_only_tests_that_are_about_a_gpu_see_one(marks, wanted):
    """The others train on the default device and compare bit for bit."""
    assert wants_gpu(marks) is wanted
