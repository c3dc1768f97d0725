"""From a budget to a run: the best size and tokens, how flat the optimum is, and what leaving it costs.

Sizes and FLOPs follow the conventions of the law: a law of N with two embeddings plans N with two embeddings.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import optimize

from sodakit.errors import ConfigError
from sodakit.model.accounting import count_parameters
from sodakit.model.any_config import AnyConfig
from sodakit.scaling.costs import FlopsPerToken, flops_by_size, six_n
from sodakit.scaling.design import LARGEST_WIDTH, SODA_RULE, GridRule, buildable_widths
from sodakit.scaling.laws import LAWS, Law
from sodakit.scaling.repeats import HALF_LIFE, effective_tokens
from sodakit.scaling.sweeps import PowerLaw

SODA_TOKENS_PER_AUDIO_S = 100.0 / 0.95
"""Tokens of SODA's mixture over seconds of its audio: 12.5 frames of 8 codebooks, and 5% of the tokens are text."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The best run at a budget, by a law."""

    flops: float
    """Training FLOPs."""
    size: float
    """N*."""
    tokens: float
    """D*."""
    loss: float
    """Expected, in nats per token."""
    within: Mapping[float, tuple[float, float]]
    """Share of the loss → the sizes that lose no more: {0.001: (low, high)}."""
    size_interval: tuple[float, float] | None = None
    """95 % of the refits."""
    tokens_interval: tuple[float, float] | None = None
    loss_interval: tuple[float, float] | None = None
    unique_tokens: float | None = None
    """Data there is, where the plan repeats it."""

    @property
    def tokens_per_parameter(self) -> float:
        """D*/N*."""
        return self.tokens / self.size

    @property
    def passes(self) -> float | None:
        """Over the unique data."""
        return None if self.unique_tokens is None else self.tokens / self.unique_tokens

    def audio_hours(self, tokens_per_audio_s: float) -> float:
        """Hours of audio heard, by all tokens of the mixture over seconds of audio; with both orders each counts twice."""
        return self.tokens / tokens_per_audio_s / 3600


def plan_budget(
    parameters: Mapping[str, float],
    flops: float,
    *,
    law: Law = LAWS["chinchilla"],
    flops_per_token: FlopsPerToken = six_n,
    draws: Sequence[Mapping[str, float]] = (),
    unique_tokens: float | None = None,
    repeat_half_life: float = HALF_LIFE,
    within: Sequence[float] = (0.001, 0.005),
) -> Plan:
    """The size and tokens of the least expected loss at a budget.

    Args:
        parameters: of the law, by name.
        draws: the same of refits, for intervals.
        unique_tokens: data there is; beyond it tokens are repeated and worth less and less.
    Raises:
        ConfigError: the law knows no trade of size for data.
    """
    if not {"N", "D"} <= set(law.variables):
        raise ConfigError(
            f"The law {law.name!r} does not trade size for data; plan with 'chinchilla' or 'tied'."
        )

    def losses(p: Mapping[str, float], size: np.ndarray) -> np.ndarray:
        tokens = effective_tokens(flops / flops_per_token(size), unique_tokens, repeat_half_life)
        given = {"N": size, "D": tokens, "C": np.full_like(size, flops)}
        return law.loss(p, **{k: v for k, v in given.items() if k in law.variables})

    def best(p: Mapping[str, float]) -> tuple[float, float, float]:
        size, least = _minimum(partial(losses, p))
        return size, float(flops / flops_per_token(np.array([size]))[0]), least

    size, tokens, loss = best(parameters)
    ranges = {share: _ends_below(partial(losses, parameters), size, loss * (1 + share)) for share in within}
    intervals: list[tuple[float, float] | None] = [None, None, None]
    if draws:
        found = np.array([best(p) for p in draws])
        ends = np.quantile(found, [0.025, 0.975], axis=0)
        intervals = [(float(ends[0, i]), float(ends[1, i])) for i in range(3)]
    return Plan(
        flops=flops,
        size=size,
        tokens=tokens,
        loss=loss,
        within=ranges,
        size_interval=intervals[0],
        tokens_interval=intervals[1],
        loss_interval=intervals[2],
        unique_tokens=unique_tokens,
    )


_SIZES = np.geomspace(1e4, 1e14, 2001)
"""Where a minimum is looked for before it is solved."""


