"""Lists of sounds with their texts, columns apart by commas, tabs or bars, with a header or without.

file_name,transcription                        Hugging Face, Common Voice (.tsv), Coqui: the header says what is where
LJ001-0001|in 1455|in fourteen fifty-five      LJSpeech: name, text, normalised text, speaker
wavs/a.wav|alma|en|Close the door.             GPT-SoVITS: sound, speaker, language, text
wavs/a.wav|7|Close the door.                   VITS: sound, speaker, text
a Close the door.                              a name, a space or colon, the text (.txt only)
1671 <tab> 12.wav <tab> Close it. <tab> close it <tab> c l o s e … <tab> 62400 <tab> FEMALE     FLEURS
"""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sodakit.prepare.sources.columns import field_of, words_for
from sodakit.prepare.sources.rows import MAX_LINE_BYTES, has_rows, read_lines
from sodakit.units import shortened

MOST_COLUMNS = 1000
"""A list with more is none."""

LIST_SUFFIXES = (".csv", ".tsv", ".psv", ".list", ".lst", ".txt")
LANGUAGE_CODE = re.compile(r"(all_|auto_)?(zh|ja|jp|en|ko|yue|auto|[a-z]{2}(-[a-z]{2,4})?)", re.IGNORECASE)
SAMPLE_ROWS = 200
"""Rows that are looked at to learn what is in which column."""
ALIKE = 0.5
"""Share of letters in common from which two cells are one text written twice, and of rows from which two columns are."""

FLEURS = ("sentence_id", "audio", "raw_text", "text", "characters", "num_samples", "gender")
SEXES = (["MALE"], ["FEMALE"], ["OTHER"])
_SPELT = re.compile(r"(\w [a-züêv:]+[1-5] ?)+", re.IGNORECASE)
"""AISHELL-3's 广 guang3 州 zhou1."""

csv.field_size_limit(MAX_LINE_BYTES)  # Python's own limit is 128 kB

Row = Mapping[str, Any] | str
"""What a line says by column, or what is wrong with it."""


@dataclass(frozen=True)
class Layout:
    """How a list is written."""

    delimiter: str
    columns: tuple[str, ...]
    """What each column is called."""
    header: bool
    """Whether the first line says so itself."""


class NoList(Exception):
    """Why a file is no list that can be read, for a person."""


def layout_of(path: Path, is_sound: Callable[[str], bool]) -> Layout:
    """How a list is written, by its header; or, where it has none, by its columns: which one names sounds, which is text.

    Args:
        path: the list.
        is_sound: whether a cell names a sound that is there.
    Raises:
        NoList: it holds no sounds and texts, or nobody can tell which column is what.
    """
    if not has_rows(path):
        raise NoList("empty")
    lines = [line for _, line in islice(read_lines(path), SAMPLE_ROWS) if line is not None]
    if not lines:
        raise NoList("not UTF-8; save it as UTF-8")
    refused = ""
    for delimiter in _delimiters(path, lines[0]):
        cells = [[cell.strip() for cell in row] for row in _cells(lines, delimiter)]
        if len(cells[0]) < 2:
            continue
        header = _header(cells, is_sound)
        if isinstance(header, tuple):
            return Layout(delimiter, header, header=True)
        columns = None if header else _columns(path, delimiter, cells, is_sound)
        if isinstance(columns, tuple):
            return Layout(delimiter, columns, header=False)
        refused = refused or header or columns or ""
    raise NoList(refused or "no list of sounds with their texts")


def list_rows(path: Path, layout: Layout) -> Iterator[tuple[int, Row]]:
    """Line number and content of each row. Quotation marks mean something between commas only."""
    if layout.delimiter in ",;":
        rows = _quoted(path, layout.delimiter)
    else:
        lines = read_lines(path)
        rows = ((n, line if line is None else _split(line, layout.delimiter)) for n, line in lines)
    for number, cells in islice(rows, int(layout.header), None):
        if cells is None:
            yield number, "not UTF-8"
        elif isinstance(cells, str):
            yield number, cells
        else:
            yield number, _row([cell.strip() for cell in cells], layout)


def _row(cells: list[str], layout: Layout) -> Row:
    columns = layout.columns
    if len(cells) > len(columns) or len(cells) < 2:
        return f"{len(cells)} columns; needed: {', '.join(columns)}"
    row: dict[str, Any] = dict(zip(columns, cells, strict=False))
    return {
        column: value for column, value in row.items() if value != "" or field_of(column) in ("audio", "text")
    }


def _quoted(path: Path, delimiter: str) -> Iterator[tuple[int, list[str] | str | None]]:
    """The rows of a list with quotation marks, in which a cell may hold a line's end."""
    numbers = [0]

    def lines() -> Iterator[str]:
        for number, line in read_lines(path):
            numbers[0] = number
            yield ("\ufffe" if line is None else line) + "\n"

    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    while True:
        first = numbers[0] + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield first, f"{error}; lines {first} to {numbers[0]} are left out"
            continue
        yield numbers[0], None if any("\ufffe" in cell for cell in row) else row


