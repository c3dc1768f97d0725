"""Parquet as on the Hugging Face hub: sound in the cells, text alone, or the authors' documents of characters.

audio: struct<bytes: binary, path: string>   text: string   …            one utterance a row
audio: …   video_id: string   utterances: list<struct<utt_id, text, start, end>>    one long recording a row (YODAS2)
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from sodakit.errors import AudioError, ConfigError
from sodakit.files import digest, parse_json
from sodakit.prepare.held import HeldFile
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.columns import (
    duration_of,
    field_of,
    fields_of,
    find_field,
    seconds,
    times_of,
    word_of,
)
from sodakit.prepare.sources.names import recording_of, split_of
from sodakit.prepare.sources.transcripts import words_of
from sodakit.units import shortened

MAX_GROUP_BYTES = 1 << 30
"""Cells are read a row group at a time, so one must fit in memory. The hub's hold about 100 rows."""

BYTES = frozenset({"bytes", "audio_bytes", "wav_bytes", "content", "data"})
"""What columns of plain bytes may be called too."""

SAMPLES = frozenset({"array", "samples", "waveform", "signal", "input_values", "input_features"})
RATES = frozenset({"sampling_rate", "sample_rate", "sample_rate_hz", "sr"})
"""What columns of decoded sound, and of its rate, are called."""

NAME_COLUMNS = ("utt_id", "utterance_id", "id", "key", "__key__")
"""What a row is called; `utt_id` first, because the `id` of YODAS is a row number."""


@dataclass(frozen=True)
class ParquetCell(HeldFile):
    """A sound file in a cell of a table."""

    path: Path
    column: str
    group: int
    """Row group."""
    row: int
    """Row in the group."""

    @property
    def name(self) -> str:
        return f"{self.path}: row {self.row} of group {self.group}, column {self.column}"

    def open(self) -> BinaryIO:
        cell = cell_of(self.path, self.column, self.group, self.row)
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if not content:
            raise AudioError(f"{self.name} has 0 bytes, only a path. Fetch the files and write a manifest.")
        return io.BytesIO(content)

    def fingerprint(self) -> str:
        return digest(self.path.name, str(self.path.stat().st_size), str(self.group), str(self.row))


def cell_of(path: Path, column: str, group: int, row: int) -> Any:
    """A cell of a table whose row groups fit in memory.

    Raises:
        AudioError: damaged, or too large for that.
    """
    found = _cells(path, column, group)
    if row >= len(found):  # its columns are of different lengths
        raise AudioError(
            f"{path} is damaged: {column} has {len(found)} rows in row group {group}, another {row + 1}. Fetch it again."
        )
    try:
        return found[row].as_py()
    except (pa.ArrowException, ValueError) as error:  # text that is no UTF-8
        raise AudioError(f"{path} is damaged in row {row} of {column} ({error}). Fetch it again.") from error


@lru_cache(maxsize=2)
def _cells(path: Path, column: str, group: int) -> pa.ChunkedArray:
    """One column of one row group. The last two stay in memory: a shard walks through a table in order, pairs through
    two columns."""
    try:
        with pq.ParquetFile(path) as file:
            # Of all columns: asked for one of a damaged file, Arrow ends the process.
            size = file.metadata.row_group(group).total_byte_size
            if size > MAX_GROUP_BYTES:
                raise AudioError(
                    f"{path} has {size} bytes in row group {group}; allowed: {MAX_GROUP_BYTES}. "
                    "Write it again with row groups of 100 rows."
                )
            return file.read_row_group(group, columns=[column]).column(column)
    except (pa.ArrowException, OSError) as error:
        raise AudioError(f"{path} is damaged in row group {group} ({error}). Fetch it again.") from error


