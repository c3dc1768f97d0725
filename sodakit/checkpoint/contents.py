"""What a checkpoint is: one folder with everything needed to go on training, or to speak.

    step_00001234/
      contents.json            format version; every other file with its size; of tensors the SHA-256 as well
      model.safetensors        weights, by the names of `Transformer.state_dict`
      optimizer.safetensors    what the optimiser remembers, by names of its own      (optional)
      state.json               step, tokens seen, data and random state, counters
      config.json              {"model": ModelConfig, "run": the resolved config}
      vocabulary/              written and read by `tokens`                           (optional)
      codec.json               the CodecSpec of the codes it was trained on           (optional)
      about.json               what the model says of itself: `about.py`              (optional)

Where weights were spread over ranks (FSDP), `shards/` stands for the two safetensors files: pieces of all tensors, named
`model.…` and `optimizer.…` (`shards.py`).

Weights that are shipped are stored in fewer bits (`compact.py`), and come back in float32.

A checkpoint is complete or absent: it is written under another name and renamed.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from sodakit.checkpoint.about import About, read_about
from sodakit.checkpoint.compact import widened
from sodakit.errors import CheckpointError, DamagedCheckpoint
from sodakit.files import file_sha256, write_json
from sodakit.model.any_config import AnyConfig
from sodakit.model.families import build_model
from sodakit.model.lora import merge_adapters
from sodakit.model.transformer import Transformer
from sodakit.tensors import broken_weight, odd_kind

FORMAT_VERSION = 1
CONTENTS = "contents.json"
WEIGHTS = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
CONFIG = "config.json"
VOCABULARY = "vocabulary"
CODEC = "codec.json"
SHARDS = "shards"
BEST = "best"
"""Folder of the best checkpoint, in a run that keeps one."""
OF_RUN = "checkpoints"
"""Folder of all checkpoints of a run."""


def write_contents(folder: Path) -> None:
    """Write `contents.json`, the last file of a checkpoint."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in files}
    sizes = {name: path.stat().st_size for name, path in names.items()}
    digests = {name: file_sha256(path) for name, path in names.items() if path.suffix == ".safetensors"}
    write_json(folder / CONTENTS, {"format": FORMAT_VERSION, "files": sizes, "sha256": digests})


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """An opened checkpoint. Its small parts are in memory; tensors are read when asked for."""

    folder: Path
    """Where it lies."""
    model_config: AnyConfig
    """The model's shape."""
    config: dict[str, Any] = field(repr=False)
    """The resolved config of the run, plain."""
    state: dict[str, Any] = field(repr=False)
    """Step, tokens seen, data and random state: whatever the trainer put there."""
    codec: dict[str, Any] | None = field(default=None, repr=False)
    """The plain CodecSpec of its codes; None if it was saved without."""

    @property
    def vocabulary_folder(self) -> Path | None:
        """Where `tokens` finds the vocabulary; None if it was saved without."""
        folder = self.folder / VOCABULARY
        return folder if folder.is_dir() else None

    @property
    def about(self) -> About | None:
        """What the model says of itself; None where it says nothing.

        Raises:
            CheckpointError: `about.json` is damaged.
        """
        return read_about(self.folder)

    @property
    def name(self) -> str:
        """What the model is called: by itself, else `run_name`."""
        return self.about.name if self.about else self.run_name

    @property
    def run_name(self) -> str:
        """What the model is called where nobody named it: its run, whose checkpoints are called by their step or `best`;
        the model of the demo in `runs/demo/model` is `demo`."""
        folder = self.folder.resolve()
        if folder.parent.name == OF_RUN:
            folder = folder.parent.parent
        elif folder.name == BEST:
            folder = folder.parent
        return folder.parent.name if folder.name == "model" else folder.name

    @property
    def is_sharded(self) -> bool:
        """Whether its tensors are in pieces, as many ranks wrote them."""
        return (self.folder / SHARDS).is_dir()

    def weights(self, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """Every weight by name, as stored; what was stored in few bits (`compact.py`) in float32.

        Raises:
            DamagedCheckpoint: a weight is not finite, or a matrix is zero throughout.
        """
        if self.is_sharded:
            weights = self._pieces("model.", device)
        else:
            weights = widened(load_file(self.folder / WEIGHTS, device=str(device)))
        broken = broken_weight(weights)
        if broken is not None:
            raise DamagedCheckpoint(
                f"{self.folder}: {broken}, so the model can say nothing. Training diverged, or the file was damaged "
                "before it was saved: take an earlier checkpoint."
            )
        return weights

    def merged_weights(self, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """Every weight by name, with adapters added to the matrices they stand beside."""
        return merge_adapters(self.weights(device))

    def optimizer_state(self, device: torch.device | str = "cpu") -> dict[str, Tensor] | None:
        """What the optimiser remembered, by its own names; None if it was saved without."""
        if self.is_sharded:
            return self._pieces("optimizer.", device) or None
        path = self.folder / OPTIMIZER
        return load_file(path, device=str(device)) if path.exists() else None

    def _pieces(self, prefix: str, device: torch.device | str) -> dict[str, Tensor]:
        # Imported here: torch's distributed checkpoint costs a second, and most checkpoints are whole.
        from sodakit.checkpoint.shards import read_whole

        return {name: tensor.to(device) for name, tensor in read_whole(self.folder, prefix).items()}

    def model(self, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> Transformer:
        """The model with its weights, in the stored dtype or in `dtype`.

        Raises:
            CheckpointError: the weights are not those of the config.
        """
        weights = self.merged_weights(device)
        if dtype is not None:
            weights = {name: weight.to(dtype) for name, weight in weights.items()}
        return model_from_weights(self.model_config, weights, str(self.folder))


def model_from_weights(config: AnyConfig, weights: dict[str, Tensor], origin: str) -> Transformer:
    """A model that owns these tensors; nothing is initialised first, and nothing copied.

    Raises:
        CheckpointError: names or shapes that are not those of the config, or numbers that no weight is.
    """
    with torch.device("meta"):
        model = build_model(config)
    needed = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    given = {name: tuple(weight.shape) for name, weight in weights.items()}
    for name in sorted(needed.keys() | given.keys()):
        if needed.get(name) != given.get(name):
            raise CheckpointError(
                f"{origin}: weight {name!r} has shape {given.get(name, 'none')}; its config asks for "
                f"{needed.get(name, 'no such weight')}. The weights belong to another config."
            )
    odd = odd_kind(weights)
    if odd is not None:
        raise CheckpointError(f"{origin}: {odd}.")
    model.load_state_dict(weights, assign=True)
    return model
