"""What a column of a table of runs is called, here and elsewhere, and what its values mean."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from sodakit.scaling.numbers import unit_of

SIZES = ("total", "non_embedding", "one_embedding", "two_embeddings", "matmul")
"""Conventions for N. The paper's law counts two embeddings; `total` is what a table calls its parameters."""


FLOPS = ("given", "soda", "exact", "palm")
"""Conventions for C: as the table says; the paper's (3 × Levanter's forward count); causal attention; PaLM's."""


_ALIASES: dict[str, tuple[str, ...]] = {
    "run": ("run", "name", "run_name", "run_id", "id", "displayname"),
    "n/total": (
        "n", "params", "parameters", "parameter_count", "num_params", "n_params", "model_size", "n_total",
        "total_params", "total_parameters", "param_count", "num_parameters", "n_parameters", "nparams", "model_params",
        "model_parameters", "parameter", "trainable_params", "num_trainable_params",
    ),
    "n/non_embedding": (
        "n_nonembed", "n_non_embedding", "non_embedding_params", "params_non_embedding", "n_noembed",
        "num_non_embedding_params", "nonembedding_params", "non_embedding_parameters",
    ),
    "n/one_embedding": ("n_one_embedding",),
    "n/two_embeddings": ("n_two_embeddings",),
    "n/matmul": ("n_matmul", "matmul_params"),
    "tokens": (
        "d", "tokens", "token_count", "num_tokens", "total_tokens", "train_tokens", "training_tokens",
        "throughput_total_tokens", "tokens_seen", "d_tokens", "n_tokens", "ntokens", "dataset_tokens", "tokens_trained",
        "trained_tokens", "num_input_tokens_seen", "num_train_tokens", "consumed_tokens", "num_training_tokens",
    ),
    "tokens_per_parameter": ("tokens_per_parameter", "tokens_per_param", "tok_per_param", "tpp"),
    "c/given": (
        "c", "flops", "flop", "compute", "train_flops", "training_flops", "training_flop", "total_flops",
        "c_flops", "throughput_total_flops", "total_flos", "train_compute", "training_compute", "total_compute", "total_train_flops",
    ),
    "c/soda": ("c_soda",),
    "c/exact": ("c_exact",),
    "c/palm": ("c_palm",),
    # A training loss is not here: it is of other data than the losses it would stand beside. `--alias` takes it.
    "loss/all": (
        "loss", "loss_all", "final_loss", "eval_loss", "val_loss", "validation_loss", "test_loss", "nll",
        "eval_loss_all", "val_loss_all", "validation_loss_all", "valid_loss", "heldout_loss", "held_out_loss", "val_nll",
        "eval_nll", "test_nll", "cross_entropy", "ce_loss", "cross_entropy_loss", "lm_loss", "final_eval_loss",
        "final_val_loss", "final_validation_loss", "final_test_loss", "loss_val", "loss_eval",
    ),
    "perplexity": (
        "perplexity", "ppl", "eval_perplexity", "val_perplexity", "validation_perplexity", "test_perplexity", "eval_ppl",
        "val_ppl", "valid_ppl", "validation_ppl", "test_ppl",
    ),
    "bits_per_audio_s": ("bits_per_audio_s", "eval_bits_per_audio_s", "validation_bits_per_audio_s"),
    "tokens_per_audio_s": ("tokens_per_audio_s",),
    "lr": ("lr", "learning_rate", "peak_lr", "trainer_learning_rate", "optimizer_learning_rate"),
    "batch_tokens": (
        "batch_tokens", "tokens_per_batch", "tokens_per_step", "batch_size_tokens", "batch_size_in_tokens",
        "global_batch_size_tokens", "global_batch_tokens",
    ),
    "batch_rows": (
        "batch", "batch_size", "train_batch_size", "trainer_train_batch_size", "batch_rows", "global_batch_size",
    ),
    "steps": (
        "steps", "num_steps", "train_steps", "num_train_steps", "trainer_num_train_steps", "max_steps", "total_steps",
        "training_steps", "num_iterations", "iterations",
    ),
    # How far a run had come where its row was written.
    "step": ("step", "global_step", "trainer_global_step", "train_global_step", "iteration", "iter"),
    "seed": ("seed", "trainer_seed"),
    "unique_tokens": ("unique_tokens", "u", "d_unique"),
    "weight": ("weight", "weights"),
    "cluster": ("cluster", "group_id"),
    "budget": ("budget", "flop_budget", "budget_flops"),
    "status": ("status", "state"),
    "shape/width": ("width", "hidden", "hidden_size", "hidden_dim", "d_model", "n_embd", "model_hidden_dim"),
    "shape/layers": ("layers", "num_layers", "n_layer", "n_layers", "num_hidden_layers", "model_num_layers"),
    "shape/heads": ("heads", "num_heads", "n_head", "n_heads", "num_attention_heads", "model_num_heads"),
    "shape/kv_heads": ("kv_heads", "num_kv_heads", "num_key_value_heads", "model_num_kv_heads"),
    "shape/head_width": ("head_width", "head_dim", "model_head_dim"),
    "shape/ffn_width": ("ffn", "ffn_width", "d_ff", "ffn_dim", "ffn_hidden_size", "intermediate_size", "intermediate_dim", "model_intermediate_dim"),
    "shape/vocab_size": ("vocab", "vocab_size", "model_vocab_size"),
    "shape/tied_embeddings": ("tied", "tied_embeddings", "tie_word_embeddings", "model_tie_word_embeddings"),
    "shape/context": (
        "context", "seq", "seq_len", "sequence_length", "max_seq_len", "train_seq_len", "block_size", "n_ctx",
        "context_length",
    ),
}  # fmt: skip


