"""The studies before the suite: which data, how much text, which tokens (arXiv 2602.16687)."""

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt
from pathlib import Path

from sodakit.checkpoint.save import checkpoint_name
from sodakit.data.config import Composition, DataConfig, ViewConfig
from sodakit.errors import ConfigError
from sodakit.model.config import model_size
from sodakit.recipes.ingredients import COOLDOWN, TEXT, ingredients
from sodakit.recipes.suite import ANNEAL_FROM, CONTEXT, SODA_OPTIM, prelim, suite
from sodakit.train.config import LossConfig, ScheduleConfig, TrainConfig

TEXT_PERCENTS = (0, 2.5, 5, 7.5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
SOURCES = {"mls": "mls-en", "emilia": "emilia-en", "yodas": "yodas-en"}
MIXES = {name: {source: 1.0} for name, source in SOURCES.items()} | {
    "mix3": dict.fromkeys(SOURCES.values(), 1 / 3)
}
"""What runs from scratch compare: each source alone, and thirds of all."""
ANNEAL_STEPS = 50_000
PRELIM = f"runs/prelim/checkpoints/{checkpoint_name(ANNEAL_FROM)}"
SMALLEST = f"runs/soda_135m/checkpoints/{checkpoint_name(ANNEAL_FROM)}"
SWEEP_ROWS = 128


def text_ratio(percent: float, stores: Sequence[Path] = (), *, seed: int = 0) -> TrainConfig:
    """A point of the text-ratio sweep: the tied 150M, 10B tokens, learning rate 0.00212.

    Args:
        percent: share of the tokens that are plain text; 5 was chosen.
        stores: speech, then text; with 0 or 100 percent only the one that is used.
    """
    both = {"yodas-en": 1 - percent / 100, TEXT: percent / 100}
    shares = {name: share for name, share in both.items() if share > 0}
    if stores and len(stores) != len(shares):
        raise ConfigError(
            f"{len(stores)} stores; a text share of {percent:g} % takes {len(shares)}: "
            f"{' then '.join('speech' if n == 'yodas-en' else 'text' for n in shares)}."
        )
    return _from_scratch("sweep_150m", shares, stores, steps=19_074, peak_lr=0.00212, seed=seed)


def data_source(source: str, stores: Sequence[Path] = (), *, seed: int = 0) -> TrainConfig:
    """One source alone from scratch: the tied 150M, 10B tokens, learning rate 0.0015; ranks sources as anneals do.

    Args:
        source: `mls`, `emilia`, `yodas`, or `mix3` for thirds of the three, whose stores are given in this order.
    """
    # The published script has √(width/1024), the inverse of the suite's factor: 0.003·√(128/256)·√(512/1024).
    peak_lr = 0.003 * sqrt(SWEEP_ROWS / 256) * sqrt(512 / 1024)
    return _from_scratch("sweep_150m", MIXES[source], stores, steps=19_074, peak_lr=peak_lr, seed=seed)


def anneal(
    source: str, stores: Sequence[Path] = (), *, init_from: str = PRELIM, seed: int = 0
) -> TrainConfig:
    """The preliminary run's last 50,000 steps on one source alone: about 105B tokens, learning rate falling to 0.

    Plain AdamW, as the published anneals most likely ran: their config names no cautious update.

    Args:
        source: `mls`, `emilia` or `yodas`.
        init_from: the checkpoint of the preliminary run before its decay, which `prelim` keeps.
    """
    return _annealed(prelim(seed=seed), {SOURCES[source]: 1.0}, stores, init_from)


def cooldown(stores: Sequence[Path] = (), *, init_from: str = SMALLEST, seed: int = 0) -> TrainConfig:
    """The 135M annealed on the cool-down mixture. Its shares are published; its length is that of the other anneals.

    Args:
        stores: eight, in the order of `COOLDOWN`, to have its shares.
        init_from: the 135M at the step where anneals begin: train it with `keep_steps=[190000]`.
    """
    return _annealed(suite("soda_135m", seed=seed), COOLDOWN, stores, init_from)


def _annealed(
    base: TrainConfig, shares: dict[str, float], stores: Sequence[Path], init_from: str
) -> TrainConfig:
    parts = ingredients(stores, shares)
    steps = ANNEAL_FROM + ANNEAL_STEPS
    return replace(
        base,
        model=replace(base.model.backbone, vocab_size=parts.vocabulary.size),
        data=replace(base.data, sources=parts.sources),
        init_from=init_from,
        first_step=ANNEAL_FROM,
        keep_steps=(),
        steps=steps,
        optim=replace(base.optim, kind="adamw"),
        schedule=replace(base.schedule, warmup_fraction=0.0, decay_fraction=ANNEAL_STEPS / steps),
    )


def composition(kind: Composition, stores: Sequence[Path] = (), *, seed: int = 0) -> TrainConfig:
    """A row of the token-composition table: the tied 1.7B, 30B tokens of YODAS, learning rate 0.002.

    Args:
        kind: `semantic` (S), `semantic_acoustic` (S+A) or `semantic_acoustic_text` (S+A+T). The first two keep the
            audio-first documents without their text; all keep the whole vocabulary.
    """
    complete = kind == "semantic_acoustic_text"
    view = ViewConfig(order="both" if complete else "audio_first", composition=kind)
    return _from_scratch(
        "soda_1.7b", {"yodas-en": 1.0}, stores, steps=57_221, peak_lr=0.002, seed=seed, view=view
    )


def _from_scratch(
    size: str,
    shares: dict[str, float],
    stores: Sequence[Path],
    *,
    steps: int,
    peak_lr: float,
    seed: int,
    view: ViewConfig | None = None,
) -> TrainConfig:
    parts = ingredients(stores, shares, view=view)
    return TrainConfig(
        model=model_size(size, parts.vocabulary.size, context=CONTEXT, tied_embeddings=True),
        data=DataConfig(sources=parts.sources, context=CONTEXT, batch_rows=SWEEP_ROWS, seed=seed),
        steps=steps,
        optim=SODA_OPTIM,
        schedule=ScheduleConfig(peak_lr=peak_lr, warmup_fraction=0.1, decay_fraction=0.2),
        loss=LossConfig(z_loss=1e-4),
        micro_rows="auto",
        seed=seed,
    )
