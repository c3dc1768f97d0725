"""Tables that cannot be read as they are: what their columns seem to be, and what to write so that they can."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sodakit.errors import ConfigError
from sodakit.scaling.columns import SHAPE, flat_keys, meaning_of, says_unit
from sodakit.scaling.numbers import unit_of
from sodakit.scaling.table import RunTable

_LIKE = {
    "parameters": (r"param|size|^n$|weights$", "n/total"),
    "tokens": (r"tok|data|samples|^d$|^T$", "tokens"),
    "loss": (r"loss|nll|perplex|ppl|entropy|bpb|bits|^ce$|^l$", "loss/all"),
}
"""For each thing a table must tell: how columns that may tell it are called, and our name for it."""
_WIDE = re.compile(
    r"^(?:.*[\s_@=/:-])?\(?(\d+(?:[.,]\d+)?(?:e[+-]?\d+)?)\s*_?(k|m|b|bn|t|[kmgtpez]?flops?)?\)?"
    r"[\s_]*(?:tok(?:en)?s?|steps?|flops?)?\)?$",
    re.I,
)
"""A loss for each budget as a column: `1e18`, `loss@3e18`, `val_loss_2B`, `loss (4B tokens)`, `loss_step_2000`."""
_SMALLEST = {"n/": 1e3, "tokens": 1e3, "c/given": 1e9}
"""No training run has fewer parameters, tokens or FLOPs."""
_PER_PARAMETER = (1e-3, 2e5)
"""Tokens per parameter in the middle of any sweep there is; 0.6B parameters on 36T tokens are 60,000."""


def hints(rows: Sequence[Mapping[str, Any]], missing: Sequence[str]) -> str:
    """What the columns of a table seem to be, where something that every law needs was not found."""
    columns = list(dict.fromkeys(key for row in rows for key in flat_keys(row)))
    said = [f"Its columns: {', '.join(columns)}."]
    wide = [c for c in columns if _WIDE.match(c) and meaning_of(c, {})[0] is None]
    if "loss" in missing and len(wide) > 1:
        rest = [c for c in columns if c not in wide]
        over = "flops" if _largest(wide[0]) >= 1e15 else "steps" if "step" in wide[0].lower() else "tokens"
        return " ".join(
            [
                *said,
                f"{', '.join(wide[:3])}{', …' if len(wide) > 3 else ''} look like losses at several budgets, side by side. "
                f"Needed: one row for each run. In pandas: table.melt({rest}, var_name={over!r}, value_name='loss'), then in the "
                f"column {over} only its number.",
            ]
        )
    for thing in missing:
        pattern, ours = _LIKE[thing]
        like = [c for c in columns if re.search(pattern, c, re.I) and meaning_of(c, {})[0] is None]
        for column in like[:2]:
            alias = f'--alias "{column}={ours}"'
            if thing == "loss" and "train" in column.lower():
                said.append(f"{column} seems to be of the training data: {alias} takes it all the same.")
            else:
                unit = ", with a unit if it has one: (M), (B)" if thing != "loss" else ""
                said.append(f"If {column} is it: {alias}{unit}.")
        if thing == "loss" and not like:
            said.append("Name it, for example --alias my_loss=loss/all.")
        if thing == "tokens" and not like:
            said.append(
                "Tokens are also steps times batch_tokens, or times batch_size and seq_len, or C/6N by flops."
            )
        if thing == "parameters" and not like:
            known = {meaning_of(c, {})[0] for c in columns}
            lacking = [s.removeprefix("shape/") for s in SHAPE if s not in known]
            if len(lacking) < len(SHAPE):
                said.append(f"To count them from the shape, there is no column for {', '.join(lacking)}.")
            else:
                said.append('Name it, for example --alias "my_size=n/total (M)".')
    return " ".join(said)


def check_units(table: RunTable, rows: Sequence[Mapping[str, Any]], aliases: Mapping[str, str]) -> None:
    """Refuse sizes, tokens and FLOPs that are too small to be plain numbers: 20 to 1,000 parameters were millions.

    Columns whose name or alias says a unit are believed, `(params)` and `(tokens)` as well.

    Raises:
        ConfigError: such a column.
    """
    keys: dict[str, str] = {}
    for row in rows:
        for key in flat_keys(row):
            name = meaning_of(key, aliases)[0]
            if name is not None:
                keys.setdefault(name, key)
    for name in table.columns:
        least = _SMALLEST.get("n/" if name.startswith("n/") else name)
        if least is None:
            continue
        values = table.columns[name].astype(float)
        small = values[values < least]
        if name in keys and len(small) and not _is_told(keys[name], aliases):
            raise ConfigError(
                f"{keys[name]} is below {least:,.0f} in {len(small)} of {len(table)} rows (from {small.min():.4g} to "
                f"{values[np.isfinite(values)].max():.4g}), so it seems to be in another unit. {_say_unit(name, keys[name])}"
            )
    size = next((n for n in keys if n.startswith("n/") and n in table.columns), None)
    if size is None or "tokens" not in keys or any(_is_told(keys[n], aliases) for n in (size, "tokens")):
        return
    each = table.tokens() / table.columns[size].astype(float)
    middle = float(np.median(each[np.isfinite(each)])) if np.isfinite(each).any() else 1.0
    if not _PER_PARAMETER[0] <= middle <= _PER_PARAMETER[1]:
        which = size if middle > 1 else "tokens"
        raise ConfigError(
            f"By {keys[size]} and {keys['tokens']} runs have {middle:.3g} tokens per parameter, so one of them seems to be in "
            f"another unit. {_say_unit(which, keys[which])}"
        )


def _say_unit(name: str, key: str) -> str:
    ours = "n/total" if name.startswith("n/") else name
    plain = {"n": "params", "tokens": "tokens", "c": "FLOPs"}[name.split("/")[0]]
    return (
        f'Say which: --alias "{key}={ours} (M)" for millions, (B) for billions, ({plain}) for none; '
        f'or, if it is something else, what: --alias "{key}=width".'
    )


def _is_told(key: str, aliases: Mapping[str, str]) -> bool:
    return says_unit(aliases.get(key, key)) or meaning_of(key, aliases)[1] != 1.0


def _largest(column: str) -> float:
    match = _WIDE.match(column)
    assert match is not None
    return float(match[1].replace(",", ".")) * (unit_of(f"({match[2]})")[1] if match[2] else 1.0)
