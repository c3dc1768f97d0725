"""A small wrong change of meaning, and the tests that should notice it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """One wrong change."""

    kind: str
    """What it breaks: windows, masks, weights, schedule, …"""
    file: str
    """From `sodakit/`; `../launch/…` and `../benchmarks/…` are beside it."""
    before: str
    """The exact text, which stands there once."""
    after: str
    """What stands there instead."""
    tests: str
    """Files under `tests/`, or single tests (`file::name`), that should notice, by blanks."""
    reason: str = ""
    """Why no test can notice; '' where one must."""
    marks: str = "not slow"
    """Which of the tests run, as pytest's `-m`."""


def changes_of(
    kind: str, file: str, tests: str, *changes: tuple[str, ...], marks: str = "not slow"
) -> list[Mutation]:
    """Several of one kind, in one file, that the same tests should notice: (before, after) or (before, after, reason)."""
    return [
        Mutation(kind, file, before, after, tests, *reason, marks=marks) for before, after, *reason in changes
    ]
