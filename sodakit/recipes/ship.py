"""A trained model made small enough to be shipped: weights in few bits with what that costs, its own card, and a small store
of what it was trained on (`replay.py`)."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sodakit.checkpoint.about import About
from sodakit.checkpoint.compact import Stored, narrowed, widened
from sodakit.checkpoint.contents import Checkpoint, model_from_weights
from sodakit.checkpoint.load import load_checkpoint
from sodakit.checkpoint.save import save_checkpoint
from sodakit.checkpoint.shipped import REPLAY
from sodakit.config import from_plain
from sodakit.data.config import DataConfig
from sodakit.errors import ConfigError
from sodakit.files import atomic_folder
from sodakit.recipes.epochs import held_out_losses
from sodakit.recipes.replay import REPLAY_S, spoken_split, write_replay
from sodakit.store.reader import StoreReader
from sodakit.train.config import LossConfig, TrainConfig
from sodakit.units import format_bytes

MOST_BYTES = 24_000_000
"""Of a shipped folder: it is a part of the wheel, or a package beside it."""


@dataclass(frozen=True)
class Shipped:
    """What was written."""

    folder: Path
    num_bytes: int
    losses: dict[str, float]
    """Nats per token on held-out recordings with the weights as trained; empty where no store was given."""
    losses_stored: dict[str, float]
    """The same with the weights as stored."""

    def __str__(self) -> str:
        found = [
            f"{name} {value:.4f} → {self.losses_stored[name]:.4f}" for name, value in self.losses.items()
        ]
        return f"{self.folder}: {format_bytes(self.num_bytes)}; {', '.join(found) or 'losses not measured'}"


def ship(
    run: Path | str,
    folder: Path,
    about: About,
    *,
    stored: Stored = "int8",
    stores: Sequence[Path] = (),
    replay_s: float = REPLAY_S,
    most_bytes: int = MOST_BYTES,
) -> Shipped:
    """Write the checkpoint of a run as it is shipped; the folder appears whole, or not at all.

    Args:
        run: checkpoint, or run folder.
        folder: `sodakit/starter`, or the folder of a data package.
        about: what the model says of itself; what is measured here is added.
        stored: how the weights are.
        stores: what it was trained on, as far as its licences permit to ship some of it: losses are measured on the first
            that holds something out, and the store to replay is taken from all of them.
        replay_s: speech in that store, in seconds.
        most_bytes: of the folder.
    Raises:
        ConfigError: it takes more bytes, or a store is of another tokenizer or codec.
    """
    checkpoint = load_checkpoint(run)
    weights = narrowed(checkpoint.merged_weights(), stored)
    with TemporaryDirectory() as temporary:
        replayed = Path(temporary) / REPLAY
        if stores:
            write_replay(stores, replayed, checkpoint, replay_s)  # it refuses stores of other models
        measured_on = next((s for s in stores if spoken_split(StoreReader(s), "validation")), None)
        losses: list[dict[str, float]] = [{}, {}]
        if measured_on is not None:
            losses = [
                _losses(checkpoint, kept, measured_on)
                for kept in (checkpoint.merged_weights(), widened(weights))
            ]
        measured = {**about.measured, "stored": stored, "losses": losses[0], "losses_stored": losses[1]}
        made = save_checkpoint(
            Path(temporary) / "model",
            model=checkpoint.model(),
            weights=weights,
            state={"step": checkpoint.state.get("step")},
            config=_without_places(checkpoint.config),
            vocabulary_folder=checkpoint.vocabulary_folder,
            codec=checkpoint.codec,
            about=replace(about, measured=measured),
            beside=(replayed,) if stores else (),
        )
        num_bytes = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
        if num_bytes > most_bytes:
            raise ConfigError(
                f"The model takes {format_bytes(num_bytes)} in {stored}; at most {format_bytes(most_bytes)} are shipped. Store it "
                "in int8, train a smaller one, or replay less."
            )
        with atomic_folder(folder) as place:
            shutil.copytree(made, place, dirs_exist_ok=True)
    return Shipped(folder, num_bytes, *losses)


def _losses(checkpoint: Checkpoint, weights: dict[str, Any], store: Path) -> dict[str, float]:
    """Nats per token on what a store holds out, in float32, as the run counted its loss."""
    config = TrainConfig(
        model=checkpoint.model_config,
        data=from_plain(DataConfig, checkpoint.config.get("data"), "data"),
        loss=from_plain(LossConfig, checkpoint.config.get("loss"), "loss"),
        steps=1,
        precision="float32",
    )
    model = model_from_weights(checkpoint.model_config, weights, str(checkpoint.folder)).eval()
    split = spoken_split(StoreReader(store), "validation")
    assert split is not None
    return held_out_losses(model, str(store), split, config)


def _without_places(value: Any) -> Any:
    """A run's plain config with stores and origins by the names of their folders: where they lay is nobody's business."""
    if isinstance(value, list):
        return [_without_places(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {
        name: Path(part).name
        if name in ("store", "init_from") and isinstance(part, str)
        else _without_places(part)
        for name, part in value.items()
    }
