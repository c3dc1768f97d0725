"""Hand-made tables on which the policies must disagree."""

from dataclasses import replace

import numpy as np
import pytest

from sodakit.errors import ConfigError
from sodakit.eval.labels import Question
from sodakit.eval.policies import (
    POLICIES,
    Family,
    Policy,
    answer,
    counted_tokens,
    item_scores,
    policies_for,
    policy,
    select,
)
from sodakit.eval.results import accuracy
from sodakit.eval.token_table import AUDIO, CLOSE, EDGE, OPEN, TEXT, TokenTable

CLIP = [
    # kind, codebook, logprob, modality, slot: two frames of two codebooks, then EOS
    (OPEN, -1, -1.0, -0.5, -0.5),
    (AUDIO, 0, -2.0, -1.5, -1.0),
    (AUDIO, 1, -4.0, -3.5, -3.0),
    (AUDIO, 0, -8.0, -7.5, -7.0),
    (AUDIO, 1, -16.0, -15.5, -15.0),
    (CLOSE, -1, -32.0, -31.5, -31.0),
    (EDGE, -1, -64.0, -63.5, -63.0),
]
TEXTS = [
    (OPEN, -1, -1.0, -1.0, -1.0),
    (TEXT, -1, -2.0, -1.0, -1.0),
    (TEXT, -1, -5.0, -1.0, -1.0),
    (CLOSE, -1, -9.0, -9.0, -9.0),
]


def table(*items: list[tuple[int, int, float, float, float]], ending_from: int = 0) -> TokenTable:
    rows = [(n, p + 1, *row) for n, item in enumerate(items) for p, row in enumerate(item)]
    item, position, kind, codebook, full, modality, slot = map(np.array, zip(*rows, strict=True))
    return TokenTable(
        items=tuple("abcdefgh"[: len(items)]),
        item_P=item.astype(np.int32),
        kind_P=kind.astype(np.int8),
        position_P=position.astype(np.int32),
        codebook_P=codebook.astype(np.int8),
        token_id_P=np.zeros(len(rows), np.int32),
        logprob_P=full.astype(np.float32),
        logprob_modality_P=modality.astype(np.float32),
        logprob_slot_P=slot.astype(np.float32),
        ending_P=position >= ending_from,
    )


@pytest.mark.parametrize(
    ("name", "family", "expected"),
    [
        ("soda", "salmon", -30 / 4),  # all codes, no markers
        ("soda", "lexical", -30 / 4),
        ("llama-mimi", "salmon", -63 / 6),  # and both markers
        ("llama-mimi", "lexical", -42 / 3),  # codebook 0 and the closing marker
        ("llama-mimi", "story", -42 / 3),
        ("slamkit", "salmon", -62 / 5),  # all codes and the closing marker
        ("slamkit", "syntactic", -62 / 5),
        ("slm_scaling", "syntactic", -30 / 4),
        ("zerospeech", "lexical", -30 / 4),
        ("salmon", "salmon", -28 / 3),  # after the first unit
        ("sodakit", "salmon", -26 / 4),
        ("sodakit", "lexical", -8 / 2),  # codebook 0 alone, among its own codes
    ],
)
def test_each_policy_counts_what_its_author_counts(name: str, family: Family, expected: float) -> None:
    assert item_scores(table(CLIP), policy(name, family))["a"] == pytest.approx(expected)


@pytest.mark.parametrize(("name", "expected"), [("soda", -7 / 2), ("sodakit", -2 / 2)])
def test_text_twins_count_text_without_markers(name: str, expected: float) -> None:
    assert item_scores(table(TEXTS), policy(name, "text_syntactic"))["a"] == pytest.approx(expected)


def test_a_closing_marker_changes_the_sum_by_its_own_log_probability() -> None:
    without = Policy(name="x", reduce="sum")
    scores = [item_scores(table(CLIP), p)["a"] for p in (without, replace(without, close_marker=True))]
    assert scores[1] - scores[0] == pytest.approx(-32)


def test_the_first_codebooks_are_summed_codebook_by_codebook() -> None:
    """Reshaping frame-major codes as (codebooks, frames) is the known mistake here."""
    clip = [(AUDIO, k, -float(10**k) * (f + 1), 0.0, 0.0) for f in range(3) for k in range(4)]
    for first in (1, 2, 3, 4):
        expected = sum(-(10**k) * (f + 1) for k in range(first) for f in range(3))
        assert item_scores(table(clip), Policy(name="x", codebooks=first, reduce="sum"))["a"] == expected


