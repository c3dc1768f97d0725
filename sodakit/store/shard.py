"""One shard: an Arrow IPC file of utterances that says by which codec and tokenizer it was made.

`store.json` can be lost or copied to the wrong place; the fingerprints in each shard cannot.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sodakit.codec.contract import CodecSpec
from sodakit.errors import DiskError, StoreError
from sodakit.files import atomic_path
from sodakit.store.schema import ARROW_SCHEMA, QUALITY_TYPE, WORD_FIELDS, WORD_TYPE, Utterance
from sodakit.tokens.words import TimedWord

CODEC_KEY, TOKENIZER_KEY, REJECTED_KEY = b"codec_fingerprint", b"tokenizer_fingerprint", b"rejected"


@dataclass(frozen=True)
class ShardInfo:
    """What `store.json` says of one shard."""

    file: str
    """Path inside the store, with forward slashes: `train/shard-00000.arrow`."""
    rows: int
    """Utterances."""
    frames: int
    """Codec frames of all utterances."""
    text_tokens: int
    """Text ids of all utterances."""
    hours: float
    """Of sound, as long as it was heard: the last frame of an utterance may be part filled."""
    bytes: int
    """Size of the file; a shorter one was cut off."""
    sha256: str
    """Of the whole file."""


def shard_name(index: int) -> str:
    """The file name of shard `index` of a split."""
    return f"shard-{index:05d}.arrow"


def write_table(
    path: Path,
    utterances: Sequence[Utterance],
    codec_fingerprint: str,
    tokenizer_fingerprint: str,
    rejected: Sequence[dict[str, Any]] = (),
) -> None:
    """Write the utterances as one record batch, atomically. Equal input gives equal bytes."""
    metadata = {
        CODEC_KEY: codec_fingerprint,
        TOKENIZER_KEY: tokenizer_fingerprint,
        REJECTED_KEY: json.dumps(list(rejected), ensure_ascii=False),
    }
    # One batch, so that every column of a shard is one flat array in the memory map.
    batch = to_batch(utterances).replace_schema_metadata(metadata)
    with (
        atomic_path(path, batch.nbytes) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, batch.schema) as writer,
    ):
        writer.write_batch(batch)


def to_batch(utterances: Sequence[Utterance]) -> pa.RecordBatch:
    """The utterances as Arrow columns, codes frame by frame."""
    columns: list[pa.Array] = []
    for field in ARROW_SCHEMA:
        if field.name == "codes":
            columns.append(_large_list([u.codes_KF.T.reshape(-1) for u in utterances], np.uint16))
        elif field.name == "text_ids":
            columns.append(_large_list([u.text_ids_T for u in utterances], np.int32))
        else:
            columns.append(pa.array([getattr(u, field.name) for u in utterances], field.type))
    timed = any(u.words for u in utterances)
    if timed:
        columns.append(_word_lists([u.words for u in utterances]))
        columns.append(pa.array([u.words_source for u in utterances], pa.string()))
    measured = list(dict.fromkeys(name for u in utterances for name in u.quality))
    columns += [pa.array([u.quality.get(name) for u in utterances], QUALITY_TYPE) for name in measured]
    return pa.RecordBatch.from_arrays(columns, schema=_schema(measured, timed))


def has_words(batch: pa.RecordBatch) -> bool:
    """Whether a shard says when words are said."""
    return batch.schema.names[len(ARROW_SCHEMA) :][: len(WORD_FIELDS)] == [f.name for f in WORD_FIELDS]


def quality_names(batch: pa.RecordBatch) -> list[str]:
    """The columns of a shard that say how good its sounds are."""
    return batch.schema.names[len(ARROW_SCHEMA) + len(WORD_FIELDS) * has_words(batch) :]


def _schema(quality: Sequence[str], timed: bool) -> pa.Schema:
    measured = (pa.field(name, QUALITY_TYPE) for name in quality)
    return pa.schema([*ARROW_SCHEMA, *(WORD_FIELDS if timed else ()), *measured])


def open_batch(path: Path) -> pa.RecordBatch:
    """The record batch of a shard, memory-mapped: nothing is read before it is used.

    Raises:
        StoreError: missing, truncated, or not a shard.
    """
    try:
        with pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_file(source)
            more = reader.schema.names[len(ARROW_SCHEMA) :]
            timed = WORD_FIELDS[0].name in more
            expected = _schema(more[len(WORD_FIELDS) * timed :], timed)
            if not reader.schema.equals(expected) or reader.num_record_batches != 1:
                raise StoreError(
                    f"{path} has columns {reader.schema.names} in {reader.num_record_batches} batches; "
                    f"needed: one batch of {ARROW_SCHEMA.names}. "
                    "Prepare the store again with this version of sodakit."
                )
            batch = reader.get_batch(0)
            return batch.replace_schema_metadata(reader.schema.metadata)
    except FileNotFoundError as error:
        raise StoreError(
            f"{path} does not exist; the store names it. Copy it back or run prepare again."
        ) from error
    except PermissionError as error:
        raise DiskError(
            f"{path} cannot be read: no permission. Give this user the right to read it."
        ) from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise StoreError(
            f"{path} is not a complete Arrow file ({error}). "
            "Was the copy cut off? Copy it again, or delete it and run the same prepare again."
        ) from error


def check_sound(batch: pa.RecordBatch, path: Path, codec: CodecSpec, text_size: int | None = None) -> None:
    """Raise where a shard holds what its writer never writes: using it would end the process, or train other ids.

    Args:
        batch: the shard.
        path: where it lies, for the message.
        codec: what its codes are of.
        text_size: text ids lie below it; None where the tokenizer is not known.
    Raises:
        StoreError: the shard is damaged.
    """
    try:
        batch.validate(full=True)
        _check_metadata(batch)
        for field, column in zip(ARROW_SCHEMA, batch.columns, strict=False):
            if not field.nullable:
                _check_no_gaps(field.name, column)
        _check_lists(batch, codec, text_size)
        if has_words(batch):
            _check_words(batch)
        for name in ("start_s", "end_s"):
            if not np.isfinite(batch.column(name).to_numpy()).all():
                raise ValueError(f"{name} is not finite")
    except (pa.ArrowException, ValueError, RecursionError) as error:
        raise StoreError(f"{path} is damaged ({error}). Delete it and run the same prepare again.") from error


def _check_metadata(batch: pa.RecordBatch) -> None:
    for key in (CODEC_KEY, TOKENIZER_KEY):
        metadata_text(batch, key)
    rejected = rejected_rows(batch)
    if not are_rejected(rejected):
        raise ValueError(f"its rejected rows are {rejected!r:.40}")


def _check_words(batch: pa.RecordBatch) -> None:
    words, columns = flat_words(batch), [batch.column(field.name) for field in WORD_FIELDS]
    _check_no_gaps(WORD_FIELDS[0].name, columns[0])
    _check_no_gaps(WORD_FIELDS[1].name, columns[1])
    _, text_offsets = flat_values(batch, "text_ids")
    most_N = np.repeat(np.diff(text_offsets), np.diff(words.offsets))
    if (words.text_at < 0).any() or ((words.id_at < -1) | (words.id_at > most_N)).any():
        raise ValueError("a word begins outside its text")
    if (words.start_s < 0).any() or (words.end_s < words.start_s).any():  # NaN is neither
        raise ValueError("a word ends before it begins, or begins before its utterance")


def _check_no_gaps(name: str, column: pa.Array) -> None:
    inside = column.values.null_count if pa.types.is_large_list(column.type) else 0
    if column.null_count + inside:
        raise ValueError(f"{name} is missing in {column.null_count + inside} places")


def _check_lists(batch: pa.RecordBatch, codec: CodecSpec, text_size: int | None) -> None:
    codes, code_offsets = flat_values(batch, "codes")
    if (code_offsets % codec.num_codebooks).any():
        row = int(np.flatnonzero(code_offsets % codec.num_codebooks)[0])
        raise ValueError(
            f"the codes of row {row} are no whole frames of {codec.num_codebooks}: offset {code_offsets[row]}"
        )
    ids, _ = flat_values(batch, "text_ids")
    for name, values, size in (("code", codes, codec.codebook_size), ("text id", ids, text_size)):
        low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
        if low < 0 or (size is not None and high >= size):
            raise ValueError(
                f"{name}s from {low} to {high}; needed: 0 to {'…' if size is None else size - 1}"
            )


def check_fingerprint(what: str, found: str, expected: str | None, where: Path) -> None:
    """Raise unless `found` is `expected` (None accepts any).

    Raises:
        StoreError: they differ.
    """
    if expected is not None and found != expected:
        raise StoreError(
            f"{where} was made with {what} {found}; this run has {what} {expected}. "
            f"Ids of different {what}s do not compare: use the store's {what}, or prepare the data again."
        )


def metadata_text(batch: pa.RecordBatch, key: bytes) -> str:
    """One entry of a shard's metadata; empty where it is missing."""
    return (batch.schema.metadata or {}).get(key, b"").decode("utf-8")


