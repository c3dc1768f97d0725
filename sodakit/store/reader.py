"""A store as utterances, one by one, or as flat arrays for those who render millions of documents."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa

from sodakit.codec.contract import CodecSpec
from sodakit.config import from_plain
from sodakit.errors import ConfigError, StoreError, VocabularyError
from sodakit.files import read_json
from sodakit.store.checked import check_shards, check_sizes
from sodakit.store.columns import Columns, columns_of, join_columns
from sodakit.store.flat import FlatShard, flat_shard
from sodakit.store.schema import SPLITS, Utterance
from sodakit.store.shard import (
    CODEC_KEY,
    TOKENIZER_KEY,
    FlatWords,
    ShardInfo,
    check_fingerprint,
    flat_values,
    flat_words,
    has_words,
    metadata_text,
    open_batch,
    quality_names,
    rejected_rows,
)
from sodakit.store.writer import SCHEMA_VERSION
from sodakit.tokens.text import TextTokenizer

AGAIN = "Run the same prepare again: it writes the file anew."
REQUIRED_KEYS = ("schema_version", "codec", "tokenizer_fingerprint", "splits")


class StoreReader:
    """A sealed store, memory-mapped.

    Args:
        folder: where `store.json` is.
        expect_codec: fingerprint the codes must have; None accepts any.
        expect_tokenizer: fingerprint the text ids must have; None accepts any.
    Raises:
        StoreError: no store, of another version, damaged, or of another codec or tokenizer.
    """

    def __init__(
        self, folder: Path | str, expect_codec: str | None = None, expect_tokenizer: str | None = None
    ) -> None:
        self.folder = Path(folder)
        self.description: dict[str, Any] = _read_description(self.folder)
        self.codec_spec = _read_codec(self.description["codec"], self.folder / "store.json")
        self.tokenizer_fingerprint: str = self.description["tokenizer_fingerprint"]
        check_fingerprint("codec", self.codec_spec.fingerprint, expect_codec, self.folder)
        check_fingerprint("tokenizer", self.tokenizer_fingerprint, expect_tokenizer, self.folder)
        self._shards = {split: self._described(split) for split in self.splits}
        for infos in self._shards.values():
            check_sizes(self.folder, infos)
        self._open_batches: dict[str, list[pa.RecordBatch]] = {}
        self._columns: dict[str, Columns] = {}

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits it has, in the order train, validation, test."""
        return tuple(self.description["splits"])

    def shards(self, split: str) -> list[ShardInfo]:
        """What `store.json` says of the shards of a split.

        Raises:
            StoreError: the store has no such split.
        """
        if split not in self.splits:
            raise StoreError(
                f"{self.folder} has no split {split!r}; it has {', '.join(self.splits) or 'none'}. "
                "Choose one of these, or prepare the data with other split fractions."
            )
        return self._shards[split]

    def utterances(self, split: str) -> "Utterances":
        """The utterances of a split by number; codes are views over the memory map.

        Raises:
            StoreError: the store has no such split, or a shard of it is damaged. So do all that follow.
        """
        return Utterances([_Shard(batch, self.codec_spec.num_codebooks) for batch in self._batches(split)])

    def flat_shards(self, split: str) -> list[FlatShard]:
        """Codes and text ids of each shard, without names: costs no memory, whatever the size of the store."""
        return [flat_shard(batch) for batch in self._batches(split)]

    def each_flat_shard(self, split: str) -> Iterator[FlatShard]:
        """The same one after the other, each mapped anew: what was read of one is given back when it is let go.

        A pass over all offsets of ten million utterances would otherwise leave 160 MB of the files in memory.
        """
        self._check(split)
        for info in self.shards(split):
            yield flat_shard(self._open(info))

    def shard_columns(self, split: str) -> list[Columns]:
        """Flat arrays of each shard; views over the memory map, whatever the size of the store."""
        return [columns_of(batch, self.codec_spec.num_codebooks) for batch in self._batches(split)]

    def shard_words(self, split: str) -> list[FlatWords]:
        """The words of each shard with their times; views over the memory map."""
        return [flat_words(batch) for batch in self._batches(split)]

    def columns(self, split: str) -> Columns:
        """Flat arrays of a whole split: a view where it has one shard, else joined in memory once."""
        if split not in self._columns:
            self._columns[split] = join_columns(self.shard_columns(split), self.codec_spec.num_codebooks)
        return self._columns[split]

    def quality(self, split: str) -> dict[str, np.ndarray]:
        """What was measured of the sounds of a split: float32 by column, NaN where one has no such number."""
        batches = self._batches(split)
        names = dict.fromkeys(name for batch in batches for name in quality_names(batch))
        absent = (np.full(batch.num_rows, np.nan, np.float32) for batch in batches)
        rows = list(zip(batches, absent, strict=True))
        return {
            name: np.concatenate(
                [
                    batch.column(name).to_numpy(zero_copy_only=False)
                    if name in quality_names(batch)
                    else empty
                    for batch, empty in rows
                ]
            )
            for name in names
        }

    def rejected(self, split: str, index: int) -> list[dict[str, Any]]:
        """What of `quarantine.jsonl` a shard keeps: items that belonged into it and could not be read."""
        return rejected_rows(self._batches(split)[index])

    def verify(self) -> None:
        """Read every byte and compare it with the digests in `store.json`.

        Raises:
            StoreError: a shard has changed; the message names it.
        """
        for split in self.splits:
            self._check(split, again=True)

    def tokenizer(self) -> TextTokenizer:
        """The text tokenizer that lies in the store.

        Raises:
            StoreError: it is missing, damaged, or another than the text ids were made with.
        """
        folder = self.folder / "tokenizer"
        again = f"Copy the folder again, or run the same `sodakit prepare … --out {self.folder}` again: it writes it anew."
        try:
            tokenizer = TextTokenizer.load(folder)
        except VocabularyError as error:
            raise StoreError(
                f"The store's tokenizer {folder} is missing or damaged ({error}). {again}"
            ) from error
        check_fingerprint("tokenizer", tokenizer.fingerprint, self.tokenizer_fingerprint, folder)
        return tokenizer

    def _described(self, split: str) -> list[ShardInfo]:
        shards = self.description["splits"][split]
        name = f"{self.folder / 'store.json'}: splits.{split}.shards"
        shards = shards if isinstance(shards, dict) else {}
        infos = from_plain(list[ShardInfo], shards.get("shards"), name)
        for total, kind in (("rows", int), ("frames", int), ("text_tokens", int), ("hours", float)):
            from_plain(kind, shards.get(total), f"{self.folder / 'store.json'}: splits.{split}.{total}")
        for info in infos:
            # Nothing but a shard of this store, whoever wrote the file.
            if not re.fullmatch(rf"{split}/shard-\d+\.arrow", info.file):
                raise StoreError(f"{name} names {info.file!r}; needed: {split}/shard-00000.arrow, … {AGAIN}")
        return infos

    def _check(self, split: str, again: bool = False) -> None:
        check_shards(self.folder, self.shards(split), self.codec_spec, self._text_size, again)
        # The digests are right now, and so what is said of each shard: what is said of all of them may still be wrong.
        for total in ("rows", "frames", "text_tokens", "hours"):
            said = self.description["splits"][split][total]
            found = sum(getattr(info, total) for info in self.shards(split))
            if not abs(said - found) < 0.001:
                raise StoreError(
                    f"{self.folder / 'store.json'} says {said} {total} of {split}; its shards have {found:g}. {AGAIN}"
                )

    def _text_size(self) -> int | None:
        return self.tokenizer().size if (self.folder / "tokenizer").is_dir() else None

    def _batches(self, split: str) -> list[pa.RecordBatch]:
        if split not in self._open_batches:
            self._check(split)
            self._open_batches[split] = [self._open(info) for info in self.shards(split)]
        return self._open_batches[split]

    def _open(self, info: ShardInfo) -> pa.RecordBatch:
        path = self.folder / info.file
        batch = open_batch(path)
        check_fingerprint("codec", metadata_text(batch, CODEC_KEY), self.codec_spec.fingerprint, path)
        check_fingerprint("tokenizer", metadata_text(batch, TOKENIZER_KEY), self.tokenizer_fingerprint, path)
        return batch


