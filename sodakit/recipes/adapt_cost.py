"""What an adaptation will cost, by trying: a few recordings are encoded and trained on for a moment, in a temporary folder."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from sodakit.checkpoint.load import load_checkpoint
from sodakit.errors import AudioError
from sodakit.files import read_json_lines
from sodakit.model.accounting import count_parameters
from sodakit.prepare.cost import encode_cost
from sodakit.prepare.recording import Item
from sodakit.recipes.adapt import Adaptation
from sodakit.recipes.adapt_config import adapt_config, epoch_steps, one_pass
from sodakit.train.config import TrainConfig
from sodakit.train.cost import Machine, cost_of
from sodakit.train.trainer import train
from sodakit.units import format_count, format_duration, spread

TRIED = 12
"""Training recordings that are tried."""
TRIED_STEPS = 3


@dataclass(frozen=True)
class AdaptCost:
    """What an adaptation takes at most: an early stop makes it less."""

    recordings: dict[str, int]
    """In each split, variants included."""
    hours: dict[str, float]
    parameters: int
    trained: int
    """Parameters that are trained."""
    steps: int
    flops: float
    encode_s: float
    train_s: float

    def lines(self) -> list[str]:
        """For people."""
        parts = [f"{split} {count} ({self.hours[split]:.2f} h)" for split, count in self.recordings.items()]
        return [
            f"Recordings  {', '.join(parts)}; the training's with their variants",
            f"Parameters  {format_count(self.parameters)}, trained {format_count(self.trained)}",
            f"Training    at most {self.steps:,} steps, {self.flops:.3g} FLOPs",
            f"Time        {format_duration(self.encode_s)} to encode, at most {format_duration(self.train_s)} to train, as "
            f"{TRIED_STEPS} steps took here; reports and an early stop come on top, or off",
        ]


def estimate(adaptation: Adaptation, device: str | None = None) -> AdaptCost:
    """What the adaptation takes on this machine."""
    by_split: dict[str, list[Item]] = {}
    for item in adaptation.source.items:
        by_split.setdefault(str(item.fields["demo_split"]), []).append(item)
    seconds = {split: _seconds(items) for split, items in by_split.items()}
    trying = _trial(by_split)
    with tempfile.TemporaryDirectory() as folder:
        tried = replace(adaptation, folder=Path(folder), source=replace(adaptation.source, items=trying))
        tried.prepare()
        config = adapt_config(tried.settings, tried.store, tried.checkpoint)
        tried_s = _seconds([i for i in trying if i.fields["demo_split"] == "train"])
        longer = seconds["train"] / max(tried_s, 1e-9)
        positions = one_pass(tried.store, tried.checkpoint)[0] * longer
        settings = tried.settings
        steps = settings.epochs * epoch_steps(settings, positions, config.data.batch_positions)
        cost = cost_of(replace(config, steps=steps), Machine())
        moment = replace(
            config,
            steps=TRIED_STEPS,
            log_every_steps=1,
            validation=(),
            validate_every_steps=None,
            listen_every_steps=None,
        )
        train(moment, Path(folder) / "run", device=device)
        rows = read_json_lines(Path(folder) / "run" / "metrics.jsonl")
        trained = _trained(load_checkpoint(Path(folder) / "run", "last").weights(), config)
    speed = max(row["positions_per_s"] for row in rows if "positions_per_s" in row)
    return AdaptCost(
        recordings={split: len(items) for split, items in by_split.items()},
        hours={split: s / 3600 for split, s in seconds.items()},
        parameters=count_parameters(config.model).total,
        trained=trained,
        steps=steps,
        flops=cost.flops,
        encode_s=encode_cost(adaptation.base.codec) * sum(seconds.values()),
        train_s=steps * config.data.batch_positions / speed,
    )


def _trained(weights: Mapping[str, Tensor], config: TrainConfig) -> int:
    adapters = config.lora is not None
    return sum(
        w.numel() for name, w in weights.items() if not adapters or name.endswith(("lora_a", "lora_b"))
    )


def _trial(by_split: dict[str, list[Item]]) -> list[Item]:
    usable = {
        split: [i for i in items if i.text and i.problem is None and not i.is_text]
        for split, items in by_split.items()
    }
    return [
        item for split, items in usable.items() for item in spread(items, TRIED if split == "train" else 2)
    ]


def _seconds(items: Sequence[Item]) -> float:
    whole = 0.0
    for item in items:
        try:
            end_s = item.sound_duration_s() if item.end_s is None else item.end_s
        except AudioError:
            continue  # it will be left out, and named
        whole += end_s - (item.start_s or 0.0)
    return whole
