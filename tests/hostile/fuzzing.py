"""What the fuzz scripts share: a child process that reads damaged files (`mutations.py`) and may die.

A target is a file as it should be and a reader. A seed says which target is damaged and how, so what failed can be made
again from its number. The child reads mutated files one after the other; what crashed it, hung it, filled the memory or
raised something else than a SodakitError is kept with its seed and its bytes.
"""

import argparse
import logging
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sodakit.errors import SodakitError
from tests.hostile.mutations import Damage, damage_bytes

HANG_S = 120
"""A reader that takes longer ends its process, like one that crashes."""
MEMORY_BYTES = 1 << 30
"""More than this over what the child began with is a failure."""

LIMIT_BYTES = 6 << 30
"""What a child may ask for at all: an allocation that fails raises, and the machine stays usable."""


@dataclass(frozen=True)
class Target:
    """A sound file, list, shard, … and what reads it."""

    data: bytes
    """As it should be."""
    read: Callable[[bytes], object]
    """Reads it as the commands do. A SodakitError is an answer; any other error is a failure."""
    damage: Damage | None = None
    """How it is damaged; default: byte by byte."""


Targets = Callable[[Path], dict[str, Target]]
"""Makes the targets in an empty folder of theirs; called again in each child, on the folder the parent filled."""


def mutated(seed: int, targets: dict[str, Target]) -> tuple[str, bytes]:
    """A target's name and its bytes, damaged. The seed says all."""
    random = np.random.default_rng(seed)
    name = list(targets)[int(random.integers(len(targets)))]
    return name, (targets[name].damage or damage_bytes)(random, targets[name].data)


def _work(first: int, last: int, targets: dict[str, Target]) -> None:
    """Read the files of these seeds, each said before and after on a stream that no reader prints to."""
    said = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    before_bytes = _peak_bytes()
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_BYTES, LIMIT_BYTES))
    for seed in range(first, last):
        name, data = mutated(seed, targets)
        print(f"> {seed} {name}", file=said, flush=True)
        signal.alarm(HANG_S)
        try:
            targets[name].read(data)
            outcome = "read"
        except SodakitError as error:
            outcome = type(error).__name__
        except Exception as error:
            outcome = f"RAISED {type(error).__name__}: {str(error).splitlines()[:1]!s:.200} {_where(error)}"
        over_bytes = _peak_bytes() - before_bytes
        if over_bytes > MEMORY_BYTES:
            outcome = f"FILLED {over_bytes >> 20} MiB, then {outcome}"
        print(f"< {seed} {outcome}", file=said, flush=True)
        if over_bytes > MEMORY_BYTES:
            return


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _where(error: BaseException) -> str:
    """The last line of ours it passed."""
    found, trace = "", error.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if "sodakit" in file.parts:
            found = f"({'/'.join(file.parts[-2:])}:{trace.tb_lineno})"
        trace = trace.tb_next
    return found


def fuzz(module: str, about: str, build: Targets) -> int:
    """Read argv, fuzz, print the counts; the exit status."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long (minutes)")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--keep", type=Path, default=Path("fuzz"), help="folder for what failed")
    parser.add_argument("--only", help="the targets whose names hold this; seeds then mean other files")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--again", type=int, help="read the file of one seed here, and let its error out")
    options = parser.parse_args()
    logging.disable()  # thousands of warnings; in the process of the fuzz alone, never in a test's

    def targets_in(folder: Path) -> dict[str, Target]:
        found = build(folder)
        return {n: t for n, t in found.items() if options.only is None or options.only in n}

    if options.worker:
        first, last, folder = options.worker
        _work(int(first), int(last), targets_in(Path(folder)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        targets = targets_in(Path(folder))
        if options.again is not None:
            name, data = mutated(options.again, targets)
            print(f"{name}: {data[:500]!r}")
            print(targets[name].read(data))
            return 0
        return _parent(module, options, targets, Path(folder))


def _parent(module: str, options: argparse.Namespace, targets: dict[str, Target], folder: Path) -> int:
    begun_s, seed, counts, failures = time.monotonic(), options.seed, Counter[tuple[str, str]](), 0
    end_s = begun_s + 60 * options.minutes
    only = ["--only", options.only] if options.only else []
    while time.monotonic() < end_s:
        worker = ["--worker", str(seed), str(seed + 100_000), str(folder)]
        with subprocess.Popen(
            [sys.executable, "-m", module, *only, *worker], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            open_seed, name = None, ""
            for line in child.stdout:
                mark, number, what = line.rstrip("\n").split(" ", 2)
                if mark == ">":
                    open_seed, name = int(number), what
                    continue
                seed, open_seed = int(number) + 1, None
                counts[name, what.split()[0]] += 1
                if what.startswith(("RAISED", "FILLED")):
                    failures += 1
                    _keep(options.keep, int(number), targets, what)
                if time.monotonic() > end_s:
                    child.kill()
                    break
            status = child.wait()
        if open_seed is not None and time.monotonic() < end_s:
            failures += 1
            counts[name, "CRASHED"] += 1
            _keep(options.keep, open_seed, targets, f"ended with status {status}")
            seed = open_seed + 1
        elif open_seed is None and seed == int(worker[1]) and time.monotonic() < end_s:
            print(f"The child did nothing and ended with status {status}.", flush=True)
            return 2
    for (name, what), count in sorted(counts.items()):
        print(f"{name:24s} {what:18s} {count}")
    print(f"{sum(counts.values())} files, seeds {options.seed} to {seed - 1}, {failures} failures")
    return 1 if failures else 0


def _keep(folder: Path, seed: int, targets: dict[str, Target], what: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name, data = mutated(seed, targets)
    (folder / f"{seed}.{name.replace('/', '_')}").write_bytes(data)
    with open(folder / "failures.txt", "a", encoding="utf-8") as handle:
        handle.write(f"{seed} {name}: {what}\n")
    print(f"seed {seed} ({name}): {what}", flush=True)
