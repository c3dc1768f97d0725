from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from sodakit.errors import ConfigError
from sodakit.eval.labels import Group, Labels, Question
from sodakit.eval.results import accuracy, compare, estimate, load_result, provenance, save_result, table


def question(number: int, voice: str = "", type: str = "", source: str = "") -> Question:
    return Question(id=str(number), right="a", wrong=("b",), voice=voice, type=type, source=source)


def test_voices_are_averaged_before_pairs() -> None:
    """One pair in three voices, all right; another in one voice, wrong: 75 % flat, 50 % by pair."""
    questions = [question(0, v) for v in "xyz"] + [question(1, "x")]
    answers = [1.0, 1.0, 1.0, 0.0]
    assert accuracy(questions, answers, "pair").value == pytest.approx(0.75)
    assert accuracy(questions, answers, "voice_then_id").value == pytest.approx(0.5)


def test_types_are_averaged_after_pairs() -> None:
    """Nine pairs of one phenomenon right, one of another wrong: 90 % by pair, 50 % by phenomenon."""
    questions = [question(n, type="many") for n in range(9)] + [question(9, type="few")]
    answers = [1.0] * 9 + [0.0]
    assert accuracy(questions, answers, "voice_then_id").value == pytest.approx(0.9)
    assert accuracy(questions, answers, "subtype_then_type").value == pytest.approx(0.5)


def test_unanswered_questions_are_left_out_and_none_at_all_is_refused() -> None:
    assert accuracy([question(0), question(1)], [None, 1.0]).value == 1
    with pytest.raises(ConfigError, match="Not one pair"):
        accuracy([question(0)], [None])


def test_the_interval_is_that_of_a_plain_bootstrap() -> None:
    values = np.random.default_rng(0).integers(0, 2, 200).astype(float)
    found = estimate(values.tolist(), [str(n) for n in range(200)])
    rng = np.random.default_rng(9)
    plain = [rng.choice(values, 200).mean() for _ in range(2000)]
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), abs=0.011)


@pytest.mark.parametrize("clusters", [6, 10, 40])
def test_intervals_over_few_clusters_hold_the_truth_as_often_as_they_say(clusters: int) -> None:
    """Plain percentiles over six clusters hold it in 85 of 100."""
    rng = np.random.default_rng(clusters)
    held = 0
    for trial in range(400):
        effects = rng.normal(0.5, 0.1, clusters).repeat(5)
        values = effects + rng.normal(0, 0.1, len(effects))
        names = [str(n) for n in range(clusters) for _ in range(5)]
        found = estimate(values, names, seed=trial)
        held += found.low <= 0.5 <= found.high
    assert 0.91 <= held / 400 <= 0.98


@pytest.mark.parametrize("clusters", [6, 10])
def test_an_interval_over_few_clusters_is_widened_as_hesterberg_has_it(clusters: int) -> None:
    """Student's t of n - 1 degrees and the factor sqrt(n / (n - 1)), both: 2.776 and 2.385 standard errors."""
    values = np.random.default_rng(3).normal(size=clusters)
    found = estimate(values, [str(n) for n in range(clusters)], draws=200_000)
    t_95 = {6: 2.5706, 10: 2.2622}[clusters]
    quantiles = norm.cdf([-1, 1] * np.array(t_95 * (clusters / (clusters - 1)) ** 0.5))
    rng = np.random.default_rng(9)
    means = values[rng.integers(0, clusters, (200_000, clusters))].mean(axis=1)
    expected = np.quantile(means, quantiles)
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.012 * float(np.ptp(expected)))


def test_copies_of_one_source_do_not_narrow_the_interval() -> None:
    values = [1.0, 0.0] * 20
    alone = estimate(values, [str(n) for n in range(40)])
    copied = estimate([v for v in values for _ in range(5)], [str(n) for n in range(40) for _ in range(5)])
    assert copied.num_clusters == 40
    assert copied.high - copied.low == pytest.approx(alone.high - alone.low)


def test_weights_make_a_ratio_of_sums() -> None:
    assert estimate([1.0, 3.0], ["a", "b"], weights=[3, 1]).value == pytest.approx(1.5)


def test_a_draw_without_a_type_is_the_mean_of_the_types_it_has() -> None:
    """With a source for each type every draw is 1, 2 or 3; a type that was not drawn is no type of score 0."""
    found = estimate([1.0, 3.0], ["a", "b"], ["first", "second"])
    assert (found.low, found.value, found.high) == pytest.approx((1.0, 2.0, 3.0))


def test_the_same_seed_gives_the_same_interval() -> None:
    values = [0.0, 1.0, 1.0]
    assert estimate(values, list("abc"), seed=4) == estimate(values, list("abc"), seed=4)


