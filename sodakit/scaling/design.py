"""Which models to train on how many tokens: SODA's sweep exactly as it was made, and plain IsoFLOP grids.

soda_design()                                    # the 59 configurations of the rule and the 7 listed targets
isoflop_grid([1e13, 1e14], [64, 96, 128], rule=GridRule(vocab_size=1100, context=512, reference_steps=1000))
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sodakit.bounds import Bounded, Count, Positive
from sodakit.errors import ConfigError
from sodakit.model.accounting import (
    count_parameters,
)
from sodakit.model.any_config import (
    AnyConfig,
    Family,
    family_config,
)
from sodakit.model.config import SODA_VOCAB_SIZE, soda_grid_shape
from sodakit.scaling.point import DesignPoint, FlopsConvention, flops_per_position, tokens_per_position
from sodakit.scaling.transfer import LrRule, lr_factors, with_first_deviations
from sodakit.tokens.vocabulary import Vocabulary

SODA_FORWARD_BUDGETS = (1e18, 3e18, 6e18, 1e19, 3e19, 6e19, 1e20)
"""As the sweep script states them. They count the forward pass alone; the paper's are three times as large."""
SODA_TARGETS = (
    (3e19, 2048), (6e19, 2048), (6e19, 2304), (1e20, 2048), (1e20, 2304), (1e20, 2816), (1e20, 3072),
)  # fmt: skip
"""Larger points added by hand: forward budget and width. The paper reports 64 of the 66 points."""


@dataclass(frozen=True, kw_only=True)
class GridRule(Bounded):
    """How a budget and a width become a run."""

    vocab_size: Count = SODA_VOCAB_SIZE
    """V."""
    context: Count = 4096
    """Positions in a row: the paper's for flat models; 1,024 is published for frames."""
    tied_embeddings: bool = False
    """Whether head and embedding are the same."""
    reference_steps: Count = 65_536
    """The batch is the power of two, rounded up, with which a run takes at most about this many steps."""
    min_batch_rows: Count = 8
    """Points whose batch would be smaller are left out, or raised to it."""
    raise_to_min: bool = False
    """Raise them, so that they take fewer steps."""
    max_steps: Count = 400_000
    """Points that would take as many steps or more are left out."""
    lr: LrRule = LrRule()
    """How the learning rate follows."""
    max_lr: Positive = 0.01
    """By the rule `soda` the batch is halved until the learning rate is no larger."""
    beta2_reference_rows: Count = 128
    """beta2 = 0.98^(batch_rows / beta2_reference_rows)."""
    tolerance: Positive = 0.01
    """Points that miss their budget by a larger share are left out."""
    flops: FlopsConvention = "soda"
    """How a budget is counted: the paper's training FLOPs, exact ones, PaLM's, or 6ND with N of matrix products."""
    family: Family = "flat"
    """Of models."""
    conditioning: Literal["exact", "shifted"] = "exact"
    """Of `depth`: which codes of its frame a code sees."""
    num_codebooks: Count = 8
    """K, the last ids of the vocabulary with the next: what a model of frames has at a position."""
    codebook_size: Count = 2048
    """Codes of each."""

    def shape(self, width: int) -> AnyConfig:
        """The model of a width, with first weights as the rule of learning rates asks.

        Raises:
            ConfigError: a family of frames, and a vocabulary that holds no such codebooks.
        """
        model = self._shape(width)
        return with_first_deviations(model, self.base) if self.lr.name == "mup" else model

    @property
    def base(self) -> AnyConfig:
        """The model of the base width of `mup`."""
        return self._shape(self.lr.base_width)

    def _shape(self, width: int) -> AnyConfig:
        backbone = soda_grid_shape(
            width, self.vocab_size, context=self.context, tied_embeddings=self.tied_embeddings
        )
        if self.family == "flat":
            return backbone
        text = self.vocab_size - self.num_codebooks * self.codebook_size - 4
        if text < 2:
            raise ConfigError(
                f"A vocabulary of {self.vocab_size} ids has no room for text and {self.num_codebooks} codebooks of "
                f"{self.codebook_size}. Name those of the store: --num-codebooks and --codebook-size."
            )
        depth = {} if self.family == "delay" else {"conditioning": self.conditioning}
        vocabulary = Vocabulary.layout(
            text_size=text,
            bos=0,
            eos=1,
            num_codebooks=self.num_codebooks,
            codebook_size=self.codebook_size,
        )
        return family_config(self.family, backbone, vocabulary, **depth)

    def flops_per_position(self, model: AnyConfig) -> float:
        """Training FLOPs of one position by this rule's convention."""
        return flops_per_position(model, self.flops, self.context)

    def flops_per_token(self, model: AnyConfig) -> float:
        """Training FLOPs of one token: several stand at a position of a model of frames."""
        return self.flops_per_position(model) / tokens_per_position(model)


SODA_RULE = GridRule()
"""The published sweep's."""


