"""Rows of a table on disk, as it is: CSV with any separator, JSON lines, JSON of several layouts."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sodakit.errors import ConfigError
from sodakit.files import read_json, read_json_lines

_WRAPPERS = ("runs", "rows", "data", "results", "records")
"""Keys under which files keep their list of runs."""


def read_rows(path: Path) -> list[dict[str, Any]]:
    """One mapping for each run in a file.

    Raises:
        ConfigError: no such file, another layout, text of another encoding, or lines with more cells than the header.
    """
    if not path.exists():
        raise ConfigError(f"{path} does not exist. Give a CSV or JSONL table, or a folder of runs.")
    if path.suffix == ".json":
        return _from_json(read_json(path), path)
    if path.suffix == ".jsonl":
        return read_json_lines(path, ours=False)
    return _from_csv(path)


def _from_json(given: Any, path: Path) -> list[dict[str, Any]]:
    """A list of runs; or an object: that list under a key, columns by name, or runs by name."""
    if isinstance(given, list):
        return _mappings(given, path)
    if isinstance(given, dict):
        for key in _WRAPPERS:
            if isinstance(given.get(key), list):
                return _mappings(given[key], path)
        values = list(given.values())
        if values and all(isinstance(v, list) for v in values) and len({len(v) for v in values}) == 1:
            return [dict(zip(given, row, strict=True)) for row in zip(*values, strict=True)]
        if values and all(isinstance(v, Mapping) for v in values):
            # Columns by name and row number, as pandas writes them, or runs by name.
            keys = [set(v) for v in values]
            if all(k == keys[0] for k in keys) and all(str(k).isdigit() for k in keys[0]):
                return [{name: column[i] for name, column in given.items()} for i in given[next(iter(given))]]
            return [{"run": name, **run} for name, run in given.items()]
    raise ConfigError(
        f"{path} holds a {type(given).__name__} that is no table; needed: a list of runs, columns by name, or runs by name."
    )


def _mappings(rows: list[Any], path: Path) -> list[dict[str, Any]]:
    wrong = next((i for i, row in enumerate(rows) if not isinstance(row, dict)), None)
    if wrong is not None:
        raise ConfigError(
            f"{path}: entry {wrong + 1} is a {type(rows[wrong]).__name__}; needed: an object with names and values for each run."
        )
    return rows


def _from_csv(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    # Spreadsheets write UTF-16 as "Unicode text".
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is no UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8."
        ) from error
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise ConfigError(
            f"{path} is empty. Give a table with a line of column names and a line for each run."
        )
    mark = max("\t;|,", key=lines[0].count)  # the first of these where none is there
    header = next(csv.reader([lines[0]], delimiter=mark if lines[0].count(mark) else ","))
    twice = next((name for name in header if name.strip() and header.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{path} has {header.count(twice)} columns named {twice!r}. Rename all but one.")
    rows = list(
        csv.DictReader(io.StringIO("\n".join(lines)), delimiter=mark if lines[0].count(mark) else ",")
    )
    for number, row in enumerate(rows, start=2):
        if None in row:
            raise ConfigError(
                f"{path}, line {number}, has {len(row) - 1 + len(row[None])} cells and the header {len(row) - 1}. "
                "Numbers with commas need quotes, or another separator (; or tab)."
            )
    return rows