def open_utterances(paths: Sequence[Path], num_codebooks: int) -> "Utterances":
    """The utterances of complete shards by number, sealed or not.

    Raises:
        StoreError: a shard is missing, truncated, or not a shard.
    """
    return Utterances([_Shard(open_batch(path), num_codebooks) for path in paths])


class Utterances(Sequence[Utterance]):
    """The utterances of a split, made when asked for."""

    def __init__(self, shards: list["_Shard"]) -> None:
        self._shards = shards
        self._ends = list(accumulate(shard.batch.num_rows for shard in shards))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> list[Utterance]: ...
    def __getitem__(self, index: int | slice) -> Utterance | list[Utterance]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        shard = bisect_right(self._ends, row)
        return self._shards[shard].utterance(row - (self._ends[shard - 1] if shard else 0))


@dataclass(frozen=True)
class _Shard:
    batch: pa.RecordBatch
    num_codebooks: int

    @cached_property
    def _codes(self) -> tuple[np.ndarray, np.ndarray]:
        return flat_values(self.batch, "codes")

    @cached_property
    def _text_ids(self) -> tuple[np.ndarray, np.ndarray]:
        return flat_values(self.batch, "text_ids")

    @cached_property
    def _words(self) -> FlatWords:
        return flat_words(self.batch)

    def utterance(self, row: int) -> Utterance:
        codes, code_offsets = self._codes
        text_ids, text_offsets = self._text_ids
        frame_major = codes[code_offsets[row] : code_offsets[row + 1]]
        told = ("codes_KF", "text_ids_T", "words", "words_source", "quality")
        plain = (f.name for f in fields(Utterance) if f.name not in told)
        measured = {name: self.batch.column(name)[row].as_py() for name in quality_names(self.batch)}
        return Utterance(
            codes_KF=frame_major.reshape(-1, self.num_codebooks).T,
            text_ids_T=text_ids[text_offsets[row] : text_offsets[row + 1]],
            **{name: self.batch.column(name)[row].as_py() for name in plain},
            words=self._words.of(row),
            words_source=self.batch.column("words_source")[row].as_py() if has_words(self.batch) else "",
            quality={name: value for name, value in measured.items() if value is not None},
        )


