"""Weights to begin with: a checkpoint of ours, or a text model whose vocabulary grows by markers and audio."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sodakit.checkpoint.contents import Checkpoint
from sodakit.checkpoint.hf import import_hf
from sodakit.checkpoint.load import find_checkpoint, load_checkpoint
from sodakit.checkpoint.save import checkpoint_name
from sodakit.codec.contract import CodecSpec
from sodakit.config import to_plain
from sodakit.errors import CheckpointError, ConfigError
from sodakit.files import digest
from sodakit.model.any_config import AnyConfig
from sodakit.model.config import ModelConfig
from sodakit.model.families import build_model
from sodakit.model.frame.config import FrameConfig
from sodakit.model.init import std_of
from sodakit.tokens.vocabulary import Vocabulary
from sodakit.train.config import TrainConfig

_MAY_DIFFER = ("vocab_size", "context", "tied_embeddings", "init_std", "init_stds")


def starting_weights(
    origin: str, config: TrainConfig, vocabulary: Vocabulary, codec: CodecSpec
) -> dict[str, Tensor]:
    """The weights of `init_from`, for the model of `config`.

    Raises:
        CheckpointError: nothing there, a model of another shape, or of another step than the run goes on from; the
            message names what differs.
        ConfigError: the model was trained with another tokenizer or codec than the data were prepared with.
    """
    ours = find_checkpoint(origin)
    if ours is not None:
        checkpoint = load_checkpoint(ours)
        check_language(checkpoint, vocabulary, codec, config.data.sources[0].store)
        _check_shape(checkpoint.model_config, config.model, str(ours), ("context", "init_std", "init_stds"))
        _check_step(checkpoint, config.first_step)
        return checkpoint.merged_weights()
    given, weights = import_hf(origin)
    wanted = config.model
    if isinstance(given, FrameConfig):
        _check_shape(given, wanted, origin, ("context", "init_std", "init_stds", "share"))
        return weights
    _check_shape(given, wanted.backbone, origin)
    whole = isinstance(wanted, ModelConfig) and (given.vocab_size, given.tied_embeddings) == (
        wanted.vocab_size,
        wanted.tied_embeddings,
    )
    return weights if whole else with_new_rows(weights, wanted, kept_rows(vocabulary), config.seed)


def kept_rows(vocabulary: Vocabulary) -> int:
    """Ids that the text model knew: all text, but not a BOS appended to its tokenizer for us (as for Qwen3)."""
    return vocabulary.bos if vocabulary.bos == vocabulary.text_size - 1 else vocabulary.text_size


def with_new_rows(weights: dict[str, Tensor], model: AnyConfig, kept: int, seed: int) -> dict[str, Tensor]:
    """A text model's weights with an embedding, and a head where it is not tied, for all ids of a model.

    The first `kept` rows are the text model's. The others are drawn from a normal of `init_std`, each matrix keyed by
    its name. A tied text model gives its embedding to the head as well. What writes the codes inside a frame is new.
    """
    embedding = weights["embedding.weight"]
    if kept > len(embedding):
        raise CheckpointError(
            f"The tokenizer of the data has {kept} text ids and the text model rows for {len(embedding)}. "
            "Prepare the data with the tokenizer of that model."
        )
    shape, grown = model.backbone, dict(weights)
    grown["embedding.weight"] = _grown(embedding, "embedding.weight", shape.vocab_size, shape, kept, seed)
    head = grown.pop("head.weight", embedding)
    if not model.tied_embeddings:
        rows = model.head_ids if isinstance(model, FrameConfig) else shape.vocab_size
        grown["head.weight"] = _grown(head, "head.weight", rows, shape, kept, seed)
    if isinstance(model, FrameConfig):
        new = build_model(model, seed=seed).state_dict()
        grown |= {name: weight for name, weight in new.items() if name.startswith("depth.")}
    return grown


def _grown(old_VD: Tensor, name: str, rows: int, shape: ModelConfig, kept: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(int(digest("new rows", str(seed), name), 16) >> 1)
    new_VD = torch.randn(rows, shape.width, generator=generator) * std_of(
        name, shape.init_std, shape.init_stds
    )
    new_VD[:kept] = old_VD[:kept].float()
    return new_VD


def check_language(
    checkpoint: Checkpoint, vocabulary: Vocabulary, codec: CodecSpec, data: Path | str
) -> None:
    """A model goes on with the ids it knows: those of its tokenizer and codec.

    Raises:
        ConfigError: the data were prepared with others; the message says how to prepare them again.
    """
    spec = checkpoint.codec or {}
    differ = []
    if checkpoint.vocabulary_folder is not None:
        known = Vocabulary.load(checkpoint.vocabulary_folder)
        if known.tokenizer_fingerprint not in ("", vocabulary.tokenizer_fingerprint):
            differ.append(
                f"tokenizer {known.tokenizer_fingerprint} there, {vocabulary.tokenizer_fingerprint} in the data"
            )
        elif replace(known, tokenizer_fingerprint=vocabulary.tokenizer_fingerprint) != vocabulary:
            differ.append(f"a vocabulary of {known.size} ids there, of {vocabulary.size} in the data")
    if spec.get("fingerprint", codec.fingerprint) != codec.fingerprint:
        differ.append(
            f"codec {spec.get('name')} {spec['fingerprint']} there, {codec.name} {codec.fingerprint} in the data"
        )
    if differ:
        raise ConfigError(
            f"{data} was prepared with another tokenizer or codec than {checkpoint.folder} was trained with "
            f"({'; '.join(differ)}). Prepare it again: sodakit prepare … "
            f"--tokenizer {checkpoint.vocabulary_folder} --codec {spec.get('name')}"
        )


def _differences(given: dict[str, Any], wanted: dict[str, Any], may_differ: tuple[str, ...]) -> list[str]:
    """What two plain configs do not agree on, the parts inside them among it."""
    found = []
    for name in [*wanted, *(n for n in given if n not in wanted)]:
        a, b = given.get(name), wanted.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += [f"{name}.{part}" for part in _differences(a, b, may_differ)]
        elif name not in may_differ and a != b:
            found.append(f"{name}: {a} there, {b} in the config")
    return found


def _check_step(checkpoint: Checkpoint, first_step: int) -> None:
    """A run that goes on in the middle of a schedule needs the weights of that step, not of a later one's decay."""
    step = checkpoint.state.get("step")
    if first_step and step != first_step:
        raise CheckpointError(
            f"{checkpoint.folder} is of step {step}, and the run goes on from step {first_step}. Name that checkpoint "
            f"with init_from=RUN/checkpoints/{checkpoint_name(first_step)}; keep_steps in its run keeps it."
        )


def _check_shape(
    given: AnyConfig, wanted: AnyConfig, origin: str, may_differ: tuple[str, ...] = _MAY_DIFFER
) -> None:
    differ = _differences(to_plain(given), to_plain(wanted), may_differ)
    if differ:
        raise CheckpointError(
            f"{origin} is a model of another shape ({'; '.join(differ)}). Change the config."
        )