_KNOWN = {alias: name for name, aliases in _ALIASES.items() for alias in aliases}


SHAPE = tuple(f"shape/{part}" for part in ("width", "layers", "heads", "ffn_width", "vocab_size"))
"""What a shape needs so that its parameters can be counted."""


WORDS = ("run", "status", "cluster")
"""Columns that hold words; every other one holds numbers."""


_HELD_OUT = r"(?:validation|eval|val|test)[/._]"
_STREAM = re.compile(rf"^(?:{_HELD_OUT})?/?(?:loss[/._])?(text|markers|semantic|acoustic_\d+)(?:[/._]loss)?$")
"""`eval/semantic/loss`, `validation/loss/semantic`, `semantic_loss`, `semantic`."""


def named_row(
    row: Mapping[str, Any], aliases: Mapping[str, str]
) -> tuple[dict[str, tuple[str, Any]], dict[str, Any]]:
    """By our names: what each is called in the row, and its value; and by their own names the values that have none of ours.

    Nested keys are flattened. Of several names for one thing an alias stands, else one that says it is of held-out data,
    else the first with a number.
    """
    found: dict[str, tuple[str, Any]] = {}
    ranks: dict[str, int] = {}
    others: dict[str, Any] = {}
    for key, value in _flat(row):
        if value is None or value == "":
            continue
        name = meaning_of(key, aliases)[0]
        if not name:
            others[key] = value
            continue
        rank = 0 if key in aliases else 1 if key == name or re.match(_HELD_OUT, _plain(key)) else 2
        if name not in WORDS and isinstance(value, str) and not re.search(r"\d", value):
            rank = 3  # "small" is no size where another column tells one
        if rank < ranks.get(name, 4):
            found[name], ranks[name] = (key, value), rank
    return found, others


def flat_keys(row: Mapping[str, Any]) -> list[str]:
    """The names of a row's values, nested ones joined by points."""
    return [key for key, _ in _flat(row)]


def _flat(row: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def meaning_of(key: str, aliases: Mapping[str, str]) -> tuple[str | None, float]:
    """Our name for a column, None where there is none, and what the unit in its name multiplies by.

    An alias may name a unit too: `{"size": "n/total (M)"}`.
    """
    if key not in aliases:
        return _meaning(key)
    ours, factor = unit_of(aliases[key])
    return _our_name(ours) or ours, factor if says_unit(aliases[key]) else unit_of(key)[1]


def says_unit(name: str) -> bool:
    """Whether a column's name ends with a unit."""
    return unit_of(name)[0] != name


@cache
def _meaning(key: str) -> tuple[str | None, float]:
    name = _our_name(key)
    if name is not None:
        in_flops = _FLOPS_OF_UNIT.fullmatch(_slug(key))
        return name, unit_of(f"({in_flops[1]})")[1] if in_flops else 1.0
    rest, factor = unit_of(key)
    short = _SHORT_UNIT.fullmatch(_slug(key))
    if rest == key and short:
        rest, factor = short[1], unit_of(f"({short[2]})")[1]
        name = _our_name(rest)
        return (name, factor) if name and name.startswith(("n/", "c/", "tokens", "unique_")) else (None, 1.0)
    name = _our_name(rest)
    return name, factor if name else 1.0


def _our_name(key: str) -> str | None:
    if key in _ALIASES or key.startswith(("n/", "c/", "loss/", "shape/")):
        return key
    plain = _plain(key)
    stream = _STREAM.match(plain)
    if stream:
        return f"loss/{stream.group(1)}"
    slug = _slug(key)
    name = _KNOWN.get(slug) or ("c/given" if _FLOPS_OF_UNIT.fullmatch(slug) else None)
    if name is None and _SETTING.match(plain):
        return _our_name(_SETTING.sub("", plain))
    return name


def _slug(key: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", _plain(key)).strip("_")


_FLOPS_OF_UNIT = re.compile(r"(?:throughput_|train(?:ing)?_)?(?:total|train|training)_([kmgtpez]flops?)")
"""Levanter and others write training FLOPs in a unit: `throughput/total_gflops`."""
_SHORT_UNIT = re.compile(r"(.+)_(k|m|b|bn|t)")
"""`params_M`, `tokens_b`."""
_SETTING = re.compile(r"^(?:model|trainer|data|optimizer|optim|args|hparams|hyperparameters|params)[./](?=.)")
"""Groups of settings, in which a name means what it means alone: `model/num_params`. A loss stands in none of them."""


def _plain(key: str) -> str:
    # W&B prefixes what was set and what came out; both are told by the rest of the name.
    plain = re.sub(r"^(config|summary|summary_metrics)[./]", "", key.strip())
    return re.sub(r"\.value$", "", plain).lower()
