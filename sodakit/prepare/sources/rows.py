"""What all layouts share: lines that may be broken, compressed or endless, and JSON that may be anything."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa

from sodakit.errors import ConfigError
from sodakit.files import parse_json, refuse_odd
from sodakit.prepare.recording import Item

MAX_LINE_BYTES = 1 << 26
"""A longer line is no row and no text: reading stops there instead of filling the memory."""

COMPRESSED = ("", ".gz", ".zst", ".zstd")
"""Suffixes after `.jsonl` or `.txt`."""

BOM = "\ufeff"
UTF16 = (b"\xff\xfe", b"\xfe\xff")


def named(folder: Path, *endings: str) -> list[Path]:
    """Files below a folder with one of the endings, compressed or not; sorted, hidden ones left out."""
    found = (p for p in folder.rglob("*") if ends_with(p, *endings) and not p.name.startswith("."))
    return sorted(path for path in found if path.is_file())


def ends_with(path: Path, *endings: str) -> bool:
    """Whether a file's name has one of the endings, compressed or not, in small letters or capitals."""
    return path.name.lower().endswith(tuple(ending + packed for ending in endings for packed in COMPRESSED))


@contextmanager
def open_packed(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, decompressed where its suffix says so.

    Raises:
        ConfigError: it is a folder or a pipe, or cannot be decompressed.
    """
    refuse_odd(path)
    try:
        if path.suffix.lower() == ".gz":
            with gzip.open(path) as handle:
                yield cast("IO[bytes]", handle)
        elif path.suffix.lower() in (".zst", ".zstd"):
            # pyarrow's own streams have no readline.
            with io.BufferedReader(pa.input_stream(str(path), compression="zstd")) as stream:
                yield cast("IO[bytes]", stream)
        else:
            with open(path, "rb") as handle:
                yield handle
    except (gzip.BadGzipFile, zlib.error, EOFError, pa.ArrowException, OSError) as error:
        raise ConfigError(f"{path} cannot be read to its end ({error}). Fetch it again.") from error


def read_lines(path: Path) -> Iterator[tuple[int, str | None]]:
    """Number (from 1) and text of each line that is not blank; None for the text of one that is not UTF-8.

    A byte-order mark before a line is no part of it: lists that were joined have several.

    Raises:
        ConfigError: damaged compression, or a line of more than `MAX_LINE_BYTES`.
    """
    with open_packed(path) as handle:
        is_utf16 = handle.read(2).startswith(UTF16)
    if is_utf16:  # a spreadsheet's "Unicode text"
        text, problem = read_document(path)
        for number, found in enumerate((text or "").split("\n"), start=1):
            if found.strip() or problem:
                yield number, None if problem else found.rstrip("\r")
        return
    with open_packed(path) as handle:
        for number, line in enumerate(_bounded_lines(handle, path), start=1):
            try:
                text = line.decode("utf-8").lstrip(BOM).rstrip("\r\n")
            except UnicodeDecodeError:
                yield number, None
                continue
            if text.strip():
                yield number, text


def has_rows(path: Path) -> bool:
    """Whether a list holds a line that is not blank. One that cannot be read does: its reader says why."""
    try:
        return path.is_file() and next(read_lines(path), None) is not None
    except ConfigError:
        return True


def read_document(path: Path) -> tuple[str | None, str | None]:
    """The text of a whole file, or why it has none."""
    try:
        with open_packed(path) as handle:
            found = handle.read(MAX_LINE_BYTES + 1)
        if len(found) > MAX_LINE_BYTES:
            return None, f"{path.name} is longer than {MAX_LINE_BYTES} bytes; cut it into several files"
        return decode(found), None
    except (UnicodeDecodeError, ConfigError) as error:
        return None, f"{path.name} is not UTF-8 text ({error})"


def decode(content: bytes) -> str:
    """Bytes as text without its byte-order mark and the spaces around it: UTF-8, or UTF-16 where the mark says so.

    Raises:
        UnicodeDecodeError: neither.
    """
    return content.decode("utf-16" if content.startswith(UTF16) else "utf-8-sig").strip()


def parse_object(line: str | None) -> dict[str, Any]:
    """The JSON object of a line as `read_lines` gives it.

    Raises:
        ValueError: it is none.
    """
    if line is None:
        raise ValueError("not UTF-8")
    row = parse_json(line)
    if not isinstance(row, dict):
        raise ValueError(f"a JSON {type(row).__name__}; needed: an object")
    return row


def bad_row(path: Path, number: int, source: str, problem: str) -> Item:
    """An item that stands for a line nobody can use; it goes to quarantine."""
    return Item(
        id=f"{source}/{path.name}:{number}",
        source=source,
        problem=f"{path.name}, line {number}: {problem}",
    )


def _bounded_lines(handle: Any, path: Path) -> Iterator[bytes]:
    while line := handle.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise ConfigError(
                f"{path} has a line of more than {MAX_LINE_BYTES} bytes; needed: one row a line. "
                "Is it JSON Lines? Convert it, or leave it out."
            )
        yield line
