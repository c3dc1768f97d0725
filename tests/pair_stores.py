"""Small sealed stores of pairs, in random codes or whatever a test gives."""

from pathlib import Path

import numpy as np

from sodakit.codec.contract import CodecSpec
from sodakit.codec.toy import ToyCodec
from sodakit.store.schema import Utterance
from sodakit.store.writer import StoreWriter
from sodakit.tokens.tasks import tagged
from sodakit.tokens.text import TextTokenizer, train_bpe

TEXTS = [("hola casa", "hello house"), ("¿dónde está?", "where is it"), ("adiós", "goodbye now")]


def pair_tokenizer() -> TextTokenizer:
    """A byte-level tokenizer that has seen language tags."""
    return train_bpe(
        [tagged(lang, t) for pair in TEXTS for lang, t in zip(("es", "en"), pair, strict=True)] * 3, 300
    )


def toy_spec() -> CodecSpec:
    """Of the toy codec, so that the codes can be heard."""
    return ToyCodec().spec


def pair_store(folder: Path, *, pairs: int = 12, frames: tuple[int, int] = (2, 7), seed: int = 0) -> Path:
    """A store with train, validation and test splits of pairs from Spanish to English; one recording is no pair."""
    rng = np.random.default_rng(seed)
    tokenizer, spec = pair_tokenizer(), toy_spec()
    tokenizer.save(folder / "tokenizer")
    writer = StoreWriter(folder, spec, tokenizer.fingerprint)

    def utterance(recording: str, side: str, language: str, text: str | None) -> Utterance:
        shape = (spec.num_codebooks, int(rng.integers(*frames)))
        return Utterance(
            id=f"{recording}/{side}",
            recording=recording,
            codes_KF=rng.integers(0, spec.codebook_size, shape).astype(np.uint16),
            text=text,
            text_ids_T=np.array(tokenizer.encode(text or ""), np.int32),
            speaker=f"s{int(rng.integers(3))}",
            language=language,
        )

    for split, count in (("train", pairs), ("validation", 4), ("test", 4)):
        made = []
        for n in range(count):
            name, (source, target) = f"{split}-{n}", TEXTS[n % len(TEXTS)]
            made += [utterance(name, "source", "es", source), utterance(name, "target", "en", target)]
        made.append(utterance(f"{split}-alone", "source", "es", "hola"))
        writer.write_shard(split, 0, made)
    writer.seal()
    return folder
