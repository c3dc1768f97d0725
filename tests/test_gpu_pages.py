"""Half an hour with a GPU, tried on a CPU in toy sizes; its tables on the pages."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TABLES = {
    "training": "training_gpu.md",
    "decoding": "decode_gpu.md",
    "attention": "attention_routes.md",
    "mimi": "mimi_gpu.md",
}


def fill(run: Path, pages: Path) -> subprocess.CompletedProcess[str]:
    words = [str(BENCHMARKS / "gpu_pages.py"), str(run), "--pages", str(pages)]
    return subprocess.run([sys.executable, *words], check=False, capture_output=True, text=True)


def test_tables_go_into_their_places_and_what_was_not_reached_keeps_its_own(tmp_path):
    pages = tmp_path / "pages"
    shutil.copytree(BENCHMARKS, pages, ignore=shutil.ignore_patterns("*.py", "*.sh", "*.png"))
    for name, page in TABLES.items():
        before = (pages / page).read_text()
        for table in ("| a |\n", "| \\1 b |\n"):  # the second in place of the first
            (tmp_path / f"{name}.md").write_text(table)
            filled = fill(tmp_path, pages)
            assert filled.returncode == 0 and f"{name}: {page}" in filled.stdout, filled.stderr
            after = (pages / page).read_text()
            assert after.count(table) == 1
        assert after.replace("| \\1 b |", "Not yet measured.") == before
    (pages / "mimi_gpu.md").write_text("no place")
    assert "0 places for the table 'mimi'" in fill(tmp_path, pages).stderr


def test_a_measurement_that_says_nothing_ends_no_others(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from alone import alone

    said = {"": "''", "print('{}'); print('Exiting')": "'Exiting'", "print(7)": "'7'"}
    for number, (code, last) in enumerate(said.items()):
        script = tmp_path / f"{number}.py"
        script.write_text(code)
        assert alone(str(script), [], 30) == {"error": f"no figures in its last line: {last}"}
    script.write_text("print('loading'); print('{\"speeds\": [1]}')")
    assert alone(str(script), [], 30) == {"speeds": [1]}


def test_the_half_hour_runs_every_test_that_needs_a_gpu():
    """Named one by one: to collect all others too takes longer than to run these."""
    tests = Path(__file__).parent
    mark = "pytest.mark." + "gpu"
    marked = [path for path in tests.rglob("test_*.py") if mark in path.read_text(encoding="utf-8")]
    named = re.search(r"gpu_tests=\((.*)\)", (BENCHMARKS / "gpu_all.sh").read_text())[1].split()
    folders = [tests.parent / name for name in named]
    left_out = [p.name for p in marked if not any(p.is_relative_to(f) for f in folders)]
    assert not left_out and all(folder.exists() for folder in folders)


@pytest.mark.slow
def test_a_limit_that_ends_the_tests_tells_what_has_failed(tmp_path):
    (tmp_path / "test_long.py").write_text(
        "import time\ndef test_wrong(): assert 1 == 2\ndef test_long(): print('now', flush=True); time.sleep(60)\n"
    )
    words = [sys.executable, "-m", "pytest", "-v", "-s", "-c", str(Path(__file__).parents[1] / "pyproject.toml"),
             "-p", "tests.conftest", str(tmp_path)]  # fmt: skip
    ran = subprocess.Popen(
        words,
        env=os.environ | {"SODAKIT_GPU_ALL": "1"},
        stdout=subprocess.PIPE,
        text=True,
        cwd=BENCHMARKS.parent,
    )
    told = ""
    while "now" not in told:
        told += ran.stdout.readline()
    ran.terminate()
    assert "assert 1 == 2" in ran.communicate(timeout=30)[0]


@pytest.mark.slow
def test_the_whole_half_hour_runs_on_a_cpu(tmp_path):
    """Every part ends well and leaves its table, with a figure for each contender."""
    told = os.environ | {"PYTHON": sys.executable, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    script = [str(BENCHMARKS / "gpu_all.sh"), "--dry", "--out", str(tmp_path / "run")]
    ran = subprocess.run(script, env=told, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for name, rows in {"training": 3, "decoding": 2, "attention": 4, "mimi": 2}.items():
        table = (tmp_path / "run" / f"{name}.md").read_text()
        assert sum("(" in line for line in table.splitlines() if line.startswith("|")) >= rows, table


@pytest.mark.slow
def test_a_part_that_takes_too_long_loses_only_itself(tmp_path):
    """Its limit ends it, the status says so, and the others have their turn."""
    python = tmp_path / "python"
    python.write_text('#!/bin/bash\ncase "$*" in *training*) exec sleep 100;; *) exit 0;; esac\n')
    python.chmod(0o755)
    told = os.environ | {"PYTHON": str(python), "LIMIT_S": "6"}
    script = [str(BENCHMARKS / "gpu_all.sh"), "--dry", "--out", str(tmp_path / "run")]
    ran = subprocess.run(script, env=told, check=False, capture_output=True, text=True)
    assert ran.returncode == 1 and "not done: training" in ran.stdout and "mimi: status 0" in ran.stdout
