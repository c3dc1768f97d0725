"""Cells of a table as numbers: decimal commas, thousands, powers of ten and units; what could be two numbers is refused.

The style of a column, a point or a comma before its decimals, is read off its own cells where one of them can be read in one
way only, else off the other columns. `5,304` alone is 5.304 or 5304.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sodakit.errors import ConfigError

Style = Literal["point", "comma"]
"""What stands before decimals."""

_MISSING = frozenset(
    ("", "-", "–", "—", "na", "n/a", "#n/a", "nan", "none", "null", "?", "inf", "-inf", "infinity")
)
_TIMES = {
    "": 1.0, "k": 1e3, "thousand": 1e3, "m": 1e6, "million": 1e6, "millions": 1e6, "mio": 1e6, "g": 1e9, "b": 1e9,
    "bn": 1e9, "billion": 1e9, "billions": 1e9, "t": 1e12, "trillion": 1e12, "trillions": 1e12,
    "kflops": 1e3, "mflops": 1e6, "gflops": 1e9, "tflops": 1e12, "pflops": 1e15, "eflops": 1e18, "zflops": 1e21,
    "kflop": 1e3, "mflop": 1e6, "gflop": 1e9, "tflop": 1e12, "pflop": 1e15, "eflop": 1e18, "zflop": 1e21,
    "exaflops": 1e18, "zettaflops": 1e21, "petaflops": 1e15, "pf-days": 86_400e15, "pf_days": 86_400e15,
    "pfdays": 86_400e15, "pfs-days": 86_400e15, "pfs_days": 86_400e15,
    "flops": 1.0, "flop": 1.0, "tokens": 1.0, "token": 1.0, "tok": 1.0, "params": 1.0, "parameters": 1.0, "nats": 1.0,
    "nat": 1.0, "nats/token": 1.0, "steps": 1.0, "bits": math.log(2), "bits/token": math.log(2),
}  # fmt: skip
"""What a unit in a cell or in the name of a column multiplies by; losses in bits become nats."""
_POWER = re.compile(r"[x×·*]?\s*(?:10\s*(?:\^|\*\*)|1e\+?)(\d{1,2})")
"""`tokens (1e9)`, `params (10^6)`."""
_WORDS = ("tokens", "token", "params", "parameters", "flops", "flop")
_BODY = re.compile(
    r"^([+-]?[\d.,'’\s_]*\d[.,]?)(?:\s*(?:e|[x×·*]\s*10\s*\^?)\s*([+-]?\d+))?\s*([^\d].*)?$", re.I
)
_HEADER = re.compile(
    r"^(.*?)[\s_/]*(?:[(\[]\s*([^)\]]+?)\s*[)\]]|[\s_](millions?|billions?|trillions?|pf[_-]days))$", re.I
)


@dataclass(frozen=True)
class Cells:
    """A column of cells, read."""

    values: list[Any]
    """Floats (nan where there is none); booleans and what is no text or number stay."""
    note: str = ""
    """What could not be read, in words."""


def unit_of(header: str) -> tuple[str, float]:
    """A column's name without its unit, and what the unit multiplies by: `tokens (B)` is tokens times 1e9."""
    match = _HEADER.match(header.strip())
    if match:
        factor = _factor(re.sub(r"^in\s+", "", (match[2] or match[3]).lower()))
        if factor is not None:
            return re.sub(r"[\s_]in$", "", match[1]), factor
    return header, 1.0


def style_of(cells: Sequence[Any]) -> Style | None:
    """How a column writes decimals; None where its cells do not tell.

    Raises:
        ConfigError: some cells can only be read in one way, and others only in the other.
    """
    found: dict[Style, str] = {}
    for cell in cells:
        style = _style(cell) if isinstance(cell, str) else None
        if style is not None:
            found.setdefault(style, cell)
    if len(found) == 2:
        raise ConfigError(
            f"One column holds {found['point']!r}, which has a decimal point, and {found['comma']!r}, which has a decimal "
            "comma. Write all of it in one way."
        )
    return next(iter(found), None)


def read_cells(
    name: str,
    key: str,
    cells: Sequence[Any],
    table: Style | None,
    decimal: Style | None = None,
    rows: Sequence[str] | None = None,
) -> Cells:
    """A column's cells as numbers.

    Args:
        name: what the column is: whole numbers have thousands, and no loss is of a thousand nats.
        key: what it is called in the file.
        table: the style of the table, for a column that does not tell its own.
        decimal: the style, where the user says it.
        rows: what the rows of the cells are called; by default 1, 2, ….
    Raises:
        ConfigError: cells that could be two numbers, a column of a unit that nobody knows, or a unit in some cells only.
    """
    own = decimal or _style_here(name, cells, table)
    values: list[Any] = []
    unread: dict[str, str] = {}
    units: dict[int, float] = {}
    for number, cell in enumerate(cells):
        if not isinstance(cell, str):
            values.append(_plain(cell))
            continue
        value, factor = _value(cell, own)
        if factor is not None:
            units[number] = factor
        if value is None:
            unread[rows[number] if rows else str(number + 1)] = cell
        values.append(float("nan") if value is None else value)
    _check_units(key, cells, values, units, rows)
    if not unread:
        return Cells(values)
    if len(unread) == len(cells) and (unit := _unit(cells[0])):
        raise ConfigError(
            f"{key} holds {cells[0]!r}, whose unit {unit!r} is not known. Known: k, M, B, T, FLOPs with prefixes, nats, bits. "
            "Write plain numbers."
        )
    first = {cell: row for row, cell in reversed(unread.items())}
    shown = ", ".join(f"row {row}: {cell[:30]!r}" for cell, row in list(reversed(first.items()))[:4])
    more = ", …" if len(unread) > min(len(first), 4) else ""
    return Cells(
        values,
        f"{key}: {len(unread)} of {len(cells)} cells are no numbers and count as missing ({shown}{more}).",
    )


