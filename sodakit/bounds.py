"""Which numbers a setting may be: declared at its field, and asked wherever settings are read or made.

    peak_lr: Positive = 3e-3
    num_codebooks: Count | None = None

A field that declares nothing takes finite numbers from 0 up, and one in decibels (`_db`) any finite number.
"""

import math
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any

from sodakit.errors import ConfigError

TOO_LARGE = 2**63
"""No whole number reaches it: torch, numpy and Arrow count in 64 bits."""
LARGEST = 3.4e38
"""No other number is larger: models compute in 32 bits."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """An interval; NaN is in none, and infinity only where `endless` says so."""

    least: float = -math.inf
    """Smallest number allowed."""
    above: float = -math.inf
    """Numbers must be larger than this."""
    most: float = math.inf
    """Largest number allowed."""
    below: float = math.inf
    """Numbers must be smaller than this."""
    endless: bool = False
    """Infinity, for no limit, is allowed too."""

    def allows(self, number: float) -> bool:
        """Whether the number lies inside."""
        if number == math.inf and self.endless:
            return True
        if is_too_large(number) or not math.isfinite(number):
            return False
        return self.least <= number <= self.most and self.above < number < self.below

    def __str__(self) -> str:
        endless = ", or inf for no limit" if self.endless else ""
        if math.isfinite(self.least) and math.isfinite(self.most):
            return f"{self.least:g} to {self.most:g}{endless}"
        limits = {
            "at least": self.least,
            "more than": self.above,
            "at most": self.most,
            "less than": self.below,
        }
        parts = [f"{words} {limit:g}" for words, limit in limits.items() if math.isfinite(limit)]
        return (" and ".join(parts) or "a finite number") + endless


Count = Annotated[int, Bounds(least=1)]
"""A number of things of which there is at least one."""
Positive = Annotated[float, Bounds(above=0)]
"""Any finite number above 0."""
Share = Annotated[float, Bounds(least=0, most=1)]
"""A part of a whole, which may be nothing or all of it."""
PositiveShare = Annotated[float, Bounds(above=0, most=1)]
"""A part of a whole that is more than nothing."""
ShareBelowOne = Annotated[float, Bounds(least=0, below=1)]
"""A part of a whole that is never all of it."""

_FROM_ZERO, _FINITE = Bounds(least=0), Bounds()


class Bounded:
    """A dataclass whose numbers are asked when it is made. A subclass with a `__post_init__` of its own calls this first."""

    def __post_init__(self) -> None:
        check_bounds(type(self), vars(self))


def check_bounds(kind: type, values: Mapping[str, Any], name: Callable[[str], str] = "{}=".format) -> None:
    """Raise where a field of a dataclass would hold a number it does not allow.

    Args:
        kind: the dataclass.
        values: of its fields, by name; those that are absent are not asked.
        name: how the message begins, from a field's name.

    Raises:
        ConfigError: a number outside its bounds; the message names the field.
    """
    for field, bounds in _declared(kind).items():
        for number in _numbers(values.get(field)):
            if not bounds.allows(number):
                digits = str(number)
                shown = digits if len(digits) <= 30 else f"{digits[:27]}…"
                needed = f"less than {'2^63' if isinstance(number, int) else LARGEST}"
                raise ConfigError(
                    f"{name(field)}{shown}; needed: {needed if is_too_large(number) else bounds}."
                )


def is_too_large(number: float) -> bool:
    """Whether it is finite and still more than anything here can count with."""
    if isinstance(number, int):
        return abs(number) >= TOO_LARGE
    return LARGEST < abs(number) < math.inf


@cache
def _declared(kind: type) -> dict[str, Bounds]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {
        field.name: _bounds_in(hints[field.name]) or (_FINITE if field.name.endswith("_db") else _FROM_ZERO)
        for field in fields(kind)
    }


def _bounds_in(hint: Any) -> Bounds | None:
    """Those of a type such as `Count | None` or `tuple[Positive, ...]`."""
    for part in getattr(hint, "__metadata__", ()):
        if isinstance(part, Bounds):
            return part
    inside = (_bounds_in(part) for part in typing.get_args(hint))
    return next((bounds for bounds in inside if bounds is not None), None)


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, Mapping):
        value = list(value.values())
    for part in value if isinstance(value, (tuple, list)) else (value,):
        if isinstance(part, (int, float)) and not isinstance(part, bool):
            yield part
