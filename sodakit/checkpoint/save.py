"""Writing a checkpoint: complete or absent."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from sodakit.checkpoint.about import About, write_about
from sodakit.checkpoint.contents import (
    CODEC,
    CONFIG,
    OPTIMIZER,
    STATE,
    VOCABULARY,
    WEIGHTS,
    write_contents,
)
from sodakit.config import to_plain
from sodakit.files import atomic_folder, write_json
from sodakit.model.any_config import AnyConfig
from sodakit.model.transformer import Transformer


def checkpoint_name(step: int) -> str:
    """The folder name of a step: `step_00001234`, so that names sort as steps do."""
    return f"step_{step:08d}"


def save_checkpoint(
    folder: Path | str,
    *,
    model: Transformer,
    state: dict[str, Any],
    config: dict[str, Any],
    optimizer_state: Mapping[str, Tensor] | None = None,
    vocabulary_folder: Path | None = None,
    codec: dict[str, Any] | None = None,
    weights: Mapping[str, Tensor] | None = None,
    about: About | None = None,
    beside: Sequence[Path] = (),
) -> Path:
    """Write a checkpoint to `folder` (layout: `contents.py`), replacing one of that name; returns the folder.

    Args:
        state: JSON-ready: step, tokens seen, data and random state.
        config: the resolved config of the run, plain (`sodakit.config.to_plain`).
        optimizer_state: tensors by any names the optimiser reads again.
        vocabulary_folder: copied as it is.
        codec: the plain CodecSpec.
        weights: default those of `model`; given where they were gathered from several processes, or take few bits.
        about: what the model says of itself.
        beside: folders that are copied as they are, such as a store to replay.
    """
    folder = Path(folder)
    with atomic_folder(folder) as temporary:
        _save_tensors(temporary / WEIGHTS, model.state_dict() if weights is None else weights)
        if optimizer_state is not None:
            _save_tensors(temporary / OPTIMIZER, optimizer_state)
        write_rest(
            temporary,
            model.config,
            state=state,
            config=config,
            vocabulary_folder=vocabulary_folder,
            codec=codec,
        )
        if about is not None:
            write_about(temporary, about)
        for other in beside:
            shutil.copytree(other, temporary / other.name)
        write_contents(temporary)
    return folder


def write_rest(
    folder: Path,
    model_config: AnyConfig,
    *,
    state: dict[str, Any],
    config: dict[str, Any],
    vocabulary_folder: Path | None = None,
    codec: dict[str, Any] | None = None,
) -> None:
    """Write all of a checkpoint but its tensors and `contents.json`."""
    write_json(folder / STATE, state)
    write_json(folder / CONFIG, {"model": to_plain(model_config), "run": config})
    if codec is not None:
        write_json(folder / CODEC, codec)
    if vocabulary_folder is not None:
        shutil.copytree(vocabulary_folder, folder / VOCABULARY)


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file(
        {name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path, {"format": "pt"}
    )