def _minimum(losses: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
    """The size of the least loss and that loss: bracketed on a grid, then solved."""
    on_grid = losses(_SIZES)
    # A law that is no sum of powers may fall without end far beyond its runs: that is no optimum while there is one.
    inner = np.flatnonzero((on_grid[1:-1] < on_grid[:-2]) & (on_grid[1:-1] <= on_grid[2:])) + 1
    if not len(inner):
        i = int(np.argmin(on_grid))
        return float(_SIZES[i]), float(on_grid[i])
    i = int(inner[np.argmin(on_grid[inner])])
    ends = np.log(_SIZES[[i - 1, i + 1]])
    found = optimize.minimize_scalar(
        lambda x: float(losses(np.array([np.exp(x)]))[0]),
        bounds=(float(ends[0]), float(ends[1])),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return float(np.exp(found.x)), float(found.fun)


def _ends_below(losses: Callable[[np.ndarray], np.ndarray], size: float, level: float) -> tuple[float, float]:
    """The sizes on both sides of the best at which the loss reaches a level."""
    above = losses(_SIZES) - level
    ends = []
    for sign in (-1, 1):
        side = _SIZES[sign * (_SIZES - size) > 0][::sign]
        outside = above[sign * (_SIZES - size) > 0][::sign] > 0
        if not outside.any():
            ends.append(float(side[-1]) if len(side) else size)
            continue
        ends.append(
            float(
                np.exp(
                    optimize.brentq(
                        lambda x: float(losses(np.array([np.exp(x)]))[0]) - level,
                        np.log(size),
                        np.log(side[int(np.argmax(outside))]),
                        xtol=1e-9,
                    )
                )
            )
        )
    return ends[0], ends[1]


def wasted_share(
    parameters: Mapping[str, float],
    flops: float,
    size: float,
    tokens: float,
    *,
    law: Law = LAWS["chinchilla"],
    flops_per_token: FlopsPerToken = six_n,
) -> float:
    """The share of a plan's compute that is wasted if this is the true law: with 1 − share of it the best run is as good.

    Args:
        parameters: of the law that is true.
        size: N of the plan, made by another law or by other parameters.
        tokens: D of the plan.
    """
    given = {"N": size, "D": tokens, "C": flops}
    reached = float(law.loss(parameters, **{k: given[k] for k in law.variables})[0])

    def above(log_share: float) -> float:
        budget = flops * float(np.exp(log_share))
        return (
            plan_budget(parameters, budget, law=law, flops_per_token=flops_per_token, within=()).loss
            - reached
        )

    if above(-14.0) <= 0:  # the plan is no better than a millionth of its compute
        return 1.0
    return float(1 - np.exp(optimize.brentq(above, -14.0, 0.0, xtol=1e-6))) if above(0.0) < 0 else 0.0


def optimal_tokens(
    parameters: Mapping[str, float], size: float, *, flops_per_token: FlopsPerToken = six_n
) -> float:
    """D*(N): the tokens for which a size is the compute-optimal one."""
    p = _two_terms(parameters)
    step = 1e-4
    ends = flops_per_token(np.array([size * np.exp(-step), size * np.exp(step)]))
    elasticity = float(np.log(ends[1] / ends[0]) / (2 * step))
    ratio = elasticity * p["beta"] * p["B"] / (p["alpha"] * p["A"])
    return float((ratio * size ** p["alpha"]) ** (1 / p["beta"]))


def over_training_factor(
    parameters: Mapping[str, float], size: float, tokens: float, *, flops_per_token: FlopsPerToken = six_n
) -> float:
    """How many times more tokens than are optimal for a size."""
    return tokens / optimal_tokens(parameters, size, flops_per_token=flops_per_token)


def tokens_for_loss(parameters: Mapping[str, float], size: float, loss: float) -> float:
    """The tokens with which a size reaches a loss; inf where it never does."""
    p = _two_terms(parameters)
    left = loss - p["E"] - p["A"] / size ** p["alpha"]
    return float((p["B"] / left) ** (1 / p["beta"])) if left > 0 else float("inf")


def overhead(
    parameters: Mapping[str, float], flops: float, share: float, *, flops_per_token: FlopsPerToken = six_n
) -> float:
    """Extra training compute, as a share, to reach the loss of the optimum at `flops` with `share` times its size."""
    plan = plan_budget(parameters, flops, flops_per_token=flops_per_token)
    size = plan.size * share
    tokens = tokens_for_loss(parameters, size, plan.loss)
    return float(flops_per_token(np.array([size]))[0] * tokens / flops - 1)


def plan_with_inference(
    parameters: Mapping[str, float],
    flops: float,
    inference_tokens: float,
    *,
    flops_per_token: FlopsPerToken = six_n,
) -> tuple[float, float, float]:
    """Size, tokens and total FLOPs of the cheapest model as good as the optimum at `flops`, once it also has to serve
    `inference_tokens` (a third of the training FLOPs per token each)."""
    loss = plan_budget(parameters, flops, flops_per_token=flops_per_token).loss

    def total(size: np.ndarray) -> np.ndarray:
        tokens = np.array([tokens_for_loss(parameters, float(n), loss) for n in size])
        return flops_per_token(size) * (tokens + inference_tokens / 3)

    size, cost = _minimum(total)
    return size, tokens_for_loss(parameters, size, loss), cost


@dataclass(frozen=True, kw_only=True)
class PublishedLaw:
    """N* and D* as power laws of C, where no surface is known."""

    size: PowerLaw
    tokens: PowerLaw
    source: str

    def optimum(self, flops: float) -> tuple[float, float]:
        """N* and D* at a budget."""
        return float(self.size(flops)), float(self.tokens(flops))

    def over_training_factor(self, size: float, tokens: float) -> float:
        """How many times more tokens than at the budget for which the size is optimal."""
        return tokens / float(self.tokens(self.size.inverse(size)))


SODA_LAW = PublishedLaw(
    size=PowerLaw(factor=52.3, exponent=0.367),
    tokens=PowerLaw(factor=0.0392, exponent=0.579),
    source="arXiv 2602.16687, approach 2; exponents as published, factors read back from its tokens per parameter",
)
"""SODA's law: C in training FLOPs as the paper counts, N with two embeddings, D with both orders."""


@dataclass(frozen=True, kw_only=True)
class Buildable:
    """A shape near the plan, with what it really costs."""

    model: AnyConfig
    size: float
    """By the law's convention."""
    tokens: float
    """What the budget pays for."""
    loss: float
    excess: float
    """Share of the loss above the optimum of `plan_budget`; a little below zero where a shape lies between the sizes
    that the optimum is interpolated from."""


def buildable_plans(
    parameters: Mapping[str, float],
    flops: float,
    rule: GridRule = SODA_RULE,
    *,
    size: str = "two_embeddings",
    count: int = 3,
    law: Law = LAWS["chinchilla"],
    unique_tokens: float | None = None,
    repeat_half_life: float = HALF_LIFE,
) -> list[Buildable]:
    """The shapes with the least expected loss at a budget, by their own FLOPs, the best first.

    Args:
        size: the law's convention for N.
        unique_tokens: data there is; beyond it tokens are repeated and worth less and less.
    """
    optimum = plan_budget(
        parameters,
        flops,
        law=law,
        flops_per_token=flops_by_size(rule, size),
        unique_tokens=unique_tokens,
        repeat_half_life=repeat_half_life,
    )
    found = []
    for width in buildable_widths(rule, 64, LARGEST_WIDTH):
        model = rule.shape(width)
        params, tokens = float(getattr(count_parameters(model), size)), flops / rule.flops_per_token(model)
        effective = float(effective_tokens(np.array(tokens), unique_tokens, repeat_half_life))
        values = {"N": params, "D": effective, "C": flops}
        found.append(
            (float(law.loss(parameters, **{k: values[k] for k in law.variables})[0]), model, params, tokens)
        )
    found.sort(key=lambda row: row[0])
    return [
        Buildable(model=m, size=n, tokens=d, loss=loss, excess=loss / optimum.loss - 1)
        for loss, m, n, d in found[:count]
    ]


def _two_terms(parameters: Mapping[str, float]) -> dict[str, float]:
    if not {"E", "A", "B", "alpha"} <= set(parameters):
        raise ConfigError(
            f"Needed: E, A, B, alpha (and beta) of a Chinchilla law; given: {', '.join(parameters)}."
        )
    return {"beta": parameters["alpha"], **parameters}
