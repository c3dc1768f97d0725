"""What a column of a table of runs is called, here and elsewhere, and what its values mean."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from sodakit.config import from_plain
from sodakit.model.accounting import (
    count_parameters,
    palm_flops_per_token,
    soda_training_flops,
    training_flops_per_token,
)
from sodakit.model.config import ModelConfig
from sodakit.scaling.numbers import unit_of

SIZES = ("total", "non_embedding", "one_embedding", "two_embeddings", "matmul")
"""Conventions for N. The paper's law counts two embeddings; `total` is what a table calls its parameters."""


FLOPS = ("given", "soda", "exact", "palm")
"""Conventions for C: as the table says; the paper's (3 × Levanter's forward count); causal attention; PaLM's."""


_ALIASES: dict[str, tuple[str, ...]] = {
    "run": ("run", "name", "run_name", "run_id", "id", "displayname"),
    "n/total": (
        "n", "params", "parameters", "parameter_count", "num_params", "n_params", "model_size", "n_total",
        "total_params", "total_parameters", "param_count", "num_parameters",
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
        "throughput_total_tokens", "tokens_seen", "d_tokens",
    ),
    "c/given": (
        "c", "flops", "flop", "compute", "train_flops", "training_flops", "training_flop", "total_flops",
        "c_flops", "throughput_total_flops",
    ),
    "c/soda": ("c_soda",),
    "c/exact": ("c_exact",),
    "c/palm": ("c_palm",),
    # A training loss is not here: it is of other data than the losses it would stand beside. `--alias` takes it.
    "loss/all": (
        "loss", "loss_all", "final_loss", "eval_loss", "val_loss", "validation_loss", "test_loss", "nll",
        "eval_loss_all", "val_loss_all", "validation_loss_all",
    ),
    "bits_per_audio_s": ("bits_per_audio_s", "eval_bits_per_audio_s", "validation_bits_per_audio_s"),
    "tokens_per_audio_s": ("tokens_per_audio_s",),
    "lr": ("lr", "learning_rate", "peak_lr", "trainer_learning_rate", "optimizer_learning_rate"),
    "batch_tokens": ("batch_tokens", "tokens_per_batch", "tokens_per_step"),
    "batch_rows": ("batch", "batch_size", "train_batch_size", "trainer_train_batch_size", "batch_rows"),
    "steps": ("steps", "num_steps", "train_steps", "num_train_steps", "trainer_num_train_steps"),
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
    "shape/ffn_width": ("ffn", "ffn_width", "intermediate_size", "intermediate_dim", "model_intermediate_dim"),
    "shape/vocab_size": ("vocab", "vocab_size", "model_vocab_size"),
    "shape/tied_embeddings": ("tied", "tied_embeddings", "tie_word_embeddings", "model_tie_word_embeddings"),
    "shape/context": ("context", "seq", "seq_len", "sequence_length", "max_seq_len", "train_seq_len"),
}  # fmt: skip


_KNOWN = {alias: name for name, aliases in _ALIASES.items() for alias in aliases}


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
    else the first.
    """
    found: dict[str, tuple[str, Any]] = {}
    ranks: dict[str, int] = {}
    others: dict[str, Any] = {}
    for key, value in _flat(row):
        if value is None or value == "":
            continue
        name = aliases.get(key) or _our_name(key) or _our_name(unit_of(key)[0])
        if not name:
            others[key] = value
            continue
        rank = 0 if key in aliases else 1 if key == name or re.match(_HELD_OUT, _plain(key)) else 2
        if rank < ranks.get(name, 3):
            found[name], ranks[name] = (key, value), rank
    return found, others


def _flat(row: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _our_name(key: str) -> str | None:
    if key in _ALIASES or key.startswith(("n/", "c/", "loss/", "shape/")):
        return key
    plain = _plain(key)
    stream = _STREAM.match(plain)
    if stream:
        return f"loss/{stream.group(1)}"
    slug = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
    return _KNOWN.get(slug) or ("c/given" if _FLOPS_OF_UNIT.fullmatch(slug) else None)


_FLOPS_OF_UNIT = re.compile(r"(?:throughput_|train(?:ing)?_)?(?:total|train|training)_([kmgtpez]flops?)")
"""Levanter and others write training FLOPs in a unit: `throughput/total_gflops`."""


def factor_of(key: str, aliased: bool = False) -> float:
    """What the unit in a column's name multiplies its numbers by."""
    slug = re.sub(r"[^a-z0-9]+", "_", _plain(key)).strip("_")
    in_flops = _FLOPS_OF_UNIT.fullmatch(slug)
    if in_flops:
        return unit_of(f"({in_flops[1]})")[1]
    return 1.0 if _our_name(key) and not aliased else unit_of(key)[1]


