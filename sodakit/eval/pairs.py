"""Pair tasks: which of two clips, or of two texts, does the model find likelier?

salmon             8 parts: is the sound consistent, does it fit what is said
swuggy twuggy      a word against a pseudo-word, spoken and written
sblimp tblimp      a grammatical sentence against one that is not
sstorycloze        a story with its own ending against one with another, spoken
topic_storycloze   the same with an ending of another story: easier
tstorycloze        the written twin of sstorycloze
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.errors import AudioError, ConfigError, nearest
from sodakit.eval.labels import Question
from sodakit.eval.logprobs import TokenItem, score_folder
from sodakit.eval.pair_layouts import Pair, Side, pairs_digest
from sodakit.eval.policies import Family, Policy, answer, item_scores, select
from sodakit.eval.provenance import model_provenance
from sodakit.eval.results import Estimate, accuracy, plain_estimate, provenance
from sodakit.eval.token_table import AUDIO, TokenTable
from sodakit.generate.speech_model import SpeechModel
from sodakit.tokens.documents import Speech, Text

SALMON_PARTS = (
    "bg_alignment",
    "bg_all_consistency",
    "bg_domain_consistency",
    "gender_consistency",
    "rir_consistency",
    "sentiment_alignment",
    "sentiment_consistency",
    "speaker_consistency",
)
"""The parts as released; 200 pairs each."""


@dataclass(frozen=True)
class Task:
    """A benchmark of pairs."""

    name: str
    family: Family
    speech: bool
    """Sides are sounds; else texts."""
    hub: str | None = None
    """Where it is released."""
    lower_case: bool = False
    """Texts are lower-cased, as the paper does with BLiMP."""


TASKS = {
    task.name: task
    for task in (
        Task("salmon", "salmon", True, "slprl/SALMon"),
        Task("swuggy", "lexical", True, "speed/sWUGGY"),
        Task("sblimp", "syntactic", True, "speed/sBLIMP"),
        Task("sstorycloze", "story", True),
        Task("topic_storycloze", "story", True),
        Task("twuggy", "text_lexical", False, "speed/sWUGGY"),
        Task("tblimp", "text_syntactic", False, "speed/sBLIMP", lower_case=True),
        Task("tstorycloze", "text_story", False),
    )
}


def task(name: str) -> Task:
    """The task of that name.

    Raises:
        ConfigError: no such task.
    """
    if name not in TASKS:
        raise ConfigError(f"No task {name!r}.{nearest(name.lower(), TASKS, 'Tasks')}")
    return TASKS[name]


@dataclass(frozen=True)
class PairScore:
    """A benchmark under one policy."""

    policy: Policy
    answers: dict[int, float | None]
    """By number of the pair; pairs outside the policy's subset are absent."""
    margins: dict[int, float | None]
    """Score of the right side over the best wrong one, by number; None where a side has no score."""
    accuracy: Estimate
    """The headline: averaged as the policy says."""
    flat: Estimate
    """The plain mean over all pairs and voices."""
    by_pair: Estimate
    """Voices averaged inside a pair, then the mean over pairs."""
    parts: dict[str, Estimate]
    """The headline of each part."""
    num_ties: int
    num_missing: int
    """Pairs with a side that could not be scored."""


def score_pairs(
    model: SpeechModel,
    task: Task,
    pairs: Sequence[Pair],
    policies: Sequence[Policy],
    folder: Path | str,
    *,
    part_pairs: int = 32,
    row_tokens: int = 2048,
) -> dict[str, Any]:
    """The result of a benchmark under several policies, from one forward pass per clip.

    Policies that cut clips need a second pass only where a clip is longer than the cut.

    Args:
        folder: log-probabilities are kept here; the same call goes on after an interruption, or reads them.
    Returns:
        JSON-ready: see `docs/formats.md`.
    """
    if len({p.name for p in policies}) != len(policies) or not policies:
        raise ConfigError("Name each policy once, and at least one.")
    unmarked = sum(not marks_ending(pair) for pair in pairs)
    by_ending = [p.name for p in policies if p.span == "ending"]
    if unmarked and by_ending:
        raise ConfigError(
            f"{', '.join(by_ending)} counts endings alone, and {unmarked} of {len(pairs)} pairs do not say where theirs "
            "begins. Choose policies that count the whole, or build the pairs with `sodakit eval build`."
        )
    settings = _settings(model, task, pairs)
    run = partial(_table, model, task, pairs, Path(folder), settings, part_pairs, row_tokens)
    tables: dict[float | None, TokenTable] = {}
    for max_s in sorted({p.max_s for p in policies}, key=lambda s: (s is not None, s or 0)):
        whole = tables.get(None)
        tables[max_s] = whole if whole is not None and not _cuts(whole, model, max_s) else run(max_s)
    scores = {p.name: judge(tables[p.max_s], pairs, p) for p in policies}
    return _result(settings, pairs, scores)