def point_at(
    budget_flops: float,
    width: int,
    rule: GridRule = SODA_RULE,
    *,
    source: str = "grid",
    seed: int = 0,
    lr_multiple: float = 1.0,
) -> DesignPoint | None:
    """The run of a width at a training budget by the rule, or None where the rule leaves it out.

    Batch: the power of two at or above budget / (FLOPs per position · reference_steps · context), then by the rule `soda` halved
    until the learning rate is allowed.

    Args:
        lr_multiple: of the learning rate that the rule sets.
    """
    model = rule.shape(width)
    positions = budget_flops / rule.flops_per_position(model)
    batch = 2 ** math.ceil(math.log2(positions / (rule.reference_steps * rule.context)))
    while rule.lr.name == "soda" and rule.lr.peak_lr(model, batch, 0) > rule.max_lr:
        batch /= 2
    if rule.raise_to_min:
        batch = max(batch, rule.min_batch_rows)
    if batch < rule.min_batch_rows:
        return None
    steps = round(positions / (batch * rule.context))
    if not 1 <= steps < rule.max_steps or abs(steps * batch * rule.context / positions - 1) > rule.tolerance:
        return None
    return _point(budget_flops, model, int(batch), steps, rule, source, seed, lr_multiple)


def point_of_tokens(
    width: int, tokens: float, rule: GridRule = SODA_RULE, *, source: str = "optimal", seed: int = 0
) -> DesignPoint | None:
    """The run of a width over (about) so many tokens, its budget being what that costs."""
    budget = tokens * rule.flops_per_token(rule.shape(width))
    return point_at(budget, width, rule, source=source, seed=seed)


def _point(
    budget: float,
    model: AnyConfig,
    batch: int,
    steps: int,
    rule: GridRule,
    source: str,
    seed: int,
    lr_multiple: float,
) -> DesignPoint:
    tokens = batch * steps * rule.context * tokens_per_position(model)
    return DesignPoint(
        budget_flops=budget,
        model=model,
        batch_rows=batch,
        steps=steps,
        peak_lr=lr_multiple * rule.lr.peak_lr(model, batch, tokens),
        beta2=0.98 ** (batch / rule.beta2_reference_rows),
        context=rule.context,
        flops=rule.flops,
        source=source,
        seed=seed,
        lr_rule=rule.lr.name,
        lr_multiple=lr_multiple,
        lr_factors=tuple(lr_factors(model, rule.base).items()) if rule.lr.name == "mup" else (),
    )


def soda_design(*, targets: bool = True, rule: GridRule = SODA_RULE) -> list[DesignPoint]:
    """SODA's sweep: 59 points by the published rule, then 7 listed larger ones (66; the paper trained 64 of them).

    Widths go from 128 in steps of 128 up to a forward budget of 9e18 and of 256 above, to 2048.
    """
    wanted = [
        (forward, width, "sweep")
        for forward in SODA_FORWARD_BUDGETS
        for width in range(128, 2049, 128 if forward <= 9e18 else 256)
    ]
    if targets:
        wanted += [(forward, width, "target") for forward, width in SODA_TARGETS]
    found = (point_at(3 * forward, width, rule, source=source) for forward, width, source in wanted)
    return [point for point in found if point is not None]


def isoflop_grid(
    budgets_flops: Sequence[float],
    widths: Sequence[int],
    *,
    rule: GridRule = SODA_RULE,
    seeds: Sequence[int] = (0,),
    lr_multiples: Sequence[float] = (1.0,),
) -> list[DesignPoint]:
    """Every width at every training budget that the rule allows, for each seed and multiple of its learning rate.

    Raises:
        ConfigError: nothing is left.
    """
    points = [
        point
        for budget in budgets_flops
        for width in widths
        for seed in seeds
        for multiple in lr_multiples
        if (point := point_at(budget, width, rule, seed=seed, lr_multiple=multiple)) is not None
    ]
    if not points:
        raise ConfigError(
            f"No point is left of {len(budgets_flops)} budgets × {len(widths)} widths: batches below {rule.min_batch_rows} rows or "
            f"{rule.max_steps} steps and more are left out. Lower min_batch_rows or reference_steps, or raise the budgets."
        )
    return points


LARGEST_WIDTH = 16_384
"""Of the shapes that are tried for a plan."""


def buildable_widths(rule: GridRule, low: int = 64, high: int = 4096) -> list[int]:
    """Widths the shape rule can build: even below 256 (one head), multiples of 128 above."""
    narrow = list(range(max(low, 64), min(high, 255) + 1, 16))
    return narrow + list(range(max(256, math.ceil(low / 128) * 128), high + 1, 128))


def nearest_buildable(
    size: float, rule: GridRule = SODA_RULE, convention: str = "two_embeddings"
) -> AnyConfig:
    """The model of the rule whose parameters, by a convention, are nearest to `size` in ratio."""
    widths = buildable_widths(rule, 64, LARGEST_WIDTH)
    return min(
        (rule.shape(width) for width in widths),
        key=lambda m: abs(math.log(getattr(count_parameters(m), convention) / size)),
    )


def design_hours(points: Sequence[DesignPoint], flops_per_s: float) -> float:
    """Hours of one device that computes `flops_per_s` (the design's convention) for all points, none shared."""
    return sum(p.training_flops for p in points) / flops_per_s / 3600