def result(
    answers: list[float | None],
    task: str = "salmon",
    group: Group = "pair",
    labels: list[Labels] | None = None,
) -> dict[str, Any]:
    labels = labels or [Labels(id=str(n), source=str(n)) for n in range(len(answers))]
    questions = [
        {
            **{field: getattr(label, field) for field in ("id", "part", "voice", "type", "subtype")},
            "cluster": label.source,
            "answers": {"soda": answer},
        }
        for label, answer in zip(labels, answers, strict=True)
    ]
    scores = {"soda": {"policy": {"group": group}}}
    return {"task": task, "data_digest": "d", "scores": scores, "questions": questions}


def test_a_paired_test_sees_a_difference_that_separate_intervals_hide() -> None:
    rng = np.random.default_rng(1)
    base = rng.integers(0, 2, 100).astype(float)
    better = base.copy()
    better[np.flatnonzero(base == 0)[:12]] = 1
    found = compare(result(better.tolist()), result(base.tolist()), "soda")
    assert found.value.value == pytest.approx(0.12)
    assert found.value.low > 0
    assert found.p_value < 0.01
    assert compare(result(base.tolist()), result(base.tolist()), "soda").p_value == 1


@pytest.mark.parametrize("group", ["pair", "voice_then_id", "subtype_then_type"])
def test_a_difference_is_that_of_the_headlines_however_answers_are_averaged(group: Group) -> None:
    """Two types of unequal size, several voices: averaged over types the other model is ahead than over pairs."""
    rng = np.random.default_rng(2)
    labels = [
        Labels(id=str(n), voice=str(voice), type="rare" if n < 4 else "common", source=str(n))
        for n in range(40)
        for voice in range(3 if n < 4 else 1 + n % 2)
    ]
    common = np.array([label.type == "common" for label in labels])
    sides = [(rng.random(len(labels)) < np.where(common, p, 1 - p)).astype(float) for p in (0.9, 0.3)]
    questions = [Question(right="", wrong=(), **label.labels()) for label in labels]
    headlines = [accuracy(questions, side.tolist(), group).value for side in sides]
    found = compare(*(result(side.tolist(), "sblimp", group, labels) for side in sides), "soda")
    assert found.value.value == pytest.approx(headlines[0] - headlines[1])
    assert found.value.low <= found.value.value <= found.value.high
    assert found.value.num_clusters == 40


def test_other_settings_of_a_policy_are_not_compared() -> None:
    with pytest.raises(ConfigError, match="other settings"):
        compare(result([1.0]), result([1.0], group="voice_then_id"), "soda")


def spoken(tokens: list[int], nats: list[float]) -> dict[str, Any]:
    items = [
        {"id": str(n), "cluster": str(n), "tokens": t, "gen_nll": v / t}
        for n, (t, v) in enumerate(zip(tokens, nats, strict=True))
    ]
    return {"task": "continuation", "scores": {}, "items": items}


def test_a_difference_of_ratios_has_the_tokens_of_each_side() -> None:
    a, b = spoken([10, 2, 5], [20.0, 8.0, 5.0]), spoken([1, 8, 4], [3.0, 8.0, 16.0])
    found = compare(a, b, "gen_nll")
    assert found.value.value == pytest.approx(33 / 17 - 27 / 13)
    assert 0 < found.p_value <= 1


def test_a_p_value_is_the_share_of_exchanges_that_differ_as_much() -> None:
    """All 2**6 exchanges by a plain loop."""
    a = [1.0, 1.0, 0.0, 1.0, 1.0, 1.0]
    b = [0.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    found = compare(result(a), result(b), "soda")
    signs = np.array(np.meshgrid(*[[1, -1]] * 6)).reshape(6, -1)
    means = np.abs((np.array(a) - np.array(b)) @ signs) / 6
    exact = float((means >= abs(np.mean(a) - np.mean(b)) - 1e-9).mean())
    assert found.p_value == pytest.approx(exact, abs=0.02)


def test_results_of_other_tasks_are_not_compared() -> None:
    with pytest.raises(ConfigError, match="task"):
        compare(result([1.0]), result([1.0], "swuggy"), "soda")
    with pytest.raises(ConfigError, match="share no item"):
        compare(result([None]), result([1.0]), "soda")


def test_a_result_comes_back_and_anything_else_is_refused(tmp_path: Path) -> None:
    whole = result([1.0])
    whole["scores"]["soda"] |= {
        "accuracy": {"value": 1.0, "low": 1.0, "high": 1.0, "num_items": 1},
        "parts": {},
    }
    save_result(tmp_path / "r.json", whole)
    assert load_result(tmp_path / "r.json") == whole
    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(ConfigError, match="is no result"):
        load_result(tmp_path / "x.json")


def test_a_table_has_a_line_per_policy_and_per_part() -> None:
    value = {"value": 0.75, "low": 0.5, "high": 1.0, "num_items": 4, "num_clusters": 4}
    score = {"accuracy": value, "parts": {"room": value, "gender": value}, "num_ties": 1, "num_missing": 0}
    text = table([{"task": "salmon", "scores": {"soda": score}}])
    assert "| salmon | soda | 75.0% | 50.0% to 100.0% | 4 | 1 | 0 |" in text
    assert "· room" in text


def test_versions_are_recorded() -> None:
    assert provenance()["torch"] and provenance()["sodakit"]