def marks_ending(pair: Pair) -> bool:
    """Whether every side that is there says where its ending begins: a time in a sound, a common beginning of a text."""
    there = [side for side in pair.sides if side.audio is not None or side.text]
    return all(side.prefix or side.ending_start_s is not None for side in there)


def judge(table: TokenTable, pairs: Sequence[Pair], policy: Policy) -> PairScore:
    """The answers of one policy, and their averages."""
    questions = questions_of(pairs)
    number = {id(question): n for n, question in enumerate(questions)}
    chosen = select(questions, policy)
    scores = item_scores(table, policy)
    answers = [answer(question, scores, policy) for question in chosen]
    ends = [[scores.get(name, np.nan) for name in (q.right, *q.wrong)] for q in chosen]
    return PairScore(
        policy=policy,
        answers={number[id(q)]: value for q, value in zip(chosen, answers, strict=True)},
        margins={number[id(q)]: _margin(values) for q, values in zip(chosen, ends, strict=True)},
        accuracy=accuracy(chosen, answers, policy.group),
        flat=accuracy(chosen, answers, "pair"),
        by_pair=accuracy(chosen, answers, "voice_then_id"),
        parts=_by_part(chosen, answers, policy),
        num_ties=sum(values[0] == max(values[1:]) for values in ends),
        num_missing=sum(bool(np.isnan(values).any()) for values in ends),
    )


def questions_of(pairs: Sequence[Pair]) -> list[Question]:
    """A question per pair; its items are named `number#0` (right), `number#1`, …"""
    return [
        Question(
            right=_name(number, 0),
            wrong=tuple(_name(number, 1 + n) for n in range(len(pair.negatives))),
            **pair.labels(),
        )
        for number, pair in enumerate(pairs)
    ]


def token_items(
    model: SpeechModel,
    sides: Sequence[tuple[str, Side]],
    *,
    speech: bool,
    lower_case: bool = False,
    max_s: float | None = None,
) -> list[TokenItem]:
    """BOS and one span between its markers for each side; sides that cannot be read, or are longer than the model's
    context, are left out: what they are worth is the policy's decision.

    A spoken ending begins with the frame in which it starts, a written one with its first token.
    """
    if not speech:
        texts = [_text_item(model, name, side, lower_case) for name, side in sides if side.text]
        return [item for item in texts if model.num_positions(item.ids_T) <= model.context_positions]
    rate_hz = model.codec.spec.sample_rate_hz
    waves = [(name, side, wave) for name, side in sides if (wave := _readable(side, max_s)) is not None]
    codes = model.codec.encode_batch([resample(wave, rate_hz).samples_S for _, _, wave in waves])
    template, frame_rate_hz = model.template, model.codec.spec.frame_rate_hz
    items = []
    for (name, side, _), codes_KF in zip(waves, codes, strict=True):
        ids_T = np.concatenate([[model.vocabulary.bos], template.span(Speech(codes_KF))]).astype(np.int32)
        start_s = side.ending_start_s
        ending = None if start_s is None else 2 + int(start_s * frame_rate_hz + 1e-6) * template.num_codebooks
        items.append(TokenItem(name, ids_T, ending))
    return [item for item in items if model.num_positions(item.ids_T) <= model.context_positions]


