"""Codes and text ids of a shard as flat arrays, without its names: what a loader of millions of utterances keeps."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sodakit.store.shard import FlatWords, flat_values, flat_words


@dataclass(frozen=True)
class FlatShard:
    """One shard of N utterances; views over its memory map, so it costs no memory of its own."""

    codes: np.ndarray
    """uint16, frame by frame: c0 c1 … cK-1 of the first frame, then the next."""
    code_offsets: np.ndarray
    """int64 (N + 1) into `codes`."""
    text_ids: np.ndarray
    """int32."""
    text_offsets: np.ndarray
    """int64 (N + 1) into `text_ids`."""
    words: FlatWords
    """When its words are said."""
    batch: pa.RecordBatch
    """The shard itself, for its names."""

    def __len__(self) -> int:
        return self.batch.num_rows

    def begins_recording_N(self) -> np.ndarray:
        """bool (N): whether a row is of another recording or source than the row before; the first always is."""
        begins_N = np.ones(len(self), bool)
        if len(self) > 1:
            changes = [_changes(self.batch.column(name)) for name in ("recording", "source")]
            begins_N[1:] = changes[0] | changes[1]
        return begins_N

    def recording(self, row: int) -> tuple[str, str]:
        """Source and recording of a row."""
        return self.batch.column("source")[row].as_py(), self.batch.column("recording")[row].as_py()


def flat_shard(batch: pa.RecordBatch) -> FlatShard:
    """The arrays of one shard."""
    return FlatShard(*flat_values(batch, "codes"), *flat_values(batch, "text_ids"), flat_words(batch), batch)


def with_borders(shards: Iterable[FlatShard]) -> Iterator[tuple[FlatShard, np.ndarray]]:
    """Each shard with bool (N): whether a row begins a recording. One may continue in the next shard.

    Rows of a recording lie together (the writer's contract), so comparing neighbours is enough; naming every
    recording of ten million would cost gigabytes.
    """
    last: tuple[str, str] | None = None
    for shard in shards:
        begins_N = shard.begins_recording_N()
        if len(shard):
            begins_N[0] = shard.recording(0) != last
            last = shard.recording(len(shard) - 1)
        yield shard, begins_N


def _changes(column: pa.Array) -> np.ndarray:
    return pc.not_equal(column.slice(1), column.slice(0, len(column) - 1)).to_numpy(zero_copy_only=False)
