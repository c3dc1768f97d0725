"""A line at least every half minute where no progress bar is seen, so that a long wait does not look like a hang."""

import threading
import time

from sodakit.log import console, say
from sodakit.units import format_duration

EVERY_S = 30.0
"""Longest silence."""


class Heartbeat:
    """Says how far a run is, and how long it will take, from a thread: also while one step takes minutes."""

    def __init__(self, first_step: int, steps: int, *, speaks: bool, every_s: float = EVERY_S) -> None:
        self._first, self._steps, self._every_s = first_step, steps, every_s
        self._speaks = speaks and not console.is_terminal
        self._step, self._begin_s = first_step, time.monotonic()
        self._said_s = self._begin_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="sodakit-heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        if self._speaks:
            self._thread.start()
        return self

    def reached(self, step: int, note: str = "", *, now: bool = False) -> None:
        """A step is done; with `now` that is said at once."""
        self._step = step
        if now and self._speaks:
            self._say(note)

    def _say(self, note: str = "") -> None:
        self._said_s = time.monotonic()
        words = [f"step {self._step} of {self._steps}", note, self._left()]
        say("  ".join(word for word in words if word))

    def _left(self) -> str:
        done = self._step - self._first
        if not done or self._step == self._steps:
            return ""
        elapsed_s = time.monotonic() - self._begin_s
        return f"about {format_duration(elapsed_s / done * (self._steps - self._step))} left"

    def _beat(self) -> None:
        while not self._over.wait(max(self._said_s + self._every_s - time.monotonic(), 0.01)):
            if time.monotonic() - self._said_s >= self._every_s:
                self._say()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
