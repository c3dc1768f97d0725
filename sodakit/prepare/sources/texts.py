"""Text without sound: json lines with a `text` (Nemotron-CC), and plain text files; compressed or not."""

import re
from collections.abc import Iterator
from pathlib import Path

from sodakit.prepare.recording import Item
from sodakit.prepare.sources.manifest import read_manifest
from sodakit.prepare.sources.rows import named, read_document

ABOUT = re.compile(r"(licen[cs]e|readme|origin|notice|copying|authors|changelog)\b.*", re.IGNORECASE)
"""Files that tell of a corpus and are none of it."""


def text_files(folder: Path) -> list[Path]:
    """The `.txt` files below a folder, without licences and the like."""
    return [path for path in named(folder, ".txt") if not ABOUT.fullmatch(path.name)]


def read_text_files(folder: Path, source: str) -> Iterator[Item]:
    """The items of a folder of text files: one document each."""
    for path in text_files(folder):
        text, problem = read_document(path)
        name = path.relative_to(folder).as_posix()
        yield Item(id=f"{source}/{name}", text=text, problem=problem, source=source)


def read_row_files(folder: Path, source: str) -> Iterator[Item]:
    """The items of all `.jsonl` files below a folder, each read as a manifest."""
    for path in named(folder, ".jsonl"):
        yield from read_manifest(path, source)
