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

from sodakit.errors import DiskError, StoreError
from sodakit.files import atomic_path
from sodakit.store.schema import ARROW_SCHEMA, Utterance

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
    return pa.RecordBatch.from_arrays(columns, schema=ARROW_SCHEMA)


def open_batch(path: Path) -> pa.RecordBatch:
    """The record batch of a shard, memory-mapped: nothing is read before it is used.

    Raises:
        StoreError: missing, truncated, or not a shard.
    """
    try:
        with pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_file(source)
            if not reader.schema.equals(ARROW_SCHEMA) or reader.num_record_batches != 1:
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
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise StoreError(
            f"{path} is not a complete Arrow file ({error}). "
            "Was the copy cut off? Copy it again, or delete it and run the same prepare again."
        ) from error


def check_sound(batch: pa.RecordBatch, path: Path) -> None:
    """Raise where offsets or text of a shard cannot be: using them would end the process. Codes are not looked at.

    Raises:
        StoreError: the shard is damaged.
    """
    try:
        batch.validate(full=True)
        rejected_rows(batch)
    except (pa.ArrowInvalid, ValueError) as error:
        raise StoreError(f"{path} is damaged ({error}). Delete it and run the same prepare again.") from error


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
