"""Numbers as people read them."""

from collections.abc import Sequence
from typing import TypeVar

Thing = TypeVar("Thing")


def spread(things: Sequence[Thing], most: int | None) -> list[Thing]:
    """At most so many of the things, evenly spaced, both ends among them; None for all."""
    if most is None or most >= len(things):
        return list(things)
    return [things[round(n * (len(things) - 1) / max(1, most - 1))] for n in range(most)]


def format_count(value: float) -> str:
    """A count with a decimal suffix: 144644 → '144.6k', 2.1e9 → '2.10B'."""
    for limit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            scaled = value / limit
            return f"{scaled:.2f}{suffix}" if abs(scaled) < 10 else f"{scaled:.1f}{suffix}"
    return f"{value:.0f}" if value == int(value) else f"{value:.3g}"


def format_duration(duration_s: float) -> str:
    """A duration in the two largest units that matter: 75 → '1m15s', 7300 → '2h02m'."""
    if duration_s < 10:
        return f"{duration_s:.1f}s"
    total_s = round(duration_s)
    if total_s < 60:
        return f"{total_s}s"
    if total_s < 3600:
        return f"{total_s // 60}m{total_s % 60:02d}s"
    if total_s < 86400:
        return f"{total_s // 3600}h{total_s % 3600 // 60:02d}m"
    return f"{total_s // 86400}d{total_s % 86400 // 3600:02d}h"


def shortened(text: object, most: int = 200) -> str:
    """The text, without its middle where it has more than `most` characters, as names of files may."""
    whole = str(text)
    half = most // 2
    return whole if len(whole) <= most else f"{whole[:half]}…{whole[-half:]} ({len(whole)} characters)"


def format_bytes(num_bytes: float) -> str:
    """A size in binary units: 12_582_912 → '12.0 MiB'."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(num_bytes) < 1024:
            return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} TiB"


def format_passes(passes: Sequence[float]) -> str:
    """How often each source is read: '0.71, 12 passes over its sources'; the range where there are many."""
    several = [min(passes), max(passes)] if len(passes) > 6 else passes
    shown = [f"{p:.2f}" if p < 10 else f"{p:,.0f}" for p in several]
    if len(passes) > 6:
        return f"{' to '.join(shown)} passes over its {len(passes)} sources"
    return f"{', '.join(shown)} passes over its sources"
