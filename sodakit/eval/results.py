"""Scores with intervals and with what they depend on: one JSON file per task, tables of several, and paired tests."""

import math
import platform
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student_t

from sodakit import __version__
from sodakit.errors import ConfigError
from sodakit.eval.labels import Group, Question
from sodakit.files import read_json, write_json

DRAWS = 2000
"""Bootstrap draws behind an interval."""
_DRAWS_AT_ONCE = 100
_PACKAGES = (
    "torch", "numpy", "scipy", "transformers", "tokenizers", "pyarrow", "soundfile", "soxr",
    "jiwer", "sacrebleu", "lm_eval", "faster-whisper", "ctranslate2",
)  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % bootstrap interval over clusters."""

    value: float
    low: float
    high: float
    num_items: int
    """What it is the mean of."""
    num_clusters: int
    """Independent sources among them: what is resampled."""

    def __str__(self) -> str:
        return f"{self.value:.1%} ({self.low:.1%} to {self.high:.1%}, {self.num_items} items)"

    @property
    def excludes_chance(self) -> bool:
        """Whether the interval leaves 50 % out."""
        return not self.low <= 0.5 <= self.high


def accuracy(
    questions: Sequence[Question],
    answers: Sequence[float | None],
    group: Group = "pair",
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """The mean answer in the order of averages that `group` names; questions of one source are resampled together.

    Raises:
        ConfigError: nothing was answered.
    """
    values, clusters, types = _units(questions, answers, group)
    if not len(values):
        raise ConfigError("Not one pair was answered, so there is no accuracy. Are the clips readable?")
    return estimate(values, clusters, types, draws=draws, seed=seed)


def estimate(
    values: Sequence[float] | np.ndarray,
    clusters: Sequence[str],
    types: Sequence[str] | None = None,
    weights: Sequence[float] | np.ndarray | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """The mean over types of the (weighted) mean of values, with an interval over clusters.

    Args:
        values: one for each item.
        clusters: the source of each item.
        types: the type of each; None for one type: the plain mean.
        weights: of each item; None for 1.
    """
    value_I = np.asarray(values, np.float64)
    weight_I = np.ones(len(value_I)) if weights is None else np.asarray(weights, np.float64)
    return ratio_estimate(value_I * weight_I, weight_I, clusters, types, draws=draws, seed=seed)


def ratio_estimate(
    sums: Sequence[float] | np.ndarray,
    counts: Sequence[float] | np.ndarray,
    clusters: Sequence[str],
    types: Sequence[str] | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """The mean over types of sums over counts, with an interval over clusters: an item may have a sum and no count.

    Args:
        sums: one for each item, such as its word errors.
        counts: what they are shared by, such as its reference words.
        clusters: the source of each item.
        types: the type of each; None for one type.
    """
    sum_I, count_I = np.asarray(sums, np.float64), np.asarray(counts, np.float64)
    cluster_I, num_clusters = _numbers(clusters)
    type_I, num_types = _numbers(types if types is not None else [""] * len(sum_I))
    place_I = cluster_I * num_types + type_I
    sums, counts = (
        np.bincount(place_I, x_I, num_clusters * num_types).reshape(num_clusters, num_types)
        for x_I in (sum_I, count_I)
    )
    return resampled(
        lambda drawn_DC: _mean_of_means(drawn_DC @ sums, drawn_DC @ counts),
        num_clusters,
        len(sum_I),
        draws=draws,
        seed=seed,
    )


def resampled(
    score: Callable[[np.ndarray], np.ndarray],
    num_clusters: int,
    num_items: int,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """A score with its 95 % bootstrap interval over clusters.

    Args:
        score: the score of each row of how often each cluster is drawn.
    """
    values = [score(drawn_DC) for drawn_DC in _drawn(num_clusters, draws, seed)]
    low, high = _ends(np.concatenate(values), num_clusters)
    return Estimate(score(np.ones((1, num_clusters)))[0].item(), low, high, num_items, num_clusters)


@dataclass(frozen=True)
class Difference:
    """One model's score against another's on the same items."""

    value: Estimate
    """Score of the first minus that of the second."""
    p_value: float
    """Two-sided, by exchanging the two models in whole clusters."""


COMPARED = (
    "task",
    "data_digest",
    "shards",
    "utterances",
    "softmax",
    "normaliser",
    "judge",
    "speaker_judge",
    "text_model",
    "judged",
    "task_versions",
)
"""What two results must have in common for a paired test to mean anything."""


def compare(first: Mapping[str, Any], second: Mapping[str, Any], name: str, *, seed: int = 0) -> Difference:
    """The paired difference of two results in one score, averaged as the score itself is.

    Args:
        name: one of `comparable(first)`: a policy; a variant of likelihood; `wer`, all errors over all words;
            `similarity`; `mos_…`; of continuations also `gen_nll`, all nats over all tokens, and `auto_bleu`; of text benchmarks
            `TASK METRIC`. BLEU is no mean of items: `compare_translations`.
    Raises:
        ConfigError: other tasks, data, judges or policies, no such score, or no item in common.
    """
    check_comparable(first, second, COMPARED + (("mos_judge",) if name.startswith("mos_") else ()))
    a, b = observations(first, name), observations(second, name)
    shared = [key for key in a if key in b]
    if not shared:
        raise ConfigError(
            f"The two results share no item under {name!r}; they have {', '.join(comparable(first))} and "
            f"{', '.join(comparable(second))}."
        )
    rules = [result["scores"][name]["policy"] for result in (first, second) if "questions" in result]
    if rules and rules[0] != rules[1]:
        raise ConfigError(f"The results have {name} with other settings: {rules[0]} and {rules[1]}.")
    sides = [[side[key] for key in shared] for side in (a, b)]
    if rules:
        sides = [_averaged(side, rules[0]["group"]) for side in sides]
    return _paired(sides[0], sides[1], seed)


def check_comparable(
    first: Mapping[str, Any], second: Mapping[str, Any], compared: Sequence[str] = COMPARED
) -> None:
    """Refuse two results whose difference would not be one of the models.

    Raises:
        ConfigError: they are of other tasks, data or judges; the message names which.
    """
    for field in compared:
        if first.get(field) != second.get(field):
            raise ConfigError(
                f"The results are of {field} {first.get(field)!r} and {second.get(field)!r}; a paired test needs the "
                "same. Score both models on one benchmark."
            )


@dataclass(frozen=True)
class Observation:
    """What one item contributes to a score: sums over items, divided, are the score of a type; types are averaged."""

    total: float
    weight: float
    cluster: str
    question: Question | None = None
    """Of pairs: what decides how answers are averaged."""
    type: str = ""


def observations(result: Mapping[str, Any], name: str) -> dict[str, Observation]:
    """The items of a result under one score, by their place or id."""
    if "questions" in result:
        return {
            str(number): Observation(float(answer), 1.0, question["cluster"], _question(question))
            for number, question in enumerate(result["questions"])
            if (answer := question["answers"].get(name)) is not None
        }
    if "nll" in result:
        sums = result.get("recordings", {}).get(name, {})
        return {key: Observation(nats, float(tokens), key) for key, (nats, tokens) in sums.items()}
    found = {}
    for item in result.get("items", ()):
        value = item.get("scores", item).get(name)
        if name == "wer" and item.get("words") is not None:
            total, weight = float(item["errors"]), float(item["words"])
        elif name == "gen_nll" and value is not None:
            total, weight = value * item["tokens"], float(item["tokens"])
        elif name != "wer" and isinstance(value, int | float):
            total, weight = float(value), 1.0
        else:
            continue
        found[item["id"]] = Observation(total, weight, item["cluster"])
    return found


def comparable(result: Mapping[str, Any]) -> list[str]:
    """Names of the scores of a result that two models can be compared by."""
    if "questions" in result:
        return list(result["scores"])
    names = tuple(result.get("nll", ())) or ("wer", "similarity", "gen_nll", "auto_bleu", *_opinions(result))
    # Each question of a text benchmark has scores of its own, by task and metric.
    more = sorted({name for item in result.get("items", ()) for name in item.get("scores", ())})
    return [name for name in (*names, *more) if observations(result, name)]


def _opinions(result: Mapping[str, Any]) -> list[str]:
    """Columns of a judge of quality."""
    return sorted({name for item in result.get("items", ()) for name in item if name.startswith("mos_")})


def _question(plain: Mapping[str, Any]) -> Question:
    if "type" not in plain:
        raise ConfigError(
            "A result without the types of its pairs, by an older version. Run the same `sodakit eval pairs` again: "
            "log-probabilities are kept, only the averages are made anew."
        )
    labels = {field: plain[field] for field in ("id", "part", "voice", "type", "subtype")}
    return Question(right="", wrong=(), source=plain["cluster"], **labels)


def _averaged(side: Sequence[Observation], group: Group) -> list[Observation]:
    """Answers of one model averaged within a pair where the policy does, each with its type."""
    questions = [o.question for o in side if o.question is not None]
    units = zip(*_units(questions, [o.total for o in side], group), strict=True)
    return [Observation(value, 1.0, cluster, type=kind) for value, cluster, kind in units]


def _paired(first: Sequence[Observation], second: Sequence[Observation], seed: int) -> Difference:
    cluster_I, num_clusters = _numbers([o.cluster for o in first])
    type_I, num_types = _numbers([o.type for o in first])

    def by_cluster(values: list[float]) -> np.ndarray:
        cells = np.bincount(cluster_I * num_types + type_I, values, num_clusters * num_types)
        return cells.reshape(num_clusters, num_types)

    a, a_weight, b, b_weight = (
        by_cluster([getattr(o, field) for o in side])
        for side in (first, second)
        for field in ("total", "weight")
    )

    def difference(own_DC: np.ndarray, other_DC: np.ndarray) -> np.ndarray:
        """A model with `own` of its clusters and `other` of the second's, minus one with the opposite."""
        one = _mean_of_means(own_DC @ a + other_DC @ b, own_DC @ a_weight + other_DC @ b_weight)
        return one - _mean_of_means(own_DC @ b + other_DC @ a, own_DC @ b_weight + other_DC @ a_weight)

    return paired_test(difference, num_clusters, len(first), seed)


