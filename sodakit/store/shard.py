"""One shard: an Arrow IPC file of utterances that says by which codec and tokenizer it was made.

`store.json` can be lost or copied to the wrong place; the fingerprints in each shard cannot.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sodakit.codec.contract import CodecSpec
from sodakit.errors import DiskError, StoreError
from sodakit.files import atomic_path
from sodakit.store.schema import ARROW_SCHEMA, QUALITY_TYPE, Utterance

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
    measured = list(dict.fromkeys(name for u in utterances for name in u.quality))
    columns += [pa.array([u.quality.get(name) for u in utterances], QUALITY_TYPE) for name in measured]
    return pa.RecordBatch.from_arrays(columns, schema=_with_quality(measured))


def quality_names(batch: pa.RecordBatch) -> list[str]:
    """The columns of a shard that say how good its sounds are."""
    return batch.schema.names[len(ARROW_SCHEMA) :]


def _with_quality(names: Sequence[str]) -> pa.Schema:
    return pa.schema([*ARROW_SCHEMA, *(pa.field(name, QUALITY_TYPE) for name in names)])


def open_batch(path: Path) -> pa.RecordBatch:
    """The record batch of a shard, memory-mapped: nothing is read before it is used.

    Raises:
        StoreError: missing, truncated, or not a shard.
    """
    try:
        with pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_file(source)
            expected = _with_quality(reader.schema.names[len(ARROW_SCHEMA) :])
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
        for name in ("start_s", "end_s"):
            if not np.isfinite(batch.column(name).to_numpy()).all():
                raise ValueError(f"{name} is not finite")
    except (pa.ArrowException, ValueError, RecursionError) as error:
        raise StoreError(f"{path} is damaged ({error}). Delete it and run the same prepare again.") from error


def _check_metadata(batch: pa.RecordBatch) -> None:
    for key in (CODEC_KEY, TOKENIZER_KEY):
        metadata_text(batch, key)
    rejected = rejected_rows(batch)
    if not isinstance(rejected, list) or not all(isinstance(row, dict) for row in rejected):
        raise ValueError(f"its rejected rows are {rejected!r:.40}")


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


def rejected_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The items that belonged into this shard and could not be read."""
    return json.loads(metadata_text(batch, REJECTED_KEY) or "[]")


def flat_values(batch: pa.RecordBatch, column: str) -> tuple[np.ndarray, np.ndarray]:
    """The values of a list column as one flat array, and int64 offsets (rows + 1) into it; both views."""
    array = batch.column(column)
    values = array.values.to_numpy(zero_copy_only=True)
    return values, array.offsets.to_numpy(zero_copy_only=True)


def _large_list(rows: Iterable[np.ndarray], dtype: type) -> pa.Array:
    arrays: list[np.ndarray] = [np.asarray(row, dtype) for row in rows]
    offsets = np.zeros(len(arrays) + 1, np.int64)
    np.cumsum([len(array) for array in arrays], out=offsets[1:])
    values = np.concatenate([np.zeros(0, dtype), *arrays])
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))
