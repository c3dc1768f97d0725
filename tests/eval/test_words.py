import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sodakit.errors import ConfigError
from sodakit.eval.words import align, normalise, word_errors

sentences = st.lists(
    st.sampled_from(["open", "close", "the", "a", "door", "doors", "gate", "now"]), max_size=8
).map(" ".join)


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("Robot, please  open the DOOR!", "robot please open the door"),
        ("“Don't,” she said - (softly); why?", "dont she said softly why"),
        ("a well-known\tname:\n[noise]", "a wellknown name noise"),
        (" ... ", ""),
        ("Élan ¿qué?", "élan qué"),
    ],
)
def test_normalising_keeps_words_and_drops_marks(text: str, normalised: str) -> None:
    assert normalise(text) == normalised


@given(st.text(max_size=40))
def test_normalising_twice_is_normalising_once(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@settings(max_examples=60)
@given(st.lists(st.tuples(sentences.filter(bool), sentences), min_size=1, max_size=6))
def test_counts_agree_with_jiwer_pooled_over_all_items(pairs: list[tuple[str, str]]) -> None:
    references, hypotheses = map(list, zip(*pairs, strict=True))
    ours = word_errors(references, hypotheses, draws=10)
    theirs = jiwer.process_words(references, hypotheses)
    assert ours.wer == pytest.approx(theirs.wer)
    assert (ours.substitutions, ours.deletions, ours.insertions) == (
        theirs.substitutions,
        theirs.deletions,
        theirs.insertions,
    )


@given(sentences, sentences)
def test_an_alignment_spells_out_both_sides(reference: str, hypothesis: str) -> None:
    steps = align(reference, hypothesis).steps
    assert " ".join(step.reference for step in steps if step.kind != "insertion") == reference
    assert " ".join(step.hypothesis for step in steps if step.kind != "deletion") == hypothesis
    assert all((step.reference == step.hypothesis) == (step.kind == "equal") for step in steps)


def test_each_kind_of_error_is_marked_on_its_word() -> None:
    item = align("Open the door right now and sing, friend.", "shut the door now and sing my friend")
    assert [(step.kind, step.reference, step.hypothesis) for step in item.steps] == [
        ("substitution", "open", "shut"),
        ("equal", "the", "the"),
        ("equal", "door", "door"),
        ("deletion", "right", ""),
        ("equal", "now", "now"),
        ("equal", "and", "and"),
        ("equal", "sing", "sing"),
        ("insertion", "", "my"),
        ("equal", "friend", "friend"),
    ]
    assert item.rate == pytest.approx(3 / 8)


def test_a_failed_output_counts_as_all_deleted_and_as_empty() -> None:
    errors = word_errors(["open the door", "close it", "go on"], [None, "...", "go on"])
    assert (errors.deletions, errors.num_empty, errors.reference_words) == (5, 2, 7)
    assert [item.rate for item in errors.items] == [1.0, 1.0, 0.0]


def test_words_heard_in_silence_are_insertions() -> None:
    errors = word_errors(["", "go"], ["no no", "go"])
    assert (errors.insertions, errors.wer) == (2, 2.0)


def test_the_interval_holds_the_rate_narrows_with_items_and_repeats() -> None:
    random = np.random.default_rng(1)
    heard = ["go on now" if good else "go on" for good in random.random(400) < 0.7]
    few, many = (word_errors(["go on now"] * n, heard[:n]) for n in (25, 400))
    for errors in (few, many):
        assert errors.interval[0] <= errors.wer <= errors.interval[1]
    assert many.interval[1] - many.interval[0] < 0.5 * (few.interval[1] - few.interval[0])
    assert word_errors(["go on now"] * 25, heard[:25]).interval == few.interval
    # Binomial: 0.3 of 400 sentences lose one word of three, so the half-width is 1.96 * sqrt(.3 * .7 / 400) / 3.
    assert (many.interval[1] - many.interval[0]) / 2 == pytest.approx(0.015, rel=0.2)


def test_the_interval_is_one_of_95_percent_at_both_ends() -> None:
    """Nearly normal, and many draws: 90 % would end at 1.645 standard errors, 99 % at 2.576."""
    heard = ["go on now" if n % 2 else "go on" for n in range(900)]
    found = word_errors(["go on now"] * 900, heard, draws=20_000)
    error = (0.5 * 0.5 / 900) ** 0.5 / 3
    low, high = ((end - found.wer) / error for end in found.interval)
    assert (low, high) == pytest.approx((-1.96, 1.96), abs=0.1)


def test_unequal_lengths_and_wordless_references_are_explained() -> None:
    with pytest.raises(ConfigError, match="2 references and 1 hypotheses"):
        word_errors(["a", "b"], ["a"])
    with pytest.raises(ConfigError, match="without a single word"):
        word_errors(["?"], ["a"])
