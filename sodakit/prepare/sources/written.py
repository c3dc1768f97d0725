"""The authors' parquet documents, whose audio is characters (arXiv 2602.16687): codes come out, and no sound.

id: "abc_type1"   text: "<|begin_of_text|><|text_start|>Hello.<|text_end|><|audio_start|>…<|audio_end|><|end_of_text|>"

Each recording lies there twice, text first (`_type1`) and audio first (`_type2`); the store keeps it once. Files
written by `sodakit documents` also say what the strings cannot: ids, times and speakers, in the column `utterances`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from sodakit.audio.wave import Wave
from sodakit.codec.contract import CodecSpec
from sodakit.errors import AudioError, ConfigError, VocabularyError
from sodakit.files import digest
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.names import split_of
from sodakit.prepare.sources.tables import cell_of, table_rows
from sodakit.tokens.characters import WrittenDocument, characters_to_codes
from sodakit.tokens.text import BOS_TEXT

TYPES = ("_type1", "_type2")


@dataclass(frozen=True)
class WrittenCodes:
    """The codes of one utterance of a document in a cell."""

    path: Path
    group: int
    """Row group."""
    row: int
    """Row in the group."""
    utterance: int
    """Place in the document."""
    length_s: float
    """As long as the sound was."""
    spec: CodecSpec
    """Whose codes they are."""

    @property
    def name(self) -> str:
        return f"{self.path}: row {self.row} of group {self.group}, utterance {self.utterance}"

    def duration_s(self) -> float:
        """As the table says, or by the frames."""
        return self.length_s

    def codes(self) -> np.ndarray:
        """uint16 codes_KF."""
        _, audio = _document(self.path, self.group, self.row).spans[self.utterance]
        try:
            return characters_to_codes(audio, self.spec.num_codebooks, self.spec.codebook_size)
        except VocabularyError as error:
            raise AudioError(f"{self.name}: {error}") from error

    def read(self, start_s: float | None, end_s: float | None) -> Wave:
        """Not to be had."""
        raise AudioError(f"{self.name} holds codes and no sound; decode them with {self.spec.name}.")

    def fingerprint(self) -> str:
        return digest(
            self.path.name, *(str(n) for n in (self.group, self.row, self.utterance, self.length_s))
        )


def is_written(path: Path) -> bool:
    """Whether the `text` of a table holds such documents."""
    with pq.ParquetFile(path) as file:
        if "text" not in file.schema_arrow.names:
            return False
        rows = table_rows(file, path, columns=["text"])
        first = next((row["text"] for _, _, row in rows), None)
    return isinstance(first, str) and first.startswith(BOS_TEXT)


def read_written(path: Path, source: str, codec: CodecSpec | None, met: dict[str, str]) -> Iterator[Item]:
    """The items of such a table.

    Args:
        path: the table.
        source: name of the corpus, unless the table names one.
        codec: whose codes the characters are.
        met: recordings met so far with digests of their content, filled here: the second order of one is left out
            if it holds the same, and a problem if not.
    Raises:
        ConfigError: no codec given.
    """
    if codec is None:
        raise ConfigError(f"{path} holds codes as characters; needed: the codec they were made by. Name it.")
    with pq.ParquetFile(path) as file:
        for group, number, row in table_rows(file, path):
            place = f"{path.name}:{group}:{number}"
            try:
                document = WrittenDocument.parse(str(row["text"]))
                recording = _recording(row, place)
                if _is_second_order(document, recording, met):
                    continue
                yield from _items(path, (group, number), row, document, recording, source, codec)
            except (VocabularyError, KeyError, ValueError, TypeError) as error:
                yield Item(id=f"{source}/{place}", source=source, problem=f"{place}: {error}")


def _recording(row: Mapping[str, Any], place: str) -> str:
    name = str(row.get("id") or place)
    return name[: -len(TYPES[0])] if name.endswith(TYPES) else name


def _is_second_order(document: WrittenDocument, recording: str, met: dict[str, str]) -> bool:
    content = digest(*(part for span in document.spans for part in span))
    first = met.setdefault(f"{recording}\n{document.text_first}", content)
    other = met.get(f"{recording}\n{not document.text_first}")
    if first != content or other not in (None, content):
        raise VocabularyError(f"{recording} was met before with other content; its orders must agree")
    return other is not None


def _items(
    path: Path,
    place: tuple[int, int],
    row: Mapping[str, Any],
    document: WrittenDocument,
    recording: str,
    source: str,
    codec: CodecSpec,
) -> Iterator[Item]:
    told = row.get("utterances") or [{}] * len(document.spans)
    if len(told) != len(document.spans):
        raise VocabularyError(f"{len(told)} utterances are described and {len(document.spans)} written")
    for number, (known, (text, audio)) in enumerate(zip(told, document.spans, strict=True)):
        start_s, end_s = known.get("start_s"), known.get("end_s")
        frames_s = len(audio) / codec.num_codebooks / codec.frame_rate_hz
        length_s = frames_s if start_s is None or end_s is None else end_s - start_s
        name = recording if document.is_text else f"{recording}-{number:05d}"
        yield Item(
            id=known.get("id") or f"{source}/{name}",
            # Names that `sodakit documents` wrote already begin with their source.
            recording=recording if known or recording.startswith(f"{source}/") else f"{source}/{recording}",
            held=None if document.is_text else WrittenCodes(path, *place, number, length_s, codec),
            at_s=start_s,
            text=text or None,
            speaker=known.get("speaker") or "",
            language=known.get("language") or "",
            source=known.get("source") or source,
            licence=known.get("licence") or "",
            fields=split_of(path.name),
        )


@lru_cache(maxsize=32)
def _document(path: Path, group: int, row: int) -> WrittenDocument:
    return WrittenDocument.parse(cell_of(path, "text", group, row))
