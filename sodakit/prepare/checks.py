"""Which items are left out, and why: each gets one row in `quarantine.jsonl`."""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from rich.table import Table
from rich.text import Text

from sodakit.audio.levels import STILL_PEAK, moving_peak, peak
from sodakit.audio.quality import clipped_fraction
from sodakit.audio.wave import Wave
from sodakit.bounds import Bounded, Bounds, Count, Positive, Share
from sodakit.errors import AudioError, ConfigError
from sodakit.files import not_a_file
from sodakit.prepare.recording import Item
from sodakit.units import shortened

OVERRUN_S = 0.5
"""A segment may end this much after its file: transcribers round."""

MIN_TIMED_CHARACTERS = 50
"""Shorter transcripts fit into any sound."""


@dataclass(frozen=True, kw_only=True)
class Limits(Bounded):
    """What an utterance may be."""

    min_duration_s: float = 0.1
    """Shorter ones are left out."""
    max_duration_s: Annotated[float, Bounds(above=0, endless=True)] = 120.0
    """Longer ones are left out, or split."""
    split_long: bool = False
    """Cut longer ones without a transcript into equal parts. With one they are left out: nobody knows which words
    belong to which part."""
    max_parts: Count = 2000
    """Leave out a recording that would be cut into more: 66 hours of two minutes. More often its header lies."""
    max_clipped_fraction: Share = 0.01
    """Sounds with a larger share of samples at full scale are left out; 1 for no limit."""
    max_peak: Annotated[float, Bounds(least=1)] = 10.0
    """Sounds with a larger sample are left out. Full scale is 1; floats may exceed it a little."""
    min_sample_rate_hz: int = 4000
    """Sounds of a lower rate are left out: speech needs more."""
    max_duration_error_s: Annotated[float, Bounds(least=0, endless=True)] = 1.0
    """Sounds that are so much longer or shorter than their list says are left out."""
    max_text_characters: Count = 10_000
    """Sounds with a longer transcript are left out. Text without sound may be of any length."""
    max_characters_per_s: Positive = 100.0
    """Sounds whose transcript has more characters a second are left out, from 50 characters on: nobody speaks 40."""
    max_control_fraction: Share = 0.0
    """Items with a larger share of control characters in their text (other than tabs and line ends) are left out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.min_duration_s < self.max_duration_s:
            raise ConfigError(
                f"min_duration_s={self.min_duration_s} and max_duration_s={self.max_duration_s}; "
                "needed: min below max. Swap or widen them."
            )


@dataclass(frozen=True)
class Rejection:
    """Why an item is left out."""

    reason: str
    """A few words, equal for equal causes."""
    detail: str
    """What exactly, for the person who looks at it."""

    def row(self, item: Item) -> dict[str, Any]:
        """The item's row in `quarantine.jsonl`."""
        return {
            "id": item.id,
            "reason": self.reason,
            "detail": self.detail,
            "audio": item.place,
            "source": item.source,
        }


def check_item(item: Item, limits: Limits) -> tuple[float, Rejection | None]:
    """The seconds the item will give as its header says, and why it is left out (None: it is not)."""
    if item.problem is not None:
        return 0.0, Rejection(item.reason, item.problem)
    unfit = _check_text(item.text or "", limits, item.is_text)
    if unfit is not None:
        return 0.0, unfit
    if item.is_text:
        empty = Rejection("no sound and no text", "neither an audio file nor a transcript")
        return 0.0, None if (item.text or "").strip() else empty
    if item.audio is not None:
        why = not_a_file(item.audio)
        if why is not None:
            missing = why in ("does not exist", "is a link to nothing")
            return 0.0, Rejection("missing file" if missing else "no file", f"{shortened(item.audio)} {why}.")
        if item.audio.stat().st_size == 0:
            return 0.0, Rejection("empty file", f"{item.audio} has 0 bytes.")
    try:
        sound_s = item.sound_duration_s()
    except AudioError as error:
        # A header that opens and counts no samples is another cause than one that does not open.
        return 0.0, Rejection(
            "zero length" if "holds no samples" in str(error) else "undecodable", str(error)
        )
    told_s = item.told_duration_s
    if told_s is not None and abs(sound_s - told_s) > limits.max_duration_error_s:
        detail = f"{sound_s:.3f} s of sound, and its list says {told_s:g} s"
        return 0.0, Rejection(
            "wrong duration", f"{detail}; allowed: {limits.max_duration_error_s:g} s between"
        )
    duration_s, rejection = _check_times(item, sound_s, limits)
    return duration_s, rejection or _check_rate(item.text or "", duration_s, limits)


