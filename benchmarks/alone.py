"""One measurement in a process of its own, with a time limit: what it leaves behind, and what breaks in it, stays there."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


class Clock:
    """How much time a script has left."""

    def __init__(self, limit_s: float) -> None:
        self._end_s = time.monotonic() + limit_s

    @property
    def left_s(self) -> float:
        """Seconds; never less than 0."""
        return max(self._end_s - time.monotonic(), 0.0)


def alone(script: str, words: list[str], limit_s: float) -> dict[str, Any]:
    """What `script WORDS` prints as JSON on its last line; `error` with a line of why, where it does not."""
    if limit_s < 1:
        return {"error": "no time was left"}
    process = subprocess.Popen(
        [sys.executable, script, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    # Whoever ends this script ends what it measures, which would go on using the GPU.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        out, told = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        return {"error": f"not done in {limit_s:.0f} s"}
    finally:
        signal.signal(signal.SIGTERM, before)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # compilers have children
            process.wait()
    if process.returncode:
        lines = told.strip().splitlines() or [f"ended with {process.returncode}"]
        return {"error": lines[-1][:120]}
    last = (out.strip().splitlines() or [""])[-1]
    try:
        return dict(json.loads(last))
    except (ValueError, TypeError):  # the others are to be measured all the same
        return {"error": f"no figures in its last line: {last[:80]!r}"}


def write_page(path: Path | None, text: str) -> None:
    """A table as it stands, so that whoever is cut off has left it."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