Contrast = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Of `own_DC` and `other_DC`, how often each cluster counts: the score of a model with `own` of the first's clusters and
`other` of the second's, minus that of one with the opposite; one for each row."""


def paired_test(difference: Contrast, num_clusters: int, num_items: int, seed: int) -> Difference:
    """Interval by resampled clusters, p-value by exchanging the two models in whole clusters."""
    nothing = np.zeros((1, num_clusters))
    observed = difference(nothing + 1, nothing)[0].item()
    drawn = [difference(taken, 0 * taken) for taken in _drawn(num_clusters, DRAWS, seed)]
    low, high = _ends(np.concatenate(drawn), num_clusters)
    rng = np.random.default_rng(seed)
    exchanges = [rng.integers(0, 2, (_DRAWS_AT_ONCE, num_clusters)) for _ in range(100)]
    by_chance = np.concatenate([difference(1 - exchanged, exchanged) for exchanged in exchanges])
    # The observed assignment is one of the possible ones.
    p_value = (1 + (np.abs(by_chance) >= abs(observed) - 1e-12).sum()) / (1 + len(by_chance))
    estimated = Estimate(observed, low, high, num_items, num_clusters)
    return Difference(estimated, float(p_value))


def provenance() -> dict[str, Any]:
    """Versions of what computes scores: sodakit, Python, and the packages with numbers in them."""
    found: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return {"sodakit": __version__, "python": platform.python_version(), **found}