def read_sound_table(path: Path, source: str) -> Iterator[Item]:
    """The items of a table with a column of sounds."""
    with pq.ParquetFile(path) as file:
        column = sound_column(file.schema_arrow)
        assert column is not None
        for group, number, row in table_rows(file, path, without=column):
            cell = ParquetCell(path, column, group, number)
            yield from _items(path, cell, row, source)


def read_text_table(path: Path, source: str) -> Iterator[Item]:
    """The items of a table with a column of texts and no sound: a text document each."""
    with pq.ParquetFile(path) as file:
        for group, number, row in table_rows(file, path):
            text = find_field(row, "text")
            name = f"{path.name}:{group}:{number}"
            problem = None if isinstance(text, str) else f"{name}: no text"
            yield Item(
                id=f"{source}/{_name(row) or name}",
                text=text if problem is None else None,
                problem=problem,
                language=str(find_field(row, "language") or ""),
                licence=str(find_field(row, "licence") or ""),
                source=source,
                fields=split_of(path.name),
            )


def table_rows(
    file: pq.ParquetFile, path: Path, without: str = "", columns: list[str] | None = None
) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Row group, row in it, and the row: all of it, but for the bytes of one column, or some columns only.

    Raises:
        ConfigError: the table is damaged.
    """
    columns = columns or [name for name in file.schema_arrow.names if name != without]
    kind = file.schema_arrow.field(without).type if without else None
    if kind is not None and pa.types.is_struct(kind) and "path" in [field.name for field in kind]:
        columns.append(f"{without}.path")
    try:
        for group in range(file.metadata.num_row_groups):
            number = 0
            for batch in file.iter_batches(batch_size=256, row_groups=[group], columns=columns):
                for row in batch.to_pylist():
                    yield group, number, row
                    number += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is damaged ({error}). Fetch it again, or move it away.") from error


def table_schema(path: Path) -> pa.Schema:
    """The columns of a table.

    Raises:
        ConfigError: it is no parquet file, or two columns have one name.
    """
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is no complete parquet file ({error}). Fetch it again, or move it away."
        ) from error
    twice = [name for name in dict.fromkeys(schema.names) if schema.names.count(name) > 1]
    if twice:
        raise ConfigError(f"{path} has two columns {shortened(twice[0])!r}. Rename one, or leave it out.")
    return schema


def sound_column(schema: pa.Schema) -> str | None:
    """The column of sound files, as the hub has them or as plain bytes; None where there is none.

    Of several the first whose name is known, or else the first.
    """
    found = [
        f.name for f in schema if pa.types.is_struct(f.type) and "bytes" in [child.name for child in f.type]
    ]
    if found:
        return next((name for name in found if field_of(name) == "audio"), found[0])
    binary = [f.name for f in schema if _is_binary(f.type) and field_of(f.name) in (None, "audio")]
    return next((name for name in binary if field_of(name) == "audio" or name.lower() in BYTES), None) or (
        binary[0] if len(binary) == 1 else None
    )


def sounds_unread(schema: pa.Schema) -> list[str]:
    """Columns of sound files beside the one that is read."""
    several = (
        f for f in schema if pa.types.is_struct(f.type) and "bytes" in [child.name for child in f.type]
    )
    return [f.name for f in several if f.name != sound_column(schema)]


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds words, such as names of files."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return any(is_a(kind) for is_a in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _is_binary(kind: pa.DataType) -> bool:
    return any(is_a(kind) for is_a in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view))


def samples_column(schema: pa.Schema) -> str | None:
    """A column with decoded samples, or with bytes that are no known sound's: what nobody may drop for the text beside."""
    rate = any(name.lower() in RATES for name in schema.names)
    for field in schema:
        several = pa.types.is_list(field.type) or pa.types.is_large_list(field.type)
        inside = [child.name for child in field.type] if pa.types.is_struct(field.type) else []
        sounds = field_of(field.name) == "audio" or field.name.lower() in SAMPLES or rate
        if "array" in inside or _is_binary(field.type) or (several and sounds):
            return str(field.name)
    return None


