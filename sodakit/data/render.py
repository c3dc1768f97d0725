"""Part of a document as ids, straight from the store's flat arrays: what the loader does all day.

`tokens/documents.py` says what a document is; this writes the same ids without making an `Utterance`, a span or a
copy first, and only those that are asked for. A test holds the two together.
"""

from bisect import bisect_right
from itertools import accumulate

import numpy as np

from sodakit.store.flat import FlatShard
from sodakit.tokens.documents import Template


class Renderer:
    """Utterances of some shards as ids, for one template."""

    def __init__(
        self, shards: list[FlatShard], stored_codebooks: int, template: Template, has_text: bool
    ) -> None:
        vocabulary, used = template.vocabulary, template.num_codebooks
        self._shards = [(s.codes, s.code_offsets, s.text_ids, s.text_offsets) for s in shards]
        self._ends = list(accumulate(len(s) for s in shards))
        self._stored, self._used, self._has_text = stored_codebooks, used, has_text
        self._audio = (vocabulary.audio_start, vocabulary.audio_end)
        self._text = (vocabulary.text_start, vocabulary.text_end)
        self._base_K = vocabulary.audio_base + vocabulary.codebook_size * np.arange(used, dtype=np.int32)
        self._bases = np.tile(self._base_K, 1)

    def utterance(self, number: int, text_first: bool, at: int, out_T: np.ndarray) -> int:
        """Write an utterance with its markers so that it begins at `at`; what falls outside `out_T` is left away.

        Returns:
            int: where the next one begins.
        """
        place = bisect_right(self._ends, number)
        row = number - (self._ends[place - 1] if place else 0)
        codes, code_offsets, text_ids, text_offsets = self._shards[place]
        text = None
        if self._has_text:
            first, last = int(text_offsets[row]), int(text_offsets[row + 1])
            text = text_ids[first:last] if last > first else None
        if text is not None and text_first:
            at = self._write_text(text, at, out_T)
        first, last = int(code_offsets[row]), int(code_offsets[row + 1])
        if last > first:
            at = self._write_speech(codes, first, last, at, out_T)
        if text is not None and not text_first:
            at = self._write_text(text, at, out_T)
        return at

    def plain_text(self, number: int, at: int, out_T: np.ndarray) -> int:
        """Write the text of an utterance without markers; as `utterance` otherwise."""
        place = bisect_right(self._ends, number)
        row = number - (self._ends[place - 1] if place else 0)
        _, _, text_ids, text_offsets = self._shards[place]
        text = text_ids[int(text_offsets[row]) : int(text_offsets[row + 1])]
        end = at + len(text)
        low, high = max(at, 0), min(end, len(out_T))
        if low < high:
            out_T[low:high] = text[low - at : high - at]
        return end

    def _write_text(self, text: np.ndarray, at: int, out_T: np.ndarray) -> int:
        body, size = at + 1, len(out_T)
        end = body + len(text)
        if 0 <= at < size:
            out_T[at] = self._text[0]
        low, high = max(body, 0), min(end, size)
        if low < high:
            out_T[low:high] = text[low - body : high - body]
        if 0 <= end < size:
            out_T[end] = self._text[1]
        return end + 1

    def _write_speech(self, codes: np.ndarray, first: int, last: int, at: int, out_T: np.ndarray) -> int:
        body, size = at + 1, len(out_T)
        end = body + (last - first) // self._stored * self._used
        if 0 <= at < size:
            out_T[at] = self._audio[0]
        low, high = max(body, 0), min(end, size)
        if low < high:
            skip = (low - body) % self._used
            begin = first + (low - body) // self._used * self._stored
            if self._used == self._stored:
                # Copy and add in place: one call for both goes through numpy's buffered casting, which is slower.
                ids_T = out_T[low:high]
                ids_T[:] = codes[begin + skip : begin + skip + high - low]
                ids_T += self._offsets(skip + high - low)[skip:]
            else:
                frames = -(-(skip + high - low) // self._used)
                codes_FK = codes[begin : begin + frames * self._stored].reshape(frames, self._stored)
                ids_FK = codes_FK[:, : self._used] + self._base_K
                out_T[low:high] = ids_FK.reshape(-1)[skip : skip + high - low]
        if 0 <= end < size:
            out_T[end] = self._audio[1]
        return end + 1

    def _offsets(self, count: int) -> np.ndarray:
        """What to add to the first `count` codes of frames; grown to the longest span asked for."""
        if len(self._bases) < count:
            self._bases = np.tile(self._base_K, -(-2 * count // self._used))
        return self._bases[:count]
