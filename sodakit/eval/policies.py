"""Named scoring rules: how each peer turns the same log-probabilities into the same-named score.

The rules differ in which tokens count, in markers, length, ties and averaging, and the same weights differ by several
points between them. So a score always carries its policy, and a policy is data: the presets below fix every switch.
What follows from a policy is computed by small pure functions over a `TokenTable`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from sodakit.bounds import Bounded, Count, Positive
from sodakit.errors import ConfigError, nearest
from sodakit.eval.labels import Group, Question
from sodakit.eval.token_table import AUDIO, CLOSE, OPEN, TEXT, TokenTable

Family = Literal["salmon", "lexical", "syntactic", "story", "text_lexical", "text_syntactic", "text_story"]
"""What a task is: its pairs are scored alike whoever released them."""
Counted = Literal["audio", "text", "both"]
Reduce = Literal["mean", "sum", "mean_per_codebook"]


@dataclass(frozen=True, kw_only=True)
class Policy(Bounded):
    """Every switch of a scoring rule. The first token of an item (BOS) is given and never counted."""

    name: str
    """Whose rule it is."""
    counted: Counted = "audio"
    """Which body tokens count: codes, text, or both."""
    codebooks: Count | None = None
    """Count codes of the first few codebooks only; None for all."""
    open_marker: bool = False
    """Count text_start and audio_start."""
    close_marker: bool = False
    """Count text_end and audio_end."""
    first_token: bool = True
    """Count the first code or text token of an item."""
    span: Literal["whole", "ending"] = "whole"
    """Count the whole item, or only the part in which the two differ, where the task says where it begins."""
    reduce: Reduce = "mean"
    """Log-probabilities to one number: mean, sum, or the mean over codebooks of each one's mean."""
    softmax: Literal["full", "modality", "slot"] = "full"
    """Normalised over all ids, those of the token's modality, or those legal in its place."""
    tie: Literal["half", "wrong", "right"] = "half"
    """What equal scores are worth: 0.5, 0 or 1."""
    group: Group = "pair"
    """The headline: mean over pairs; over voices, then pairs; or over voices, then pairs of a type, then types."""
    subset: Literal["all", "in_vocabulary", "out_of_vocabulary"] = "all"
    """Which words of a lexical task, by how often they occur in the training text."""
    missing: Literal["skip", "error", "worst"] = "error"
    """A pair with an item that has no score: left out, refused, or counted as wrong."""
    max_s: Positive | None = None
    """Clips are cut here before they are encoded; None for whole clips."""
    precision: Literal["float32", "float16", "bfloat16", "any"] = "float32"
    """What its author ran the model in. Recorded; the model is run as it is loaded."""


_SODA = Policy(name="soda", tie="wrong")
_LLAMA_MIMI = Policy(name="llama-mimi", tie="wrong", precision="float16", max_s=20.0)
_LLAMA_MIMI_WORDS = replace(_LLAMA_MIMI, codebooks=1, close_marker=True)
_SLAMKIT = Policy(name="slamkit", close_marker=True, tie="half", precision="any")
_SLM_SCALING = Policy(name="slm_scaling", tie="wrong", precision="bfloat16")
_ZEROSPEECH = Policy(name="zerospeech", tie="half", precision="any")
_SODAKIT = Policy(name="sodakit", tie="half", missing="worst", softmax="slot")
_SODAKIT_WORDS = replace(_SODAKIT, codebooks=1)
_SODA_TEXT = replace(_SODA, counted="text")
_SODAKIT_TEXT = replace(_SODAKIT, counted="text")

POLICIES: dict[str, dict[Family, Policy]] = {
    # All codes without markers; text twins: text without markers. Its authors published no StoryCloze script; stories are scored like the rest.
    "soda": {
        "salmon": _SODA,
        "lexical": _SODA,
        "syntactic": _SODA,
        "story": _SODA,
        "text_lexical": _SODA_TEXT,
        "text_syntactic": _SODA_TEXT,
        "text_story": _SODA_TEXT,
    },
    # SALMon: every target with both markers. Words and stories: codebook 0 and the closing marker.
    "llama-mimi": {
        "salmon": replace(_LLAMA_MIMI, open_marker=True, close_marker=True),
        "lexical": _LLAMA_MIMI_WORDS,
        "syntactic": _LLAMA_MIMI_WORDS,
        "story": _LLAMA_MIMI_WORDS,
    },
    # Its sequences open with a marker that is given, so audio_start is context; the first code and the end count.
    "slamkit": {"salmon": _SLAMKIT, "lexical": _SLAMKIT, "syntactic": _SLAMKIT, "story": _SLAMKIT},
    # Its headline is the mean of the phenomena's means; voices are averaged inside a pair.
    "slm_scaling": {
        "syntactic": replace(_SLM_SCALING, tie="half", group="subtype_then_type"),
        "story": _SLM_SCALING,
    },
    # The official scorer takes one number per file and leaves it to the user which: here the mean over all codes.
    "zerospeech": {
        "lexical": replace(_ZEROSPEECH, group="voice_then_id"),
        "syntactic": replace(_ZEROSPEECH, group="subtype_then_type"),
    },
    # SALMon's own plug-ins: everything after the first unit.
    "salmon": {"salmon": Policy(name="salmon", first_token=False, tie="half", precision="any")},
    # Ours: what is said is judged by the semantic codes, how it sounds by all; stories by their endings alone. Ids that
    # the grammar rules out do not count, so models trained with either softmax are scored by what they have learnt.
    "sodakit": {
        "salmon": _SODAKIT,
        "lexical": replace(_SODAKIT_WORDS, group="voice_then_id"),
        "syntactic": replace(_SODAKIT_WORDS, group="subtype_then_type"),
        "story": replace(_SODAKIT_WORDS, span="ending"),
        "text_lexical": _SODAKIT_TEXT,
        "text_syntactic": replace(_SODAKIT_TEXT, group="subtype_then_type"),
        "text_story": replace(_SODAKIT_TEXT, span="ending"),
    },
}
"""Presets by name and family of task."""