def _margin(scores: Sequence[float]) -> float | None:
    return None if np.isnan(scores).any() else float(scores[0] - max(scores[1:]))


def _by_part(
    questions: Sequence[Question], answers: Sequence[float | None], policy: Policy
) -> dict[str, Estimate]:
    members: dict[str, list[int]] = {}
    for number, (question, value) in enumerate(zip(questions, answers, strict=True)):
        if value is not None:
            members.setdefault(question.part, []).append(number)
    return {
        part: accuracy([questions[n] for n in numbers], [answers[n] for n in numbers], policy.group)
        for part, numbers in sorted(members.items())
    }


def _text_item(model: SpeechModel, name: str, side: Side, lower_case: bool) -> TokenItem:
    text, prefix = (t.lower() if lower_case else t for t in (side.text or "", side.prefix))
    span = Text(np.array(model.tokenizer.encode(text), np.int32))
    ids_T = np.concatenate([[model.vocabulary.bos], model.template.span(span)]).astype(np.int32)
    # BOS and text_start, then as many tokens as the shared beginning has alone: words never merge across a space.
    return TokenItem(name, ids_T, 2 + len(model.tokenizer.encode(prefix)) if prefix else None)


def _readable(side: Side, max_s: float | None) -> Wave | None:
    try:
        wave = side.read()
    except AudioError:
        return None
    if max_s is not None:
        wave = wave.cut(0, max_s)
    return wave if len(wave.samples_S) and np.isfinite(wave.samples_S).all() else None


def _table(
    model: SpeechModel,
    task: Task,
    pairs: Sequence[Pair],
    folder: Path,
    settings: dict[str, Any],
    part_pairs: int,
    row_tokens: int,
    max_s: float | None,
) -> TokenTable:
    def make(part: range) -> list[TokenItem]:
        wanted = [(_name(n, k), side) for n in part for k, side in enumerate(pairs[n].sides)]
        return token_items(model, wanted, speech=task.speech, lower_case=task.lower_case, max_s=max_s)

    return score_folder(
        model.model,
        model.vocabulary,
        len(pairs),
        make,
        folder / ("whole" if max_s is None else f"cut_{max_s:g}s"),
        settings | {"max_s": max_s},
        part_items=part_pairs,
        row_tokens=row_tokens,
    )


def _cuts(table: TokenTable, model: SpeechModel, max_s: float | None) -> bool:
    if max_s is None:
        return True
    codes = np.bincount(table.item_P[table.kind_P == AUDIO], minlength=1)
    return bool(codes.max() > int(max_s * model.codec.spec.frame_rate_hz) * model.template.num_codebooks)


def _name(number: int, side: int) -> str:
    return f"{number}#{side}"


def _settings(model: SpeechModel, task: Task, pairs: Sequence[Pair]) -> dict[str, Any]:
    return {
        "task": task.name,
        "family": task.family,
        "data_digest": pairs_digest(pairs),
        **model_provenance(model),
    }


def _result(settings: dict[str, Any], pairs: Sequence[Pair], scores: dict[str, PairScore]) -> dict[str, Any]:
    questions = questions_of(pairs)
    return settings | {
        "versions": provenance(),
        "num_pairs": len(pairs),
        "scores": {name: _plain_score(score) for name, score in scores.items()},
        "questions": [
            {
                "id": q.id,
                "part": q.part,
                "voice": q.voice,
                "type": q.type,
                "subtype": q.subtype,
                "cluster": q.cluster,
                "answers": {name: s.answers[n] for name, s in scores.items() if n in s.answers},
                "margins": {name: s.margins[n] for name, s in scores.items() if n in s.margins},
            }
            for n, q in enumerate(questions)
        ],
    }


def _plain_score(score: PairScore) -> dict[str, Any]:
    return {
        "policy": asdict(score.policy),
        "accuracy": plain_estimate(score.accuracy),
        "flat": plain_estimate(score.flat),
        "by_pair": plain_estimate(score.by_pair),
        "parts": {part: plain_estimate(value) for part, value in score.parts.items()},
        "num_ties": score.num_ties,
        "num_missing": score.num_missing,
    }
