"""The published layout of models of frames, both ways: config and weights of a `SodaHierForCausalLM`.

Its modules are two Qwen3 decoders, `backbone` and `depth`, and what joins them: `unified_head`, `bd_proj`,
`acoustic_heads`. The published code feeds the depth decoder the last code alone, one code late (`fed="last"`,
`conditioning="shifted"`). A model trained otherwise says so in two more entries of the config, which that code does not
know.
"""

from typing import Any

import torch
from torch import Tensor

from sodakit.checkpoint.qwen3 import hf_name, our_name, rope_from_hf, rope_to_hf
from sodakit.errors import CheckpointError, ConfigError
from sodakit.model.any_config import AnyConfig
from sodakit.model.config import ModelConfig, RopeScaling
from sodakit.model.frame.config import DepthConfig, FrameConfig

MODEL_TYPE = "soda_hier"
_OWN = {"head.weight": "unified_head.weight", "depth.project.weight": "bd_proj.weight"}
_THEIR_OWN = {theirs: ours for ours, theirs in _OWN.items()}
_DEPTH_HEAD = "depth.head.weight"
_NEEDED = (
    "vocab_size",
    "unified_vocab_size",
    "num_codebooks",
    "codebook_size",
    "audio_id_lo",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "depth_hidden_size",
    "depth_intermediate_size",
    "depth_num_layers",
    "depth_num_heads",
    "depth_num_kv_heads",
    "depth_head_dim",
)


def departs_from_published(config: AnyConfig) -> bool:
    """Whether it is a model of frames from which the published code computes other scores than it was trained for."""
    depth = config.depth if isinstance(config, FrameConfig) else None
    return depth is not None and (depth.conditioning, depth.fed) != ("shifted", "last")


def hier_config(config: FrameConfig) -> dict[str, Any]:
    """The `config.json` of a model of this shape.

    Raises:
        CheckpointError: the layout has no words for it.
    """
    shape, depth = config.backbone, config.depth
    if depth is None or any(config.delays):
        raise CheckpointError(
            "The layout soda_hier has a depth decoder and no delays: a model of family depth."
        )
    if shape.head_width * shape.heads != shape.width:
        raise CheckpointError(
            f"The layout soda_hier has heads of width / heads; this model has {shape.heads} of {shape.head_width} for "
            f"a width of {shape.width}."
        )
    return {
        "architectures": ["SodaHierForCausalLM"],
        "model_type": MODEL_TYPE,
        "vocab_size": config.vocab_size,
        "unified_vocab_size": config.first_ids,
        "num_codebooks": config.num_codebooks,
        "codebook_size": config.codebook_size,
        "audio_id_lo": config.audio_base,
        "hidden_size": shape.width,
        "intermediate_size": shape.ffn_width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": shape.context,
        "depth_hidden_size": depth.width,
        "depth_intermediate_size": depth.ffn_width,
        "depth_num_layers": depth.layers,
        "depth_num_heads": depth.heads,
        "depth_num_kv_heads": depth.kv_heads,
        "depth_head_dim": depth.head_width,
        "depth_conditioning": depth.conditioning,
        "depth_fed": depth.fed,
        "rope_theta": shape.rope_theta,
        # Null would be read as the published scaling.
        "rope_scaling": rope_to_hf(shape.rope_scaling) or {"rope_type": "default"},
        "rms_norm_eps": shape.norm_eps,
        "initializer_range": shape.init_std,
        "tie_word_embeddings": False,
    }


