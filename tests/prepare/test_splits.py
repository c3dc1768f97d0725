"""A recording, or a speaker, is in exactly one split, and always in the same one."""

import random
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sodakit.errors import ConfigError
from sodakit.prepare.recording import Item
from sodakit.prepare.splits import SplitRule, assign_splits


def items(num_recordings: int, num_speakers: int = 1, per_recording: int = 1) -> list[Item]:
    return [
        Item(id=f"{r}-{u}", recording=f"r{r}", speaker=f"s{r % num_speakers}", source="x")
        for r in range(num_recordings)
        for u in range(per_recording)
    ]


def test_shares_come_out_as_asked():
    found = Counter(assign_splits(items(4000), SplitRule(validation_fraction=0.1, test_fraction=0.2)))
    assert found["validation"] / 4000 == pytest.approx(0.1, abs=0.02)
    assert found["test"] / 4000 == pytest.approx(0.2, abs=0.02)


def test_the_split_of_an_item_depends_on_nothing_but_itself():
    """Neither order nor company: a corpus may grow without moving test recordings into training."""
    many = items(500)
    whole = dict(zip((i.id for i in many), assign_splits(many, SplitRule(test_fraction=0.3)), strict=True))
    some = random.Random(0).sample(many, 100)
    assert assign_splits(some, SplitRule(test_fraction=0.3)) == [whole[i.id] for i in some]
    assert assign_splits(many, SplitRule(test_fraction=0.3, seed=1)) != list(whole.values())


def test_the_drawn_split_is_the_same_on_every_machine():
    rule = SplitRule(validation_fraction=0.3, test_fraction=0.3)
    short = "".join(split[1] for split in assign_splits(items(20), rule))
    assert short == "rerareaeeereaerrarre"  # second letters: train, validation, test


memberships = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)), min_size=1, max_size=40)


@settings(max_examples=80, deadline=None)
@given(memberships, st.sampled_from(["recording", "speaker"]), st.booleans(), st.integers(0, 3))
def test_nothing_leaks(pairs, by, stratify, seed):
    """No recording is ever in two splits; with by=speaker no speaker is, even where recordings are shared."""
    people = ["", "a", "b", "c", "d", "e", "f"]
    found = [Item(id=str(n), recording=f"r{r}", speaker=people[s]) for n, (r, s) in enumerate(pairs)]
    rule = SplitRule(
        by=by, stratify=stratify and by == "recording", validation_fraction=0.3, test_fraction=0.3, seed=seed
    )
    heard = defaultdict(set)
    for item, split in zip(found, assign_splits(found, rule), strict=True):
        heard[item.recording].add(split)
        if by == "speaker" and item.speaker:
            heard[f"speaker {item.speaker}"].add(split)
    assert all(len(splits) == 1 for splits in heard.values())


def test_stratified_puts_every_speaker_into_every_split():
    found = items(60, num_speakers=6, per_recording=2)
    splits = assign_splits(found, SplitRule(stratify=True))
    counts = Counter((item.speaker, split) for item, split in zip(found, splits, strict=True))
    assert all(counts[f"s{s}", "test"] == counts[f"s{s}", "validation"] == 2 for s in range(6))
    assert sum(split == "train" for split in splits) == 96


@pytest.mark.parametrize(("recordings", "expected"), [(1, ["train"]), (2, ["test", "train"])])
def test_stratified_leaves_something_to_train_on(recordings, expected):
    assert sorted(assign_splits(items(recordings), SplitRule(stratify=True, test_fraction=0.4))) == expected


def test_a_share_of_zero_holds_nothing_out():
    rule = SplitRule(validation_fraction=0, test_fraction=0, stratify=True)
    assert set(assign_splits(items(50), rule)) == {"train"}


def test_a_field_of_the_manifest_can_decide():
    found = [Item(id=name, fields={"part": name}) for name in ("train", "dev", "test")]
    rule = SplitRule(by_field="part", values={"train": "train", "dev": "validation", "test": "test"})
    assert assign_splits(found, rule) == ["train", "validation", "test"]
    with pytest.raises(ConfigError, match="part='dev' for dev"):
        assign_splits(found, SplitRule(by_field="part"))


def test_a_function_can_decide_but_not_divide_a_recording():
    found = items(2, per_recording=2)
    by_recording = SplitRule(rule=lambda item: "test" if item.recording == "r0" else "train")
    assert assign_splits(found, by_recording) == ["test", "test", "train", "train"]
    with pytest.raises(ConfigError, match="r0 into test and into train"):
        assign_splits(found, SplitRule(rule=lambda item: "test" if item.id.endswith("0") else "train"))
    with pytest.raises(ConfigError, match="gives 'dev'"):
        assign_splits(found, SplitRule(rule=lambda item: "dev"))


@pytest.mark.parametrize(
    "options",
    [
        {"test_fraction": -0.1},
        {"test_fraction": 0.6, "validation_fraction": 0.4},
        {"stratify": True, "by": "speaker"},
    ],
)
def test_rules_that_cannot_work_are_refused(options):
    with pytest.raises(ConfigError, match="needed"):
        SplitRule(**options)
