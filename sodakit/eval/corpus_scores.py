"""BLEU and chrF of a corpus, as sacreBLEU counts them: the only file that knows how it does.

A corpus score is no mean over sentences. Each sentence gives a row of counts, and the score is that of their sum, so
resampled test sets cost a sum each. sacreBLEU's own bootstrap works like this, by functions that are not public: a
test pins their values to its public ones.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from sodakit.errors import MissingExtra
from sodakit.eval.results import Estimate

Name = Literal["asr_bleu", "chrf"]
NAMES: tuple[Name, ...] = get_args(Name)
LEVELS = (0.025, 0.975)
"""The quantiles of resampled scores that are a 95 % interval."""


class CorpusMetric:
    """One of sacreBLEU's scores, in points of 100.

    Raises:
        MissingExtra: sacrebleu is not installed.
    """

    def __init__(self, name: Name) -> None:
        try:
            from sacrebleu.metrics import BLEU, CHRF
        except ImportError as error:
            raise MissingExtra("sacrebleu", "eval", "BLEU and chrF") from error
        self._metric = {"asr_bleu": BLEU, "chrf": CHRF}[name]()

    def counts(self, heard: Sequence[str], references: Sequence[str]) -> np.ndarray:
        """counts_SC of the sentences, a row each: matches and lengths; whole numbers."""
        return np.array(self._metric._extract_corpus_statistics(list(heard), [list(references)]), np.int64)

    def points(self, counts_C: np.ndarray) -> float:
        """The score of counts that were added up over sentences."""
        return float(self._metric._compute_score_from_stats(counts_C.astype(int).tolist()).score)

    @property
    def signature(self) -> str:
        """How it was computed, as sacreBLEU writes it."""
        self._metric.corpus_score(["a b c d"], [["a b c d"]])  # a signature needs one use
        return str(self._metric.get_signature())


def corpus_score(name: Name, heard: Sequence[str], references: Sequence[str], draws: int) -> Estimate:
    """A corpus score in points, with the 95 % interval of resampled sentences.

    Raises:
        MissingExtra: sacrebleu is not installed.
    """
    metric = CorpusMetric(name)
    counts_SC = metric.counts(heard, references)
    values = [metric.points(row) for row in _drawn(len(counts_SC), draws) @ counts_SC]
    return _estimate(metric.points(counts_SC.sum(0)), values, len(counts_SC))


def corpus_difference(
    name: Name, first: Sequence[str], second: Sequence[str], references: Sequence[str], draws: int
) -> Estimate:
    """The corpus score of the first minus that of the second on the same sentences; a draw resamples both alike.

    Raises:
        MissingExtra: sacrebleu is not installed.
    """
    metric = CorpusMetric(name)
    a_SC, b_SC = metric.counts(first, references), metric.counts(second, references)
    drawn = _drawn(len(a_SC), draws)
    values = [metric.points(a) - metric.points(b) for a, b in zip(drawn @ a_SC, drawn @ b_SC, strict=True)]
    return _estimate(metric.points(a_SC.sum(0)) - metric.points(b_SC.sum(0)), values, len(a_SC))


def _drawn(sentences: int, draws: int) -> np.ndarray:
    """How often each sentence is drawn, a row for each draw."""
    return np.random.default_rng(0).multinomial(sentences, np.full(sentences, 1 / sentences), size=draws)


def _estimate(value: float, values: Sequence[float], sentences: int) -> Estimate:
    low, high = np.quantile(values, LEVELS)
    return Estimate(value, float(low), float(high), sentences, sentences)
