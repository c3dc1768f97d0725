"""What other columns of a run determine: tokens, sizes and FLOPs by every convention; and the sentences that say so."""

from collections import Counter
from collections.abc import Mapping, Sequence
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
from sodakit.scaling.columns import SHAPE, SIZES, WORDS

_TOKENS = (
    (("step", "batch_tokens"), "step × batch_tokens"),
    (("step", "batch_rows", "shape/context"), "step × batch_rows × context"),
    (("steps", "batch_tokens"), "steps × batch_tokens"),
    (("steps", "batch_rows", "shape/context"), "steps × batch_rows × context"),
    (("n/total", "tokens_per_parameter"), "N × tokens_per_parameter"),
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
    if _has(row, "perplexity") and row["perplexity"] > 1:
        fill("loss/all", float(np.log(row["perplexity"])), "the logarithm of the perplexity")
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
    if not set(SHAPE) <= {f"shape/{field}" for field in shape}:
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
