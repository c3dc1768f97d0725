"""Every policy against a scorer that shares nothing with it: one clip, one transformers call, plain loops.

The loops below follow the words of each author's protocol, not the switches of `Policy`; where the two disagree, one of
them is wrong.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sodakit.audio.files import write_wave
from sodakit.checkpoint.hf import export_hf
from sodakit.eval.pair_layouts import Pair, Side
from sodakit.eval.pairs import TASKS, score_pairs, task
from sodakit.eval.policies import POLICIES, Policy, item_scores
from sodakit.eval.token_table import read_tables
from sodakit.generate.speech_model import SpeechModel
from sodakit.tokens.vocabulary import Vocabulary
from tests.eval.small_model import noise, small_speech_model

transformers = pytest.importorskip("transformers")

CODEBOOKS = 8
PER_TASK = {"salmon": "salmon", "lexical": "swuggy", "syntactic": "sblimp", "story": "sstorycloze"} | {
    "text_lexical": "twuggy", "text_syntactic": "tblimp", "text_story": "tstorycloze"
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> SpeechModel:
    """Eight codebooks, as published, in float64: what is compared is the counting, not the rounding."""
    found = small_speech_model(codebooks=CODEBOOKS, size=8, seed=11)
    found.model.double()
    return found


@pytest.fixture(scope="module")
def theirs(model: SpeechModel, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = export_hf(model.model, tmp_path_factory.mktemp("hf") / "model")
    return transformers.Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    """Six pairs in up to three voices and two phenomena: one a tie, one damaged, one with two wrong sides."""
    folder = tmp_path_factory.mktemp("spoken")

    def side(seed: int, duration_s: float = 0.5) -> Side:
        path = folder / f"{seed}.wav"
        write_wave(path, noise(seed, duration_s))
        return Side(audio=path, ending_start_s=0.24)

    damaged = folder / "damaged.wav"
    damaged.write_bytes(b"no sound at all")
    first = [
        Pair(
            id="1",
            voice=voice,
            type="island",
            subtype="a",
            positive=side(2 * n),
            negatives=(side(2 * n + 1),),
        )
        for n, voice in enumerate("ABC")
    ]
    return [
        *first,
        Pair(
            id="2", voice="A", type="island", subtype="b", positive=side(40, 0.64), negatives=(side(41, 0.4),)
        ),
        Pair(id="3", voice="A", type="npi", subtype="c", positive=side(50), negatives=(side(50),)),
        Pair(
            id="4",
            voice="A",
            type="npi",
            subtype="c",
            positive=side(60),
            negatives=(side(61), side(62, 0.72)),
        ),
        Pair(
            id="5",
            voice="A",
            type="npi",
            subtype="c",
            positive=Side(audio=damaged, ending_start_s=0.24),
            negatives=(side(70),),
        ),
    ]


@pytest.fixture(scope="module")
def written() -> list[Pair]:
    """Curly and straight apostrophes, hyphens, capitals, a tie, and a side without text."""

    def story(ending: str) -> Side:
        return Side(text=f"The cat sat. {ending}", prefix="The cat sat.")

    return [
        Pair(id="1", type="x", positive=story("It didn’t run."), negatives=(story("It didn't ran."),)),
        Pair(id="2", type="x", positive=story("A well-known dog."), negatives=(story("A well known dog."),)),
        Pair(id="3", type="y", positive=story("Dogs and cats."), negatives=(story("Dogs and cats."),)),
        Pair(id="4", type="y", positive=story("HOME"), negatives=(story("mat mat mat"),)),
        Pair(id="5", type="y", positive=Side(text=""), negatives=(story("gone"),)),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------ the plain scorer


def logprobs_of(theirs: Any, ids: list[int]) -> list[float]:
    """log p of each id but the first, one call."""
    with torch.no_grad():
        table = theirs(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return [float("nan"), *(float(table[p - 1, ids[p]]) for p in range(1, len(ids)))]


def legal_logprobs_of(theirs: Any, v: Vocabulary, ids: list[int]) -> list[float]:
    """The same among the ids that may stand in the place of each: a codebook's own, text and markers."""
    with torch.no_grad():
        scores = theirs(torch.tensor([ids])).logits[0].double()
    found = [float("nan")]
    for p, target in enumerate(ids[1:], start=1):
        book = (target - v.audio_base) // 8
        if 0 <= book < CODEBOOKS:
            legal = [v.audio_base + 8 * book + n for n in range(8)] + ([v.audio_end] if book == 0 else [])
        else:
            legal = [n for n in range(v.size) if not 0 <= n - v.audio_base < 8 * CODEBOOKS]
        found.append(float(scores[p - 1, target] - scores[p - 1, legal].logsumexp(0)))
    return found


