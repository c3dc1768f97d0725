"""Text without sound: json lines with a `text` (Nemotron-CC), and plain text files; compressed or not."""

from collections.abc import Iterator
from pathlib import Path

from sodakit.prepare.recording import Item
from sodakit.prepare.sources.corpus import ABOUT
from sodakit.prepare.sources.manifest import read_manifest
from sodakit.prepare.sources.rows import has_rows, named, read_document


def text_files(folder: Path) -> list[Path]:
    """The `.txt` files below a folder, without licences and the like."""
    return [path for path in named(folder, ".txt") if not ABOUT.fullmatch(path.name)]


def read_text_files(folder: Path, source: str) -> Iterator[Item]:
    """The items of a folder of text files: one document each."""
    for path in text_files(folder):
        text, problem = read_document(path)
        name = path.relative_to(folder).as_posix()
        yield Item(id=f"{source}/{name}", text=text, problem=problem, source=source)


def row_files(folder: Path) -> list[Path]:
    """The `.jsonl` files below a folder that hold rows."""
    return [path for path in named(folder, ".jsonl") if has_rows(path)]


def read_row_files(folder: Path, source: str) -> Iterator[Item]:
    """The items of all `.jsonl` files below a folder, each read as a manifest."""
    for path in row_files(folder):
        yield from read_manifest(path, source)
