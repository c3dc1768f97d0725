"""The vocabulary that a store calls for."""

from pathlib import Path

from sodakit.store.reader import StoreReader
from sodakit.tokens.vocabulary import Vocabulary, soda_vocabulary


def vocabulary_of(store: StoreReader) -> Vocabulary:
    """The ids for a store's tokenizer and codec: the published layout where both are SODA's, else text, markers, audio.

    SODA's are a tokenizer of 128,256 text ids with BOS 128000 and EOS 128001 (Llama 3), and 8 codebooks of 2,048.
    """
    tokenizer = store.tokenizer()
    spec = store.codec_spec
    soda = soda_vocabulary(tokenizer.fingerprint)
    same_codec = (spec.num_codebooks, spec.codebook_size) == (soda.num_codebooks, soda.codebook_size)
    # The released tokenizer holds the markers and the audio characters as added tokens: 144,644 in all.
    if same_codec and tokenizer.size in (soda.text_size, soda.size) and tokenizer.bos == soda.bos:
        return soda
    return Vocabulary.layout(
        text_size=tokenizer.size,
        bos=tokenizer.bos,
        eos=tokenizer.eos,
        num_codebooks=spec.num_codebooks,
        codebook_size=spec.codebook_size,
        semantic_codebooks=spec.semantic_codebooks,
        tokenizer_fingerprint=tokenizer.fingerprint,
    )


def open_language(store_folder: Path | str) -> tuple[StoreReader, Vocabulary]:
    """A store and its vocabulary."""
    store = StoreReader(store_folder)
    return store, vocabulary_of(store)