def spoken_ids(model: SpeechModel, side: Side) -> list[int] | None:
    try:
        codes_KF = model.encode(side.read())
    except Exception:
        return None
    v, ids = model.vocabulary, [model.vocabulary.bos, model.vocabulary.audio_start]
    for frame in range(codes_KF.shape[1]):
        for book in range(CODEBOOKS):
            ids.append(v.audio_base + 8 * book + int(codes_KF[book, frame]))
    return [*ids, v.audio_end]


def written_ids(model: SpeechModel, side: Side, lower: bool) -> list[int] | None:
    text = (side.text or "").lower() if lower else side.text or ""
    if not text:
        return None
    v = model.vocabulary
    return [v.bos, v.text_start, *model.tokenizer.encode(text), v.text_end]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def codes(lp: list[float]) -> float:
    return mean(lp[2:-1])


def after_first_unit(lp: list[float]) -> float:
    return mean(lp[3:-1])


def everything(lp: list[float]) -> float:
    return mean(lp[1:])


def units_and_end(lp: list[float]) -> float:
    return mean(lp[2:])


def every_eighth_with_the_end(lp: list[float]) -> float:
    return mean([lp[p] for p in range(2, len(lp), CODEBOOKS)])


def semantic(lp: list[float]) -> float:
    return mean([lp[p] for p in range(2, len(lp) - 1, CODEBOOKS)])


def semantic_ending(lp: list[float]) -> float:
    return mean([lp[p] for p in range(2 + 3 * CODEBOOKS, len(lp) - 1, CODEBOOKS)])  # 0.24 s are three frames


PROTOCOLS: dict[tuple[str, str], tuple[Callable[[list[float]], float], str, float]] = {
    ("soda", "salmon"): (codes, "flat", 0.0),
    ("soda", "lexical"): (codes, "flat", 0.0),
    ("soda", "syntactic"): (codes, "flat", 0.0),
    ("soda", "story"): (codes, "flat", 0.0),
    ("soda", "text_lexical"): (codes, "flat", 0.0),
    ("soda", "text_syntactic"): (codes, "flat", 0.0),
    ("soda", "text_story"): (codes, "flat", 0.0),
    ("llama-mimi", "salmon"): (everything, "flat", 0.0),
    ("llama-mimi", "lexical"): (every_eighth_with_the_end, "flat", 0.0),
    ("llama-mimi", "syntactic"): (every_eighth_with_the_end, "flat", 0.0),
    ("llama-mimi", "story"): (every_eighth_with_the_end, "flat", 0.0),
    ("slamkit", "salmon"): (units_and_end, "flat", 0.5),
    ("slamkit", "lexical"): (units_and_end, "flat", 0.5),
    ("slamkit", "syntactic"): (units_and_end, "flat", 0.5),
    ("slamkit", "story"): (units_and_end, "flat", 0.5),
    ("slm_scaling", "syntactic"): (codes, "phenomena", 0.5),
    ("slm_scaling", "story"): (codes, "flat", 0.0),
    ("zerospeech", "lexical"): (codes, "voices", 0.5),
    ("zerospeech", "syntactic"): (codes, "phenomena", 0.5),
    ("salmon", "salmon"): (after_first_unit, "flat", 0.5),
    ("sodakit", "salmon"): (codes, "flat", 0.5),
    ("sodakit", "lexical"): (semantic, "voices", 0.5),
    ("sodakit", "syntactic"): (semantic, "phenomena", 0.5),
    ("sodakit", "story"): (semantic_ending, "flat", 0.5),
    ("sodakit", "text_lexical"): (codes, "flat", 0.5),
    ("sodakit", "text_syntactic"): (codes, "phenomena", 0.5),
    ("sodakit", "text_story"): (codes, "flat", 0.5),  # its ending is cut out below, where the text is known
}


def plain_accuracy(pairs: list[Pair], answers: list[float | None], grouping: str) -> float:
    """Flat; voices inside a pair first; or those inside phenomena."""
    kept = [(pair, a) for pair, a in zip(pairs, answers, strict=True) if a is not None]
    if grouping == "flat":
        return mean([a for _, a in kept])
    by_pair: dict[tuple[str, str, str], list[float]] = {}
    for pair, a in kept:
        by_pair.setdefault((pair.type, pair.subtype, pair.id), []).append(a)
    if grouping == "voices":
        return mean([mean(v) for v in by_pair.values()])
    by_type: dict[str, list[float]] = {}
    for (kind, _, _), v in by_pair.items():
        by_type.setdefault(kind, []).append(mean(v))
    return mean([mean(v) for v in by_type.values()])


