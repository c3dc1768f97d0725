"""What published models score, and how far from it a run of ours may be: the table of arXiv:2602.16687 and its peers.

A tolerance says what else than a mistake can move a score: another codec build, resampler or number format for
likelihoods; the recogniser, sampling and unpublished settings for what is generated.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sodakit.errors import ConfigError, nearest
from sodakit.eval.results import estimates


@dataclass(frozen=True)
class ScoreKind:
    """A column of the table."""

    task: str
    """Of our result file; `text` scores are the harness's."""
    score: str
    """Name of the score in it: see `results.estimates`."""
    scale: float
    """Ours times this is the published unit."""
    tolerance: float
    """In the published unit."""
    why: str
    """What the tolerance allows for."""


_CODEC = "codec build, resampler and number format"
SCORES: dict[str, ScoreKind] = {
    "sBLIMP": ScoreKind("sblimp", "soda", 100, 0.5, _CODEC),
    "sWUGGY": ScoreKind("swuggy", "soda", 100, 0.5, _CODEC),
    "SALMon": ScoreKind("salmon", "soda", 100, 0.8, f"{_CODEC}; 1,600 pairs"),
    "tBLIMP": ScoreKind("tblimp", "soda", 100, 0.3, "number format"),
    "tWUGGY": ScoreKind("twuggy", "soda", 100, 0.3, "number format"),
    "HellaSwag": ScoreKind(
        "text", "hellaswag/acc_norm", 100, 0.5, "version of the harness; acc_norm is assumed"
    ),
    "ASR WER": ScoreKind("asr", "wer_micro", 100, 1.5, "decoding settings of the table were not published"),
    "TTS WER": ScoreKind("tts", "wer_macro", 100, 1.5, "sampling, decoding settings and the recogniser"),
    "TTS SIM": ScoreKind("tts", "similarity", 1, 0.02, "sampling; only with the seed-tts-eval speaker model"),
}
"""Columns; policies are `soda`, the ASR set is LibriSpeech test-clean, the TTS set seed-tts-eval English."""

PUBLISHED: dict[str, dict[str, float]] = {
    "TWIST-7B": {"sBLIMP": 59.0, "sWUGGY": 73.9, "SALMon": 61.6},
    "SpiritLM-base-7B": {"sBLIMP": 58.3, "sWUGGY": 69.0, "SALMon": 57.2, "tBLIMP": 73.3, "tWUGGY": 80.3},
    "SpiritLM-Expr-7B": {"sBLIMP": 54.2, "sWUGGY": 65.0, "SALMon": 67.1, "tBLIMP": 73.6, "tWUGGY": 75.8},
    "Llama-Mimi-1.3B": {"sBLIMP": 54.3, "sWUGGY": 68.7, "SALMon": 73.6},
    "Llama-Mimi-8B": {"sBLIMP": 55.1, "sWUGGY": 68.8, "SALMon": 73.2},
} | {
    name: dict(zip(SCORES, values, strict=True))
    for name, values in {
        "SODA-prelim-600M": (50.9, 57.8, 69.4, 69.0, 71.3, 26.2, 22.0, 9.2, 0.516),
        "SODA-135M": (50.1, 56.3, 70.0, 67.4, 70.7, 28.7, 28.1, 11.2, 0.500),
        "SODA-600M": (51.2, 58.9, 70.1, 70.7, 73.1, 35.8, 10.2, 7.6, 0.555),
        "SODA-1.7B": (51.4, 60.6, 70.6, 70.3, 74.7, 44.5, 7.0, 6.9, 0.560),
        "SODA-4B": (52.4, 61.8, 70.4, 71.3, 74.8, 52.6, 5.0, 6.1, 0.560),
        "SODA-600M-warm": (51.1, 59.1, 70.7, 70.8, 77.0, 36.3, 14.6, 6.6, 0.559),
        "SODA-1.7B-warm": (51.8, 60.3, 70.3, 71.0, 79.2, 47.1, 17.3, 6.8, 0.557),
    }.items()
}
"""By model and column, percent but for SIM. A peer's row was scored by its own policy, not by `soda`: read it down its
own column only. Source: the experiment log of arXiv:2602.16687; TTS by SpiritLM is from other papers and left out."""


@dataclass(frozen=True)
class Check:
    """One published score and ours."""

    column: str
    published: float
    ours: float
    low: float
    high: float
    """95 % interval of ours; equal to it where the result gives none."""
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether the published value lies within the tolerance of our interval."""
        return self.low - self.tolerance <= self.published <= self.high + self.tolerance


def check(model: str, results: Sequence[Mapping[str, Any]]) -> list[Check]:
    """Our scores of a published model beside its own.

    Raises:
        ConfigError: a model that is not in the table.
    """
    if model not in PUBLISHED:
        raise ConfigError(f"No published scores of {model!r}.{nearest(model, PUBLISHED, 'Models')}")
    return [
        Check(column, PUBLISHED[model][column], *values, SCORES[column].tolerance)
        for column in PUBLISHED[model]
        for result in results
        if (values := _ours(SCORES[column], result)) is not None
    ]


def expected_lines() -> Iterator[str]:
    """Markdown: every published row, and the tolerances beneath."""
    yield f"| model | {' | '.join(SCORES)} |"
    yield "|---" * (len(SCORES) + 1) + "|"
    for model, values in PUBLISHED.items():
        yield f"| {model} | {' | '.join(f'{values[c]:g}' if c in values else '–' for c in SCORES)} |"
    yield f"| tolerance | {' | '.join(f'± {kind.tolerance:g}' for kind in SCORES.values())} |"


def check_lines(checks: Sequence[Check]) -> Iterator[str]:
    """Markdown: published beside ours."""
    yield "| score | published | ours | 95 % interval | tolerance | |"
    yield "|---|---|---|---|---|---|"
    for c in checks:
        verdict = "agrees" if c.agrees else "differs"
        yield (
            f"| {c.column} | {c.published:g} | {c.ours:.3g} | {c.low:.3g} to {c.high:.3g} "
            f"| ± {c.tolerance:g} | {verdict} |"
        )


def _ours(kind: ScoreKind, result: Mapping[str, Any]) -> tuple[float, float, float] | None:
    if result["task"] != kind.task:
        return None
    if kind.task == "text":
        task, _, metric = kind.score.partition("/")
        value = result["scores"].get(task, {}).get(metric)
        spread = 1.96 * result["scores"].get(task, {}).get(f"{metric}_stderr", 0.0)
        found = None if value is None else (value, value - spread, value + spread)
    else:
        score = estimates(result).get(kind.score)
        found = None if score is None else (score["value"], score["low"], score["high"])
    return None if found is None else (found[0] * kind.scale, found[1] * kind.scale, found[2] * kind.scale)
