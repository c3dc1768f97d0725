"""Which tokens a loss is taken on: all but padding, or the answers alone."""

from collections.abc import Sequence

import numpy as np

from sodakit.tokens.vocabulary import Vocabulary


def scored_tokens(
    ids_BT: np.ndarray, lengths: Sequence[Sequence[int]], vocabulary: Vocabulary, given_spans: int
) -> np.ndarray:
    """bool (B, T): whether each token is a target.

    Args:
        ids_BT: rows of document pieces.
        lengths: of the pieces of each row, padding included.
        vocabulary: tells where spans close.
        given_spans: how many spans at the beginning of each document are given and not predicted. A piece with no more
            spans than that has no answer, and is predicted whole: text, or speech alone, replayed beside a task.
    """
    scored_BT = np.ones(ids_BT.shape, bool)
    for ids_T, row, scored_T in zip(ids_BT, lengths, scored_BT, strict=True):
        ends = np.cumsum(row)
        if _is_padding(ids_T, row, vocabulary):
            scored_T[ends[-1] - row[-1] :] = False
        if given_spans:
            for end, length in zip(ends.tolist(), row, strict=True):
                _leave_out_given(
                    ids_T[end - length : end], scored_T[end - length : end], vocabulary, given_spans
                )
    return scored_BT


def _is_padding(ids_T: np.ndarray, row: Sequence[int], vocabulary: Vocabulary) -> bool:
    # A document begins with BOS, so a last piece that begins with EOS is what packing left over.
    return len(row) > 1 and int(ids_T[len(ids_T) - row[-1]]) == vocabulary.eos


def _leave_out_given(ids_T: np.ndarray, scored_T: np.ndarray, vocabulary: Vocabulary, given: int) -> None:
    opens = np.flatnonzero((ids_T == vocabulary.text_start) | (ids_T == vocabulary.audio_start))
    if len(opens) > given:
        scored_T[: opens[given]] = False
