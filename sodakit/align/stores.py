"""A store, with the times of its words, as a new store: the sound of its codes is aligned with its texts."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sodakit.align.contract import Aligner
from sodakit.align.notes import AlignRule, Counts, align_items
from sodakit.audio.wave import Wave
from sodakit.codec.contract import Codec
from sodakit.config import to_plain
from sodakit.errors import ConfigError
from sodakit.files import digest, read_json, read_json_lines, write_json
from sodakit.prepare.recording import Item
from sodakit.store.reader import StoreReader
from sodakit.store.schema import SPLITS, Utterance
from sodakit.store.writer import StoreWriter
from sodakit.tokens.text import TextTokenizer
from sodakit.tokens.words import spans_of, timed_words

SETTINGS = "align.json"
"""In the new store: what it was made of, and by which rule."""


@dataclass(frozen=True)
class StoredSound:
    """The sound of an utterance in a store; see `prepare.recording.Held`."""

    codec: Codec
    utterance: Utterance

    @property
    def name(self) -> str:
        return self.utterance.id

    def duration_s(self) -> float:
        return self.utterance.codes_KF.shape[1] / self.codec.spec.frame_rate_hz

    def read(self, start_s: float | None, end_s: float | None) -> Wave:
        wave = Wave(self.codec.decode(self.utterance.codes_KF), self.codec.spec.sample_rate_hz)
        # What fills the last frame is no part of the utterance.
        return wave.cut(0.0, min(wave.duration_s, self.utterance.end_s - self.utterance.start_s))

    def codes(self) -> np.ndarray | None:
        return None

    def fingerprint(self) -> str:
        return digest(self.codec.spec.fingerprint, np.ascontiguousarray(self.utterance.codes_KF).tobytes())


def stored_items(store: StoreReader, codec: Codec) -> Iterator[Item]:
    """The utterances of a store as items, those of all splits in order."""
    for split in store.splits:
        for utterance in store.utterances(split):
            has_sound = bool(utterance.codes_KF.shape[1])
            yield Item(
                id=utterance.id,
                recording=utterance.recording,
                held=StoredSound(codec, utterance) if has_sound else None,
                text=utterance.text,
                words=spans_of(utterance.text or "", utterance.words),
                words_source=utterance.words_source,
                language=utterance.language,
                source=utterance.source,
            )


def align_store(
    store: StoreReader, out: Path, aligner: Aligner, codec: Codec, rule: AlignRule, fresh: bool = False
) -> Counts:
    """Write the store anew in `out`, with times of words where they were found; all else stays as it is.

    A killed run loses what was aligned last and the shard in hand; the same call makes only what is missing.

    Raises:
        ConfigError: `out` is the store itself, or was begun with another store, aligner or rule.
        StoreError: the store is damaged.
    """
    if out.resolve() == store.folder.resolve():
        raise ConfigError(f"{out} is the store itself; a store is never written twice. Choose another --out.")
    _claim(store, out, rule, fresh)
    items = list(stored_items(store, codec))
    timed, counts = align_items(items, out, aligner, rule, fresh)
    _write(store, out, [None if new is old else new for old, new in zip(items, timed, strict=True)])
    return counts


def _claim(store: StoreReader, out: Path, rule: AlignRule, fresh: bool) -> None:
    path = out / SETTINGS
    asked = {"store": digest(repr(sorted(store.description["splits"].items()))), **to_plain(rule)}
    if fresh:
        for split in SPLITS:
            shutil.rmtree(out / split, ignore_errors=True)
        for name in (SETTINGS, "store.json", "quarantine.jsonl"):
            (out / name).unlink(missing_ok=True)
    if not path.exists():
        if (out / "store.json").exists():
            raise ConfigError(f"{out} holds another store. Choose another --out.")
        write_json(path, asked)
    elif (kept := read_json(path)) != asked:
        differ = sorted(name for name in {*asked, *kept} if asked.get(name) != kept.get(name))
        raise ConfigError(
            f"{out} was begun with another {', '.join(differ)}. Ask for the same, choose another folder, or use --fresh."
        )


def _write(store: StoreReader, out: Path, items: list[Item | None]) -> None:
    """The shards with the times of these items; None stands for an utterance that stays as it is."""
    tokenizer = store.tokenizer()
    writer = StoreWriter(out, store.codec_spec, store.tokenizer_fingerprint)
    rest, in_shards = iter(items), 0
    for split in store.splits:
        utterances, first = store.utterances(split), 0
        for index, info in enumerate(store.shards(split)):
            rejected = store.rejected(split, index)
            in_shards += len(rejected)
            rows = [
                _timed(utterance, next(rest), tokenizer)
                for utterance in utterances[first : first + info.rows]
            ]
            first += info.rows
            writer.write_shard(split, index, rows, rejected)
    if not (out / "tokenizer").exists():
        tokenizer.save(out / "tokenizer")
    quarantine = store.folder / "quarantine.jsonl"
    rejected = read_json_lines(quarantine) if quarantine.is_file() else []
    # `seal` writes those of the shards itself, after the others.
    writer.seal(rejected[: max(0, len(rejected) - in_shards)])


def _timed(utterance: Utterance, item: Item | None, tokenizer: TextTokenizer) -> Utterance:
    if item is None:
        return utterance
    words = timed_words(utterance.text or "", item.words, utterance.end_s - utterance.start_s, tokenizer)
    return replace(utterance, words=words, words_source=item.words_source if words else "")
