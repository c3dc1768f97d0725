"""How fast a model of one width learns, given that of another: rules by name, and what they set.

    soda        lr = scale · √rows / width, for all parameters alike (arXiv 2602.16687)
    mup         lr = scale · √rows / base_width for embeddings and norms; times base fan-in / fan-in for matrices and heads
    response    lr = factor · N^n · D^d, for all alike, as measured (`scale tune --law`)

`mup` is the maximal-update parametrisation for Adam (Yang et al. 2022, arXiv 2203.03466, table 8): at the base width it is what
`soda` is there, and away from it every layer's output changes by as much in a step. Adam's steps do not depend on the size of
gradients, so an output multiplier 1/r is the same as a head whose first weights and learning rate are 1/r times as large: all of
it is first deviations and learning rates by names of parameters, data of the recipe, and the model's arithmetic stays a Qwen3's.
Each part is measured by its own width: a depth decoder by its own, its input from the backbone by the backbone's.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from sodakit.bounds import Bounded, Bounds, Count, Positive
from sodakit.config import from_plain
from sodakit.errors import ConfigError
from sodakit.files import read_json
from sodakit.model.accounting import count_parameters
from sodakit.model.any_config import AnyConfig, read_widths, with_init_stds

RuleName = Literal["soda", "mup", "response"]


@dataclass(frozen=True, kw_only=True)
class LrLaw(Bounded):
    """A measured best learning rate: factor · N^n · D^d."""

    factor: Positive
    n: Annotated[float, Bounds(least=-10, most=10)]
    d: Annotated[float, Bounds(least=-10, most=10)]
    size: str = "total"
    """What counts as N."""

    def __call__(self, model: AnyConfig, tokens: float) -> float:
        """The best for a model and so many tokens."""
        return float(self.factor * getattr(count_parameters(model), self.size) ** self.n * tokens**self.d)


@dataclass(frozen=True, kw_only=True)
class LrRule(Bounded):
    """The learning rate of a run, and how it is spread over its parameters."""

    name: RuleName = "soda"
    """See above."""
    scale: Positive = 0.33
    """Of `soda` and `mup`."""
    base_width: Count = 128
    """Of `mup`: where it agrees with `soda`."""
    law: LrLaw | None = None
    """Of `response`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.name == "response") != (self.law is not None):
            raise ConfigError(
                f"The rule {self.name!r} {'lacks its' if self.law is None else 'has no'} measured law. Needed: `response` with the file "
                "that `sodakit scale tune --law` writes."
            )

    def peak_lr(self, model: AnyConfig, rows: float, tokens: float) -> float:
        """The learning rate of the stable phase.

        Args:
            rows: in a batch.
            tokens: of the whole run.
        """
        if self.law is not None:
            return self.law(model, tokens)
        width = self.base_width if self.name == "mup" else model.backbone.width
        return self.scale * math.sqrt(rows) / width


def read_lr_rule(word: str, base_width: int | None = None) -> LrRule:
    """A rule as a command line names it: `soda`, `mup`, or a file of `scale tune --law`.

    Raises:
        ConfigError: neither.
    """
    base = {} if base_width is None else {"base_width": base_width}
    if word in ("soda", "mup"):
        if base and word == "soda":
            raise ConfigError("--lr-base-width is of the rule mup. Leave it out, or take --lr-rule mup.")
        return LrRule(name=word, **base)  # type: ignore[arg-type]
    if base or not Path(word).is_file():
        raise ConfigError(
            f"{word!r} is no rule of learning rates. Needed: soda, mup, or a file that `sodakit scale tune --law` wrote."
        )
    return LrRule(name="response", law=from_plain(LrLaw, read_json(word), word))


def lr_factors(model: AnyConfig, base: AnyConfig) -> dict[str, float]:
    """`OptimConfig.lr_factors` of a model by `mup`, given the model of the base width.

    Raises:
        ConfigError: a model whose head is its embedding, which would need both at once.
    """
    # "head.*" is no part of "depth.head.weight", and norms, which are vectors, keep their rate.
    return {"*norm*": 1.0} | {pattern: 1 / ratio for pattern, ratio in _ratios(model, base).items()}


def with_first_deviations(model: AnyConfig, base: AnyConfig) -> AnyConfig:
    """A model whose matrices begin as `mup` asks: with 1/√fan-in, heads with 1/fan-in, both as large as ever at the base width.

    Raises:
        ConfigError: as `lr_factors`.
    """
    std = model.backbone.init_std
    stds = tuple(
        (pattern, std / (ratio if "head" in pattern else math.sqrt(ratio)))
        for pattern, ratio in _ratios(model, base).items()
    )
    return with_init_stds(model, stds)


def _ratios(model: AnyConfig, base: AnyConfig) -> Mapping[str, float]:
    """By pattern of names, how many times wider what a matrix reads is than at the base. Embeddings read one id each: none."""
    if model.tied_embeddings:
        raise ConfigError(
            "The rule mup with tied embeddings: one matrix cannot learn at two rates. Take an untied head."
        )
    wide, narrow = read_widths(model), read_widths(base)
    return {pattern: wide[pattern] / narrow[pattern] for pattern in wide}