def test_the_mean_per_codebook_weighs_each_codebook_alike() -> None:
    clip = [
        (AUDIO, 0, -1.0, 0.0, 0.0),
        (AUDIO, 1, -9.0, 0.0, 0.0),
        (AUDIO, 0, -3.0, 0.0, 0.0),
    ]  # cut mid-frame
    assert item_scores(table(clip), Policy(name="x", reduce="mean_per_codebook"))["a"] == pytest.approx(-5.5)
    assert item_scores(table(clip), Policy(name="x"))["a"] == pytest.approx(-13 / 3)


def test_the_softmax_is_chosen_by_the_policy() -> None:
    for softmax, expected in (("full", -30), ("modality", -28), ("slot", -26)):
        chosen = Policy(name="x", reduce="sum", softmax=softmax)  # type: ignore[arg-type]
        assert item_scores(table(CLIP), chosen)["a"] == pytest.approx(expected)


def test_an_ending_is_scored_without_what_came_before() -> None:
    assert item_scores(table(CLIP, ending_from=4), policy("sodakit", "story"))["a"] == pytest.approx(-7)
    assert item_scores(table(CLIP, ending_from=4), policy("soda", "story"))["a"] == pytest.approx(-30 / 4)


def test_the_prefix_dilutes_the_whole_mean_and_not_the_ending() -> None:
    """Two endings of different lengths after one prefix: whole and ending-only disagree."""
    prefix = [(AUDIO, 0, -1.0, 0.0, 0.0)] * 8
    short, long = [*prefix, (AUDIO, 0, -5.0, 0.0, 0.0)], [*prefix, *[(AUDIO, 0, -4.0, 0.0, 0.0)] * 4]
    both = table(short, long, ending_from=9)
    whole, ending = (item_scores(both, Policy(name="x", span=s)) for s in ("whole", "ending"))  # type: ignore[arg-type]
    assert whole["a"] > whole["b"]
    assert ending["b"] > ending["a"]


def test_no_counted_token_is_no_score() -> None:
    assert np.isnan(item_scores(table(TEXTS), policy("soda", "salmon"))["a"])


def test_edges_of_a_document_never_count() -> None:
    everything = Policy(name="x", counted="both", open_marker=True, close_marker=True)
    assert counted_tokens(table(CLIP), everything).tolist() == [True] * 6 + [False]


@pytest.mark.parametrize(
    ("name", "family", "worth"),
    [
        ("soda", "salmon", 0.0),
        ("llama-mimi", "lexical", 0.0),
        ("slamkit", "story", 0.5),
        ("slm_scaling", "syntactic", 0.5),
        ("slm_scaling", "story", 0.0),
        ("zerospeech", "lexical", 0.5),
        ("sodakit", "salmon", 0.5),
    ],
)
def test_identical_clips_tie_and_the_policy_says_what_that_is_worth(
    name: str, family: Family, worth: float
) -> None:
    scores = item_scores(table(CLIP, CLIP), policy(name, family))
    assert answer(Question(id="1", right="a", wrong=("b",)), scores, policy(name, family)) == worth


def test_the_right_item_must_beat_the_best_of_several_wrong_ones() -> None:
    question = Question(id="1", right="a", wrong=("b", "c"))
    rule = policy("slm_scaling", "story")
    assert answer(question, {"a": -2.0, "b": -3.0, "c": -1.0}, rule) == 0
    assert answer(question, {"a": -0.5, "b": -3.0, "c": -1.0}, rule) == 1


def test_a_missing_clip_is_skipped_refused_or_wrong() -> None:
    question = Question(id="7", right="a", wrong=("b",))
    scores = {"a": -1.0}
    assert answer(question, scores, Policy(name="x", missing="skip")) is None
    assert answer(question, scores, Policy(name="x", missing="worst")) == 0
    with pytest.raises(ConfigError, match="Pair 7"):
        answer(question, scores, Policy(name="x", missing="error"))


def test_a_subset_takes_words_by_their_frequency() -> None:
    questions = [Question(id=str(n), right="a", wrong=("b",), frequency=n) for n in (0, 3, 0, 90)]
    ids = {
        subset: [q.id for q in select(questions, Policy(name="x", subset=subset))]  # type: ignore[arg-type]
        for subset in ("all", "in_vocabulary", "out_of_vocabulary")
    }
    assert ids == {
        "all": ["0", "3", "0", "90"],
        "in_vocabulary": ["3", "90"],
        "out_of_vocabulary": ["0", "0"],
    }
    with pytest.raises(ConfigError, match="frequency"):
        select([Question(id="1", right="a", wrong=("b",))], Policy(name="x", subset="in_vocabulary"))