FAR_FROM_UNITS = 100
"""Times below every cell with a unit from which a bare number must be meant in that unit, too."""


def _plain(cell: Any) -> Any:
    if isinstance(cell, bool) or not isinstance(cell, (int, float)):
        return cell
    try:
        return float(cell)
    except OverflowError:  # a whole number of hundreds of digits
        return math.inf


def _check_units(
    key: str,
    cells: Sequence[Any],
    values: Sequence[Any],
    units: Mapping[int, float],
    rows: Sequence[str] | None,
) -> None:
    """Refuse `20M` beside `20`, and `4 bits` beside `3.1`: a number that may lack its unit."""
    told = [values[i] for i, factor in units.items() if factor >= 1e3]
    in_bits = any(factor < 1 for factor in units.values())
    for number, value in enumerate(values):
        if (
            number in units
            or isinstance(value, bool)
            or not isinstance(value, (int, float))
            or value != value
        ):
            continue
        if in_bits or (told and 0 < value < min(told) / FAR_FROM_UNITS):
            unit = next(i for i, factor in units.items() if factor < 1 or factor >= 1e3)
            raise ConfigError(
                f"{key} holds {cells[unit]!r}, and in row {rows[number] if rows else number + 1} {cells[number]!r} without a unit. "
                "Write the unit in every cell, or in none."
            )


def table_style(columns: Mapping[str, Sequence[Any]]) -> Style | None:
    """The style that those columns have that tell theirs, where they agree."""
    styles = {s for cells in columns.values() if (s := style_of(cells)) is not None}
    return styles.pop() if len(styles) == 1 else None


def _style_here(name: str, cells: Sequence[Any], table: Style | None) -> Style:
    """The style of a column: its own, else what its meaning says, else the table's."""
    own = style_of(cells)
    if own is not None:
        return own
    doubtful = next((c for c in cells if isinstance(c, str) and _is_doubtful(c)), None)
    if doubtful is None:
        return "point"
    whole = name.split("/")[0] in (
        "n",
        "tokens",
        "unique_tokens",
        "steps",
        "batch_tokens",
        "batch_rows",
        "seed",
    )
    if whole and not re.search(r"[a-z]", doubtful, re.I):
        return "point"
    if name.startswith("loss/"):  # nobody has a loss of a thousand nats
        return "comma"
    if table is not None:
        return table
    body = _BODY.match(doubtful.strip())
    text = body[1] if body else doubtful
    raise ConfigError(
        f"{name} holds {doubtful!r}, which is {text.replace(',', '.')} or {text.replace(',', '')}. Write it with a decimal point "
        "and without thousands, or say how: --decimal point or --decimal comma."
    )


def _style(cell: str) -> Style | None:
    match = _BODY.match(cell.strip())
    if not match:
        return None
    body = re.sub(r"[\s_'’]", "", match[1]).lstrip("+-")
    commas, points = body.count(","), body.count(".")
    if commas and points:
        return "comma" if body.rfind(",") > body.rfind(".") else "point"
    if commas > 1:
        return "point"
    if points > 1:
        return "comma"
    if commas == 1:
        before, after = body.split(",")
        if len(after) != 3 or len(before) > 3 or before.startswith("0") or not before or match[2]:
            return "comma"
        return None
    if points == 1:
        before, after = body.split(".")
        return "point" if len(after) != 3 or len(before) > 3 or before.startswith("0") or not before else None
    return None


def _is_doubtful(cell: str) -> bool:
    match = _BODY.match(cell.strip())
    return bool(match and match[1].count(",") == 1 and "." not in match[1] and _style(cell) is None)


def _value(cell: str, style: Style) -> tuple[Any, float | None]:
    """A cell's number, None where it is none or of an unknown unit; and what its unit multiplies by, None where it has none."""
    text = cell.strip().replace("\u00a0", " ").replace("\u202f", " ").replace("−", "-")
    lower = text.lower()
    if lower in _MISSING:
        return float("nan"), None
    if lower in ("true", "false", "yes", "no"):
        return lower in ("true", "yes"), None
    match = _BODY.match(text)
    if not match:
        return None, None
    body = re.sub(r"[\s_'’]", "", match[1])
    body = body.replace(".", "").replace(",", ".") if style == "comma" else body.replace(",", "")
    unit = (match[3] or "").strip().lower()
    factor = _factor(unit)
    if factor is None or body.count(".") > 1:  # not of this style
        return None, None
    # As one literal: multiplied, 1.2345 and 1e18 round twice.
    return float(f"{body}e{match[2] or 0}") * factor, factor if unit else None


def _unit(cell: Any) -> str:
    """What follows the number in a cell."""
    match = _BODY.match(cell.strip()) if isinstance(cell, str) else None
    return (match[3] or "").strip() if match else ""


def _factor(unit: str) -> float | None:
    """What a unit multiplies by; `B tokens` is two of them. None where it is unknown."""
    if unit in _TIMES:
        return _TIMES[unit]
    power = _POWER.fullmatch(unit)
    if power:
        return float(f"1e{power[1]}")
    parts = unit.split()
    if len(parts) == 2 and parts[1] in _WORDS and parts[0] in _TIMES:
        return _TIMES[parts[0]]
    return None
