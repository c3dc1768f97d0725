"""Word errors: what was said against what was heard, with an interval and the alignment behind each count."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import jiwer
import numpy as np

from sodakit.errors import ConfigError
from sodakit.eval.normalisers import normalise

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
    def rate(self) -> float:
        """Errors per reference word; an empty reference counts as one word."""
        return self.errors / max(1, self.reference_words)


@dataclass(frozen=True)
class WordErrors:
    """Word errors over a test set."""

    wer: float
    """All errors over all reference words, as a fraction: 0.031 is 3.1 %. Can exceed 1."""
    interval: tuple[float, float]
    """95 % bootstrap interval of `wer` over items."""
    substitutions: int
    deletions: int
    insertions: int
    reference_words: int
    num_empty: int
    """Outputs that were missing or had no words; all their reference words count as deleted."""
    items: tuple[ItemErrors, ...] = field(repr=False)

    @property
    def item_rates(self) -> tuple[float, ...]:
        """The rate of each item, in order. Their mean is the WER of protocols that average over files."""
        return tuple(item.rate for item in self.items)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.wer:.1%} WER ({low:.1%} to {high:.1%}, {self.reference_words} words)"


def word_errors(
    references: Sequence[str], hypotheses: Sequence[str | None], *, bootstrap_draws: int = 2000, seed: int = 0
) -> WordErrors:
    """The pooled word error rate of `hypotheses`, with a bootstrap interval over items.

    Args:
        references: what was said.
        hypotheses: what was heard, in the same order; None for an output that failed, counted as all deleted.
        bootstrap_draws: resampled test sets behind the interval.
        seed: of the resampling; the same seed gives the same interval.
    Raises:
        ConfigError: different lengths, or no reference word at all.
    """
    if len(references) != len(hypotheses):
        raise ConfigError(
            f"{len(references)} references and {len(hypotheses)} hypotheses; they are compared in pairs. "
            "Pass None for an output that failed."
        )
    items = tuple(align(said, heard or "") for said, heard in zip(references, hypotheses, strict=True))
    counts = {
        kind: sum(step.kind == kind for item in items for step in item.steps) for kind in _KINDS.values()
    }
    words = sum(item.reference_words for item in items)
    if words == 0:
        raise ConfigError(
            f"{len(references)} references without a single word; a word error rate needs some."
        )
    return WordErrors(
        wer=sum(item.errors for item in items) / words,
        interval=_interval(items, bootstrap_draws, seed),
        substitutions=counts["substitution"],
        deletions=counts["deletion"],
        insertions=counts["insertion"],
        reference_words=words,
        num_empty=sum(not item.hypothesis for item in items),
        items=items,
    )


def align(reference: str, hypothesis: str, normaliser: Callable[[str], str] = normalise) -> ItemErrors:
    """Both texts, normalised and aligned word by word with the fewest errors."""
    # jiwer splits at single blanks and some normalisers leave two: words are what stands between blanks.
    said, heard = (" ".join(normaliser(text).split()) for text in (reference, hypothesis))
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


def _interval(items: Sequence[ItemErrors], draws: int, seed: int) -> tuple[float, float]:
    errors = np.array([item.errors for item in items], dtype=np.float64)
    words = np.array([item.reference_words for item in items], dtype=np.float64)
    # How often each item is drawn is all that matters, so a draw is one row of multinomial counts.
    drawn = np.random.default_rng(seed).multinomial(
        len(items), np.full(len(items), 1 / len(items)), size=draws
    )
    rates = (drawn @ errors) / np.maximum(1, drawn @ words)
    low, high = np.quantile(rates, [0.025, 0.975])
    return float(low), float(high)