def are_rejected(rows: Any) -> bool:
    """Whether these are rows for `quarantine.jsonl`: which item, and why."""
    return isinstance(rows, list) and all(
        isinstance(row, dict) and all(isinstance(row.get(name), str) for name in ("id", "reason"))
        for row in rows
    )


def rejected_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The items that belonged into this shard and could not be read."""
    return json.loads(metadata_text(batch, REJECTED_KEY) or "[]")


def flat_values(batch: pa.RecordBatch, column: str) -> tuple[np.ndarray, np.ndarray]:
    """The values of a list column as one flat array, and int64 offsets (rows + 1) into it; both views."""
    array = batch.column(column)
    values = array.values.to_numpy(zero_copy_only=True)
    return values, array.offsets.to_numpy(zero_copy_only=True)


@dataclass(frozen=True)
class FlatWords:
    """The words of all N utterances of a shard, one after the other; views over its memory map."""

    offsets: np.ndarray
    """int64 (N + 1) into the others."""
    text_at: np.ndarray
    """int32: the character of its text where each word begins."""
    id_at: np.ndarray
    """int32: the text id where it begins; -1 where an id is shared with the word before."""
    start_s: np.ndarray
    """float32, from the beginning of the utterance; NaN where nobody knows."""
    end_s: np.ndarray
    """float32, likewise."""
    confidence: np.ndarray
    """float32, 0 to 1; NaN where the source does not say."""

    def of(self, row: int) -> tuple[TimedWord, ...]:
        """Those of one utterance."""
        rows = slice(self.offsets[row], self.offsets[row + 1])
        whole = (column[rows].tolist() for column in (self.text_at, self.id_at))
        parts = (
            [None if math.isnan(value) else value for value in column[rows].tolist()]
            for column in (self.start_s, self.end_s, self.confidence)
        )
        return tuple(TimedWord(*word) for word in zip(*whole, *parts, strict=True))


def flat_words(batch: pa.RecordBatch) -> FlatWords:
    """The words of a shard; none of any utterance where it has no such column."""
    if not has_words(batch):
        empty = np.zeros(0, np.float32)
        none = np.zeros(0, np.int32)
        return FlatWords(np.zeros(batch.num_rows + 1, np.int64), none, none, empty, empty, empty)
    lists = batch.column(WORD_FIELDS[0].name)
    fields = (lists.values.field(n).to_numpy(zero_copy_only=True) for n in range(WORD_TYPE.num_fields))
    return FlatWords(lists.offsets.to_numpy(zero_copy_only=True), *fields)


def _word_lists(rows: Sequence[Sequence[TimedWord]]) -> pa.Array:
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(words) for words in rows], out=offsets[1:])
    fields = []
    for field in WORD_TYPE:
        values = [getattr(word, field.name) for words in rows for word in words]
        fields.append(pa.array([math.nan if v is None else v for v in values], field.type, from_pandas=False))
    words = pa.StructArray.from_arrays(fields, fields=list(WORD_TYPE))
    return pa.LargeListArray.from_arrays(pa.array(offsets), words, type=WORD_FIELDS[0].type)


def _large_list(rows: Iterable[np.ndarray], dtype: type) -> pa.Array:
    arrays: list[np.ndarray] = [np.asarray(row, dtype) for row in rows]
    offsets = np.zeros(len(arrays) + 1, np.int64)
    np.cumsum([len(array) for array in arrays], out=offsets[1:])
    values = np.concatenate([np.zeros(0, dtype), *arrays])
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))
