"""Flat, depth (exact and shifted) and delay at equal compute: which runs, on which data, and what is claimed before they are made.

An arm is a family with a loss recipe. All arms share budgets in exact training FLOPs, widths, steps, rows of ten seconds, stores in
fixed shares and held-out rows. Data are counted in hours heard: a position of a flat model is a code, one of the others a frame.

Two designs come of it: `tuning`, small runs at several learning rates that say which rule lets width not decide, and `sweep`, the
comparison. The protocol and its reasons: docs/studies/families.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sodakit.data.config import SourceConfig, ViewConfig
from sodakit.errors import ConfigError
from sodakit.model.any_config import Family
from sodakit.recipes.families_data import FamilyStores
from sodakit.recipes.isoflop import isoflop
from sodakit.scaling.design import GridRule, isoflop_grid, point_at
from sodakit.scaling.point import DesignPoint
from sodakit.scaling.transfer import LrRule, RuleName
from sodakit.train.config import LossConfig, TrainConfig

LossName = Literal["uniform", "decay"]
CONTEXTS: Mapping[Family, int] = {"flat": 1024, "depth": 160, "delay": 160}
"""Positions of a row: ten seconds of speech with its text in each family, so that rows of a step are as many seconds in all."""
EVERY_ROW = 100_000
"""More held-out rows than there are: all of them are measured, each once, so that the same ids count in every family."""
BUDGETS = (1.5e13, 7e13, 4.5e14)
"""Training FLOPs, 30-fold. At the lowest the deepest codebook of a flat model begins to fall: 1.5e13 (5e9 to 5.7e13) in the first study,
`sodakit scale fit docs/studies/cpu_sweep.csv --size two_embeddings --flops exact --onsets`."""
WIDTHS: Mapping[Family, Mapping[float, tuple[int, ...]]] = {
    "flat": {
        1.5e13: (64, 80, 96, 128, 176),
        7e13: (80, 96, 128, 176, 224),
        4.5e14: (112, 144, 176, 224, 256),
    },
    # A depth decoder is as wide as whole heads of 64 allow: these are the widths at which that is about half the backbone's.
    "depth": {
        1.5e13: (96, 128, 144, 224, 256),
        7e13: (128, 144, 224, 256, 384),
        4.5e14: (224, 256, 384, 512, 640),
    },
    "delay": {
        1.5e13: (96, 128, 176, 224, 256),
        7e13: (176, 224, 256, 384, 512),
        4.5e14: (256, 384, 512, 640, 768),
    },
}
"""Five at each budget. Those of flat lie about the optimum of the first study; a position of the others is a frame and costs less, so
that equal compute hears two to seven times as much at one width: theirs are wider, and no run hears more than 250 hours."""
BEYOND = 3.0
"""Times the largest budget: the run that is predicted."""
TUNING_BUDGETS, TUNING_WIDTHS = (2e12, 8e12), (64, 128, 256)
TUNING_MULTIPLES = (0.125, 0.25, 0.5, 1.0, 2.0)
"""Of the rule's learning rate. The first study found its rate too high for wide models, so more lie below."""
TUNING_ROWS = 48
"""Held-out rows that tell learning rates of one family apart: all of them would take longer than some of these runs."""
TUNING_FAMILIES: tuple[Family, ...] = ("flat", "depth")
BASE_WIDTH = 128
"""Of `mup`: its runs there are those of `soda`, and are not made twice."""


@dataclass(frozen=True)
class Arm:
    """A family with a loss recipe."""

    family: Family
    conditioning: Literal["exact", "shifted"] = "exact"
    loss: LossName = "uniform"

    @property
    def name(self) -> str:
        """`depth_shifted_decay`."""
        kind = f"depth_{self.conditioning}" if self.family == "depth" else self.family
        return f"{kind}_{self.loss}"

    def rule(self, vocab_size: int, codebook_size: int, lr: LrRule) -> GridRule:
        """The paper's rule in small: short rows, small batches, exact FLOPs."""
        return GridRule(
            vocab_size=vocab_size,
            context=CONTEXTS[self.family],
            reference_steps=2400,
            min_batch_rows=1,
            raise_to_min=True,
            flops="exact",
            tolerance=0.02,
            family=self.family,
            conditioning=self.conditioning,
            codebook_size=codebook_size,
            lr=lr,
        )


ARMS: dict[str, Arm] = {
    arm.name: arm
    for loss in ("uniform", "decay")
    for arm in (
        Arm("flat", loss=loss),
        Arm("depth", loss=loss),
        Arm("depth", "shifted", loss=loss),
        Arm("delay", loss=loss),
    )
}
"""By name: `flat_uniform`, `depth_exact_uniform`, `depth_shifted_uniform`, `delay_uniform`, and the same with `decay`."""


def find_arms(names: Sequence[str]) -> list[Arm]:
    """The arms of these names.

    Raises:
        ConfigError: no such arm.
    """
    unknown = [name for name in names if name not in ARMS]
    if unknown:
        raise ConfigError(f"No arm {', '.join(unknown)}. Arms: {', '.join(ARMS)}.")
    return [ARMS[name] for name in names]


