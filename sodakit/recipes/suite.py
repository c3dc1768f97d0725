"""The SODA suite, 135M to 4B, with the published settings (arXiv 2602.16687)."""

from collections.abc import Sequence
from math import sqrt
from pathlib import Path

from sodakit.data.language import open_language
from sodakit.data.loader import DataConfig, SourceConfig
from sodakit.model.config import MODEL_SIZES, model_size
from sodakit.train.config import LossConfig, OptimConfig, ScheduleConfig, TrainConfig

BATCH_ROWS = 512
CONTEXT = 4096
TOKENS = 500_000_000_000


def suite(
    size: str, stores: Sequence[Path], *, weights: Sequence[float] | None = None, seed: int = 0
) -> TrainConfig:
    """One model of the suite: 500B tokens, Warmup-Stable-Decay over 10 / 70 / 20 % of the steps.

    The learning rate is 0.003·√(512/256)·√(1024/width); the 135M is treated as if it were 1024 wide, as published.

    Args:
        size: `soda_135m`, `soda_600m`, `soda_1.7b` or `soda_4b`.
        stores: one store per source. The paper's mixture is text 5 %, YODAS 51.64 %, Emilia-YODAS 28.78 %, Emilia 14.59 %.
        weights: token shares of the stores; equal by default.
        seed: keys weights and order.
    """
    width = max(1024, MODEL_SIZES[size]["width"]) if size in MODEL_SIZES else 1024
    _, vocabulary = open_language(stores[0])
    sources = tuple(
        SourceConfig(store=str(store), weight=weight)
        for store, weight in zip(stores, weights or [1.0] * len(stores), strict=True)
    )
    return TrainConfig(
        model=model_size(size, vocabulary.size, context=CONTEXT),
        data=DataConfig(sources=sources, context=CONTEXT, batch_rows=BATCH_ROWS, seed=seed),
        steps=round(TOKENS / (BATCH_ROWS * CONTEXT)),
        optim=OptimConfig(beta1=0.98, beta2=0.98, eps=1e-16, weight_decay=0.033, clip_norm=1.0),
        schedule=ScheduleConfig(
            peak_lr=0.003 * sqrt(BATCH_ROWS / 256) * sqrt(1024 / width),
            warmup_fraction=0.1,
            decay_fraction=0.2,
        ),
        loss=LossConfig(z_loss=1e-4),
        seed=seed,
    )
