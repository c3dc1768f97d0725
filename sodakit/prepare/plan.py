"""What a preparation will do, decided before the first sound is decoded: which item goes into which shard.

The plan is written to `plan.json`. A second run finds it there, checks that it is asked for the same thing,
and does only what is missing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from sodakit.codec.contract import CodecSpec
from sodakit.config import to_plain
from sodakit.errors import ConfigError
from sodakit.files import digest, read_json, write_json
from sodakit.log import say, track
from sodakit.prepare.checks import Rejection, check_item
from sodakit.prepare.cleaning import clean
from sodakit.prepare.options import PrepareOptions
from sodakit.prepare.recording import Item
from sodakit.prepare.splits import assign_splits
from sodakit.store.schema import SPLITS
from sodakit.store.shard import are_rejected
from sodakit.units import format_bytes, format_count, format_duration

PLAN_VERSION = 2
SHARDS_PER_JOB = 16
"""Shards of a job whose shards are not given a length."""
MIN_SHARD_S, MAX_SHARD_S = 60.0, 3600.0
"""Their shortest and longest."""
MAX_SHARD_ROWS = 100_000
"""A shard of text documents ends here: they have no duration."""


@dataclass(frozen=True)
class PlannedShard:
    """One shard to be made."""

    split: str
    """`train`, `validation` or `test`."""
    index: int
    """Its place in the split."""
    rows: list[int]
    """Numbers of its items in the job, in the order they get in the store."""
    durations_s: list[float]
    """Length of each as its header says: 0 for text."""

    @property
    def name(self) -> str:
        """As a person would call it."""
        return f"{self.split} shard {self.index}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything decided before encoding."""

    asked: dict[str, Any]
    """What the plan was made from: options, and digests of codec, tokenizer and items."""
    shards: list[PlannedShard]
    """What to make."""
    rejected: list[dict[str, Any]]
    """Rows for `quarantine.jsonl` that the headers already tell."""
    num_items: int
    """Items in the job, rejected ones included."""

    def save(self, path: Path) -> None:
        """Write `plan.json`."""
        write_json(path, {"plan_version": PLAN_VERSION, **to_plain(self)})

    @classmethod
    def load(cls, path: Path) -> "Plan":
        """Read `plan.json`.

        Raises:
            ConfigError: it is damaged, or was written by another version.
        """
        again = "Copy it back, or use --fresh to start over."
        try:
            plain = read_json(path)
        except ConfigError as error:
            raise ConfigError(f"{error} {again}") from error
        if not isinstance(plain, dict) or plain.pop("plan_version", None) != PLAN_VERSION:
            raise ConfigError(f"{path} is of another version of sodakit, or damaged. {again}")
        try:
            plan = cls(**{**plain, "shards": [PlannedShard(**shard) for shard in plain["shards"]]})
            plan.check()
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{path} is damaged ({error}). {again}") from error
        return plan

    def check(self) -> None:
        """Raise where what was read cannot be a plan.

        Raises:
            ValueError: a part is of another kind, or names items that are not there.
        """
        if not isinstance(self.asked, dict) or type(self.num_items) is not int:
            raise ValueError("it does not say what was asked for")
        if not are_rejected(self.rejected):
            raise ValueError("rejected is no list of rows")
        planned: set[int] = set()
        for place, shard in enumerate(self.shards):
            alike = isinstance(shard.rows, list) and isinstance(shard.durations_s, list)
            if shard.split not in SPLITS or type(shard.index) is not int or not alike:
                raise ValueError(f"shards[{place}] is no shard")
            if len(shard.rows) != len(shard.durations_s) or not all(
                isinstance(s, (int, float)) for s in shard.durations_s
            ):
                raise ValueError(f"shards[{place}] has other durations than rows")
            if not all(type(row) is int and 0 <= row < self.num_items for row in shard.rows):
                raise ValueError(f"shards[{place}] has rows that are none of {self.num_items} items")
            if not planned.isdisjoint(shard.rows):
                raise ValueError(f"shards[{place}] has items of another shard")
            planned.update(shard.rows)

    def check_asked(self, asked: dict[str, Any], path: Path) -> None:
        """Raise unless this run asks for what the plan was made from.

        Raises:
            ConfigError: it does not; the message names every difference.
        """
        # A plan made before an option existed was made with what is its default now.
        before = PrepareOptions().describe() | self.asked
        names = sorted({*asked, *before})
        changed = [name for name in names if to_plain(asked.get(name)) != to_plain(before.get(name))]
        if changed:
            pairs = [f"{name}: {before.get(name)!r} then, {asked.get(name)!r} now" for name in changed]
            raise ConfigError(
                f"{path.parent} was begun with another request ({'; '.join(pairs)}). "
                "Needed: the same, to continue it. "
                "Ask for that, choose another folder, or use --fresh to start over."
            )

    def table(self, codec: CodecSpec) -> Table:
        """What will come out, split by split, for a person to read before it is made."""
        table = Table(title="Plan")
        for name in ("split", "utterances", "shards", "sound", "frames", "audio tokens", "disk"):
            table.add_column(name, justify="left" if name == "split" else "right")
        for name in (*(s for s in SPLITS if any(s == shard.split for shard in self.shards)), "all"):
            table.add_row(name, *self._cells(codec, [s for s in self.shards if name in ("all", s.split)]))
        return table

    @property
    def duration_s(self) -> float:
        """Sound to be encoded."""
        return sum(sum(shard.durations_s) for shard in self.shards)

    def _cells(self, codec: CodecSpec, shards: list[PlannedShard]) -> list[str]:
        duration_s = sum(sum(shard.durations_s) for shard in shards)
        rows = sum(len(shard.rows) for shard in shards)
        frames = round(duration_s * codec.frame_rate_hz)
        codes = frames * codec.num_codebooks
        return [
            str(rows),
            str(len(shards)),
            format_duration(duration_s),
            format_count(frames),
            format_count(codes),
            format_bytes(2 * codes + 200 * rows),  # two bytes a code; ids, names and text beside it
        ]


