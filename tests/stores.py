"""Small sealed stores of random codes, for tests of everything above the store."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sodakit.codec.contract import CodecSpec
from sodakit.store.schema import Utterance
from sodakit.store.writer import StoreWriter
from sodakit.tokens.text import train_bpe

WORDS = [
    "please",
    "turn",
    "open",
    "close",
    "the",
    "kitchen",
    "garden",
    "lamp",
    "window",
    "radio",
    "on",
    "off",
    "now",
    "today",
]


def small_store(
    folder: Path,
    *,
    recordings: int = 12,
    per_recording: int = 2,
    codebooks: int = 3,
    size: int = 8,
    seed: int = 0,
) -> Path:
    """A store with train, validation and test splits; one recording in six is text alone, one has no transcript."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, 4)) for _ in range(recordings * per_recording)]
    tokenizer = train_bpe(texts, 280)
    spec = CodecSpec(
        name="toy",
        sample_rate_hz=8000,
        frame_samples=640,
        num_codebooks=codebooks,
        codebook_size=size,
        fingerprint="test",
    )
    tokenizer.save(folder / "tokenizer")
    writer = StoreWriter(folder, spec, tokenizer.fingerprint)
    for split, share in (("train", recordings), ("validation", 6), ("test", 6)):
        utterances = []
        for r in range(share):
            for u in range(1 if r % 6 == 5 else per_recording):
                text = None if r % 6 == 4 else texts[(r * per_recording + u) % len(texts)]
                frames = 0 if r % 6 == 5 else int(rng.integers(1, 9))
                utterances.append(
                    Utterance(
                        id=f"{split}-{r}-{u}",
                        recording=f"{split}-{r}",
                        start_s=float(u),
                        end_s=u + 1.0,
                        codes_KF=rng.integers(0, size, (codebooks, frames)).astype(np.uint16),
                        text=text,
                        text_ids_T=np.array(tokenizer.encode(text or ""), np.int32),
                        speaker=f"s{r % 3}",
                    )
                )
        writer.write_shard(split, 0, utterances[: len(utterances) // 2])
        writer.write_shard(split, 1, utterances[len(utterances) // 2 :])
    writer.seal()
    return folder


def shaped_store(
    folder: Path, shards: Sequence[Sequence[tuple[int, int, int]]], *, codebooks: int = 3, size: int = 8
) -> Path:
    """A train split of utterances given as (recording, frames, text ids), shard by shard.

    Codes and ids are counted, not drawn, so that digests of it hold on any machine and with any version of numpy.
    """
    tokenizer = train_bpe(["a few words to have a tokenizer"], 300)
    tokenizer.save(folder / "tokenizer")
    spec = CodecSpec(
        name="toy",
        sample_rate_hz=8000,
        frame_samples=640,
        num_codebooks=codebooks,
        codebook_size=size,
        fingerprint="test",
    )
    writer = StoreWriter(folder, spec, tokenizer.fingerprint)
    number = 0
    for index, shard in enumerate(shards):
        utterances = []
        for recording, frames, ids in shard:
            codes = np.arange(codebooks * frames) * 5 + number
            utterances.append(
                Utterance(
                    id=str(number),
                    recording=str(recording),
                    start_s=float(number),
                    end_s=number + 1.0,
                    codes_KF=(codes.reshape(codebooks, frames) // 3 % size).astype(np.uint16),
                    text="",
                    text_ids_T=(np.arange(ids, dtype=np.int32) * 11 + number) % 250,
                )
            )
            number += 1
        writer.write_shard("train", index, utterances)
    writer.seal()
    return folder