def plain_scores(model: SpeechModel, theirs: Any, pair: Pair, name: str, family: str) -> list[float | None]:
    protocol, _, _ = PROTOCOLS[name, family]
    found: list[float | None] = []
    for side in pair.sides:
        text = family.startswith("text")
        ids = written_ids(model, side, family == "text_syntactic") if text else spoken_ids(model, side)
        if ids is None:
            found.append(None)
            continue
        lp = logprobs_of(theirs, ids)
        if name == "sodakit":
            lp = legal_logprobs_of(theirs, model.vocabulary, ids)
        if (name, family) == ("sodakit", "text_story"):
            shared = len(model.tokenizer.encode(side.prefix))
            found.append(mean(lp[2 + shared : -1]))
        else:
            found.append(protocol(lp))
    return found


def plain_answer(scores: list[float | None], tie: float, missing: str) -> float | None:
    if None in scores:
        return None if missing == "skip" else 0.0
    right, *wrong = scores
    best = max(w for w in wrong if w is not None)
    # Equal clips are equal numbers; others of this test differ by far more than rounding.
    return tie if right == best else float(right > best)


# ------------------------------------------------------------------------------------------------ the claims


def test_the_protocols_here_are_those_there_are() -> None:
    assert set(PROTOCOLS) == {(name, family) for name, families in POLICIES.items() for family in families}
    assert {t.family for t in TASKS.values()} == set(PER_TASK)


@pytest.mark.parametrize(("name", "family"), list(PROTOCOLS))
@pytest.mark.parametrize("missing", ["skip", "worst"])
def test_scores_and_accuracy_are_those_of_plain_loops_over_transformers(
    model: SpeechModel,
    theirs: Any,
    spoken: list[Pair],
    written: list[Pair],
    tmp_path: Path,
    name: str,
    family: str,
    missing: str,
) -> None:
    pairs = written if family.startswith("text") else spoken
    rule = replace(POLICIES[name][family], missing=missing)  # type: ignore[index,arg-type]
    result = score_pairs(model, task(PER_TASK[family]), pairs, [rule], tmp_path, part_pairs=3, row_tokens=300)
    found = item_scores(read_tables(sorted(tmp_path.rglob("*.parquet"))), rule)
    _, grouping, tie = PROTOCOLS[name, family]
    expected_answers = []
    for number, pair in enumerate(pairs):
        expected = plain_scores(model, theirs, pair, name, family)
        for k, score in enumerate(expected):
            if score is None:
                assert f"{number}#{k}" not in found
            else:
                assert found[f"{number}#{k}"] == pytest.approx(score, abs=1e-6)
        expected_answers.append(plain_answer(expected, tie, missing))
    assert [q["answers"][name] for q in result["questions"]] == expected_answers
    accuracy = result["scores"][name]["accuracy"]["value"]
    assert accuracy == pytest.approx(plain_accuracy(pairs, expected_answers, grouping), abs=1e-9)


@pytest.mark.parametrize("first", range(1, CODEBOOKS + 1))
def test_fewer_codebooks_are_summed_book_by_book(
    model: SpeechModel, theirs: Any, spoken: list[Pair], tmp_path: Path, first: int
) -> None:
    """The published script reshapes frame-major codes as (codebooks, frames), which is right for all eight only."""
    ids = spoken_ids(model, spoken[3].positive)
    assert ids is not None
    lp = logprobs_of(theirs, ids)
    books = [[lp[p] for p in range(2 + k, len(lp) - 1, CODEBOOKS)] for k in range(first)]
    expected = {
        "sum": sum(map(sum, books)),
        "mean": mean([x for book in books for x in book]),
        "mean_per_codebook": mean([mean(book) for book in books]),
    }
    rules = [Policy(name=r, codebooks=first, reduce=r, missing="skip") for r in expected]  # type: ignore[arg-type]
    score_pairs(model, task("salmon"), spoken[3:4], rules, tmp_path)
    table = read_tables(sorted((tmp_path / "whole").glob("*.parquet")))
    for rule in rules:
        assert item_scores(table, rule)["0#0"] == pytest.approx(expected[rule.name], rel=1e-6, abs=1e-6)


def test_one_by_one_and_all_at_once_are_the_same_scores(
    model: SpeechModel, spoken: list[Pair], tmp_path: Path
) -> None:
    rules = [replace(POLICIES[n]["salmon"], missing="worst") for n in ("soda", "llama-mimi", "slamkit")]
    alone = score_pairs(model, task("salmon"), spoken, rules, tmp_path / "a", part_pairs=1, row_tokens=1)
    packed = score_pairs(model, task("salmon"), spoken, rules, tmp_path / "b", row_tokens=512)
    assert alone["questions"] == packed["questions"]
    tables = [read_tables(sorted((tmp_path / n / "whole").glob("*.parquet"))) for n in "ab"]
    assert tables[0].items == tables[1].items
    np.testing.assert_allclose(tables[0].logprob_P, tables[1].logprob_P, atol=1e-6)