def request(
    items: Sequence[Item], codec: CodecSpec, tokenizer: str | None, options: PrepareOptions
) -> dict[str, Any]:
    """What a run asks for, as JSON: equal requests make equal stores. `tokenizer` is a fingerprint."""
    return options.describe() | {
        "codec": codec.fingerprint,
        "tokenizer": tokenizer or "trained",
        "items": f"{len(items)} items, digest {digest(*(item.fingerprint() for item in items))}",
    }


def make_plan(items: Sequence[Item], asked: dict[str, Any], options: PrepareOptions) -> Plan:
    """Look at every header, leave out what cannot be used, divide the rest into splits and shards.

    Raises:
        ConfigError: the split rule does not fit the items.
    """
    durations_s: dict[int, float] = {}
    rejected = []
    seen: set[str] = set()
    for row, item in enumerate(track(items, "probe")):
        duration_s, rejection = check_item(item, options.limits)
        if rejection is None and item.id in seen:
            rejection = Rejection("duplicate id", f"an item before it is also called {item.id}")
        if rejection is None:
            seen.add(item.id)
            durations_s[row] = duration_s
        else:
            rejected.append(rejection.row(item))
    for row, unclean in clean(items, durations_s, options.cleaning).items():
        del durations_s[row]
        rejected.append(unclean.row(items[row]))
    empty = sum(items[row].text is not None and not str(items[row].text).strip() for row in durations_s)
    if empty:
        say(f"{empty} transcripts are empty; their sound goes in without text")
    kept = _by_recording(items, durations_s)
    splits = assign_splits([items[row] for row in kept], options.split)
    _say_empty(splits, options)
    shard_duration_s = options.shard_duration_s or min(
        MAX_SHARD_S, max(MIN_SHARD_S, sum(durations_s.values()) / SHARDS_PER_JOB)
    )
    shards = []
    for split in SPLITS:
        rows = [row for row, name in zip(kept, splits, strict=True) if name == split]
        for index, part in enumerate(_cut(items, rows, durations_s, shard_duration_s)):
            shards.append(PlannedShard(split, index, part, [round(durations_s[row], 6) for row in part]))
    return Plan(asked=asked, shards=shards, rejected=rejected, num_items=len(items))


def _say_empty(splits: Sequence[str], options: PrepareOptions) -> None:
    """Say which split was asked for and is empty: what is trained on it cannot be measured."""
    rule = options.split
    asked = {"validation": rule.validation_fraction, "test": rule.test_fraction}
    drawn = not (rule.by_field or rule.rule)
    empty = [name for name, share in asked.items() if drawn and share > 0 and name not in splits]
    if splits and empty:
        shares = ", ".join(f"{name} {asked[name]:.0%}" for name in empty)
        say(
            f"Nothing fell into {' and '.join(empty)} ({shares} of few recordings). --stratify holds out at least one of "
            "each speaker; --validation and --test are larger shares."
        )


def _by_recording(items: Sequence[Item], rows: Iterable[int]) -> list[int]:
    """The rows with those of one recording together and in time, recordings in order of appearance."""
    place: dict[tuple[str, str], int] = {}
    keyed = []
    for row in rows:
        item = items[row]
        order = place.setdefault((item.source, item.recording), len(place))
        keyed.append((order, item.begins_s, row))
    return [row for _, _, row in sorted(keyed)]


def _cut(
    items: Sequence[Item], rows: list[int], durations_s: dict[int, float], shard_duration_s: float
) -> Iterator[list[int]]:
    """The rows in parts of about `shard_duration_s`, cut only between recordings."""
    part: list[int] = []
    filled_s = 0.0
    for place, row in enumerate(rows):
        new_recording = place > 0 and items[row].recording != items[rows[place - 1]].recording
        if part and new_recording and (filled_s >= shard_duration_s or len(part) >= MAX_SHARD_ROWS):
            yield part
            part, filled_s = [], 0.0
        part.append(row)
        filled_s += durations_s[row]
    if part:
        yield part
