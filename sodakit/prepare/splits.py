"""Train, validation, test: which recording goes where, so that nothing heard in training is tested."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sodakit.errors import ConfigError
from sodakit.files import digest
from sodakit.prepare.recording import Item
from sodakit.store.schema import SPLITS


@dataclass(frozen=True, kw_only=True)
class SplitRule:
    """How items are divided. The same rule and item give the same split, on any machine, in any order."""

    by: Literal["recording", "speaker"] = "recording"
    """What must not be divided. With `speaker`, test speakers are never heard in training."""
    validation_fraction: float = 0.02
    """Share of recordings (or speakers) for validation."""
    test_fraction: float = 0.02
    """Share of recordings (or speakers) for test."""
    stratify: bool = False
    """Draw the shares within each speaker, at least one recording each: held-out recordings of the same
    speakers. For small sets; a recording may change its split when others are added."""
    by_field: str = ""
    """A field of the source's rows that names the split; it replaces drawing."""
    values: Mapping[str, str] = field(default_factory=lambda: {name: name for name in SPLITS})
    """What the values of `by_field` mean, such as `{"dev": "validation"}`."""
    rule: Callable[[Item], str] | None = None
    """Any function from item to split; it replaces drawing."""
    seed: int = 0
    """Another seed draws other recordings."""

    def __post_init__(self) -> None:
        shares = (self.validation_fraction, self.test_fraction)
        if min(shares) < 0 or sum(shares) >= 1:
            raise ConfigError(
                f"validation_fraction={shares[0]} and test_fraction={shares[1]}; "
                "needed: neither below 0, together below 1. Lower them."
            )
        if self.stratify and self.by == "speaker":
            raise ConfigError(
                "stratify puts every speaker into every split and by='speaker' into only one; "
                "needed: one of them. Leave the other out."
            )

    def describe(self) -> dict[str, Any]:
        """The rule as JSON, to notice that it changed."""
        named = getattr(self.rule, "__qualname__", None) or repr(self.rule)
        plain = {
            k: getattr(self, k)
            for k in ("by", "validation_fraction", "test_fraction", "stratify", "by_field", "seed")
        }
        return plain | {"values": dict(self.values), "rule": named if self.rule else None}


def assign_splits(items: Sequence[Item], rule: SplitRule) -> list[str]:
    """The split of each item. Items of one recording are in one split.

    Raises:
        ConfigError: the rule names no split, or puts one recording into two.
    """
    if rule.rule is not None or rule.by_field:
        splits = [_named_split(item, rule) for item in items]
        _check_recordings(items, splits)
        return splits
    groups = _speaker_groups(items) if rule.by == "speaker" else [_recording(item) for item in items]
    place = _stratified(items, groups, rule) if rule.stratify else {g: _drawn(g, rule) for g in set(groups)}
    return [place[group] for group in groups]


def _recording(item: Item) -> str:
    return f"{item.source}\n{item.recording}"


def _hash_share(group: str, seed: int) -> float:
    return int(digest(str(seed), group), 16) / 16**16


def _drawn(group: str, rule: SplitRule) -> str:
    share = _hash_share(group, rule.seed)
    if share < rule.test_fraction:
        return "test"
    return "validation" if share < rule.test_fraction + rule.validation_fraction else "train"


def _stratified(items: Sequence[Item], groups: list[str], rule: SplitRule) -> dict[str, str]:
    speakers: dict[str, set[str]] = defaultdict(set)
    for item, group in zip(items, groups, strict=True):
        speakers[group].add(f"{item.source}\n{item.speaker}")
    strata: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for group, names in speakers.items():
        strata[tuple(sorted(names))].append(group)
    place = {}
    for members in strata.values():
        members.sort(key=lambda group: (_hash_share(group, rule.seed), group))
        num_test = _held_out(len(members), rule.test_fraction, spare=1)
        num_validation = _held_out(len(members), rule.validation_fraction, spare=1 + num_test)
        for rank, group in enumerate(members):
            held_out = "test" if rank < num_test else "validation"
            place[group] = held_out if rank < num_test + num_validation else "train"
    return place


def _held_out(count: int, share: float, spare: int) -> int:
    """How many of `count` to hold out: at least one where `spare` others remain; 0 of share 0."""
    return min(max(1, round(share * count)), max(0, count - spare)) if share > 0 else 0


def _speaker_groups(items: Sequence[Item]) -> list[str]:
    # Two people heard in one recording stay together, and so does everybody either of them is heard with.
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    def voice(item: Item) -> str:
        return f"speaker\n{item.source}\n{item.speaker}" if item.speaker else f"recording\n{_recording(item)}"

    for item in items:
        one, other = root(voice(item)), root(f"recording\n{_recording(item)}")
        parent[max(one, other)] = min(one, other)
    # The smallest speaker of a group names it, so more recordings of the same people change nothing.
    names: dict[str, str] = {}
    for item in items:
        group = root(voice(item))
        names[group] = min(
            names.get(group, voice(item)), voice(item), key=lambda v: (not v.startswith("speaker"), v)
        )
    return [names[root(voice(item))] for item in items]


def _named_split(item: Item, rule: SplitRule) -> str:
    if rule.rule is not None:
        name: Any = rule.rule(item)
    else:
        name = rule.values.get(str(item.fields.get(rule.by_field)))
    if name not in SPLITS:
        found = repr(name) if rule.rule is not None else f"{rule.by_field}={item.fields.get(rule.by_field)!r}"
        raise ConfigError(
            f"The split rule gives {found} for {item.id}; needed: one of {', '.join(SPLITS)}. "
            "Say what the value means in `values`, or mend the rule."
        )
    return name


def _check_recordings(items: Sequence[Item], splits: list[str]) -> None:
    seen: dict[str, str] = {}
    for item, split in zip(items, splits, strict=True):
        if seen.setdefault(_recording(item), split) != split:
            raise ConfigError(
                f"The split rule puts {item.recording} into {seen[_recording(item)]} and into {split}; "
                "needed: one split for each recording, or training hears the test. Divide by recording."
            )
