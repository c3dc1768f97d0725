"""BLEU and chrF from counts, against sacreBLEU's public functions on the sentences themselves."""

import sys

import numpy as np
import pytest
from scipy.stats import norm, t

from sodakit.errors import MissingExtra
from sodakit.eval.corpus_scores import NAMES, CorpusMetric, Name, corpus_difference, corpus_score

sacrebleu = pytest.importorskip("sacrebleu")

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
REFERENCES = [" ".join(WORDS[(n + k) % 10] for k in range(7)) for n in range(12)]
GOOD = [r if n % 3 else r.replace("four", "for") for n, r in enumerate(REFERENCES)]
POOR = [" ".join(r.split()[: 6 - n % 3]) for n, r in enumerate(REFERENCES)]
DRAWS = 60
LEVELS = norm.cdf(np.array([-1, 1]) * np.sqrt(12 / 11) * t.ppf(0.975, 11))
"""Of twelve sentences the middle 95 percent are wider, as in every other interval."""
PUBLIC = {"asr_bleu": sacrebleu.corpus_bleu, "chrf": sacrebleu.corpus_chrf}


def resampled(name: Name, heard: list[str]) -> np.ndarray:
    """The public score of each resampled test set, its sentences written out."""
    drawn = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), size=DRAWS)
    return np.array(
        [
            PUBLIC[name](np.repeat(heard, row).tolist(), [np.repeat(REFERENCES, row).tolist()]).score
            for row in drawn
        ]
    )


@pytest.mark.parametrize("name", NAMES)
def test_counts_give_what_the_public_functions_give(name: Name) -> None:
    metric = CorpusMetric(name)
    for heard in (GOOD, POOR, [*GOOD[:11], ""], [""] * 12):
        counts_SC = metric.counts(heard, REFERENCES)
        assert len(counts_SC) == 12
        expected = PUBLIC[name](heard, [REFERENCES]).score
        assert metric.points(counts_SC.sum(0)) == pytest.approx(expected, abs=1e-9)


def test_points_of_one_corpus_are_pinned() -> None:
    """Public and private functions that change together are seen here."""
    assert corpus_score("asr_bleu", POOR, REFERENCES, 2).value == pytest.approx(67.0320046, abs=1e-6)
    assert corpus_score("chrf", POOR, REFERENCES, 2).value == pytest.approx(71.7975934, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_an_interval_is_the_middle_95_percent_of_resampled_corpora(name: Name) -> None:
    found = corpus_score(name, POOR, REFERENCES, DRAWS)
    expected = np.quantile(resampled(name, POOR), LEVELS)
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=1e-9)
    assert found.num_items == found.num_clusters == 12


def test_a_difference_resamples_both_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sodakit.eval.results.DRAWS", DRAWS)
    found = corpus_difference("asr_bleu", GOOD, POOR, REFERENCES).value
    differences = resampled("asr_bleu", GOOD) - resampled("asr_bleu", POOR)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(differences, LEVELS)), abs=1e-9)
    scores = [sacrebleu.corpus_bleu(heard, [REFERENCES]).score for heard in (GOOD, POOR)]
    assert found.value == pytest.approx(scores[0] - scores[1], abs=1e-9)


def test_without_sacrebleu_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(MissingExtra, match=r"sodakit\[eval\]"):
        CorpusMetric("chrf")