def policy(name: str, family: Family) -> Policy:
    """The preset of that name for a family of tasks.

    Raises:
        ConfigError: no such preset, or one that its author never defined for the family.
    """
    if name not in POLICIES:
        raise ConfigError(f"No policy {name!r}.{nearest(name, POLICIES, 'Policies')}")
    if family not in POLICIES[name]:
        others = ", ".join(n for n, families in POLICIES.items() if family in families)
        raise ConfigError(f"{name} defines no score for {family} tasks. Those that do: {others}.")
    return POLICIES[name][family]


def policies_for(family: Family) -> tuple[Policy, ...]:
    """Every preset that is defined for a family."""
    return tuple(families[family] for families in POLICIES.values() if family in families)


# -------------------------------------------------------------------------------------------- tokens to items


def counted_tokens(table: TokenTable, policy: Policy) -> np.ndarray:
    """Which rows of the table count (bool)."""
    kind_P = table.kind_P
    body_P = (kind_P == AUDIO) if policy.counted != "text" else np.zeros(len(table), bool)
    if policy.codebooks is not None:
        body_P &= table.codebook_P < policy.codebooks
    if policy.counted != "audio":
        body_P |= kind_P == TEXT
    if not policy.first_token:
        body_P &= ~_first_tokens(table)
    counted_P = body_P.copy()
    if policy.open_marker:
        counted_P |= kind_P == OPEN
    if policy.close_marker:
        counted_P |= kind_P == CLOSE
    if policy.span == "ending":
        counted_P &= table.ending_P
    return counted_P


def item_scores(table: TokenTable, policy: Policy) -> dict[str, float]:
    """The score of every item: log-probabilities in nats, reduced; NaN where no token counts."""
    counted_P = counted_tokens(table, policy)
    column = {"full": "logprob_P", "modality": "logprob_modality_P", "slot": "logprob_slot_P"}[policy.softmax]
    logprob_P = getattr(table, column)[counted_P].astype(np.float64)
    item_P = table.item_P[counted_P].astype(np.int64)
    if policy.reduce == "mean_per_codebook":
        scores = _mean_per_codebook(item_P, table.codebook_P[counted_P], logprob_P, len(table.items))
    else:
        sums, counts = _sums(item_P, logprob_P, len(table.items))
        scores = np.where(counts > 0, sums, np.nan)
        if policy.reduce == "mean":
            scores = scores / np.maximum(counts, 1)
    return dict(zip(table.items, scores.tolist(), strict=True))


def _sums(group: np.ndarray, values: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    return np.bincount(group, values, size), np.bincount(group, minlength=size)


def _mean_per_codebook(
    item_P: np.ndarray, codebook_P: np.ndarray, logprob_P: np.ndarray, num_items: int
) -> np.ndarray:
    # Text and markers, codebook -1, are a group of their own.
    width = int(codebook_P.max(initial=-1)) + 2
    sums, counts = _sums(item_P * width + codebook_P + 1, logprob_P, num_items * width)
    sums, counts = sums.reshape(num_items, width), counts.reshape(num_items, width)
    means = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
    there = (counts > 0).sum(axis=1)
    return np.where(there > 0, means.sum(axis=1) / np.maximum(there, 1), np.nan)


def _first_tokens(table: TokenTable) -> np.ndarray:
    body_P = np.flatnonzero((table.kind_P == AUDIO) | (table.kind_P == TEXT))
    order = body_P[np.lexsort((table.position_P[body_P], table.item_P[body_P]))]
    item = table.item_P[order]
    first_P = np.zeros(len(table), bool)
    first_P[order[np.r_[True, item[1:] != item[:-1]]] if len(order) else order] = True
    return first_P


# ------------------------------------------------------------------------------------------- items to answers


def select(questions: Sequence[Question], policy: Policy) -> list[Question]:
    """The questions of the policy's subset.

    Raises:
        ConfigError: a subset by frequency of questions without frequencies.
    """
    if policy.subset == "all":
        return list(questions)
    if any(q.frequency is None for q in questions):
        raise ConfigError(
            f"subset={policy.subset} needs the frequency of every word, and this benchmark gives none. Use all."
        )
    return [q for q in questions if (q.frequency == 0) == (policy.subset == "out_of_vocabulary")]


def answer(question: Question, scores: Mapping[str, float], policy: Policy) -> float | None:
    """1 if the right item beats every wrong one, 0 if one is better, the value of a tie if equal; None is left out.

    Raises:
        ConfigError: an item without a score under `missing="error"`.
    """
    right = scores.get(question.right, float("nan"))
    wrong = [scores.get(name, float("nan")) for name in question.wrong]
    if np.isnan([right, *wrong]).any():
        if policy.missing == "error":
            raise ConfigError(
                f"Pair {question.id} ({question.part or 'only part'}) has no score for every side: a clip is missing, "
                "empty, unreadable, or longer than the model's context. Repair it, cut clips with --max-s, or choose "
                "--missing skip or worst."
            )
        return None if policy.missing == "skip" else 0.0
    best = max(wrong)
    if right == best:
        return {"half": 0.5, "wrong": 0.0, "right": 1.0}[policy.tie]
    return float(right > best)
