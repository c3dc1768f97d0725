"""One point of a scaling design as a complete run, with the settings of the paper's IsoFLOP sweep."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from sodakit.data.config import DataConfig, SourceConfig, ViewConfig
from sodakit.data.language import open_language
from sodakit.errors import ConfigError
from sodakit.hardware import has_fast_bfloat16
from sodakit.model.any_config import AnyConfig
from sodakit.recipes.ingredients import MIXTURE, ingredients
from sodakit.scaling.point import DesignPoint
from sodakit.train.config import LossConfig, OptimConfig, ScheduleConfig, TrainConfig


def isoflop(
    point: DesignPoint,
    stores: Sequence[Path] = (),
    *,
    weights: Sequence[float] | None = None,
    view: ViewConfig | None = None,
    validation_rows: int = 64,
    micro_rows: int | Literal["auto"] | None = None,
) -> TrainConfig:
    """One run of a design: Warmup-Stable-Decay over 10 / 70 / 20 % of the steps, beta1 0.95, weight decay 0.1, eps 1e-15,
    no z-loss, and the point's own learning rate, its factors by parameter, and beta2 (0.98^(batch / 128)).

    Validation is on the first store's validation split, the same rows in every run with the same context.

    Args:
        point: from `scaling.design`.
        stores: one store per source; none for a config to be printed and costed.
        weights: token shares of the stores; by default the published ones of four, else equal.
        view: how utterances are written as documents, for training and validation.
        micro_rows: rows through the model at a time.
    Raises:
        ConfigError: the design was made for another vocabulary than the store's.
    """
    view = view or ViewConfig()
    parts = ingredients(stores, MIXTURE, weights=weights, view=view)
    vocabulary = parts.vocabulary
    if point.model.vocab_size != vocabulary.size:
        raise ConfigError(
            f"The design is for a vocabulary of {point.model.vocab_size} ids; {stores[0]} has {vocabulary.size}. "
            f"Make it with `sodakit scale design --vocab {vocabulary.size}`."
        )
    held_out = stores and "validation" in open_language(stores[0])[0].splits
    return TrainConfig(
        model=_in_context(point.model, point.context),
        data=DataConfig(
            sources=parts.sources, context=point.context, batch_rows=point.batch_rows, seed=point.seed
        ),
        steps=point.steps,
        optim=OptimConfig(
            beta1=0.95,
            beta2=point.beta2,
            eps=1e-15,
            weight_decay=0.1,
            clip_norm=1.0,
            lr_factors=dict(point.lr_factors),
        ),
        schedule=ScheduleConfig(peak_lr=point.peak_lr, warmup_fraction=0.1, decay_fraction=0.2),
        loss=LossConfig(z_loss=0.0),
        micro_rows=micro_rows,
        precision="bfloat16" if has_fast_bfloat16() else "float32",
        seed=point.seed,
        validation=(SourceConfig(store=str(stores[0]), view=view, split="validation"),) if held_out else (),
        validation_rows=validation_rows,
        log_every_steps=max(point.steps // 50, 1),
        save_every_steps=max(point.steps // 4, 1),
        keep_checkpoints=1,
    )


def _in_context(model: AnyConfig, context: int) -> AnyConfig:
    if model.context < context:
        raise ConfigError(
            f"The model of {model.context} tokens is to read rows of {context}. Make the design with --context {context}."
        )
    return model