def _read_codec(plain: Any, path: Path) -> CodecSpec:
    try:
        codec: CodecSpec = from_plain(CodecSpec, plain, f"{path}: codec")
    except ConfigError as error:
        raise StoreError(f"{error} {AGAIN}") from error
    return codec


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / "store.json"
    if not path.is_file():
        raise StoreError(
            f"{folder} has no store.json; needed: a finished store. "
            "If prepare was interrupted, run the same command again: it does only what is missing."
        )
    try:
        description = read_json(path)
    except ConfigError as error:
        raise StoreError(f"{error} {AGAIN}") from error
    if not isinstance(description, dict):
        raise StoreError(f"{path} holds no JSON object. {AGAIN}")
    missing = [key for key in REQUIRED_KEYS if key not in description]
    if missing or description["schema_version"] != SCHEMA_VERSION:
        raise StoreError(
            f"{path} is of schema version {description.get('schema_version')}, without {missing or 'gaps'}; "
            f"needed: version {SCHEMA_VERSION}. Prepare the store again with this version of sodakit."
        )
    if not isinstance(description["splits"], dict) or not set(description["splits"]) <= set(SPLITS):
        raise StoreError(
            f"{path} has splits {description['splits']!r:.80}; needed: {', '.join(SPLITS)}. {AGAIN}"
        )
    return description