def test_a_task_without_a_rule_names_the_policies_that_have_one() -> None:
    with pytest.raises(ConfigError, match=r"slm_scaling defines no score for salmon.*soda, llama-mimi"):
        policy("slm_scaling", "salmon")
    with pytest.raises(ConfigError, match="Did you mean 'llama-mimi'"):
        policy("llama_mimi", "salmon")


@pytest.mark.parametrize("family", ["salmon", "lexical", "syntactic", "story"])
def test_llama_mimi_cuts_every_clip_at_20_s_and_runs_in_half_precision(family: Family) -> None:
    """Whoever leaves the cut out scores other tokens under its name."""
    rule = policy("llama-mimi", family)
    assert (rule.max_s, rule.precision) == (20.0, "float16")
    others = [p for p in policies_for(family) if p.name != "llama-mimi"]
    assert all(p.max_s is None for p in others)
    assert {p.name: p.precision for p in others if p.name in ("soda", "sodakit", "slm_scaling")}.items() <= {
        "soda": "float32",
        "sodakit": "float32",
        "slm_scaling": "bfloat16",
    }.items()


@pytest.mark.parametrize(
    ("name", "family", "by_pair"),
    [
        ("soda", "lexical", True),
        ("llama-mimi", "lexical", True),
        ("slamkit", "lexical", True),
        ("zerospeech", "lexical", False),
        ("sodakit", "lexical", False),
    ],
)
def test_words_in_several_voices_are_one_pair_where_the_author_says_so(
    name: str, family: Family, by_pair: bool
) -> None:
    """One word in three voices, right; another in one voice, wrong."""
    questions = [Question(id="1", right="a", wrong=("b",), voice=voice) for voice in "xyz"]
    questions.append(Question(id="2", right="a", wrong=("b",), voice="x"))
    found = accuracy(questions, [1.0, 1.0, 1.0, 0.0], policy(name, family).group, draws=2)
    assert found.value == (0.75 if by_pair else 0.5)


@pytest.mark.parametrize(
    ("name", "family", "by_pair"),
    [
        ("soda", "syntactic", True),
        ("llama-mimi", "syntactic", True),
        ("slm_scaling", "syntactic", False),
        ("zerospeech", "syntactic", False),
        ("sodakit", "syntactic", False),
        ("sodakit", "text_syntactic", False),
        ("soda", "text_syntactic", True),
    ],
)
def test_phenomena_weigh_alike_where_the_author_says_so(name: str, family: Family, by_pair: bool) -> None:
    """Three pairs of one phenomenon, right; one of another, wrong."""
    questions = [Question(id=str(n), right="a", wrong=("b",), type="many") for n in range(3)]
    questions.append(Question(id="3", right="a", wrong=("b",), type="few"))
    found = accuracy(questions, [1.0, 1.0, 1.0, 0.0], policy(name, family).group, draws=2)
    assert found.value == (0.75 if by_pair else 0.5)


@pytest.mark.parametrize("family", ["salmon", "lexical", "syntactic", "story", "text_lexical", "text_story"])
def test_a_clip_without_a_score_is_wrong_by_our_own_rule_and_refused_by_the_others(family: Family) -> None:
    question = Question(id="7", right="a", wrong=("b",))
    for rule in policies_for(family):
        if rule.name == "sodakit":
            assert answer(question, {"a": -1.0}, rule) == 0
        else:
            with pytest.raises(ConfigError, match="Pair 7"):
                answer(question, {"a": -1.0}, rule)


def test_a_written_story_is_scored_by_its_ending_under_our_own_rule_alone() -> None:
    ending = [(TEXT, -1, -2.0, -1.0, -1.0), (TEXT, -1, -5.0, -1.0, -4.0)]
    rows = table(ending, ending_from=2)
    assert item_scores(rows, policy("sodakit", "text_story"))["a"] == pytest.approx(-4)
    assert item_scores(rows, policy("soda", "text_story"))["a"] == pytest.approx(-7 / 2)


def test_presets_carry_their_own_name() -> None:
    assert all(p.name == name for name, families in POLICIES.items() for p in families.values())
    assert [p.name for p in policies_for("text_story")] == ["soda", "sodakit"]
