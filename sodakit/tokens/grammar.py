"""Which ids may come next. Position mod K fixes the codebook; markers stand only at frame boundaries.

    document   BOS span* EOS   |   BOS text* EOS          (the second is a document of plain text)
    span       text_start text* text_end   |   audio_start frame* audio_end
    frame      one id of each codebook 0 … K-1, in order

The same machine checks documents, constrains generation and (opt-in) restricts the training softmax.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sodakit.tokens.vocabulary import FIRST_AUDIO_KIND, MARKER_KIND, Vocabulary

START, OPENED, BETWEEN, TEXT, PLAIN, ENDED, FIRST_SLOT = range(7)
"""States: before BOS; just after BOS; after a closed span; in a transcript; in plain text; after EOS; FIRST_SLOT + k:
inside audio with codebook k due."""


@dataclass(frozen=True)
class Grammar:
    """The frame grammar for documents that use the first `num_codebooks` codebooks."""

    vocabulary: Vocabulary
    num_codebooks: int

    def advance(self, state: int, token: int) -> int | None:
        """The state after `token`, or None where it is not allowed."""
        v = self.vocabulary
        if state >= FIRST_SLOT:
            slot = state - FIRST_SLOT
            start, stop = v.codebook_range(slot)
            if start <= token < stop:
                return FIRST_SLOT + (slot + 1) % self.num_codebooks
            return BETWEEN if slot == 0 and token == v.audio_end else None
        is_text = 0 <= token < v.text_size and token not in (v.bos, v.eos)
        if state in (OPENED, BETWEEN):
            if token == v.text_start:
                return TEXT
            if token == v.audio_start:
                return FIRST_SLOT
            if token == v.eos:
                return ENDED
            return PLAIN if is_text and state == OPENED else None
        if state == TEXT:
            return TEXT if is_text else BETWEEN if token == v.text_end else None
        if state == PLAIN:
            return PLAIN if is_text else ENDED if token == v.eos else None
        return OPENED if token == v.bos else None  # START and ENDED: only a new document

    def state_after(self, ids_T: np.ndarray, state: int = START) -> int:
        """The state after a whole prompt.

        Raises:
            ValueError: the prompt breaks the grammar; the message names the position.
        """
        for position, token in enumerate(np.asarray(ids_T).tolist()):
            following = self.advance(state, token)
            if following is None:
                raise ValueError(
                    f"Id {token} at position {position} is not allowed there; allowed: {self._describe(state)}."
                )
            state = following
        return state

    def first_error(self, ids_T: np.ndarray) -> int | None:
        """The position of the first id that breaks the grammar, or None."""
        state = START
        for position, token in enumerate(np.asarray(ids_T).tolist()):
            following = self.advance(state, token)
            if following is None:
                return position
            state = following
        return None

    def legal(self, state: int) -> np.ndarray:
        """The ids allowed in `state`, ascending (int64)."""
        return self._legal[state]

    @cached_property
    def _legal(self) -> list[np.ndarray]:
        return [
            np.array([t for t in self._candidates(state) if self.advance(state, t) is not None], np.int64)
            for state in range(FIRST_SLOT + self.num_codebooks)
        ]

    def _candidates(self, state: int) -> list[int]:
        v = self.vocabulary
        if state >= FIRST_SLOT:
            return sorted([v.audio_end, *range(*v.codebook_range(state - FIRST_SLOT))])
        return sorted({*range(v.text_size), *v.markers, v.bos, v.eos})

    def _describe(self, state: int) -> str:
        if state >= FIRST_SLOT:
            slot = state - FIRST_SLOT
            return f"codebook {slot}" + (" or audio_end" if slot == 0 else "")
        return {
            START: "BOS",
            ENDED: "BOS",
            OPENED: "text, text_start, audio_start or EOS",
            BETWEEN: "text_start, audio_start or EOS",
            TEXT: "text or text_end",
            PLAIN: "text or EOS",
        }[state]


def slots_of(target_ids: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """The softmax group of each target: 0 for text and markers, 1+k where codebook k is due.

    `audio_end` competes with codebook 0, so it belongs to group 1. The group follows from the state alone, whatever
    the target turns out to be, so knowing it tells the model nothing of the answer.
    """
    kinds = vocabulary.kinds_V[target_ids].astype(np.int64)
    slots = np.where(kinds > MARKER_KIND, kinds - FIRST_AUDIO_KIND + 1, 0)
    return np.where(target_ids == vocabulary.audio_end, 1, slots)
