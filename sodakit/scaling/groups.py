"""Which runs of a table belong together: chosen, fitted apart, resampled together; and what looks like that and was not said.

where(table, ["split=train", "loss/all<4"])     runs that meet every condition
by(table, "dataset")                            a table for each value
clusters(table)                                 which runs are checkpoints of one
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sodakit.errors import ConfigError, nearest
from sodakit.scaling.table import RunTable

MOST_GROUPS = 20
"""Values of a column that may still be names of groups."""
MOST_RUNS_OF_A_SIZE = 4
"""Numbers of tokens that one size has in most designs; from so many on they may be checkpoints."""
_CONDITION = re.compile(r"^(.+?)\s*(==|!=|<=|>=|=|<|>)\s*(.*)$")
_CHECKPOINT = re.compile(r"[-_/ .]*(?:step|steps|ckpt|checkpoint|iter|iteration|epoch)[-_ ]*\d+$", re.I)
_SPLIT = re.compile(r"split|subset|fold|partition", re.I)
_FLAG = re.compile(r"outlier|exclude|ignore|invalid|diverged|failed|bad|drop|spike", re.I)
_REPEAT = re.compile(r"^(num_?|n_?)?(epochs?|passes|repeats|repetitions)$", re.I)
_ACTIVE = re.compile(r"^(?=.*(?:active|activated))(?=.*param)", re.I)
_YES = ("1", "1.0", "true", "yes", "y", "t")


def where(table: RunTable, conditions: Sequence[str]) -> RunTable:
    """The runs that meet every condition: a column, =, !=, <, <=, > or >=, and a value (several: `a|b`); how many is noted.

    Raises:
        ConfigError: no condition, no such column, or no run that meets them.
    """
    for condition in conditions:
        column, sign, value = _parts(condition)
        values_R = table.column(column)
        keep_R = np.array([_meets(v, sign, value) for v in values_R], bool)
        if not keep_R.any():
            shown = ", ".join(dict.fromkeys(_word(v) for v in values_R[:200]))
            raise ConfigError(
                f"No run of {table.origin or 'the table'} has {condition}. {column} is {shown[:200]}."
            )
        note = f"{int(keep_R.sum())} of {len(table)} runs have {condition}."
        table = replace(table.select(keep_R), notes=(*table.notes, note))
    return table


def meets_condition(row: Mapping[str, Any], condition: str) -> bool:
    """Whether a row of a file meets a condition of `where`.

    Raises:
        ConfigError: no condition, or the row has no such column.
    """
    column, sign, value = _parts(condition)
    if column not in row:
        raise ConfigError(f"There is no column {column!r}.{nearest(column, row, 'The columns')}")
    return _meets(row[column], sign, value)


def _parts(condition: str) -> tuple[str, str, str]:
    """Column, sign and value of a condition."""
    match = _CONDITION.match(condition.strip())
    if not match:
        raise ConfigError(
            f"{condition!r} is no condition. Write COLUMN=VALUE, or with != < <= > >=, for example --where split=train."
        )
    return match[1].strip(), match[2], match[3].strip()


def by(table: RunTable, column: str) -> Iterator[tuple[str, RunTable]]:
    """The values of a column in order of appearance, each with its runs.

    Raises:
        ConfigError: no such column, or a value for nearly every run.
    """
    words_R = np.array([_word(v) for v in table.column(column)], dtype=object)
    names = list(dict.fromkeys(words_R.tolist()))
    if len(names) > max(len(table) / 2, 1):
        raise ConfigError(
            f"{column} has {len(names)} values for {len(table)} runs; needed: few, with several runs each. Name another column."
        )
    for name in names:
        yield name, table.select(words_R == name)


def split_by(table: RunTable, columns: Sequence[str]) -> dict[str, RunTable]:
    """The runs of every combination of values of some columns, by `family=flat, lr_rule=mup`; all of them by "" without columns.

    Raises:
        ConfigError: as `by`.
    """
    groups = {"": table}
    for column in columns:
        groups = {
            f"{name}, {column}={value}" if name else f"{column}={value}": part
            for name, members in groups.items()
            for value, part in by(members, column)
        }
    return groups


def clusters(table: RunTable, column: str | None = None) -> tuple[list[str] | None, str]:
    """Which runs go together in a bootstrap, one name for each row, and that in words; None where each stands for itself.

    Args:
        column: `none`, or the column that tells; by default `cluster`, else the name of the run without its step: rows of
            one name are checkpoints of one training run, whose losses err together.
    Raises:
        ConfigError: no such column.
    """
    if column == "none":
        return None, ""
    if column is not None:
        names = [_word(v) for v in table.column(column)]
    elif "cluster" in table.columns:
        names = [_word(v) for v in table.columns["cluster"]]
    else:
        names = [_CHECKPOINT.sub("", name) or name for name in table.runs]
    kinds = len(set(names))
    if kinds == len(names):
        return None, ""
    if kinds < 3:
        if column is None and "cluster" not in table.columns:
            return None, ""  # one word for all rows is a title, not a run
        raise ConfigError(
            f"{column or 'cluster'} makes {kinds} clusters of {len(names)} runs; needed: 3 at least. Name another, or --cluster none."
        )
    source = column or ("cluster" if "cluster" in table.columns else "the name of the run")
    return names, (
        f"{len(names)} rows are of {kinds} training runs (by {source}): intervals draw each of them as a whole."
    )


def looks_grouped(
    table: RunTable, said: Sequence[str] = (), *, repeats_known: bool = False, clustered: bool = False
) -> list[str]:
    """A line for each column that says runs differ in kind, and was not used: groups, splits, flags, repeated data, and rows
    that may be checkpoints.

    Args:
        said: columns that the user has chosen or split by.
        repeats_known: the law is of repeated data.
        clustered: the user has said which rows are of one run.
    """
    lines = [] if clustered else _may_be_checkpoints(table)
    for name, values in table.others.items():
        if name in said:
            continue
        counted = Counter(_word(v) for v in values if v is not None)
        short = name.rsplit(".", 1)[-1]
        shown = ", ".join(f"{v[:24]} ({n})" for v, n in counted.most_common(4)) + (
            ", …" if len(counted) > 4 else ""
        )
        flagged = sum(n for v, n in counted.items() if v.lower() in _YES)
        if _FLAG.search(short) and flagged:
            lines.append(
                f"{name} marks {flagged} of {len(table)} runs, which are fitted all the same: --where {name}={_no(counted)} leaves them out."
            )
        elif _SPLIT.search(short) and len(counted) > 1:
            lines.append(
                f"{name} looks like a split, and its parts are fitted as one: {shown}. --where {name}=… takes one."
            )
        elif _REPEAT.match(short) and not repeats_known and max(map(_number, counted), default=0) > 1:
            lines.append(
                f"{name} is above 1: some runs repeat their data, and all tokens count as fresh (--law data_repeat)."
            )
        elif _is_group(table, values, counted):
            lines.append(
                f"{name} looks like a group, and all are fitted as one: {shown}. --by {name} fits each."
            )
    active = next((name for name in table.others if _ACTIVE.search(name)), None)
    if active is not None:
        lines.append(
            f"{active}: some parameters rest (experts), and N and C = 6ND are of all of them. --alias {active}=n/total counts the active ones."
        )
    return lines + _known_groups(table, said, repeats_known)


def _may_be_checkpoints(table: RunTable) -> list[str]:
    """Sizes with several numbers of tokens each, by no name and no budget: runs of their own, or checkpoints of one for each size."""
    size = _any_size(table)
    n_R, d_R, c_R = table.sizes(size), table.tokens(), table.budgets("6nd", size)
    kinds, pairs = _pairs(n_R, d_R)[0], _pairs(n_R, d_R)[2]
    # Of a whole design by budgets every size stands with every C; of checkpoints with every D, or every D/N.
    over_d, over_m, over_c = (of / (n * m) for n, m, of in (_pairs(n_R, x) for x in (d_R, d_R / n_R, c_R)))
    by_budgets = bool(np.isfinite(c_R).all()) and over_c > max(0.6, over_d, over_m)
    told = len(table) and all(str(s) for s in table.columns.get("status", [""]))
    if (
        kinds < 2
        or pairs < MOST_RUNS_OF_A_SIZE * kinds
        or by_budgets
        or told
        or clusters(table)[0] is not None
    ):
        return []
    return [
        f"{len(table)} rows are of {kinds} sizes, each with about {pairs / kinds:.0f} numbers of tokens. If these are checkpoints of "
        f"{kinds} training runs, their errors go together and the intervals are too narrow: --cluster n/{size}. If each run was "
        "trained to its end: --cluster none."
    ]


def _pairs(one_R: np.ndarray, other_R: np.ndarray) -> tuple[int, int, int]:
    """How many values each has, to three digits, and how many pairs of them there are."""
    one, other = ([f"{x:.3g}" for x in v.tolist()] for v in (one_R, other_R))
    return len(set(one)), len(set(other)), len({*zip(one, other, strict=True)})


def _known_groups(table: RunTable, said: Sequence[str], repeats_known: bool) -> list[str]:
    """The same of columns that have names of ours."""
    lines = []
    for name in ("shape/vocab_size", "shape/context"):
        values = table.columns.get(name, np.array([])).astype(float)
        kinds = np.unique(values[np.isfinite(values)])
        if 1 < len(kinds) <= MOST_GROUPS and name not in said:
            shown = ", ".join(f"{k:g}" for k in kinds[:4])
            lines.append(
                f"{name} differs ({shown}), and losses over it are fitted as one. --by {name} fits each."
            )
    unique = table.columns.get("unique_tokens", np.full(len(table), np.nan)).astype(float)
    with np.errstate(invalid="ignore"):
        passes = table.tokens() / unique
    repeating = int((passes > 1.001).sum())
    if repeating and not repeats_known and "unique_tokens" not in said:
        lines.append(
            f"{repeating} of {len(table)} runs repeat their data (up to {np.nanmax(passes):.1f} passes), and all tokens count as "
            "fresh: --law data_repeat fits what repeats are worth."
        )
    return lines


def _is_group(table: RunTable, values: np.ndarray, counted: Counter[str]) -> bool:
    """Few values, each of several runs, that are no other name for the size or the budget of a run."""
    if not 1 < len(counted) <= min(MOST_GROUPS, len(table) / 3):
        return False
    words = [_word(v) for v in values]
    numeric = all(np.isfinite(_number(w)) for w in counted)
    if numeric and any(not _number(w).is_integer() for w in counted):
        return False  # a setting that was varied, such as a learning rate
    for told in (table.sizes(_any_size(table)), table.tokens(), table.budgets()):
        # One word for each N, D or budget and the other way round: another name for it.
        if len({*zip(told.tolist(), words, strict=True)}) == len(counted) == len({*told.tolist()}):
            return False
    return True


def _any_size(table: RunTable) -> str:
    return next(iter(table.conventions()[0]), "total")


def _meets(value: Any, sign: str, wanted: str) -> bool:
    if sign in ("=", "==", "!="):
        same = any(_same(value, one.strip()) for one in wanted.split("|"))
        return same != (sign == "!=")
    left, right = _number(_word(value)), _number(wanted)
    if not np.isfinite(right):
        raise ConfigError(f"{wanted!r} is no number, so nothing is {sign} it.")
    return bool({"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[sign])


def _same(value: Any, wanted: str) -> bool:
    word, number = _word(value), _number(wanted)
    if np.isfinite(number) and np.isfinite(_number(word)):
        return bool(np.isclose(_number(word), number, rtol=1e-9))
    return word.lower() == wanted.lower()


def _word(value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}.get(word.lower(), float("nan"))


def _no(counted: Counter[str]) -> str:
    return next((v for v in counted if v.lower() not in _YES), "0")
