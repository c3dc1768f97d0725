"""Hugging Face's layout, both ways: `config.json` and `model.safetensors`.

A flat model is a `Qwen3ForCausalLM`, which transformers 4.51 and later, vLLM and llama.cpp's converter can read. One of
frames is a `SodaHierForCausalLM`, as its authors publish it. Neither way imports transformers.
"""

import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sodakit.checkpoint.contents import Checkpoint
from sodakit.checkpoint.qwen3 import config_from_hf, hf_config, hf_name, our_name
from sodakit.checkpoint.soda_hier import (
    MODEL_TYPE,
    config_from_hier,
    hier_config,
    hier_weights,
    weights_from_hier,
)
from sodakit.errors import CheckpointError, ConfigError
from sodakit.files import atomic_folder, read_json, write_json
from sodakit.model.any_config import AnyConfig
from sodakit.model.frame.config import FrameConfig
from sodakit.model.transformer import Transformer
from sodakit.tensors import broken_weight


def export_hf(
    source: Checkpoint | Transformer,
    folder: Path | str,
    *,
    dtype: torch.dtype | None = None,
    more_config: dict[str, Any] | None = None,
) -> Path:
    """Write the model's config and weights as a folder, atomically; returns the folder.

    Args:
        dtype: of the written weights; default: as they are.
        more_config: further entries of `config.json`, such as `bos_token_id` and `eos_token_id`.
    Raises:
        CheckpointError: a model of frames that the published layout has no words for.
    """
    model = source.model() if isinstance(source, Checkpoint) else source
    config = model.config
    weights = {
        name: weight.detach().to("cpu", dtype).contiguous() for name, weight in model.state_dict().items()
    }
    if isinstance(config, FrameConfig):
        plain, weights = hier_config(config), hier_weights(weights, config)
    else:
        plain, weights = hf_config(config), {hf_name(name): weight for name, weight in weights.items()}
    stored = str(next(iter(weights.values())).dtype).removeprefix("torch.")
    with atomic_folder(folder) as temporary:
        save_file(weights, temporary / "model.safetensors", {"format": "pt"})
        write_json(temporary / "config.json", plain | {"dtype": stored} | (more_config or {}))
    return Path(folder)


def import_hf(folder_or_hub_id: Path | str) -> tuple[AnyConfig, dict[str, Tensor]]:
    """The config and weights, under our names, of a Qwen3 or soda_hier model in a folder or on the Hugging Face hub.

    `contents.model_from_weights` builds the model from them.

    Raises:
        CheckpointError: no such model, another architecture, a variant that `Transformer` cannot express, or damaged
            files; the message names what.
    """
    folder = local_folder(folder_or_hub_id)
    plain, origin = _read_object(folder / "config.json"), str(folder_or_hub_id)
    named = {
        name: weight
        for file in _weight_files(folder)
        for name, weight in _tensors_in(file).items()
        if not name.endswith("rotary_emb.inv_freq")
    }
    config: AnyConfig
    if plain.get("model_type") == MODEL_TYPE:
        config = config_from_hier(plain, origin)
        weights = weights_from_hier(named, config, origin)
    else:
        config = config_from_hf(plain, origin)
        weights = {our_name(name): weight for name, weight in named.items()}
    if config.tied_embeddings:
        weights.pop("head.weight", None)
    broken = broken_weight(weights)
    if broken is not None:
        raise CheckpointError(
            f"{folder_or_hub_id}: {broken}, so the model can say nothing. Download it again, or export it from an "
            "earlier checkpoint."
        )
    return config, weights


def local_folder(folder_or_hub_id: Path | str) -> Path:
    """The folder, or the one a hub id was downloaded to.

    Raises:
        CheckpointError: neither a folder nor a hub id, or the hub did not give it.
    """
    folder = Path(folder_or_hub_id)
    if folder.is_dir():
        return folder
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(folder_or_hub_id)):
        raise CheckpointError(f"{folder} is neither a folder nor a hub id such as Qwen/Qwen3-0.6B-Base.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(folder_or_hub_id), allow_patterns=["*.json", "*.safetensors"]))
    except Exception as error:
        # The hub client has a dozen kinds of errors (network, access, name); all mean the same here.
        raise CheckpointError(
            f"{folder_or_hub_id} is no folder here, and the hub did not give it ({type(error).__name__}: {error})."
        ) from error


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.exists():
        listed = _read_object(index).get("weight_map")
        if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
            raise CheckpointError(f"{index} has no weight_map of names and files. Download it again.")
        return [_existing(folder / name) for name in sorted(set(listed.values()))]
    return [_existing(folder / "model.safetensors")]


def _tensors_in(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}). Download it again.") from error


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = read_json(_existing(path))
    except ConfigError as error:
        raise CheckpointError(f"{error} Download it again.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}; needed: an object. Download it again.")
    return value


def _existing(path: Path) -> Path:
    if not path.exists():
        raise CheckpointError(f"{path} is missing; models in Hugging Face layout have it. Download it again.")
    return path
