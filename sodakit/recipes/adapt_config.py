"""The settings of an adaptation to somebody's recordings, and the run that they make."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from sodakit.bounds import Bounded, Count, Positive, ShareBelowOne
from sodakit.checkpoint.contents import Checkpoint
from sodakit.config import from_plain
from sodakit.data.config import DataConfig, SourceConfig, ViewConfig
from sodakit.data.language import open_language
from sodakit.data.views import DocumentView
from sodakit.errors import ConfigError
from sodakit.hardware import has_fast_bfloat16
from sodakit.model.families import pattern_of
from sodakit.recipes.epochs import held_out_split
from sodakit.recipes.finetune_config import PUBLISHED_OPTIM
from sodakit.train.config import LoraConfig, LossConfig, ScheduleConfig, TrainConfig
from sodakit.train.start import check_language


@dataclass(frozen=True, kw_only=True)
class AdaptSettings(Bounded):
    """How a model is adapted to recordings."""

    epochs: Count = 10
    """At most so many; an epoch hears and says every recording once, or lasts `least_steps` where that is more."""
    patience: Count = 3
    """Stop after this many epochs without a better one."""
    least_steps: Count = 20
    """Steps of an epoch where the recordings are fewer."""
    batch_rows: Count = 4
    """Rows in a step."""
    peak_lr: Positive = 3e-4
    """Learning rate; adapters want about five times as much."""
    lora: LoraConfig | None = None
    """Train adapters; None for all weights."""
    replay: str | None = None
    """Store of what the model was trained on before: a share of it is trained on again, and what is lost shows there."""
    replay_fraction: ShareBelowOne = 0.2
    """Share of the tokens that are replayed, where there is such a store."""
    variants: int = 3
    """Copies of each recording that begin a little later and are a little faster or slower."""
    validation_fraction: ShareBelowOne = 0.1
    """Share of the recordings that the best epoch is chosen on."""
    test_fraction: ShareBelowOne = 0.1
    """Share of the recordings that are heard and said before and after."""
    report_cases: Count = 6
    """Held-out recordings heard and said after each epoch."""
    test_cases: Count = 40
    """Of the test, heard and said before and after."""
    max_s: Positive = 12.0
    """Longest speech that is made for the reports."""
    seed: int = 0
    """Of splits, order, adapters and sounds."""
    consent: str | None = None
    """A note of who agreed to the use of the voice, and how."""


def adapt_config(settings: AdaptSettings, store: Path, base: Checkpoint) -> TrainConfig:
    """The run: cosine to a tenth after 3 % warm-up, on documents written as the model was taught them, with its loss.

    Args:
        settings: what to do.
        store: of the recordings, encoded with the tokenizer and codec of the model.
        base: what to start from.
    Raises:
        ConfigError: a store of another tokenizer or codec, or nothing held out.
    """
    reader, vocabulary = open_language(store)
    check_language(base, vocabulary, reader.codec_spec, store)
    if settings.replay:
        replayed, theirs = open_language(settings.replay)
        check_language(base, theirs, replayed.codec_spec, settings.replay)
    loss, views, context = taught(base)
    whole, shortest = one_pass(store, base)
    context = min(context, shortest)  # a handful of recordings may be shorter than a row
    if context < 2:
        raise ConfigError(f"{store} holds nothing to train on. Give recordings with transcripts.")
    data = DataConfig(
        sources=_sources(settings, store, views),
        context=context,
        batch_rows=settings.batch_rows,
        seed=settings.seed,
    )
    steps = epoch_steps(settings, whole, data.batch_positions)
    return TrainConfig(
        model=base.model_config,
        data=data,
        steps=settings.epochs * steps,
        optim=PUBLISHED_OPTIM,
        schedule=ScheduleConfig(
            peak_lr=settings.peak_lr,
            warmup_fraction=0.03,
            decay_fraction=0.97,
            decay_shape="cosine",
            final_fraction=0.1,
        ),
        loss=loss,
        precision="bfloat16" if has_fast_bfloat16() else "float32",
        seed=settings.seed,
        lora=settings.lora,
        init_from=str(base.folder),
        validation=(SourceConfig(store=str(store), split=held_out_split(store)),),
        validate_every_steps=steps,
        listen_every_steps=steps,
        save_every_steps=max(1, steps // 2),
        keep_checkpoints=1,
    )


def taught(base: Checkpoint) -> tuple[LossConfig, dict[ViewConfig, float], int]:
    """How a model was taught: its loss, the ways its speech was written as documents with their shares, and the length of
    its rows. Of a model that does not say: the plain loss, both orders, its context."""
    plain = LossConfig(z_loss=1e-4)
    both = {ViewConfig(order="audio_first"): 0.5, ViewConfig(order="text_first"): 0.5}
    try:
        sources = from_plain(DataConfig, base.config.get("data"), "data").sources
        loss = from_plain(LossConfig, base.config.get("loss"), "loss")
        context = from_plain(int, base.config["data"].get("context"), "context")
    except (ConfigError, TypeError):
        return plain, both, base.model_config.context
    shares: dict[ViewConfig, float] = {}
    for source in sources:
        # Of a recording without times of its words nothing can be interleaved, and tasks are of pairs.
        if source.view.has_text and not source.view.task and source.view.interleave.spans == "none":
            shares[source.view] = shares.get(source.view, 0.0) + source.weight
    return replace(loss, given_spans=0), shares or both, min(context, base.model_config.context)


def _sources(
    settings: AdaptSettings, store: Path, views: Mapping[ViewConfig, float]
) -> tuple[SourceConfig, ...]:
    """Both stores, each written in all the ways."""
    shares = {str(store): 1.0}
    if settings.replay and settings.replay_fraction:
        shares = {str(store): 1 - settings.replay_fraction, settings.replay: settings.replay_fraction}
    whole = sum(views.values())
    return tuple(
        SourceConfig(store=name, weight=share * weight / whole, view=view)
        for name, share in shares.items()
        for view, weight in views.items()
    )


def one_pass(store: Path, base: Checkpoint) -> tuple[int, int]:
    """Positions of every training recording once heard and once said, with all its codebooks; and of the shortest way in
    which they are written."""
    reader, vocabulary = open_language(store)
    pattern = pattern_of(base.model_config)
    views = taught(base)[1]
    positions = {v: DocumentView(reader, "train", v, vocabulary, pattern).num_positions for v in views}
    whole = [n for view, n in positions.items() if view.num_codebooks is None]
    return sum(whole) or max(positions.values()), min(positions.values())


def epoch_steps(settings: AdaptSettings, positions: float, batch_positions: int) -> int:
    """Steps of an epoch over so many positions of one's own."""
    own = 1 - (settings.replay_fraction if settings.replay else 0.0)
    return max(settings.least_steps, ceil(positions / (batch_positions * own)))