def config_from_hier(plain: dict[str, Any], origin: str) -> FrameConfig:
    """The shape that a `config.json` of the layout describes.

    Raises:
        CheckpointError: entries are missing or describe no such model.
    """
    if missing := [name for name in _NEEDED if name not in plain]:
        raise CheckpointError(
            f"{origin}: config.json has no {', '.join(missing)}. Is it a soda_hier model's?"
        )
    try:
        config = _config_of(plain, origin)
    except (ConfigError, KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(
            f"{origin}: config.json describes no model that can be imported: {error}"
        ) from error
    if config.first_ids != plain["unified_vocab_size"]:
        raise CheckpointError(
            f"{origin}: config.json has unified_vocab_size={plain['unified_vocab_size']}; needed: {config.first_ids}, "
            "the ids below audio and one codebook."
        )
    return config


def _config_of(plain: dict[str, Any], origin: str) -> FrameConfig:
    heads = plain["num_attention_heads"]
    rope = plain.get("rope_parameters") or plain.get("rope_scaling") or {}
    backbone = ModelConfig(
        vocab_size=plain["vocab_size"],
        width=plain["hidden_size"],
        layers=plain["num_hidden_layers"],
        heads=heads,
        kv_heads=plain["num_key_value_heads"],
        head_width=plain["hidden_size"] // heads,
        ffn_width=plain["intermediate_size"],
        norm_eps=plain.get("rms_norm_eps", 1e-5),
        rope_theta=float(rope.get("rope_theta") or plain.get("rope_theta") or 500_000.0),
        # Left out or null, the published class scales as Llama 3.1 does.
        rope_scaling=rope_from_hf(rope, origin) if rope else RopeScaling(),
        context=plain.get("max_position_embeddings", 1024),
        init_std=plain.get("initializer_range", 0.02),
    )
    depth = DepthConfig(
        width=plain["depth_hidden_size"],
        layers=plain["depth_num_layers"],
        heads=plain["depth_num_heads"],
        kv_heads=plain["depth_num_kv_heads"],
        head_width=plain["depth_head_dim"],
        ffn_width=plain["depth_intermediate_size"],
        conditioning=plain.get("depth_conditioning", "shifted"),
        fed=plain.get("depth_fed", "last"),
    )
    return FrameConfig(
        backbone=backbone,
        num_codebooks=plain["num_codebooks"],
        codebook_size=plain["codebook_size"],
        audio_base=plain["audio_id_lo"],
        delays=(0,) * plain["num_codebooks"],
        depth=depth,
    )


def hier_weights(weights: dict[str, Tensor], config: FrameConfig) -> dict[str, Tensor]:
    """Our weights under the published names. A tied head is written as a matrix of its own."""
    if config.tied_embeddings:
        weights = weights | {"head.weight": weights["embedding.weight"][: config.head_ids].clone()}
    named = {}
    for name, weight in weights.items():
        if name == _DEPTH_HEAD:
            for number, head in enumerate(weight.split(config.codebook_size)):
                named[f"acoustic_heads.{number}.weight"] = head.clone()
        elif name in _OWN:
            named[_OWN[name]] = weight
        else:
            inner = name.removeprefix("depth.")
            part = "backbone" if inner == name else "depth"
            named[f"{part}.{hf_name(inner).removeprefix('model.')}"] = weight
    return named


def weights_from_hier(named: dict[str, Tensor], config: FrameConfig, origin: str) -> dict[str, Tensor]:
    """Weights under the published names as ours.

    Raises:
        CheckpointError: a name that no such model has, or a head is missing.
    """
    heads = [f"acoustic_heads.{number}.weight" for number in range(config.num_codebooks - 1)]
    if missing := [name for name in heads if name not in named]:
        raise CheckpointError(f"{origin} has no weights {', '.join(missing)}. Download it again.")
    weights = {_DEPTH_HEAD: torch.cat([named[name] for name in heads])}
    for name, weight in named.items():
        if name in _THEIR_OWN:
            weights[_THEIR_OWN[name]] = weight
        elif name not in heads:
            part, _, inner = name.partition(".")
            if part not in ("backbone", "depth"):
                raise CheckpointError(
                    f"Weight {name!r} is not part of a soda_hier model. Is it another model?"
                )
            ours = our_name(f"model.{inner}")
            weights[ours if part == "backbone" else f"depth.{ours}"] = weight
    return weights
