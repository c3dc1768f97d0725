"""Codes as ids and back: frame-major, c0 c1 … cK-1 of frame 0, then of frame 1."""

import numpy as np

from sodakit.errors import VocabularyError
from sodakit.tokens.vocabulary import Vocabulary


def codes_to_ids(
    codes_KF: np.ndarray, vocabulary: Vocabulary, num_codebooks: int | None = None
) -> np.ndarray:
    """The int32 ids_T of the first `num_codebooks` codebooks (default: all given), `T = F * K`.

    Raises:
        VocabularyError: more codebooks than the vocabulary has, or a code out of range.
    """
    num_codebooks = num_codebooks or codes_KF.shape[0]
    if num_codebooks > min(codes_KF.shape[0], vocabulary.num_codebooks):
        raise VocabularyError(
            f"{num_codebooks} codebooks asked of codes with {codes_KF.shape[0]} "
            f"and a vocabulary with {vocabulary.num_codebooks}."
        )
    codes_FK = codes_KF[:num_codebooks].T.astype(np.int32)
    if codes_FK.size and (codes_FK.min() < 0 or codes_FK.max() >= vocabulary.codebook_size):
        raise VocabularyError(
            f"Codes from {codes_FK.min()} to {codes_FK.max()}; the vocabulary has 0 to {vocabulary.codebook_size - 1}."
        )
    offsets_K = vocabulary.audio_base + vocabulary.codebook_size * np.arange(num_codebooks, dtype=np.int32)
    return (codes_FK + offsets_K).reshape(-1)


def ids_to_codes(ids_T: np.ndarray, vocabulary: Vocabulary, num_codebooks: int | None = None) -> np.ndarray:
    """The uint16 codes_KF of a whole number of frames; the exact inverse of `codes_to_ids`.

    Raises:
        VocabularyError: not whole frames, or an id that is not of the codebook due at its position.
    """
    num_codebooks = num_codebooks or vocabulary.num_codebooks
    if len(ids_T) % num_codebooks:
        raise VocabularyError(f"{len(ids_T)} audio ids are not whole frames of {num_codebooks} codebooks.")
    offsets_K = vocabulary.audio_base + vocabulary.codebook_size * np.arange(num_codebooks, dtype=np.int64)
    codes_FK = np.asarray(ids_T, np.int64).reshape(-1, num_codebooks) - offsets_K
    wrong = np.flatnonzero((codes_FK < 0) | (codes_FK >= vocabulary.codebook_size))
    if len(wrong):
        position = int(wrong[0])
        raise VocabularyError(
            f"Id {ids_T[position]} at position {position} is not of codebook {position % num_codebooks}, which is due there."
        )
    return codes_FK.T.astype(np.uint16)