def tuning(
    vocab_size: int, codebook_size: int, rules: Sequence[RuleName] = ("soda", "mup")
) -> list[DesignPoint]:
    """Runs at several learning rates: three widths and two budgets, for flat and depth, by each rule.

    The base width of `mup` stands among those of `soda` only.
    """
    points = []
    for family in TUNING_FAMILIES:
        for name in rules:
            lr = LrRule(name=name, base_width=BASE_WIDTH)
            widths = [w for w in TUNING_WIDTHS if name == "soda" or w != BASE_WIDTH or "soda" not in rules]
            rule = Arm(family).rule(vocab_size, codebook_size, lr)
            # The rate that is tried may be any: batches are those of the FLOPs alone.
            rule = replace(rule, max_lr=1.0)
            points += isoflop_grid(TUNING_BUDGETS, widths, rule=rule, lr_multiples=TUNING_MULTIPLES)
    return points


def sweep(
    arm: Arm,
    vocab_size: int,
    codebook_size: int,
    lr: LrRule,
    *,
    budgets: Sequence[float] = BUDGETS,
    second_seeds: Mapping[float, int] | None = None,
) -> list[DesignPoint]:
    """The runs of an arm.

    Args:
        lr: the rule of learning rates, as the tuning left it.
        budgets: those of `WIDTHS`.
        second_seeds: by budget the width whose run is made once more, of seed 1: the lowest of the first seeds.
    Raises:
        ConfigError: a budget without widths, or the rule leaves a run out.
    """
    widths = WIDTHS[arm.family]
    unknown = [b for b in budgets if b not in widths]
    if unknown:
        raise ConfigError(
            f"No widths at {', '.join(f'{b:g}' for b in unknown)} FLOPs. Budgets: {', '.join(f'{b:g}' for b in widths)}."
        )
    rule = arm.rule(vocab_size, codebook_size, lr)
    points = [p for b in budgets for w in widths[b] for p in isoflop_grid([b], [w], rule=rule)]
    for budget, width in (second_seeds or {}).items():
        points += isoflop_grid([budget], [width], rule=rule, seeds=(1,))
    return points


def beyond(
    arm: Arm, vocab_size: int, codebook_size: int, lr: LrRule, *, budget: float, width: int
) -> DesignPoint:
    """The run that is predicted before it is made.

    Raises:
        ConfigError: the rule leaves it out.
    """
    point = point_at(budget, width, arm.rule(vocab_size, codebook_size, lr), source="target")
    if point is None:
        raise ConfigError(
            f"The rule has no run of width {width} at {budget:.3g} FLOPs. Choose another width."
        )
    return point


def family_run(
    point: DesignPoint, stores: FamilyStores, *, loss: LossName = "uniform", rows: int = EVERY_ROW
) -> TrainConfig:
    """A run on the mixture of the comparison, measured on so many of its held-out rows."""
    view = ViewConfig()
    config = isoflop(point, [stores.held_out], micro_rows=None)
    return replace(
        config,
        data=replace(config.data, sources=stores.sources(view)),
        loss=LossConfig(z_loss=0.0, recipe=loss),
        validation=(SourceConfig(store=str(stores.held_out), view=view, split="validation"),),
        validation_rows=rows,
    )


CLAIMS: tuple[dict[str, str], ...] = (
    {
        "claim": "bits_per_audio_s at equal training FLOPs and uniform loss: depth_exact < delay < flat, at every budget",
        "from": "first minutes at 3e12 FLOPs, one or two seeds: 785 to 806 depth, 833 to 838 delay, 860 flat",
    },
    {
        "claim": "text and semantic: depth_exact and delay below flat at every budget; delay lowest in text, depth_exact in semantic",
        "from": "the same; published at 3e18: text 1.34 against 1.93, semantic 2.55 against 2.70",
    },
    {
        "claim": "acoustic 1 to 7: depth_exact below depth_shifted by at least 3 % at the largest budget, and by more than at the lowest",
        "from": "exact 7 % below shifted after 500 s of one core, no difference in the first minutes",
    },
    {
        "claim": "codebook 2, the first spectral one of mini, gains no more from `exact` than the others: it sees the semantic code either way",
        "from": "the same",
    },
    {
        "claim": "flat below depth_shifted in acoustic losses at the largest budget, and not below depth_exact: the published deficit is the shift",
        "from": "published gaps are largest where the missing neighbour should tell most; nobody has measured exact",
    },
    {
        "claim": "decay lowers text and semantic of every family and raises acoustic 3 to 7",
        "from": "published: text 1.34 to 1.16, semantic 2.55 to 2.485, acoustic 7 4.71 to 5.06",
    },
    {
        "claim": "b (hours heard) is larger for depth and delay than for flat: a position costs less, so the optimum hears more",
        "from": "a guess of ours: nobody has a frontier of the hierarchical family",
    },
)
"""Written to claims.json before the first run of the sweep."""
