"""What a model thinks of every token, as one table: all likelihood scores are sums over its rows.

item      kind   codebook  position  token_id  logprob  logprob_modality  logprob_slot  ending
pair-7#0  open         -1         1       130    -0.70             -0.41         -0.41   False
pair-7#0  audio         0         2       142    -3.11             -2.98         -2.31   False
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sodakit.errors import StoreError
from sodakit.files import atomic_path

KINDS = ("text", "audio", "open", "close", "edge")
"""Text; codes; text_start and audio_start; text_end and audio_end; BOS and EOS."""
TEXT, AUDIO, OPEN, CLOSE, EDGE = range(len(KINDS))

_NUMBERS = {
    "position": pa.int32(),
    "codebook": pa.int8(),
    "token_id": pa.int32(),
    "logprob": pa.float32(),
    "logprob_modality": pa.float32(),
    "logprob_slot": pa.float32(),
    "ending": pa.bool_(),
}
_WORDS = pa.dictionary(pa.int32(), pa.string())
ARROW_SCHEMA = pa.schema(
    [("item", _WORDS), ("kind", _WORDS), *_NUMBERS.items()],
)
"""The columns of a Parquet file of log-probabilities."""


@dataclass(frozen=True, eq=False)
class TokenTable:
    """One row per predicted token: P rows. The first token of an item (BOS) is given, not predicted."""

    items: tuple[str, ...]
    """Names of the items, each once."""
    item_P: np.ndarray
    """int32 index into `items`."""
    kind_P: np.ndarray
    """int8 index into `KINDS`."""
    position_P: np.ndarray
    """int32 position of the token in its item; BOS is 0."""
    codebook_P: np.ndarray
    """int8; -1 where the token is no code."""
    token_id_P: np.ndarray
    """int32."""
    logprob_P: np.ndarray
    """float32, nats: softmax over all ids."""
    logprob_modality_P: np.ndarray
    """float32, nats: softmax over the ids of the token's modality: codes and audio_end, or text and markers."""
    logprob_slot_P: np.ndarray
    """float32, nats: softmax over the ids that the grammar's slot offers: one codebook, or text and markers."""
    ending_P: np.ndarray
    """bool: whether the token belongs to the part that differs (a story's ending), where the task names one."""

    def __post_init__(self) -> None:
        lengths = {f.name: len(getattr(self, f.name)) for f in fields(self) if f.name != "items"}
        if len(set(lengths.values())) != 1:
            raise StoreError(f"A token table with columns of different lengths: {lengths}.")

    def __len__(self) -> int:
        return len(self.item_P)

    def to_arrow(self) -> pa.Table:
        """The table with names spelled out, as it lies on disk."""
        names = {
            "item": pa.DictionaryArray.from_arrays(self.item_P.astype(np.int32), pa.array(self.items)),
            "kind": pa.DictionaryArray.from_arrays(self.kind_P.astype(np.int32), pa.array(KINDS)),
        }
        numbers = {name: pa.array(getattr(self, f"{name}_P"), kind) for name, kind in _NUMBERS.items()}
        return pa.table(names | numbers, schema=ARROW_SCHEMA)

    @classmethod
    def from_arrow(cls, table: pa.Table) -> "TokenTable":
        """Inverse of `to_arrow`.

        Raises:
            StoreError: a column is missing, or a kind unknown.
        """
        missing = set(ARROW_SCHEMA.names) - set(table.column_names)
        if missing:
            raise StoreError(
                f"A table without {', '.join(sorted(missing))}; needed: one written by `sodakit eval`."
            )
        item_P, items = _encode(table, "item")
        kind_P, kinds = _encode(table, "kind")
        unknown = set(kinds) - set(KINDS)
        if unknown:
            raise StoreError(f"Kinds {sorted(unknown)} in a token table; known: {', '.join(KINDS)}.")
        kind_numbers = np.array([KINDS.index(kind) for kind in kinds], np.int8)
        numbers = {f"{name}_P": table.column(name).to_numpy() for name in _NUMBERS}
        return cls(items=items, item_P=item_P, kind_P=kind_numbers[kind_P], **numbers)

    def write(self, path: Path) -> None:
        """Write one Parquet file, atomically."""
        with atomic_path(path) as temporary:
            pq.write_table(self.to_arrow(), temporary, compression="zstd")


def read_tables(paths: Sequence[Path]) -> TokenTable:
    """The rows of several Parquet files as one table.

    Raises:
        StoreError: no files, or one that cannot be read.
    """
    if not paths:
        raise StoreError("No log-probabilities to read; run `sodakit eval` first.")
    try:
        return TokenTable.from_arrow(pa.concat_tables([pq.read_table(path) for path in paths]))
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise StoreError(
            f"Log-probabilities in {Path(paths[0]).parent} cannot be read ({error}). "
            "Delete the damaged file and run the same command again."
        ) from error


def _encode(table: pa.Table, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    column = table.column(name).cast(pa.string()).combine_chunks().dictionary_encode()
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return column.indices.to_numpy(zero_copy_only=False), tuple(column.dictionary.to_pylist())
