"""A recording, or a speaker, is in exactly one split, and always in the same one."""

import random
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sodakit.errors import ConfigError
from sodakit.prepare.options import PrepareOptions
from sodakit.prepare.plan import make_plan
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.names import named_split
from sodakit.prepare.splits import SplitRule, assign_splits
from sodakit.prepare.twins import kept_together


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
    with pytest.raises(ConfigError, match="part='pool' for x"):
        assign_splits([Item(id="x", fields={"part": "pool"})], SplitRule(by_field="part"))


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


def own(name: str, split: object, **more) -> Item:
    return Item(id=name, recording=name, source="x", fields={"split": split}, **more)


def test_what_the_corpus_calls_test_is_never_trained_on():
    """Its own splits are kept; only one that it lacks is drawn, from its train."""
    found = [own(f"a{n}", name) for n in range(300) for name in ("train-clean", "test", None)][:900]
    found = [
        Item(id=f"{n}", recording=f"r{n}", source="x", fields=item.fields) for n, item in enumerate(found)
    ]
    splits = assign_splits(found, SplitRule(test_fraction=0.3, validation_fraction=0.3))
    by_own = defaultdict(Counter)
    for item, split in zip(found, splits, strict=True):
        by_own[item.fields["split"]][split] += 1
    assert by_own["test"] == {"test": 300}
    assert set(by_own["train-clean"]) == set(by_own[None]) == {"train", "validation"}
    anew = assign_splits(found, SplitRule(keep_own=False))
    assert Counter(s for i, s in zip(found, anew, strict=True) if i.fields["split"] == "test")["train"] > 200


def test_a_recording_that_the_corpus_tests_in_part_is_held_out_whole():
    found = [Item(id=s, recording="r", source="x", fields={"split": s}) for s in ("train", "dev", "test")]
    assert assign_splits(found, SplitRule()) == ["test"] * 3


@pytest.mark.parametrize(
    ("value", "split"),
    [
        ("train", "train"),
        ("en/dev", "validation"),
        ("train-clean-100", "train"),
        ("Test", "test"),
        ("valid", "validation"),
        ("de/validated", None),
        ("trainee", None),
        ("testimony", None),
        ("other", None),
        ("latest", None),
    ],
)
def test_names_of_splits(value, split):
    assert named_split(value) == split


def test_values_say_what_a_field_means():
    found = [own("a", "pool"), own("b", "held"), own("c", "dev")]
    rule = SplitRule(by_field="split", values={"pool": "train", "held": "test"})
    assert assign_splits(found, rule) == ["train", "test", "validation"]
    with pytest.raises(ConfigError, match="--split-values VALUE=SPLIT"):
        assign_splits(found, SplitRule(by_field="split"))
    with pytest.raises(ConfigError, match="pool=training"):
        SplitRule(values={"pool": "training"})


TWINS = [
    ("p225/p225_{n:03d}_mic1", "p225/p225_{n:03d}_mic2"),
    ("en/{n:03d}", "de/{n:03d}"),
    ("{n:03d}.en-US", "{n:03d}.de_DE"),
    ("noisy_set/{n:03d}", "clean_set/{n:03d}"),
    ("{n:03d}", "{n:03d}_noisy"),
    ("F01_{n:03d}_BUS.CH1", "F01_{n:03d}_BUS.CH5"),
    ("{n:03d}_left", "{n:03d}_right"),
    ("german/{n:03d}", "french/{n:03d}"),
    ("{n:03d}_16k", "{n:03d}_48khz"),
]


@pytest.mark.parametrize(("one", "other"), TWINS)
@pytest.mark.parametrize("stratify", [False, True])
def test_microphones_and_languages_of_one_utterance_are_in_one_split(one, other, stratify):
    names = [form.format(n=n) for n in range(60) for form in (one, other)]
    found = [Item(id=f"x/{name}", source="x") for name in names]
    splits = assign_splits(found, SplitRule(validation_fraction=0.3, test_fraction=0.3, stratify=stratify))
    assert splits[::2] == splits[1::2] and len(set(splits)) == 3
    alone = assign_splits(found[::2], SplitRule(validation_fraction=0.3, test_fraction=0.3))
    assert alone == assign_splits(
        [Item(id=f"y{n}", recording=item.id, source="x") for n, item in enumerate(found[::2])],
        SplitRule(validation_fraction=0.3, test_fraction=0.3),
    )


def test_other_names_are_not_alike():
    """Chapters, numbered microphones' rooms and words that only look like languages stay on their own."""
    names = [
        "book_ch1",
        "book_ch2",
        "a-1/2",
        "a/1-2",
        "a1",
        "a2",
        "mic",
        "s1/rec (1)",
        "s1/rec (2)",
        "en",
        "de",
    ]
    recordings = [f"x\nx/{name}" for name in names]
    assert kept_together(recordings) == recordings


def test_two_people_who_say_one_sentence_may_be_apart_when_split_by_speaker():
    found = [Item(id=f"x/{c}/{n}", source="x", speaker=c * 3) for n in range(40) for c in ("en", "de", "fr")]
    rule = SplitRule(by="speaker", test_fraction=0.5)
    assert len(set(assign_splits(found, rule))) == 2


def test_a_split_that_stays_empty_is_said(tmp_path, capsys):
    """Of ten recordings 2 % are none: training had nothing to be measured on, and nobody said so."""
    items = [Item(id=f"{n}", text="hi") for n in range(3)]

    def said(**shares) -> str:
        options = PrepareOptions(split=SplitRule(**shares))
        make_plan(items, {}, options)
        return capsys.readouterr().err

    assert "Nothing fell into validation and test" in said(validation_fraction=1e-9, test_fraction=1e-9)
    assert "Nothing fell" not in said(validation_fraction=0, test_fraction=0)
    assert "Nothing fell" not in said(stratify=True, validation_fraction=0.1, test_fraction=0.1)
