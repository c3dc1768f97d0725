"""Parquet files of any kind: sound in the cells, names of sounds, texts, or the authors' documents of characters."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from sodakit.errors import ConfigError
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.columns import field_of, words_for
from sodakit.prepare.sources.corpus import Corpus
from sodakit.prepare.sources.listed import listed_items, note_unread_columns
from sodakit.prepare.sources.tables import (
    is_text,
    read_sound_table,
    read_text_table,
    samples_column,
    sound_column,
    sounds_unread,
    table_rows,
    table_schema,
)
from sodakit.prepare.sources.written import is_written, read_written


def read_tables(paths: list[Path], corpus: Corpus, sounds: bool) -> Iterator[Item]:
    """The items of several tables of one corpus.

    Args:
        paths: the tables.
        corpus: what they belong to.
        sounds: whether the corpus has sounds elsewhere; then a table of texts is none of its documents.
    Raises:
        ConfigError: one is no parquet file, or holds sound in a form that is not read.
    """
    met: dict[str, str] = {}
    broken = {}
    for path in paths if sounds else ():
        try:
            table_schema(path)
        except ConfigError as error:  # a stray file hides no recordings
            broken[path] = str(error)
    for path, problem in broken.items():
        corpus.use([path])
        yield Item(id=f"{corpus.source}/{path.name}", source=corpus.source, problem=problem)
    paths = [path for path in paths if path not in broken]
    sounds = sounds or any(sound_column(table_schema(path)) is not None for path in paths)
    for path in paths:
        yield from _items(path, corpus, met, sounds)


def _items(path: Path, corpus: Corpus, met: dict[str, str], sounds: bool) -> Iterator[Item]:
    schema = table_schema(path)
    corpus.use([path])
    fields = {field_of(name): name for name in reversed(schema.names)}
    named = "audio" in fields and not is_text(schema.field(fields["audio"]).type)
    strange = samples_column(schema) or (fields["audio"] if named else None)
    if sound_column(schema) is not None:
        found = list(read_sound_table(path, corpus.source))
        if others := sounds_unread(schema):
            if field_of(sound_column(schema) or "") != "audio":
                raise ConfigError(
                    f"{path} has sounds in {', '.join([sound_column(schema) or '', *others])}; needed: one column of "
                    "them, or one of them called audio. Rename it, or leave the others out."
                )
            corpus.note(
                f"{path}: sounds in {', '.join(others)} are not read, those in {sound_column(schema)} are"
            )
        note_unread_columns(path, found, corpus)
        yield from found
    elif is_written(path):
        yield from read_written(path, corpus.source, corpus.codec, met)
    elif strange is not None:
        kind = schema.field(strange).type
        raise ConfigError(
            f"{path} has no column of sound files; it has {', '.join(schema.names)}, and {strange} is {kind}. Needed: "
            f"bytes of sound files in a column {words_for('audio')}. Leave it out, or write it again."
        )
    elif "audio" in fields:
        with pq.ParquetFile(path) as file:
            numbered = ((number, row) for number, (_, _, row) in enumerate(table_rows(file, path), start=1))
            yield from listed_items(path, numbered, corpus)
    elif sounds or "text" not in fields:
        corpus.read.discard(path)
        corpus.leave(path, f"no column of sounds among {', '.join(schema.names)}")
    else:
        yield from read_text_table(path, corpus.source)
