"""BLEU and chrF of a corpus, as sacreBLEU counts them: the only file that knows how it does.

A corpus score is no mean over sentences. Each sentence gives a row of counts, and the score is that of their sum, so
resampled test sets cost a sum each. sacreBLEU's own bootstrap works like this, by functions that are not public: a
test pins their values to its public ones.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from sodakit.errors import MissingExtra
from sodakit.eval.results import DRAWS, Difference, Estimate, paired_test, resampled

Name = Literal["asr_bleu", "chrf"]
NAMES: tuple[Name, ...] = get_args(Name)


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

    def all_points(self, counts_DC: np.ndarray) -> np.ndarray:
        """The score of each row."""
        return np.array([self.points(row) for row in counts_DC])

    @property
    def signature(self) -> str:
        """How it was computed, as sacreBLEU writes it."""
        self._metric.corpus_score(["a b c d"], [["a b c d"]])  # a signature needs one use
        return str(self._metric.get_signature())


def corpus_score(
    name: Name, heard: Sequence[str], references: Sequence[str], draws: int = DRAWS // 4
) -> Estimate:
    """A corpus score in points, with the 95 % interval of resampled sentences.

    Raises:
        MissingExtra: sacrebleu is not installed.
    """
    metric = CorpusMetric(name)
    counts_SC = metric.counts(heard, references)
    count = len(counts_SC)
    return resampled(lambda drawn_DS: metric.all_points(drawn_DS @ counts_SC), count, count, draws=draws)


def corpus_difference(
    name: Name, first: Sequence[str], second: Sequence[str], references: Sequence[str], seed: int = 0
) -> Difference:
    """The corpus score of the first minus that of the second on the same sentences.

    A corpus score is no mean, so each draw and each exchange adds the counts of its sentences up anew (Koehn 2004, and
    approximate randomisation, Riezler and Maxwell 2005); a draw resamples both alike.

    Raises:
        MissingExtra: sacrebleu is not installed.
    """
    metric = CorpusMetric(name)
    a_SC, b_SC = metric.counts(first, references), metric.counts(second, references)

    def difference(own_DS: np.ndarray, other_DS: np.ndarray) -> np.ndarray:
        one, opposite = own_DS @ a_SC + other_DS @ b_SC, own_DS @ b_SC + other_DS @ a_SC
        return metric.all_points(one) - metric.all_points(opposite)

    return paired_test(difference, len(a_SC), len(a_SC), seed)
