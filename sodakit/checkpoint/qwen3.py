"""Qwen3 in Hugging Face layout, in words: what its `config.json` says of a shape, and what its weights are called."""

import re
from typing import Any

from sodakit.errors import CheckpointError, ConfigError
from sodakit.model.config import ModelConfig, RopeScaling

_NAMES = {
    "embedding": "model.embed_tokens",
    "final_norm": "model.norm",
    "head": "lm_head",
    "attention_norm": "input_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.out": "self_attn.o_proj",
    "attention.query_norm": "self_attn.q_norm",
    "attention.key_norm": "self_attn.k_norm",
    "feed_forward_norm": "post_attention_layernorm",
    "feed_forward.gate": "mlp.gate_proj",
    "feed_forward.up": "mlp.up_proj",
    "feed_forward.down": "mlp.down_proj",
}
_NEEDED = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
)
_OUR_NAMES = {theirs: ours for ours, theirs in _NAMES.items()}


def hf_config(config: ModelConfig) -> dict[str, Any]:
    """The `config.json` of a `Qwen3ForCausalLM` of this shape.

    The rotations are given twice: transformers 5 reads `rope_parameters`, everything older `rope_theta` and
    `rope_scaling`.
    """
    scaling = rope_to_hf(config.rope_scaling)
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "intermediate_size": config.ffn_width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "max_position_embeddings": config.context,
        "initializer_range": config.init_std,
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tied_embeddings,
        "rope_theta": config.rope_theta,
        "rope_scaling": scaling,
        "rope_parameters": {"rope_theta": config.rope_theta, **(scaling or {"rope_type": "default"})},
    }


def rope_to_hf(scaling: RopeScaling | None) -> dict[str, Any] | None:
    """A change of rotary frequencies in transformers' words; None for none."""
    if scaling is None:
        return None
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_frequency_factor,
        "high_freq_factor": scaling.high_frequency_factor,
        "original_max_position_embeddings": scaling.original_context,
    }


def config_from_hf(plain: dict[str, Any], origin: str) -> ModelConfig:
    """The shape that a Qwen3 `config.json` describes. Values it leaves out have transformers' defaults.

    Raises:
        CheckpointError: another architecture, or a variant that `Transformer` cannot express.
    """
    expected = {
        "model_type": "qwen3",
        "hidden_act": "silu",
        "attention_bias": False,
        "use_sliding_window": False,
    }
    for name, value in expected.items():
        if plain.get(name, value) != value:
            raise CheckpointError(
                f"{origin}: config.json has {name}={plain[name]!r}; only {value!r} can be imported."
            )
    missing = [name for name in _NEEDED if name not in plain]
    if missing:
        raise CheckpointError(f"{origin}: config.json has no {', '.join(missing)}. Is it a model's config?")
    rope = plain.get("rope_parameters") or plain.get("rope_scaling") or {}
    try:
        return _config_of(plain, rope, origin)
    except (ConfigError, KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(
            f"{origin}: config.json describes no model that can be imported: {error}"
        ) from error


def _config_of(plain: dict[str, Any], rope: dict[str, Any], origin: str) -> ModelConfig:
    return ModelConfig(
        vocab_size=plain["vocab_size"],
        width=plain["hidden_size"],
        layers=plain["num_hidden_layers"],
        heads=plain["num_attention_heads"],
        # transformers takes 32 for a missing entry, and as many as heads for null.
        kv_heads=plain.get("num_key_value_heads", 32) or plain["num_attention_heads"],
        head_width=plain.get("head_dim") or 128,
        ffn_width=plain["intermediate_size"],
        tied_embeddings=plain.get("tie_word_embeddings", False),
        norm_eps=plain.get("rms_norm_eps", 1e-6),
        rope_theta=float(rope.get("rope_theta") or plain.get("rope_theta") or 10_000.0),
        rope_scaling=rope_from_hf(rope, origin),
        context=plain.get("max_position_embeddings", 32_768),
        init_std=plain.get("initializer_range", 0.02),
    )


def hf_name(name: str) -> str:
    """`blocks.3.attention.query.weight` → `model.layers.3.self_attn.q_proj.weight`."""
    block = re.fullmatch(r"blocks\.(\d+)\.(.+)\.weight", name)
    if block:
        return f"model.layers.{block[1]}.{_NAMES[block[2]]}.weight"
    return f"{_NAMES[name.removesuffix('.weight')]}.weight"


def our_name(name: str) -> str:
    """The inverse of `hf_name`.

    Raises:
        CheckpointError: a name that no Qwen3 has.
    """
    layer = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", name)
    theirs = layer[2] if layer else name.removesuffix(".weight")
    if theirs not in _OUR_NAMES:
        raise CheckpointError(f"Weight {name!r} is not part of a Qwen3 without biases. Is it another model?")
    return f"blocks.{layer[1]}.{_OUR_NAMES[theirs]}.weight" if layer else f"{_OUR_NAMES[theirs]}.weight"


def rope_from_hf(rope: dict[str, Any], origin: str) -> RopeScaling | None:
    """The change that transformers' words describe; None for none.

    Raises:
        CheckpointError: a kind that `RopeScaling` does not know.
    """
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return None
    if kind != "llama3":
        raise CheckpointError(
            f"{origin}: rotary positions of type {kind!r}; only 'default' and 'llama3' are known."
        )
    return RopeScaling(
        factor=float(rope["factor"]),
        low_frequency_factor=float(rope["low_freq_factor"]),
        high_frequency_factor=float(rope["high_freq_factor"]),
        original_context=int(rope["original_max_position_embeddings"]),
    )