def _cells(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    if delimiter not in ",;":
        return [_split(line, delimiter) for line in lines]
    try:
        return list(csv.reader(lines, delimiter=delimiter))
    except csv.Error as error:
        raise NoList(str(error)) from error


def _split(line: str, delimiter: str) -> list[str]:
    # After a name, a space or colon separates it from the text and means nothing more.
    return line.split(delimiter, 1 if delimiter in " :" else -1)


def _delimiters(path: Path, first: str) -> list[str]:
    wanted = {".tsv": "\t|,;", ".csv": ",|\t;", ".txt": "|\t: "}.get(path.suffix.lower(), "|\t,")
    return [delimiter for delimiter in wanted if delimiter in first]


def _header(cells: list[list[str]], is_sound: Callable[[str], bool]) -> tuple[str, ...] | str | None:
    """The columns that the first line names; why they do not do; or None if it is a row like the others."""
    first = cells[0]
    if len(first) > MOST_COLUMNS:
        return f"{len(first)} columns; at most {MOST_COLUMNS} are read"
    fields = [field_of(cell) for cell in first]
    if not ({"audio", "id"} & set(fields) or "text" in fields) or any(map(is_sound, first)):
        return _unknown_header(cells, is_sound)
    named = shortened(", ".join(first))
    twice = [cell for cell, count in Counter(first).items() if cell and count > 1]
    if twice:
        return f"columns {named}; {shortened(', '.join(sorted(twice)))} is there twice"
    if "text" not in fields:
        return f"columns {named}; none is a transcript ({words_for('text')}, …)"
    if not {"audio", "id"} & set(fields):
        return f"columns {named}; none names a sound ({words_for('audio')}, …)"
    return tuple(first)


def _unknown_header(cells: list[list[str]], is_sound: Callable[[str], bool]) -> str | None:
    """Complain of a first line that names nothing while all others name sounds; None where it is no such line."""
    first, rest = cells[0], cells[1:]
    names = all(re.fullmatch(r"[^\W\d][\w -]{0,30}", cell) for cell in first)
    if not names or not rest or any(map(is_sound, first)):
        return None
    if any(all(len(row) > n and is_sound(row[n]) for row in rest) for n in range(len(first))):
        known = f"call them {words_for('audio')}, … and {words_for('text')}, …"
        return f"columns {shortened(', '.join(first))}; {known}"
    return None


def _columns(
    path: Path, delimiter: str, cells: list[list[str]], is_sound: Callable[[str], bool]
) -> tuple[str, ...] | str:
    """What is in which column of a list without a header, or why nobody can tell."""
    width = max(map(len, cells))
    named = [sum(len(row) > n and is_sound(row[n]) for row in cells) for n in range(width)]
    ljspeech = delimiter == "|" and path.name.lower().startswith("metadata")
    needed = len(cells) if delimiter in " :" else len(cells) / 2  # any line of prose holds spaces
    if not ljspeech and max(named) < needed:
        return f"no header, and no column of its {width} names sounds that are there"
    if width == len(FLEURS) and named[1] == max(named) and all(row[-1:] in SEXES for row in cells):
        return FLEURS
    if max(named) and named.index(max(named)) != 0:
        return f"no header, and sounds in column {named.index(max(named)) + 1}; needed: a header"
    shown = f"no header, and {width} columns such as {' | '.join(cells[0])[:120]!r}; needed: a header"
    if all(_SPELT.fullmatch(row[-1]) for row in cells):
        return f"no header, and the pinyin of each character behind it, as in {cells[0][-1][:40]!r}"
    if width == 2:
        return "audio", "text"
    second, third = ([row[n] for row in cells if len(row) > n] for n in (1, 2))
    alike = _alike(cells)
    if width in (3, 4) and (alike is None or alike >= ALIKE):
        return ("audio", "raw_text", "text", "speaker")[:width]
    if any(re.search(r"\s", cell) for cell in second):
        return shown
    if width == 3:
        return "audio", "speaker", "text"
    if width == 4 and all(LANGUAGE_CODE.fullmatch(cell) for cell in third):
        return "audio", "speaker", "language", "text"
    return shown


def _alike(cells: list[list[str]]) -> float | None:
    """Share of rows whose second and third cell have a word or half of their letters in common; None where one is empty."""
    pairs = [(row[1].lower(), row[2].lower()) for row in cells if len(row) > 2 and row[1] and row[2]]
    alike = sum(
        bool(set(re.findall(r"\w+", one)) & set(re.findall(r"\w+", other)))
        or _common(set(filter(str.isalnum, one)), set(filter(str.isalnum, other))) >= ALIKE
        for one, other in pairs
    )
    return alike / len(pairs) if pairs else None


def _common(one: set[str], other: set[str]) -> float:
    return len(one & other) / max(1, len(one | other))
