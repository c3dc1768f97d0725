"""What all layouts share: lines that may be broken, compressed or endless, and names inside a source."""

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa

from sodakit.errors import ConfigError
from sodakit.prepare.recording import Item

MAX_LINE_BYTES = 1 << 26
"""A longer line is no row and no text: reading stops there instead of filling the memory."""

COMPRESSED = ("", ".gz", ".zst", ".zstd")
"""Suffixes after `.jsonl` or `.txt`."""


def named(folder: Path, *endings: str) -> list[Path]:
    """Files below a folder with one of the endings, compressed or not; sorted, hidden ones left out."""
    wanted = tuple(ending + packed for ending in endings for packed in COMPRESSED)
    found = (p for p in folder.rglob("*") if p.name.lower().endswith(wanted) and not p.name.startswith("."))
    return sorted(path for path in found if path.is_file())


@contextmanager
def open_packed(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, decompressed where its suffix says so.

    Raises:
        ConfigError: it cannot be decompressed.
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as handle:
                yield cast("IO[bytes]", handle)
        elif path.suffix in (".zst", ".zstd"):
            # pyarrow's own streams have no readline.
            with io.BufferedReader(pa.input_stream(str(path), compression="zstd")) as stream:
                yield cast("IO[bytes]", stream)
        else:
            with open(path, "rb") as handle:
                yield handle
    except (gzip.BadGzipFile, EOFError, pa.ArrowException, OSError) as error:
        raise ConfigError(f"{path} cannot be read to its end ({error}). Fetch it again.") from error


def read_lines(path: Path) -> Iterator[tuple[int, str | None]]:
    """Number (from 1) and text of each line that is not blank; None for the text of one that is not UTF-8.

    Raises:
        ConfigError: damaged compression, or a line of more than `MAX_LINE_BYTES`.
    """
    with open_packed(path) as handle:
        for number, line in enumerate(_bounded_lines(handle, path), start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                yield number, None
                continue
            if text.strip():
                yield number, text


def read_document(path: Path) -> tuple[str | None, str | None]:
    """The text of a whole file, or why it has none."""
    try:
        with open_packed(path) as handle:
            found = handle.read(MAX_LINE_BYTES + 1)
        if len(found) > MAX_LINE_BYTES:
            return None, f"{path.name} is longer than {MAX_LINE_BYTES} bytes; cut it into several files"
        return found.decode("utf-8-sig").strip(), None
    except (UnicodeDecodeError, ConfigError) as error:
        return None, f"{path.name} is not UTF-8 text ({error})"


def bad_row(path: Path, number: int, source: str, problem: str) -> Item:
    """An item that stands for a line nobody can use; it goes to quarantine."""
    return Item(
        id=f"{source}/{path.name}:{number}",
        source=source,
        problem=f"{path.name}, line {number}: {problem}",
    )


def seconds(value: object) -> float | None:
    """A time in seconds, or None where there is none.

    Raises:
        ValueError: something that is no number.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{value!r} is no time in seconds")
    return float(value)


def _bounded_lines(handle: Any, path: Path) -> Iterator[bytes]:
    while line := handle.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise ConfigError(
                f"{path} has a line of more than {MAX_LINE_BYTES} bytes; needed: one row a line. "
                "Is it JSON Lines? Convert it, or leave it out."
            )
        yield line
