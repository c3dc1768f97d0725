"""The settings of a fine-tuning, the published ones by default, and the run that they make."""

from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from sodakit.bounds import Bounded, Count, Positive, ShareBelowOne
from sodakit.checkpoint.load import load_checkpoint
from sodakit.data.config import DataConfig, SourceConfig, ViewConfig
from sodakit.data.language import open_language
from sodakit.data.loader import open_stream
from sodakit.errors import CheckpointError, ConfigError
from sodakit.hardware import has_fast_bfloat16
from sodakit.model.any_config import AnyConfig, Family, family_config
from sodakit.model.config import model_size
from sodakit.model.families import pattern_of
from sodakit.store.reader import StoreReader
from sodakit.tokens.layouts.pattern import Pattern
from sodakit.tokens.tasks import task
from sodakit.tokens.vocabulary import Vocabulary
from sodakit.train.config import LoraConfig, LossConfig, OptimConfig, ScheduleConfig, TrainConfig
from sodakit.train.start import check_language

PUBLISHED_OPTIM = OptimConfig(beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01, clip_norm=1.0)
"""Of the published S2ST fine-tuning (arXiv 2602.16687 and its public scripts)."""


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(Bounded):
    """What to fine-tune on what. The defaults are the published settings."""

    task: str = "s2st"
    """A task of `tokens/tasks.py`."""
    epochs: Count = 5
    """Passes over the pairs, at most."""
    patience: Count = 2
    """Stop after this many epochs without a better score."""
    batch_rows: Count = 64
    """Rows in a step."""
    peak_lr: Positive = 2e-5
    """Learning rate; adapters want about ten times as much."""
    given_spans: int | None = None
    """Spans without loss: None for the question of the task, 0 for a loss on the whole sequence."""
    lora: LoraConfig | None = None
    """Train adapters; None for all weights."""
    loss: LossConfig = LossConfig(z_loss=1e-4)
    """The loss; `given_spans` is set from above."""
    base: str | None = None
    """Store of what the model was pretrained on: for the report of what is lost, and for replay."""
    replay_fraction: ShareBelowOne = 0.0
    """Share of the tokens that come from `base`."""
    report_cases: int = 24
    """Validation pairs translated after each epoch."""
    max_s: Positive = 12.0
    """Longest translation that is made for the report."""
    context: Count | None = None
    """Tokens of a row; None for the model's."""
    seed: int = 0
    """Of order, adapters and sounds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        task(self.task)
        if self.replay_fraction and not self.base:
            raise ConfigError(
                f"replay_fraction={self.replay_fraction} without a store to replay. Name it with --base."
            )


def finetune_config(
    settings: FinetuneSettings,
    pairs: Path,
    init: Path | None,
    size: str | AnyConfig = "demo",
    family: Family = "flat",
) -> TrainConfig:
    """The run: cosine to a tenth after 3 % warm-up, over `epochs` passes of packed pairs.

    Args:
        settings: what to do.
        pairs: store of pairs, encoded with the tokenizer and codec of the model.
        init: checkpoint or run folder to start from, ours or imported; None for weights from scratch.
        size: shape of a model from scratch.
        family: of a model from scratch whose size is a name.
    Raises:
        ConfigError: the store is of another vocabulary than the model.
    """
    _, vocabulary = open_language(pairs)
    # Resolved once: the config names a checkpoint, so that a run which goes on begins where it began.
    init = None if init is None else load_checkpoint(init).folder
    model = _shape(init, size, family, vocabulary, pairs)
    context = min(settings.context or model.context, model.context)
    source = SourceConfig(
        store=str(pairs), weight=1 - settings.replay_fraction, view=ViewConfig(task=settings.task)
    )
    sources = [source]
    if settings.base and settings.replay_fraction:
        sources.append(SourceConfig(store=settings.base, weight=settings.replay_fraction))
    steps = epoch_steps(settings, source, vocabulary, context, pattern_of(model))
    given = task(settings.task).num_given if settings.given_spans is None else settings.given_spans
    held_out = "validation" in StoreReader(pairs).splits
    return TrainConfig(
        model=model,
        data=DataConfig(
            sources=tuple(sources), context=context, batch_rows=settings.batch_rows, seed=settings.seed
        ),
        steps=settings.epochs * steps,
        optim=PUBLISHED_OPTIM,
        schedule=ScheduleConfig(
            peak_lr=settings.peak_lr,
            warmup_fraction=0.03,
            decay_fraction=0.97,
            decay_shape="cosine",
            final_fraction=0.1,
        ),
        loss=replace(settings.loss, given_spans=given),
        micro_rows="auto",
        precision="bfloat16" if has_fast_bfloat16() else "float32",
        seed=settings.seed,
        lora=settings.lora,
        init_from=None if init is None else str(init),
        validation=(replace(source, split="validation"),) if held_out else (),
        validate_every_steps=steps,
        listen_every_steps=steps,
        save_every_steps=max(1, steps // 2),
        keep_checkpoints=1,
    )


def epoch_steps(
    settings: FinetuneSettings,
    source: SourceConfig,
    vocabulary: Vocabulary,
    context: int,
    pattern: Pattern,
) -> int:
    """Steps of one pass over the pairs."""
    windows = open_stream(source, vocabulary, context, settings.seed, pattern).num_windows
    return ceil(windows / (settings.batch_rows * (1 - settings.replay_fraction)))


def _shape(
    init: Path | None, size: str | AnyConfig, family: Family, vocabulary: Vocabulary, pairs: Path
) -> AnyConfig:
    if init is None:
        if isinstance(size, AnyConfig):
            return size
        return family_config(family, model_size(size, vocabulary.size, context=2048), vocabulary)
    checkpoint = load_checkpoint(init)
    if checkpoint.vocabulary_folder is None:
        raise CheckpointError(
            f"{init} was saved without its vocabulary; needed: one written by `sodakit train`."
        )
    check_language(checkpoint, vocabulary, StoreReader(pairs).codec_spec, pairs)
    return checkpoint.model_config
