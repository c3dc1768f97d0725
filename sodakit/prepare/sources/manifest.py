"""JSON Lines, one utterance each: `manifest.jsonl`, Hugging Face's `metadata.jsonl`, NeMo's `train_manifest.json`.

{"audio": "audio/a.wav", "text": "hello", "speaker": "p1", "language": "en"}
{"audio_filepath": "b.flac", "offset": 1.5, "duration": 2.0, "text": "a part of a file"}
{"text": "a document without sound"}
{"file": "books/c.txt.gz"}

What the fields may be called stands in `columns.py`. A file with one list of such objects is read too.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from sodakit.files import parse_json
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.columns import fields_of
from sodakit.prepare.sources.corpus import Corpus
from sodakit.prepare.sources.listed import listed_items
from sodakit.prepare.sources.rows import has_rows, parse_object, read_document, read_lines

LOOK_ROWS = 5
"""Rows that are looked at to learn what a file holds."""


def read_manifest(path: Path | str, source: str, corpus: Corpus | None = None) -> Iterator[Item]:
    """The items of a manifest. A line that cannot be read gives an item with a `problem`.

    Args:
        path: the manifest; sound files are looked for beside it.
        source: name of the corpus, the first part of every id.
        corpus: what it belongs to; default: it stands alone.
    """
    path = Path(path)
    yield from listed_items(path, json_rows(path), corpus or Corpus(path.parent, source, only=path))


def json_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """Line number and object of each line, or what is wrong with it; or number and object of each entry of one list."""
    if _is_array(path):
        yield from _array_rows(path)
        return
    for number, line in read_lines(path):
        try:
            yield number, parse_object(line)
        except ValueError as error:
            yield number, str(error)


def lists_sounds(path: Path, corpus: Corpus) -> bool:
    """Whether one of its first rows names a sound."""
    for _, row in islice(json_rows(path), LOOK_ROWS) if has_rows(path) else ():
        fields = {} if isinstance(row, str) else fields_of(row)
        audio = fields.get("audio")
        if audio and not str(audio).lower().endswith((".txt", ".txt.gz", ".txt.zst")):
            return True
        if "text" in fields and corpus.find_sound(str(fields.get("id") or ""), path.parent):
            return True
    return False


def _is_array(path: Path) -> bool:
    _, first = next(read_lines(path), (0, None))
    return path.suffix.lower() == ".json" and (first or "").lstrip().startswith("[")


def _array_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    text, problem = read_document(path)
    try:
        rows = parse_json(text) if text is not None else problem
    except ValueError as error:
        rows = str(error)
    if not isinstance(rows, list):
        yield 1, str(rows)
        return
    for number, row in enumerate(rows, start=1):
        yield number, row if isinstance(row, dict) else f"a JSON {type(row).__name__}; needed: an object"