def _items(path: Path, cell: ParquetCell, row: Mapping[str, Any], source: str) -> Iterator[Item]:
    place = f"{path.name}:{cell.group}:{cell.row}"
    content = row.get(cell.column)
    inside = content.get("path") if isinstance(content, Mapping) else None
    if inside is not None and not isinstance(inside, str):
        problem = f"{place}: the path of {cell.column} is {inside!r:.80}; needed: a string"
        yield Item(id=f"{source}/{place}", source=source, problem=problem)
        return
    name = _name(row) or (PurePosixPath(inside).stem if inside else place)
    row = inside_out(row, cell.column)
    fields = fields_of({column: value for column, value in row.items() if column != cell.column})
    try:
        common: dict[str, Any] = {
            "held": cell,
            "told_duration_s": None if row.get("utterances") is not None else _told_s(fields),
            **{name: word_of(fields, name) for name in ("speaker", "language", "licence")},
            "source": source,
            "fields": split_of(path.name) | dict(row),
        }
        if row.get("utterances") is not None:
            video = str(row.get("video_id") or name)
            for part in _utterances(row["utterances"]):
                yield _part(part, video, source, common)
            return
        recording, at_s = recording_of(name)
        recording = word_of(fields, "recording", recording)
        text = fields.get("text")
        if text is not None and not isinstance(text, str):
            raise ValueError(f"text is {text!r}; needed: a string")
    except (ValueError, TypeError, KeyError) as error:
        yield Item(id=f"{source}/{place}", source=source, problem=f"{place}: {error}")
        return
    words: dict[str, Any] = {}
    with suppress(ValueError):  # times that are none: the row does without
        told = words_of(row)
        words = {"words": told, "words_source": str(row.get("words_source") or "table")} if told else {}
    yield Item(
        id=f"{source}/{name}", recording=f"{source}/{recording}", at_s=at_s, text=text, **words, **common
    )


def inside_out(row: Mapping[str, Any], sound: str) -> Mapping[str, Any]:
    """A row with what its columns of objects hold as columns of its own, as `datasets` makes of a WebDataset's json."""
    inside: dict[str, Any] = {}
    for column in {"json", "metadata", "meta"} & row.keys() - {sound}:
        value = row[column]
        if isinstance(value, str) and value.lstrip().startswith("{"):
            with suppress(ValueError):  # no JSON: a text like any other
                value = parse_json(value)
        inside |= value if isinstance(value, Mapping) else {}
    return {**inside, **row} if inside else row


def _told_s(fields: Mapping[str, Any]) -> float | None:
    """How long a row says that the sound in its cell is: where it was cut from is of no use, but for its length."""
    start_s, end_s = times_of(fields)
    told_s = duration_of(fields)
    return told_s if told_s is not None or end_s is None else end_s - (start_s or 0.0)


def _utterances(column: Any) -> Iterator[Mapping[str, Any]]:
    """A list of structs, or the struct of lists that `datasets` makes of it."""
    if isinstance(column, Mapping):
        names = list(column)
        yield from (dict(zip(names, values, strict=True)) for values in zip(*column.values(), strict=True))
    else:
        yield from column


def _part(part: Mapping[str, Any], video: str, source: str, common: dict[str, Any]) -> Item:
    name = str(part["utt_id"])
    start_s, end_s = seconds(part.get("start")), seconds(part.get("end"))
    if start_s is None or end_s is None:
        _, _, start, end = name.rsplit("-", 3)
        start_s, end_s = int(start) / 100, int(end) / 100
    return Item(
        id=f"{source}/{name}",
        recording=f"{source}/{video}",
        start_s=start_s,
        end_s=end_s,
        text=part.get("text"),
        **common,
    )


def _name(row: Mapping[str, Any]) -> str | None:
    found = next((row[name] for name in NAME_COLUMNS if row.get(name) not in (None, "")), None)
    return None if found is None else str(found)
