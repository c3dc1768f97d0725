"""Many utterances as flat arrays, for those who render millions of documents with numpy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from sodakit.store.shard import flat_values


@dataclass(frozen=True)
class Columns:
    """The utterances of a split (or of one shard) as flat arrays: N utterances, row n describes one."""

    num_codebooks: int
    """K."""
    codes: np.ndarray
    """uint16, all codes frame by frame: c0 c1 … cK-1 of the first frame, then the next."""
    frame_offsets: np.ndarray
    """int64 (N + 1): utterance n has frames `frame_offsets[n]` to `frame_offsets[n + 1]`."""
    text_ids: np.ndarray
    """int32, all text ids."""
    text_offsets: np.ndarray
    """int64 (N + 1) into `text_ids`."""
    start_s: np.ndarray
    """float64: where the utterance begins in its recording."""
    end_s: np.ndarray
    """float64: where it ends."""
    recording: np.ndarray
    """int32 index into `recordings`."""
    speaker: np.ndarray
    """int32 index into `speakers`."""
    language: np.ndarray
    """int32 index into `languages`."""
    source: np.ndarray
    """int32 index into `sources`."""
    recordings: tuple[str, ...]
    """Names, each once, in order of first appearance."""
    speakers: tuple[str, ...]
    """As recordings; "" is unknown."""
    languages: tuple[str, ...]
    """As recordings; "" is unknown."""
    sources: tuple[str, ...]
    """As recordings."""

    def __len__(self) -> int:
        return len(self.start_s)

    @property
    def codes_FK(self) -> np.ndarray:
        """`codes` as a matrix of all frames by K; a view."""
        return self.codes.reshape(-1, self.num_codebooks)

    @property
    def code_offsets(self) -> np.ndarray:
        """int64 (N + 1) into `codes`."""
        return self.frame_offsets * self.num_codebooks


def columns_of(batch: pa.RecordBatch, num_codebooks: int) -> Columns:
    """The columns of one shard; views over its memory map."""
    codes, code_offsets = flat_values(batch, "codes")
    text_ids, text_offsets = flat_values(batch, "text_ids")
    recording, recordings = _encode(batch.column("recording"))
    speaker, speakers = _encode(batch.column("speaker"))
    language, languages = _encode(batch.column("language"))
    source, sources = _encode(batch.column("source"))
    return Columns(
        num_codebooks=num_codebooks,
        codes=codes,
        frame_offsets=code_offsets // num_codebooks,
        text_ids=text_ids,
        text_offsets=text_offsets,
        start_s=batch.column("start_s").to_numpy(),
        end_s=batch.column("end_s").to_numpy(),
        recording=recording,
        speaker=speaker,
        language=language,
        source=source,
        recordings=recordings,
        speakers=speakers,
        languages=languages,
        sources=sources,
    )


def _encode(column: pa.Array) -> tuple[np.ndarray, tuple[str, ...]]:
    encoded = column.dictionary_encode()
    return encoded.indices.to_numpy(), tuple(encoded.dictionary.to_pylist())


def join_columns(parts: list[Columns], num_codebooks: int) -> Columns:
    """The columns of several shards as those of one: a copy, unless there is only one."""
    if len(parts) == 1:
        return parts[0]
    joined: dict[str, Any] = {"num_codebooks": num_codebooks}
    for name in ("codes", "text_ids", "start_s", "end_s"):
        joined[name] = np.concatenate([getattr(part, name) for part in parts])
    for name in ("frame_offsets", "text_offsets"):
        counts = [np.diff(getattr(part, name)) for part in parts]
        joined[name] = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(counts))])
    for name in ("recording", "speaker", "language", "source"):
        joined[name], joined[f"{name}s"] = _join_names(
            [(getattr(part, name), getattr(part, f"{name}s")) for part in parts]
        )
    return Columns(**joined)


def _join_names(parts: list[tuple[np.ndarray, tuple[str, ...]]]) -> tuple[np.ndarray, tuple[str, ...]]:
    place: dict[str, int] = {}
    renumbered = []
    for indices, names in parts:
        table = np.array([place.setdefault(name, len(place)) for name in names], np.int32)
        renumbered.append(table[indices])
    return np.concatenate(renumbered), tuple(place)
