"""Every bad input through the commands that would read it; run by hand, a sample is in the test suite.

    python -m tests.hostile.run_bad_inputs

What is bad stands in `bad_*.py`, what is done with it in `try_*.py`. Each trial runs in a child process that does the next
ones too, so that a crash or a hang is found, counted and ends nothing else. A trial holds where nothing but a clear error
comes of the bad inputs, each is named, the totals add up, and good neighbours come through. Status 1 where one did not, or
where memory passed 1 GB.
"""

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.hostile import try_engines, try_given, try_made, try_requests, try_runs
from tests.hostile.trial import Trial

HANG_S = 120
"""A trial that takes longer ends its process, like one that crashes."""
MOST_BYTES = 1 << 30
KINDS = (try_given, try_made, try_runs, try_engines, try_requests)


def trials() -> dict[str, Trial]:
    """Every trial by name."""
    return {name: trial for kind in KINDS for name, trial in kind.trials().items()}


def make_whole(folder: Path) -> Path:
    """Whole things of every kind, to be damaged."""
    for kind in KINDS:
        kind.make_whole(folder)
    return folder


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="bad-") as folder:
        yield Path(folder)


def work(names: list[str], whole: Path) -> None:
    """Try these, each said before and after, then the most memory that was held."""
    found, out = trials(), os.fdopen(os.dup(1), "w")
    for name in names:
        print(f"> {name}", file=out, flush=True)
        signal.alarm(HANG_S)
        try:
            with scratch() as folder:
                print(f"< ok {found[name](whole, folder)}", file=out, flush=True)
        except Exception as error:
            print(f"< {type(error).__name__} {str(error)[:2000]!r}", file=out, flush=True)
        signal.alarm(0)
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(f"= {max(peaks) * 1024}", file=out, flush=True)


@dataclass
class Tally:
    """What came of the trials."""

    inputs: int = 0
    failed: list[str] = field(default_factory=list)
    peak_bytes: int = 0

    def fail(self, what: str) -> None:
        """Note a failure, and say it now."""
        self.failed.append(what)
        print(what, flush=True)


def try_some(names: list[str], whole: Path, tally: Tally) -> int:
    """Try these in a child, and count how many it did before it ended."""
    (whole / "names").write_text("\n".join(names))
    command = [sys.executable, "-m", __spec__.name, "--worker", str(whole)]
    current, done = None, 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            mark, what = line.rstrip("\n").split(" ", 1)
            if mark == ">":
                current = what
            elif mark == "=":
                tally.peak_bytes = max(tally.peak_bytes, int(what))
            else:
                done += 1
                outcome, _, more = what.partition(" ")
                if outcome == "ok":
                    tally.inputs += int(more)
                else:
                    tally.fail(f"{current}: {what}")
        status = child.wait()
    if done < len(names):
        tally.fail(f"{names[done]}: ended its process with status {status}")
    return done + 1


def main() -> int:
    """Try as argv says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="trials whose name holds this")
    parser.add_argument(
        "--every", type=int, default=1, help="one in so many, but all of sounds and rows for prepare"
    )
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work((options.worker / "names").read_text().splitlines(), options.worker)
        return 0
    begun_s, tally = time.monotonic(), Tally()
    names = [name for name in trials() if options.only in name]
    names = [name for n, name in enumerate(names) if n % options.every == 0 or name.endswith(": prepare")]
    with scratch() as folder:
        whole, left = make_whole(folder), names
        while left:
            left = left[try_some(left, whole, tally) :]
    print(
        f"{len(names)} trials, {tally.inputs} bad inputs, {len(tally.failed)} failures, "
        f"peak {tally.peak_bytes / 2**20:.0f} MiB, {time.monotonic() - begun_s:.0f} s"
    )
    return 1 if tally.failed or tally.peak_bytes > MOST_BYTES else 0


if __name__ == "__main__":
    sys.exit(main())
