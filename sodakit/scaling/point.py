"""One run of a design, and how its compute and its tokens are counted."""

from dataclasses import dataclass, field
from typing import Literal

from sodakit.model.accounting import (
    FRAME_SHARE,
    ParameterCount,
    count_parameters,
    levanter_forward_flops_per_token,
    palm_flops_per_token,
    training_flops_per_token,
)
from sodakit.model.any_config import AnyConfig, Family, codes_at_a_position, family_of, is_shifted

FlopsConvention = Literal["soda", "exact", "palm", "6nd"]


def flops_per_position(model: AnyConfig, convention: FlopsConvention, context: int) -> float:
    """Training FLOPs of one position by a convention: of one token, where the model is flat."""
    if convention == "soda":
        return 3 * levanter_forward_flops_per_token(model, context)
    if convention == "exact":
        return training_flops_per_token(model, context, FRAME_SHARE)
    if convention == "palm":
        return palm_flops_per_token(model, context, FRAME_SHARE)
    return 6.0 * count_parameters(model).matmul


def tokens_per_position(model: AnyConfig) -> float:
    """Ids at a position: one in a flat model; of frames, what transcribed speech has."""
    return 1 + FRAME_SHARE * (codes_at_a_position(model) - 1)


@dataclass(frozen=True, kw_only=True)
class DesignPoint:
    """One run to train."""

    budget_flops: float
    """The training budget it was made for."""
    model: AnyConfig
    """Its shape."""
    batch_rows: int
    """Rows in a step."""
    steps: int
    """Optimizer steps."""
    peak_lr: float
    """Learning rate of the stable phase."""
    beta2: float
    """Decay of Adam's second moment."""
    context: int
    """Positions in a row."""
    flops: FlopsConvention = "soda"
    """How the budget is counted."""
    source: str = "grid"
    """`sweep`, `target`, `grid` or `optimal`."""
    seed: int = 0
    """Seed of weights and order."""
    lr_rule: str = "soda"
    """By which the learning rate was set (`transfer.py`)."""
    lr_multiple: float = 1.0
    """Of what the rule says: others than 1 are tried to see whether it is right."""
    lr_factors: tuple[tuple[str, float], ...] = ()
    """Of some parameters, as `OptimConfig.lr_factors` has them."""
    trunk_warmup_steps: int | None = None
    """Warm-up of the trunk that it shares with other runs (`trunks.py`); None for a run of its own."""
    size: ParameterCount = field(init=False, repr=False)
    """Its parameters, by every convention."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", count_parameters(self.model))

    @property
    def name(self) -> str:
        """Unique in a design: `1.8e19_d1408_s0`, `1.8e19_d1408_s0_depth_mup_lr0.5`."""
        parts = [f"{self.budget_flops:.4g}_d{self.width}_s{self.seed}".replace("+", "")]
        parts += [] if self.family == "flat" else [self.family]
        parts += ["shifted"] if is_shifted(self.model) else []
        parts += [] if self.lr_rule == "soda" else [self.lr_rule]
        parts += [] if self.lr_multiple == 1 else [f"lr{self.lr_multiple:g}"]
        return "_".join(parts)

    @property
    def family(self) -> Family:
        """Of models."""
        return family_of(self.model)

    @property
    def width(self) -> int:
        """Of the body, or of the backbone over frames."""
        return self.model.backbone.width

    @property
    def positions(self) -> int:
        """What the model reads in training."""
        return self.steps * self.batch_rows * self.context

    @property
    def tokens(self) -> int:
        """D: ids among them."""
        return round(self.positions * tokens_per_position(self.model))

    @property
    def training_flops(self) -> float:
        """C as trained, by the design's convention."""
        return flops_per_position(self.model, self.flops, self.context) * self.positions

    @property
    def forward_flops(self) -> float:
        """A third of `training_flops`: the unit of the published sweep script."""
        return self.training_flops / 3

    @property
    def hyper_parameters(self) -> tuple[int, int, float, float]:
        """batch_rows, steps, peak_lr and beta2."""
        return self.batch_rows, self.steps, self.peak_lr, self.beta2

    def row(self) -> dict[str, float | int | str]:
        """The point as one line of a table, in plain units."""
        return {
            "run": self.name,
            "budget": self.budget_flops,
            "family": self.family,
            "width": self.width,
            "layers": self.model.backbone.layers,
            "heads": self.model.backbone.heads,
            "batch": self.batch_rows,
            "steps": self.steps,
            "peak_lr": self.peak_lr,
            "lr_rule": self.lr_rule,
            "lr_multiple": self.lr_multiple,
            "beta2": self.beta2,
            "n_two_embeddings": self.size.two_embeddings,
            "n_non_embedding": self.size.non_embedding,
            "positions": self.positions,
            "tokens": self.tokens,
            "c_train": self.training_flops,
            "c_forward": self.forward_flops,
            "6nd_over_c": 6 * self.size.two_embeddings * self.positions / self.training_flops,
            "source": self.source,
        }
