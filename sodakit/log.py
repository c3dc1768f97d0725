"""What people read while a stage runs: lines and a progress bar with an ETA. Programs read `metrics.jsonl`."""

import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from sodakit.units import format_duration

T = TypeVar("T")

EVERY_S = 25.0
"""Between two lines about work that goes on, where there is no terminal for a bar."""

console = Console(stderr=True, highlight=False)


def say(message: str) -> None:
    """One line for the person at the terminal."""
    # A file's name may hold bytes that are no characters.
    printable = message.encode("utf-8", "backslashreplace").decode("utf-8")
    console.print(printable, markup=False, soft_wrap=True)


def progress_bar() -> Progress:
    """A progress bar with count, elapsed time and time left; where there is no terminal, a line every `EVERY_S`."""
    kind = Progress if console.is_terminal else _Lines
    return kind(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not console.is_terminal,
    )


class _Lines(Progress):
    """A line now and then, also while nothing advances: a long wait in a log looks like a hang."""

    def start(self) -> None:
        self._ended = threading.Event()
        threading.Thread(target=self._speak, args=(self._ended, time.monotonic()), daemon=True).start()

    def stop(self) -> None:
        self._ended.set()

    def _speak(self, ended: threading.Event, begun_s: float) -> None:
        while not ended.wait(EVERY_S):
            elapsed = format_duration(time.monotonic() - begun_s)
            for task in self.tasks:
                if task.visible and not task.finished:
                    of = "" if task.total is None else f" of {task.total:g}"
                    note = f", {task.fields['note']}" if task.fields.get("note") else ""
                    say(f"{task.description}: {task.completed:g}{of} after {elapsed}{note}")


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """The items, with a progress bar around them."""
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    with progress_bar() as bar:
        task = bar.add_task(description, total=total, note="")
        for item in items:
            yield item
            bar.advance(task)
