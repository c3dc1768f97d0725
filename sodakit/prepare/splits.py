"""Train, validation, test: which recording goes where, so that nothing heard in training is tested."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sodakit.errors import ConfigError
from sodakit.files import digest
from sodakit.log import say
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.names import named_split
from sodakit.prepare.twins import kept_together
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
    keep_own: bool = True
    """Where the corpus names its own splits (`fields["split"]`), keep them: what it calls test is never trained on.
    Only a split that it does not have is drawn, from its train."""
    by_field: str = ""
    """A field of the source's rows that names the split; it replaces drawing."""
    values: Mapping[str, str] = field(default_factory=lambda: {name: name for name in SPLITS})
    """What the values of `by_field` mean, such as `{"pool": "train"}`. What they do not name is read as `named_split`
    reads it: `dev`, `en/test`, `train-clean-100`."""
    rule: Callable[[Item], str] | None = None
    """Any function from item to split; it replaces drawing."""
    seed: int = 0
    """Another seed draws other recordings."""

    def __post_init__(self) -> None:
        shares = (self.validation_fraction, self.test_fraction)
        if not (min(shares) >= 0 and sum(shares) < 1):  # NaN is refused, too
            raise ConfigError(
                f"validation_fraction={shares[0]} and test_fraction={shares[1]}; "
                "needed: neither below 0, together below 1. Lower them."
            )
        if self.stratify and self.by == "speaker":
            raise ConfigError(
                "stratify puts every speaker into every split and by='speaker' into only one; "
                "needed: one of them. Leave the other out."
            )
        wrong = [f"{value}={split}" for value, split in self.values.items() if split not in SPLITS]
        if wrong:
            raise ConfigError(
                f"values: {', '.join(wrong)}; needed: each value and one of {', '.join(SPLITS)}. Mend these."
            )

    def describe(self) -> dict[str, Any]:
        """The rule as JSON, to notice that it changed."""
        named = getattr(self.rule, "__qualname__", None) or repr(self.rule)
        plain = {
            k: getattr(self, k)
            for k in ("by", "validation_fraction", "test_fraction", "stratify", "by_field", "seed")
        }
        plain |= {"values": dict(self.values), "rule": named if self.rule else None}
        # Only where it is not the default, so that a store begun before it existed is still the same request.
        return plain if self.keep_own else plain | {"keep_own": False}


def assign_splits(items: Sequence[Item], rule: SplitRule) -> list[str]:
    """The split of each item. Items of one recording are in one split, and so are recordings of one moment by several
    microphones, or of one utterance in several languages (`twins.py`).

    Raises:
        ConfigError: the rule names no split, or puts one recording into two.
    """
    if rule.rule is not None or rule.by_field:
        splits = [_named_split(item, rule) for item in items]
        _check_recordings(items, splits)
        return splits
    by_speaker = rule.by == "speaker"
    # A known speaker tells more than a name: two people who say one sentence may be apart there.
    names = [_recording(item) for item in items if not (by_speaker and item.speaker)]
    together = dict(zip(names, kept_together(names), strict=True))
    recordings = [together.get(_recording(item), _recording(item)) for item in items]
    groups = _speaker_groups(items, recordings) if by_speaker else recordings
    own = _own_splits(items, groups) if rule.keep_own else {}
    if own:
        # What the corpus holds out is not drawn a second time from what it trains on.
        there = set(own.values())
        rule = replace(
            rule,
            test_fraction=0.0 if "test" in there else rule.test_fraction,
            validation_fraction=0.0 if "validation" in there else rule.validation_fraction,
        )
    place = _stratified(items, groups, rule) if rule.stratify else {g: _drawn(g, rule) for g in set(groups)}
    place |= {group: split for group, split in own.items() if split != "train"}
    return [place[group] for group in groups]


def _own_splits(items: Sequence[Item], groups: list[str]) -> dict[str, str]:
    """What the corpus calls each group, where it says so; a group that it holds out in part is held out whole."""
    own: dict[str, str] = {}
    unknown: Counter[str] = Counter()
    for item, group in zip(items, groups, strict=True):
        value = item.fields.get("split")
        name = None if value in (None, "") else named_split(value)
        if name is not None:
            own[group] = max(name, own.get(group, name), key=SPLITS.index)
        elif value not in (None, ""):
            unknown[str(value)] += 1
    if unknown:
        listed = ", ".join(f"{value!r} ({count})" for value, count in unknown.most_common(5))
        say(
            f"Fields called `split` say {listed}, which name no split: drawn. --split-values says what they mean."
        )
    if own:
        counts = Counter(own[group] for group in groups if group in own)
        listed = ", ".join(f"{split} {counts[split]}" for split in SPLITS if counts[split])
        say(f"The corpus names its own splits ({listed} utterances); they are kept. --redraw draws anew.")
    return own


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


def _speaker_groups(items: Sequence[Item], recordings: Sequence[str]) -> list[str]:
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

    for item, recording in zip(items, recordings, strict=True):
        one, other = root(voice(item)), root(f"recording\n{recording}")
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
        value = item.fields.get(rule.by_field)
        name = rule.values.get(str(value)) or (None if value is None else named_split(value))
    if name not in SPLITS:
        found = repr(name) if rule.rule is not None else f"{rule.by_field}={item.fields.get(rule.by_field)!r}"
        raise ConfigError(
            f"The split rule gives {found} for {item.id}; needed: one of {', '.join(SPLITS)}. "
            "Say what the value means with --split-values VALUE=SPLIT (`values` in Python), or mend the rule."
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