def _plain(key: str) -> str:
    # W&B prefixes what was set and what came out; both are told by the rest of the name.
    plain = re.sub(r"^(config|summary|summary_metrics)[./]", "", key.strip())
    return re.sub(r"\.value$", "", plain).lower()


_TOKENS = (
    (("steps", "batch_tokens"), "steps × batch_tokens"),
    (("steps", "batch_rows", "shape/context"), "steps × batch_rows × context"),
)
"""What tokens are the product of, the surest first."""


def complete_row(row: dict[str, Any]) -> dict[str, str]:
    """Fill in what the other columns of a run determine; by column, what the new ones are.

    Sizes are counted from the shape, and FLOPs from shape and tokens. Tokens are a product of steps where those are
    told. C = 6ND is the last resort: for tokens that nothing else tells, and for the C of a run without a shape.
    """
    made: dict[str, str] = {}

    def fill(name: str, value: float, source: str) -> None:
        if not _has(row, name) and np.isfinite(value):
            row[name], made[name] = value, source

    for factors, source in _TOKENS:
        if _has(row, *factors):
            fill("tokens", float(np.prod([row[f] for f in factors])), source)
    if _has(row, "n/total", "c/given"):
        fill("tokens", row["c/given"] / (6 * row["n/total"]), "C / 6N")
    shape = model_of(row)
    if shape is not None:
        count, context = count_parameters(shape), shape.context
        for size in SIZES:
            fill(f"n/{size}", float(getattr(count, size)), "counted from the shape")
        if _has(row, "tokens"):
            tokens, source = row["tokens"], "counted from shape and tokens"
            fill("c/soda", soda_training_flops(shape, tokens, context), source)
            fill("c/exact", training_flops_per_token(shape, context) * tokens, source)
            fill("c/palm", palm_flops_per_token(shape, context) * tokens, source)
            fill("c/given", row["c/soda"], "c/soda")
    elif _has(row, "n/total", "tokens"):
        fill("c/given", 6 * row["n/total"] * row["tokens"], "6ND")
    return made


def notes_on(
    made: Sequence[Mapping[str, str]], keys: Sequence[Mapping[str, str]], num_runs: int
) -> tuple[str, ...]:
    """A sentence for each thing a table does not say itself.

    Args:
        made: for each run, what its filled columns are (`complete_row`).
        keys: for each run, what its losses are called in the file.
    """
    counts = Counter((column, source) for row in made for column, source in row.items())
    together: dict[tuple[str, int], list[str]] = {}
    for (column, source), count in counts.items():
        together.setdefault((source, count), []).append(column)
    notes = [
        f"{', '.join(columns)} of {count} of {num_runs} runs are {source}."
        for (source, count), columns in together.items()
    ]
    for loss in dict.fromkeys(name for row in keys for name in row):
        named = Counter(row[loss] for row in keys if loss in row)
        if len(named) > 1:
            parts = ", ".join(f"{key!r} in {count}" for key, count in named.items())
            notes.append(f"{loss} goes by several names, which may be several things: {parts} runs.")
    return tuple(notes)


def _has(row: Mapping[str, Any], *names: str) -> bool:
    """Whether these are numbers: a column may be there and say "n/a"."""
    return all(isinstance(row.get(name), (int, float)) and bool(np.isfinite(row[name])) for name in names)


def model_of(row: Mapping[str, Any]) -> ModelConfig | None:
    """The model a row's `shape/…` columns describe, or None where they do not suffice."""
    known = {f.name: f.type for f in fields(ModelConfig)}
    shape: dict[str, Any] = {}
    for name, value in row.items():
        field = name.removeprefix("shape/")
        if name.startswith("shape/") and field in known and value == value:
            shape[field] = value
    if not {"width", "layers", "heads", "ffn_width", "vocab_size"} <= set(shape):
        return None
    whole = ("width", "layers", "heads", "kv_heads", "head_width", "ffn_width", "vocab_size", "context")
    shape = {k: int(v) if k in whole else v for k, v in shape.items() if k != "rope_scaling"}
    shape.setdefault("kv_heads", shape["heads"])
    shape.setdefault("head_width", shape["width"] // shape["heads"])
    shape["tied_embeddings"] = bool(shape.get("tied_embeddings", False))
    return from_plain(ModelConfig, shape, "shape")


def column_of(name: str, values: list[Any]) -> np.ndarray:
    if name in WORDS:
        return np.array(["" if v is None else str(v) for v in values], dtype=object)
    return np.array([v if isinstance(v, (int, float)) else np.nan for v in values], float)
