"""Word errors: what was said against what was heard, with an interval and the alignment behind each count."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jiwer
import numpy as np

from sodakit.errors import ConfigError
from sodakit.eval.normalisers import normalise, normaliser
from sodakit.eval.results import DRAWS, Estimate, estimate, plain_estimate, ratio_estimate

StepKind = Literal["equal", "substitution", "deletion", "insertion"]


@dataclass(frozen=True)
class Step:
    """One step of an alignment. An insertion has no reference word and a deletion no hypothesis word ('')."""

    kind: StepKind
    reference: str
    hypothesis: str


@dataclass(frozen=True)
class ItemErrors:
    """One reference against one hypothesis, both normalised."""

    reference: str
    hypothesis: str
    steps: tuple[Step, ...] = field(repr=False)
    """Every word of both, aligned."""

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions together."""
        return sum(step.kind != "equal" for step in self.steps)

    @property
    def reference_words(self) -> int:
        """Words in the reference."""
        return sum(step.kind != "insertion" for step in self.steps)

    @property
    def characters(self) -> int:
        """Characters of the reference, without blanks."""
        return len(_joined(self.reference))

    @property
    def character_errors(self) -> int:
        """Characters to change, delete or insert; blanks do not count."""
        said, heard = _joined(self.reference), _joined(self.hypothesis)
        if not said:  # jiwer wants a character to compare with
            return len(heard)
        counted = jiwer.process_characters(said, heard)
        return counted.substitutions + counted.deletions + counted.insertions

    @property
    def rate(self) -> float:
        """Errors per reference word; an empty reference counts as one word."""
        return self.errors / max(1, self.reference_words)


@dataclass(frozen=True)
class WordErrors:
    """Word errors of a set under one normaliser, in each of the ways that protocols average."""

    micro: Estimate
    """All errors over all reference words; failed outputs are all deletions. Can exceed 1."""
    macro: Estimate
    """The mean of the items' rates; failed outputs count 1 (seed-tts-eval leaves them out)."""
    macro_without_failures: Estimate | None
    """As seed-tts-eval has it: failed outputs are not there at all. Flatters a model that fails on what is hard."""
    cer: Estimate
    """As `micro`, of characters without blanks: what languages that part no words are compared by."""
    items: tuple[ItemErrors, ...] = field(repr=False)

    @property
    def wer(self) -> float:
        """All errors over all reference words, as a fraction: 0.031 is 3.1 %."""
        return self.micro.value

    @property
    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of `wer`."""
        return self.micro.low, self.micro.high

    @property
    def substitutions(self) -> int:
        """Words that were heard as another."""
        return self._count("substitution")

    @property
    def deletions(self) -> int:
        """Words that were not heard."""
        return self._count("deletion")

    @property
    def insertions(self) -> int:
        """Words that were heard and not said."""
        return self._count("insertion")

    @property
    def reference_words(self) -> int:
        """Words said in all items."""
        return sum(item.reference_words for item in self.items)

    @property
    def num_empty(self) -> int:
        """Outputs that were missing or had no words; all their reference words count as deleted."""
        return sum(not item.hypothesis for item in self.items)

    def _count(self, kind: StepKind) -> int:
        return sum(step.kind == kind for item in self.items for step in item.steps)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.wer:.1%} WER ({low:.1%} to {high:.1%}, {self.reference_words} words)"

    def plain(self) -> dict[str, Any]:
        """JSON-ready, without the items."""
        skipped = self.macro_without_failures
        return {
            "wer_micro": plain_estimate(self.micro),
            "cer_micro": plain_estimate(self.cer),
            "wer_macro": plain_estimate(self.macro),
            "wer_macro_without_failures": None if skipped is None else plain_estimate(skipped),
            "errors": {
                "substitution": self.substitutions,
                "deletion": self.deletions,
                "insertion": self.insertions,
            },
            "reference_words": self.reference_words,
        }


def word_errors(
    references: Sequence[str],
    heard: Sequence[str | None],
    clusters: Sequence[str] | None = None,
    normaliser_name: str = "sodakit",
    failed: Sequence[bool] | None = None,
    *,
    draws: int = DRAWS,
) -> WordErrors:
    """Word errors with intervals over clusters.

    Args:
        references: what was said.
        heard: what was heard, in the same order; None for a failed output, counted as all deleted.
        clusters: what is resampled together (speakers, prompts); default: each item by itself.
        failed: outputs that were never there; default: those heard as None.
        draws: resampled test sets behind the intervals.
    Raises:
        ConfigError: different lengths, or not one word among the references.
    """
    if len(references) != len(heard):
        raise ConfigError(
            f"{len(references)} references and {len(heard)} hypotheses; they are compared in pairs. "
            "Pass None for an output that failed."
        )
    written = normaliser(normaliser_name)
    items = tuple(align(said, text or "", written) for said, text in zip(references, heard, strict=True))
    words = np.array([item.reference_words for item in items], np.float64)
    if not words.sum():
        raise ConfigError(f"{len(items)} references without a single word; a word error rate needs some.")
    if clusters is None:
        clusters = [f"{number:08d}" for number in range(len(items))]  # sorted as they stand
    errors = np.array([item.errors for item in items], np.float64)
    absent = np.array([text is None for text in heard] if failed is None else failed, bool)
    rates = np.array([item.rate for item in items])
    kept = np.flatnonzero(~absent)
    there = [clusters[int(n)] for n in kept]
    return WordErrors(
        # Words heard where the reference has none are errors too; such an item weighs nothing else.
        micro=ratio_estimate(errors, words, clusters, draws=draws),
        macro=estimate(rates, clusters, draws=draws),
        cer=ratio_estimate(
            np.array([item.character_errors for item in items], np.float64),
            np.array([item.characters for item in items], np.float64),
            clusters,
            draws=draws,
        ),
        macro_without_failures=estimate(rates[kept], there, draws=draws) if len(kept) else None,
        items=items,
    )


def _joined(text: str) -> str:
    return text.replace(" ", "")


def align(reference: str, hypothesis: str, written: Callable[[str], str] = normalise) -> ItemErrors:
    """Both texts, normalised and aligned word by word with the fewest errors."""
    # jiwer splits at single blanks and some normalisers leave two: words are what stands between blanks.
    said, heard = (" ".join(written(text).split()) for text in (reference, hypothesis))
    if not said:  # jiwer wants a word to compare with
        return ItemErrors(said, heard, tuple(Step("insertion", "", word) for word in heard.split()))
    aligned = jiwer.process_words(said, heard)
    steps: list[Step] = []
    for chunk in aligned.alignments[0]:
        pairs = max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
        reference_words = aligned.references[0][chunk.ref_start_idx : chunk.ref_end_idx] or [""] * pairs
        hypothesis_words = aligned.hypotheses[0][chunk.hyp_start_idx : chunk.hyp_end_idx] or [""] * pairs
        steps += [
            Step(_KINDS[chunk.type], *pair) for pair in zip(reference_words, hypothesis_words, strict=True)
        ]
    return ItemErrors(said, heard, tuple(steps))


_KINDS: dict[str, StepKind] = {
    "equal": "equal",
    "substitute": "substitution",
    "delete": "deletion",
    "insert": "insertion",
}
