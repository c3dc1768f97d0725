"""A store as the authors' parquet documents, whose audio is characters (arXiv 2602.16687); `prepare` reads them back."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sodakit.errors import StoreError, VocabularyError
from sodakit.files import atomic_path
from sodakit.log import track
from sodakit.store.reader import StoreReader
from sodakit.store.schema import Utterance
from sodakit.tokens.characters import (
    CODEBOOK_SIZE,
    NUM_CODEBOOKS,
    WrittenDocument,
    codes_to_characters,
)

KNOWN = ("id", "start_s", "end_s", "speaker", "language", "source", "licence")
"""What a store knows of an utterance beyond what the string says."""

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("text", pa.string()),
        pa.field(
            "utterances",
            pa.list_(pa.struct([(k, pa.float64() if k.endswith("_s") else pa.string()) for k in KNOWN])),
        ),
    ]
)
GROUP_ROWS = 64


@dataclass(frozen=True)
class WrittenReport:
    """What was written."""

    documents: int
    """Rows: each recording in both orders, text documents once."""
    left_out: tuple[str, ...]
    """Recordings that cannot be written, with the reason."""

    def __str__(self) -> str:
        lines = [f"{self.documents} documents written, {len(self.left_out)} recordings left out"]
        return "\n".join([*lines, *self.left_out])


def write_documents(store: StoreReader, folder: Path, bare: bool = False) -> WrittenReport:
    """Write `<split>-00000.parquet` for each split of a store.

    Args:
        store: of a codec with 8 codebooks of 2,048 codes, as Mimi's first eight.
        folder: where to.
        bare: leave the column `utterances` out, as the published sets do; ids, times and speakers are then lost.
    Raises:
        StoreError: a codec of another shape.
    """
    spec = store.codec_spec
    if (spec.num_codebooks, spec.codebook_size) != (NUM_CODEBOOKS, CODEBOOK_SIZE):
        raise StoreError(
            f"{store.folder} has {spec.num_codebooks} codebooks of {spec.codebook_size}; the published strings have "
            f"{NUM_CODEBOOKS} of {CODEBOOK_SIZE}. Prepare it with such a codec, for example mimi."
        )
    schema = pa.schema(list(SCHEMA)[:2]) if bare else SCHEMA
    documents, left_out = 0, []
    for split in store.splits:
        with (
            atomic_path(folder / f"{split}-00000.parquet") as temporary,
            pq.ParquetWriter(temporary, schema, compression="zstd") as writer,
        ):
            rows: list[dict[str, Any]] = []
            for recording in track(_recordings(store, split), f"write {split}"):
                try:
                    rows += _rows(recording)
                except VocabularyError as error:
                    left_out.append(f"{recording[0].recording}: {error}")
                if len(rows) >= GROUP_ROWS:
                    documents += _flush(writer, rows, schema)
            documents += _flush(writer, rows, schema)
    return WrittenReport(documents, tuple(left_out))


def _recordings(store: StoreReader, split: str) -> Iterator[list[Utterance]]:
    for _, utterances in groupby(store.utterances(split), lambda u: (u.source, u.recording)):
        yield list(utterances)


def _rows(utterances: list[Utterance]) -> Iterator[dict[str, Any]]:
    """Both orders of a recording; one document for each text without sound."""
    recording = utterances[0].recording
    spoken = [u for u in utterances if u.codes_KF.shape[1]]
    for utterance in utterances:
        if not utterance.codes_KF.shape[1]:
            document = WrittenDocument(((utterance.text or "", ""),), is_text=True)
            name = recording if len(utterances) == 1 else utterance.id
            yield {"id": name, "text": document.write(), "utterances": [_known(utterance)]}
    spans = tuple((u.text or "", codes_to_characters(u.codes_KF)) for u in spoken)
    for number, text_first in enumerate((True, False) if spoken else (), start=1):
        string = WrittenDocument(spans, text_first).write()
        known = [_known(u) for u in spoken]
        yield {"id": f"{recording}_type{number}", "text": string, "utterances": known}


def _known(utterance: Utterance) -> dict[str, Any]:
    return {name: getattr(utterance, name) for name in KNOWN}


def _flush(writer: pq.ParquetWriter, rows: list[dict[str, Any]], schema: pa.Schema) -> int:
    if rows:
        writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    count = len(rows)
    rows.clear()
    return count
