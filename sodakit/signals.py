"""Signals that stop a run in order: the step ends, a checkpoint is written."""

import signal
from types import FrameType
from typing import Any

from sodakit.log import say

STOPS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)
)
"""Ctrl-C, a cluster's end of time, a terminal that closes, and the warning that SLURM sends before (`--signal=USR1@120`)."""


class StopSignals:
    """Truthy once a signal has come. A second Ctrl-C stops at once."""

    def __enter__(self) -> "StopSignals":
        self._came: int | None = None
        self._before: dict[int, Any] = {}
        try:
            for number in STOPS:
                # What was ignored stays so: `nohup` means it.
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        except ValueError:  # not the main thread
            pass
        return self

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self._came is not None:
                raise KeyboardInterrupt
            say("Stopping after this step; press Ctrl-C again to stop at once, without a checkpoint.")
        self._came = number

    def __bool__(self) -> bool:
        return self._came is not None

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