def save_result(path: Path | str, result: Mapping[str, Any]) -> None:
    """Write a result as JSON. It holds no time and no path, so the same run gives the same bytes."""
    write_json(path, result)


def load_result(path: Path | str) -> dict[str, Any]:
    """Read a result.

    Raises:
        ConfigError: no such file, no result, or a damaged one.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path} does not exist. Needed: a result that `sodakit eval` wrote.")
    result = read_json(path)
    if not isinstance(result, dict) or "task" not in result or not {"scores", "nll"} & result.keys():
        raise ConfigError(f"{path} is no result. Needed: a TASK.json that `sodakit eval` wrote.")
    wrong = _wrong_part(result)
    if wrong:
        raise ConfigError(f"{path} is damaged ({wrong}). Copy it again, or score again.")
    return result


def _wrong_part(result: dict[str, Any]) -> str | None:
    """What of a result cannot be shown; None if all can."""
    for key in ("scores", "nll"):
        if not isinstance(result.get(key, {}), dict):
            return f"{key} is {result[key]!r:.40}"
    for name, score in result.get("scores", {}).items() if "questions" in result else ():
        parts = score.get("parts", {}) if isinstance(score, dict) else None
        if not isinstance(parts, dict):
            return f"scores.{name} is {score!r:.60}"
        for part, value in {"accuracy": score.get("accuracy"), **parts}.items():
            if not _is_estimate(value):
                return f"scores.{name}.{part} is {value!r:.60}"
    return next(
        (f"nll.{n} is {v!r:.60}" for n, v in result.get("nll", {}).items() if not _is_estimate(v)), None
    )


def _is_estimate(value: Any) -> bool:
    names = ("value", "low", "high", "num_items")
    return isinstance(value, dict) and all(isinstance(value.get(n), (int, float)) for n in names)


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: one line per task and policy; the parts below it, indented."""
    lines = [
        "| task | policy | accuracy | 95 % interval | pairs | ties | missing |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        for name, score in result["scores"].items():
            counts = f"{score['num_ties']} | {score['num_missing']}"
            lines.append(_line(result["task"], name, score["accuracy"], counts))
            if len(score["parts"]) > 1:
                lines += [_line(f"· {part}", name, value, "|") for part, value in score["parts"].items()]
    return "\n".join(lines)


def estimates(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Every score of a result that has an interval, by name: of pairs `POLICY` and `POLICY/PART`, of speech `wer_micro`
    and on, of likelihood the variant. What the judges make of the originals is `originals/…`."""
    if "nll" in result:
        return dict(result["nll"])
    found: dict[str, Mapping[str, Any]] = {}
    for name, score in result["scores"].items():
        if "questions" in result:
            found[name] = score["accuracy"]
            # The only part is the whole.
            if len(score["parts"]) > 1:
                found |= {f"{name}/{part}": value for part, value in score["parts"].items()}
        elif isinstance(score, dict) and "low" in score:
            found[name] = score
        elif name == "originals":
            inner = {f"originals/{n}": v for n, v in score.items() if isinstance(v, dict) and "low" in v}
            found |= inner
    return found


def plain_estimate(value: Estimate) -> dict[str, Any]:
    """JSON-ready."""
    return asdict(value)


def _line(task: str, policy: str, value: Mapping[str, Any], counts: str) -> str:
    interval = f"{value['low']:.1%} to {value['high']:.1%}"
    return f"| {task} | {policy} | {value['value']:.1%} | {interval} | {value['num_items']} | {counts} |"


def _units(
    questions: Sequence[Question], answers: Sequence[float | None], group: Group
) -> tuple[list[float], list[str], list[str]]:
    """What is averaged: answers, or pairs with their voices averaged; with cluster and type of each."""
    pairs: dict[tuple[str, ...], list[tuple[float, Question]]] = defaultdict(list)
    for number, (question, value) in enumerate(zip(questions, answers, strict=True)):
        if value is not None:
            alone = (str(number),) if group == "pair" else ()
            key = (question.part, question.type, question.subtype, question.id, *alone)
            pairs[key].append((value, question))
    values = [float(np.mean([value for value, _ in members])) for members in pairs.values()]
    firsts = [members[0][1] for members in pairs.values()]
    types = [q.type if group == "subtype_then_type" else "" for q in firsts]
    return values, [q.cluster for q in firsts], types


def _numbers(names: Sequence[str]) -> tuple[np.ndarray, int]:
    known: dict[str, int] = {}
    numbers = np.array([known.setdefault(name, len(known)) for name in names], np.int64)
    return numbers, len(known)


def _ends(values_D: np.ndarray, num_clusters: int) -> tuple[float, float]:
    """The 95 % interval of what the draws gave. A draw of nothing to count, as of empty references alone, gave none."""
    low, high = np.quantile(values_D[~np.isnan(values_D)], _levels(num_clusters))
    return float(low), float(high)


def _levels(num_clusters: int) -> tuple[float, float]:
    """Which quantiles of the draws are a 95 % interval: of few clusters, wider ones than 2.5 and 97.5 %.

    A bootstrap of n clusters is too narrow by √((n - 1)/n), and knows its own spread no better than Student's t: the
    expanded percentile interval (Hesterberg 2015, doi:10.1080/00031305.2015.1089789, section 5.3).
    """
    if num_clusters < 2:
        return 0.0, 1.0
    expanded = math.sqrt(num_clusters / (num_clusters - 1)) * student_t.ppf(0.975, num_clusters - 1)
    return float(norm.cdf(-expanded)), float(norm.cdf(expanded))


def _drawn(num_clusters: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """How often each cluster is drawn, a row for each draw: that is all that matters of a bootstrap."""
    rng, shares = np.random.default_rng(seed), np.full(num_clusters, 1 / num_clusters)
    for first in range(0, draws, _DRAWS_AT_ONCE):
        yield rng.multinomial(num_clusters, shares, size=min(_DRAWS_AT_ONCE, draws - first))


def _mean_of_means(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan, dtype=np.float64), where=counts > 0)
    there = (counts > 0).sum(axis=1)
    return np.divide(np.nansum(means, axis=1), there, out=np.full(len(means), np.nan), where=there > 0)
