"""Mutants, run by hand: is there a test that notices each of these wrong changes?

    python -m tests.mutants.run [WORD …] [--list]      only those whose kind begins with one of the words, or whose file holds it
    python -m tests.mutants.run gpu                    the mends of what a GPU would have met first, undone (gpu_mends.py)

The package is changed in a copy, one mutation at a time, and only the tests that should notice run, up to the first
that fails. First they run without any, for a test that fails anyway kills everything. Ends with 1 where a mutant
survives that has no reason to.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.mutants.gpu_mends import GPU_MENDS
from tests.mutants.mutation import Mutation
from tests.mutants.mutations import MUTATIONS as OTHERS

MUTATIONS = [*OTHERS, *GPU_MENDS]

ROOT = Path(__file__).parents[2]
LONGEST_S = 300
"""A mutant whose tests take longer hangs, which is noticed, too."""
COPIED = ("sodakit", "tests", "benchmarks", "launch")
"""Folders of the checkout that are copied; what else lies there is only read."""
KILLED = 1
"""Status of pytest where a test failed; others say that no test was asked."""


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "words", nargs="*", help="only mutations whose kind begins with, or whose file holds, one of these"
    )
    parser.add_argument("--list", action="store_true", help="print them and run nothing")
    options = parser.parse_args(words)
    chosen = [m for m in MUTATIONS if _is_meant(m, options.words)]
    if problems := [problem for m in chosen if (problem := _problem(m))]:
        print("\n".join(problems))
        return 2
    if options.list:
        Console(width=160).print(_table([(m, "") for m in chosen]))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        verdicts = _try_all(chosen, _copy(Path(temporary)))
    Console(width=160).print(_table(verdicts))
    counts = Counter(verdict for _, verdict in verdicts)
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()))
    return int(any(verdict in ("SURVIVED", "not run") for _, verdict in verdicts))


def _is_meant(mutation: Mutation, words: Sequence[str]) -> bool:
    return not words or any(mutation.kind.startswith(word) or word in mutation.file for word in words)


def _problem(mutation: Mutation) -> str:
    """What is wrong with a mutation itself: '' for nothing."""
    path = ROOT / "sodakit" / mutation.file
    count = path.read_text(encoding="utf-8").count(mutation.before) if path.exists() else 0
    if count != 1:
        return f"sodakit/{mutation.file} holds {mutation.before!r} {count} times; needed: once."
    files = [name.partition("::")[0] for name in mutation.tests.split()]
    missing = [name for name in files if not (ROOT / "tests" / name).exists()]
    return f"{mutation.file}: no tests {', '.join(missing)}." if missing else ""


def _copy(folder: Path) -> Path:
    """A checkout to be changed, with pages and recordings where tests look for them."""
    checkout = folder / "checkout"
    for name in COPIED:
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.name not in COPIED and not path.name.startswith("."):
            (checkout / path.name).symlink_to(path)
    shared = ROOT.parent / "shared"
    if shared.is_dir():
        (folder / "shared").symlink_to(shared.resolve())
    return checkout


def _try_all(mutations: Sequence[Mutation], checkout: Path) -> list[tuple[Mutation, str]]:
    sound = {asked: _status(checkout, *asked) for asked in sorted({(m.tests, m.marks) for m in mutations})}
    for (tests, _), status in sound.items():
        if status:
            print(f"Without a mutation, {tests} ends with {status}: its mutants are not run.", flush=True)
    verdicts = []
    for mutation in mutations:
        begin_s = time.monotonic()
        verdict = "not run" if sound[mutation.tests, mutation.marks] else _verdict(mutation, checkout)
        verdicts.append((mutation, verdict))
        spent_s = time.monotonic() - begin_s
        print(f"{verdict:9} {spent_s:5.1f} s  {mutation.file}: {_change(mutation)}", flush=True)
    return verdicts


def _verdict(mutation: Mutation, checkout: Path) -> str:
    path = checkout / "sodakit" / mutation.file
    text = path.read_text(encoding="utf-8")
    try:
        path.write_text(text.replace(mutation.before, mutation.after), encoding="utf-8")
        status = _status(checkout, mutation.tests, mutation.marks)
    finally:
        path.write_text(text, encoding="utf-8")
    if status == KILLED:
        return "killed"
    if status == 0:
        return "explained" if mutation.reason else "SURVIVED"
    return "not run"


def _status(checkout: Path, tests: str, marks: str) -> int:
    """What pytest ends with; a run that never does counts as a failed test."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", marks]
    try:
        done = subprocess.run(
            [*command, *(f"tests/{name}" for name in tests.split())],
            cwd=checkout,
            env=environment | {"PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            check=False,
            timeout=LONGEST_S,
        )
    except subprocess.TimeoutExpired:
        return KILLED
    return done.returncode


def _change(mutation: Mutation) -> str:
    short = (" ".join(text.split())[:60] for text in (mutation.before, mutation.after))
    return " → ".join(short)


def _table(verdicts: Sequence[tuple[Mutation, str]]) -> Table:
    table = Table(title=f"{len(verdicts)} mutants")
    for name in ("kind", "file", "change", "tests", "verdict"):
        table.add_column(name, overflow="fold")
    for mutation, verdict in verdicts:
        why = f"{verdict}: {mutation.reason}" if mutation.reason else verdict
        table.add_row(mutation.kind, mutation.file, _change(mutation), mutation.tests, why)
    return table


if __name__ == "__main__":
    sys.exit(main())
