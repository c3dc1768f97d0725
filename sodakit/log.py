"""What people read while a stage runs: lines and a progress bar with an ETA. Programs read `metrics.jsonl`."""

import os
import re
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from sodakit.units import format_duration

T = TypeVar("T")

EVERY_S = 25.0
"""Between two lines about work that goes on, where there is no terminal for a bar."""

OUTPUT_CLOSED = 141
"""Status of a program whose output nobody reads any more, as the shell gives it."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Nobody reads what we say: end as any program does whose output is closed."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        raise SystemExit(OUTPUT_CLOSED)


console = _Console(stderr=True, highlight=False)
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def say(message: str) -> None:
    """One line for the person at the terminal."""
    # A file's name may hold bytes that are no characters, or that a terminal takes as commands.
    printable = message.encode("utf-8", "backslashreplace").decode("utf-8")
    console.print(_COMMANDS.sub(lambda found: ascii(found[0])[1:-1], printable), markup=False, soft_wrap=True)


class Bar(Progress):
    """A progress bar."""

    def speak(self) -> None:
        """Where no bar is seen, say now how far the work is."""


def progress_bar() -> Bar:
    """A progress bar with count, elapsed time and time left; where there is no terminal, a line every `EVERY_S`."""
    kind = Bar if console.is_terminal else _Lines
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


class _Lines(Bar):
    """A line now and then, also while nothing advances: a long wait in a log looks like a hang."""

    def __init__(self, *columns: ProgressColumn, **settings: Any) -> None:
        super().__init__(*columns, **settings)
        self._began_at: dict[TaskID, float] = {}

    def start(self) -> None:
        self._over = threading.Event()
        self._begun_s = self._said_s = time.monotonic()
        self._thread = threading.Thread(target=self._beat, name="sodakit-progress", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def add_task(self, description: str, *args: Any, **more: Any) -> TaskID:
        task = super().add_task(description, *args, **more)
        self._began_at[task] = self._tasks[task].completed
        return task

    def speak(self) -> None:
        self._said_s = time.monotonic()
        for task in self.tasks:
            if task.visible:
                say(self._line(task))

    def _beat(self) -> None:
        while not self._over.wait(max(self._said_s + EVERY_S - time.monotonic(), 0.01)):
            if time.monotonic() - self._said_s >= EVERY_S and not self.finished:
                self.speak()

    def _line(self, task: Task) -> str:
        elapsed_s = time.monotonic() - self._begun_s
        done = task.completed - self._began_at[task.id]
        of = left = ""
        if task.total is not None:
            of = f" of {task.total:g}"
            if done > 0 and task.completed < task.total:
                left = f", about {format_duration(elapsed_s / done * (task.total - task.completed))} left"
        note = f", {task.fields['note']}" if task.fields.get("note") else ""
        return f"{task.description}: {task.completed:g}{of} after {format_duration(elapsed_s)}{left}{note}"


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """The items, with a progress bar around them."""
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    with progress_bar() as bar:
        task = bar.add_task(description, total=total, note="")
        for item in items:
            yield item
            bar.advance(task)