def check_wave(wave: Wave, limits: Limits) -> Rejection | None:
    """Why the decoded sound is left out (None: it is not)."""
    samples_S = wave.samples_S
    if wave.sample_rate_hz < limits.min_sample_rate_hz:
        needed = f"needed at least {limits.min_sample_rate_hz} Hz"
        return Rejection("low sample rate", f"{wave.sample_rate_hz} samples per second, {needed}")
    if len(samples_S) == 0:
        return Rejection("zero length", "no samples")
    if not np.isfinite(samples_S).all():
        count = int(np.count_nonzero(~np.isfinite(samples_S)))
        return Rejection("NaN or infinite samples", f"{count} of {len(samples_S)} samples")
    loudest = peak(samples_S)
    if loudest > limits.max_peak:
        detail = f"samples of {loudest:.3g}, full scale is 1, allowed at most {limits.max_peak:g}"
        return Rejection("beyond full scale", f"{detail}. Were integers written as floats?")
    moving = moving_peak(samples_S)
    if moving < STILL_PEAK:
        return Rejection("silent", f"peak {moving:.1e}, needed at least {STILL_PEAK:.0e}")
    clipped = clipped_fraction(samples_S)
    if clipped > limits.max_clipped_fraction:
        allowed = f"allowed: {limits.max_clipped_fraction:.1%}"
        return Rejection("clipped", f"{clipped:.1%} of the samples at full scale, {allowed}")
    return _check_duration(wave.duration_s, limits)


def most_frequent(rows: Iterable[dict[str, Any]]) -> list[tuple[str, int]]:
    """Reasons and how often each occurs, most frequent first."""
    return sorted(Counter(row["reason"] for row in rows).items(), key=lambda pair: (-pair[1], pair[0]))


def reasons_table(rows: list[dict[str, Any]], total: int) -> Table:
    """Every reason with how many items it took, their share and an example."""
    table = Table(title=f"Left out: {len(rows)} of {total}")
    for name in ("rule", "items", "share", "for example"):
        table.add_column(name, justify="right" if name in ("items", "share") else "left")
    first = {row["reason"]: row for row in reversed(rows)}
    for reason, count in most_frequent(rows):
        # A Text, because rich reads a plain string with [brackets] as markup.
        example = Text(f"{first[reason]['id']}: {first[reason].get('detail', '')}")
        table.add_row(reason, str(count), f"{count / max(total, 1):.1%}", example)
    return table


def check_failures(rows: list[dict[str, Any]], total: int, max_failed_fraction: float, where: str) -> None:
    """Stop a job of which too much fails.

    Raises:
        AudioError: more than `max_failed_fraction` of `total` items are rejected, or all: a store of nothing helps nobody.
    """
    if total and (len(rows) > max_failed_fraction * total or len(rows) >= total):
        reason, count = most_frequent(rows)[0]
        example = next(row for row in rows if row["reason"] == reason)
        detail = example.get("detail", "").rstrip(".")
        raise AudioError(
            f"{len(rows)} of {total} items cannot be used; allowed share: {max_failed_fraction:g}. "
            f"Most frequent reason: {reason} ({count}), for example {example['id']}: {detail}. "
            f"All of them: {where}. Mend the input, or raise max_failed_fraction."
        )


def _check_text(text: str, limits: Limits, is_text: bool) -> Rejection | None:
    if not is_text and len(text) > limits.max_text_characters:
        allowed = f"allowed with a sound: {limits.max_text_characters} (--max-text-characters)"
        return Rejection("transcript too long", f"{len(text)} characters, {allowed}")
    control = sum(unicodedata.category(c) == "Cc" and c not in "\t\n\r" for c in text)
    if control > limits.max_control_fraction * len(text):
        allowed = f"allowed: {limits.max_control_fraction:.1%} (--max-control-fraction)"
        return Rejection("control characters", f"{control} of {len(text)} characters of its text, {allowed}")
    return None


def _check_rate(text: str, duration_s: float, limits: Limits) -> Rejection | None:
    count = len(text.strip())
    if count < MIN_TIMED_CHARACTERS or count <= limits.max_characters_per_s * duration_s:
        return None
    allowed = f"allowed: {limits.max_characters_per_s:g} a second (--max-characters-per-s)"
    return Rejection("text too long for its sound", f"{count} characters in {duration_s:.2f} s, {allowed}")


def _check_times(item: Item, sound_s: float, limits: Limits) -> tuple[float, Rejection | None]:
    start_s = item.start_s or 0.0
    end_s = sound_s if item.end_s is None else item.end_s
    if not (0 <= start_s <= end_s <= sound_s + OVERRUN_S):
        where = f"from {start_s:g} s to {end_s:g} s of a sound of {sound_s:.3f} s"
        return 0.0, Rejection("times outside the sound", where)
    duration_s = min(end_s, sound_s) - min(start_s, sound_s)
    return duration_s, _check_duration(duration_s, limits)


def _check_duration(duration_s: float, limits: Limits) -> Rejection | None:
    if duration_s <= 0:
        return Rejection("zero length", "begins where it ends")
    if duration_s < limits.min_duration_s:
        return Rejection("too short", f"{duration_s:.3f} s, needed at least {limits.min_duration_s:g} s")
    if duration_s > limits.max_duration_s:
        return Rejection("too long", f"{duration_s:.1f} s, allowed at most {limits.max_duration_s:g} s")
    return None
