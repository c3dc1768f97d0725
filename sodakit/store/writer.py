"""Utterances to a store: complete shards, then `store.json` as the seal.

store/
  store.json                  codec, tokenizer, and what each shard holds
  tokenizer/                  the text tokenizer
  train/shard-00000.arrow     utterances, see schema.py
  quarantine.jsonl            what was left out, and why
"""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from sodakit import __version__
from sodakit.codec.contract import CodecSpec
from sodakit.config import to_plain
from sodakit.errors import StoreError
from sodakit.files import file_sha256, write_json, write_json_lines
from sodakit.store.checked import remember
from sodakit.store.schema import SPLITS, Utterance
from sodakit.store.shard import (
    CODEC_KEY,
    TOKENIZER_KEY,
    ShardInfo,
    check_fingerprint,
    check_sound,
    flat_values,
    metadata_text,
    open_batch,
    rejected_rows,
    shard_name,
    write_table,
)

SCHEMA_VERSION = 1


class StoreWriter:
    """Writes one store. A shard is complete or absent, and a complete one is never written again."""

    def __init__(self, folder: Path | str, codec: CodecSpec, tokenizer_fingerprint: str) -> None:
        self.folder = Path(folder)
        self.codec = codec
        self.tokenizer_fingerprint = tokenizer_fingerprint

    def has_shard(self, split: str, index: int) -> bool:
        """Whether the shard is there, complete, and of this codec and tokenizer.

        Raises:
            StoreError: it is there and was made by another codec or tokenizer, or is damaged.
        """
        path = self._path(split, index)
        if not path.exists():
            return False
        batch = open_batch(path)
        check_sound(batch, path, self.codec)
        check_fingerprint("codec", metadata_text(batch, CODEC_KEY), self.codec.fingerprint, path)
        check_fingerprint("tokenizer", metadata_text(batch, TOKENIZER_KEY), self.tokenizer_fingerprint, path)
        return True

    def write_shard(
        self, split: str, index: int, utterances: Sequence[Utterance], rejected: Sequence[dict[str, Any]] = ()
    ) -> Path:
        """Write one shard atomically, or keep the complete one that is there.

        Args:
            split: `train`, `validation` or `test`.
            index: place in the split, from 0 without gaps.
            utterances: those of one recording next to each other and in order.
            rejected: rows for `quarantine.jsonl`; kept inside the shard until the store is sealed.
        Raises:
            CodecError: codes that do not fit the codec.
            StoreError: the shard is there and was made by another codec or tokenizer.
        """
        path = self._path(split, index)
        if self.has_shard(split, index):
            return path
        for utterance in utterances:
            self.codec.check_codes(utterance.codes_KF)
        write_table(path, utterances, self.codec.fingerprint, self.tokenizer_fingerprint, rejected)
        return path

    def replace_shard(
        self, split: str, index: int, utterances: Sequence[Utterance], rejected: Sequence[dict[str, Any]]
    ) -> None:
        """Write a complete shard anew, atomically, where a later stage leaves something out of it."""
        path = self._path(split, index)
        write_table(path, utterances, self.codec.fingerprint, self.tokenizer_fingerprint, rejected)

    def shard_paths(self, split: str) -> list[Path]:
        """The complete shards of a split, in order.

        Raises:
            StoreError: one is missing between them.
        """
        return [self._path(split, index) for index in range(self._count(split))]

    def shard_rejected(self, split: str, index: int) -> list[dict[str, Any]]:
        """The rejected rows kept in a complete shard."""
        return rejected_rows(open_batch(self._path(split, index)))

    def seal(self, rejected: Iterable[dict[str, Any]] = ()) -> Path:
        """Write `quarantine.jsonl` (`rejected`, then those in the shards) and `store.json`: it is complete.

        Raises:
            StoreError: a gap in the shards of a split, a damaged shard, or one of another codec or tokenizer.
        """
        quarantine = list(rejected)
        splits = {}
        described = []
        for split in SPLITS:
            shards = [self._describe(split, index) for index in range(self._count(split))]
            quarantine.extend(row for i in range(len(shards)) for row in self.shard_rejected(split, i))
            described += shards
            if shards:
                splits[split] = _totals(shards)
        write_json_lines(self.folder / "quarantine.jsonl", quarantine)
        description = {
            "schema_version": SCHEMA_VERSION,
            "created_by": f"sodakit {__version__}",
            "codec": to_plain(self.codec),
            "tokenizer_fingerprint": self.tokenizer_fingerprint,
            "quarantined": len(quarantine),
            "splits": splits,
        }
        write_json(self.folder / "store.json", description)
        remember(self.folder, described)
        return self.folder / "store.json"

    def _path(self, split: str, index: int) -> Path:
        if split not in SPLITS:
            raise StoreError(f"No split {split!r} in a store; needed: one of {', '.join(SPLITS)}.")
        return self.folder / split / shard_name(index)

    def _count(self, split: str) -> int:
        found = {path.name for path in (self.folder / split).glob("shard-*.arrow")}
        for index in range(len(found)):
            if shard_name(index) not in found:
                raise StoreError(
                    f"{self.folder / split} holds {len(found)} shards, but {shard_name(index)} is missing. "
                    "Run the same prepare again to make it."
                )
        return len(found)

    def _describe(self, split: str, index: int) -> ShardInfo:
        path = self._path(split, index)
        self.has_shard(split, index)
        batch = open_batch(path)
        codes, _ = flat_values(batch, "codes")
        text_ids, _ = flat_values(batch, "text_ids")
        frames = len(codes) // self.codec.num_codebooks
        return ShardInfo(
            file=f"{split}/{path.name}",
            rows=batch.num_rows,
            frames=frames,
            text_tokens=len(text_ids),
            hours=round(_sound_s(batch) / 3600, 6),
            bytes=path.stat().st_size,
            sha256=file_sha256(path),
        )


def _sound_s(batch: pa.RecordBatch) -> float:
    return float((batch.column("end_s").to_numpy() - batch.column("start_s").to_numpy()).sum())


def _totals(shards: list[ShardInfo]) -> dict[str, Any]:
    return {
        "rows": sum(shard.rows for shard in shards),
        "frames": sum(shard.frames for shard in shards),
        "text_tokens": sum(shard.text_tokens for shard in shards),
        "hours": round(sum(shard.hours for shard in shards), 6),
        "shards": [dataclasses.asdict(shard) for shard in shards],
    }
