"""What a language model sees of a codec: the loss of a small one on its codes, for the same compute whatever the codec."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sodakit.codec.contract import Codec
from sodakit.data.config import DataConfig, SourceConfig, ViewConfig
from sodakit.data.language import open_language
from sodakit.data.views import DocumentView
from sodakit.errors import ConfigError
from sodakit.hardware import has_fast_bfloat16
from sodakit.model.accounting import count_parameters, training_flops_per_token
from sodakit.model.config import model_size
from sodakit.prepare.options import PrepareOptions
from sodakit.prepare.recording import Item
from sodakit.prepare.splits import SplitRule
from sodakit.prepare.stages import prepare
from sodakit.train.config import LossConfig, OptimConfig, ScheduleConfig, TrainConfig
from sodakit.train.cost import measure_diet
from sodakit.train.metrics import read_metrics
from sodakit.train.trainer import train
from sodakit.units import spread

CONTEXT = 1024
"""Positions of a row: ten seconds of a codec with 100 codes a second, less of one with more."""
BATCH_ROWS = 4
HELD_OUT = 0.1
"""Share of the recordings that the loss is measured on."""
_SPEECH = ViewConfig(order="audio_first", composition="semantic_acoustic")


@dataclass(frozen=True, kw_only=True)
class ModelBudget:
    """How large a model is trained on the codes, and for how long."""

    flops: float
    """Forward and backward, as `sodakit train --dry-run` counts them; the same for every codec."""
    size: str = "tiny"
    """Of the body, by name. Tables and head are as large as the codec's codebooks ask, and count."""
    device: str | None = None
    """Default: the GPU where there is one."""


def model_sees(
    codec: Codec, items: Sequence[Item], folder: Path, budget: ModelBudget, *, other_code: bool = False
) -> dict[str, Any]:
    """Bits of loss per second of held-out sound of a model trained on this codec's codes, and what it was trained on.

    Store and run stay in the folder, so a stopped one is resumed.

    Raises:
        ConfigError: fewer than two recordings, or too little sound for a row of the model.
    """
    options = PrepareOptions(split=SplitRule(rule=held_out_rule(items)))
    prepare(items, folder / "store", codec, options)
    config = model_config(folder / "store", budget)
    train(config, folder / "run", device=budget.device, other_code=other_code)
    last = next(row for row in reversed(read_metrics(folder / "run")) if "validation/bits_per_audio_s" in row)
    diet = measure_diet(config)
    return {
        "bits_per_audio_s": last["validation/bits_per_audio_s"],
        "nats": {k.removeprefix("validation/loss/"): v for k, v in last.items() if "validation/loss/" in k},
        "flops": flops_of(config),
        "parameters": count_parameters(config.model).total,
        "steps": config.steps,
        "tokens": config.positions,
        "audio_hours": config.positions * diet.frames_per_position / diet.frame_rate_hz / 3600,
        "passes": diet.passes,
    }


def model_config(store: Path, budget: ModelBudget) -> TrainConfig:
    """The run of as many steps as the compute pays for.

    Raises:
        ConfigError: the store holds less than a row.
    """
    reader, vocabulary = open_language(store)
    model = model_size(budget.size, vocabulary.size, context=CONTEXT)
    source = SourceConfig(store=str(store), view=_SPEECH)
    held_out = replace(source, split="validation")
    views = [DocumentView(reader, s.split, _SPEECH, vocabulary) for s in (source, held_out)]
    context = min(CONTEXT, views[0].num_positions)
    if min(view.num_positions for view in views) < 2:
        raise ConfigError(f"{store} holds no sound to train on or none to measure on. Give more recordings.")
    config = TrainConfig(
        model=model,
        data=DataConfig(sources=(source,), context=context, batch_rows=BATCH_ROWS),
        steps=1,
        precision="bfloat16" if has_fast_bfloat16() else "float32",
        optim=OptimConfig(beta1=0.95, beta2=0.98, weight_decay=0.1),
        schedule=ScheduleConfig(peak_lr=3e-3, warmup_fraction=0.05, decay_fraction=0.3),
        # Which codebook is due is known; what to learn is which code.
        loss=LossConfig(slot_softmax=True),
        validation=(held_out,),
        # All of it: rows of codecs with other rates are other seconds, the whole split is the same sound.
        validation_rows=max(1, views[1].num_positions // 2),
        keep_checkpoints=1,
    )
    return replace(config, steps=max(1, int(budget.flops / flops_of(config))))


def flops_of(config: TrainConfig) -> float:
    """Forward and backward FLOPs of a run over its store."""
    return training_flops_per_token(config.model, measure_diet(config).attended_tokens) * config.positions


def held_out_rule(items: Sequence[Item]) -> Callable[[Item], str]:
    """Every tenth recording is held out, the same ones for every codec.

    Raises:
        ConfigError: fewer than two recordings.
    """
    names = sorted({item.recording or item.id for item in items})
    if len(names) < 2:
        raise ConfigError(f"{len(names)} recordings to train a model on; needed: 2, one of them held out.")
    held_out = set(spread(names, max(1, round(HELD_OUT * len(names)))))
    return lambda item: "validation" if (item.recording or item.id) in held_out else "train"
