"""Parts of many documents as ids, straight from the store's memory maps: what the loader does where no compiler is.

`tokens/documents.py` says what a document is; this writes the same ids, and a test holds the two together. `native.cpp`
writes them five times as fast, and another test holds it to this. For numpy it is quick, because nothing is done token by
token or utterance by utterance that can be done once: the codes of all parts are joined, turned into ids in one addition,
cut where utterances end, and joined again with markers and text between. Joining byte views costs a tenth of as many
numpy slices.
"""

from bisect import bisect_right
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from sodakit.store.flat import FlatShard
from sodakit.tokens.documents import Template

CODE_BYTES, ID_BYTES = 2, 4

Bytes = bytes | memoryview


class Part(NamedTuple):
    """What is visible of one document in one window of `size` tokens. Positions count from the window's beginning."""

    first: int
    """Number of the first visible utterance."""
    last: int
    """Number after the last one; equal to `first` where only BOS or EOS is visible."""
    text_first: bool
    """Transcript before speech."""
    begin: int
    """Position of the document's BOS; negative where the window opens inside the document."""
    utterance_begin: int
    """Position where the first visible utterance begins; negative likewise."""
    utterance_end: int
    """Position where the last visible one ends; beyond `size` where the window closes inside it."""
    end: int
    """Position after the document's EOS."""
    plain: bool
    """Text without markers."""


class _Run(NamedTuple):
    """Utterances of a part that lie in one shard, without the frames that are out of sight."""

    text: memoryview
    code_ends: list[int]
    text_ends: list[int]
    skip: int
    """Tokens to leave away at its beginning."""
    over: int
    """Tokens to leave away at its end."""


class Renderer:
    """Utterances of some shards as ids, for one template."""

    def __init__(
        self, shards: list[FlatShard], stored_codebooks: int, template: Template, has_text: bool
    ) -> None:
        vocabulary = template.vocabulary
        self._shards = [(_bytes(s.codes), s.code_offsets, _bytes(s.text_ids), s.text_offsets) for s in shards]
        self._ends = list(accumulate(len(s) for s in shards))
        self._stored, self._used, self._has_text = stored_codebooks, template.num_codebooks, has_text
        self._bos, self._eos = _ids(vocabulary.bos), _ids(vocabulary.eos)
        self._audio = (_ids(vocabulary.audio_start), _ids(vocabulary.audio_end))
        self._text = (_ids(vocabulary.text_start), _ids(vocabulary.text_end))
        self._audio_to_text = _ids(vocabulary.audio_end, vocabulary.text_start)
        self._text_to_audio = _ids(vocabulary.text_end, vocabulary.audio_start)
        self._base_K = vocabulary.audio_base + vocabulary.codebook_size * np.arange(
            self._used, dtype=np.int32
        )
        self._bases = self._base_K

    def render(self, parts: list[Part], size: int) -> np.ndarray:
        """What is visible of each part in its window, one after the other: int32."""
        codes: list[Bytes] = []
        runs = [self._runs(part, size, codes) for part in parts]
        ids = _bytes(self._code_ids(codes))
        pieces: list[Bytes] = []
        at = 0
        for part, runs_of_part in zip(parts, runs, strict=True):
            if part.begin >= 0:
                pieces.append(self._bos)
            if part.plain:
                pieces.append(self._plain_text(part, size))
            for run in runs_of_part:
                at = self._add(run, part.text_first, ids, at, pieces)
            if part.end <= size:
                pieces.append(self._eos)
        return np.frombuffer(bytearray().join(pieces), np.int32)

    def _runs(self, part: Part, size: int, codes: list[Bytes]) -> list[_Run]:
        """The part's utterances shard by shard; their codes are added to `codes`."""
        runs: list[_Run] = []
        number = part.last if part.plain else part.first
        while number < part.last:
            shard = bisect_right(self._ends, number)
            shard_first = self._ends[shard - 1] if shard else 0
            row, last = number - shard_first, min(part.last, self._ends[shard]) - shard_first
            all_codes, code_offsets, text, text_offsets = self._shards[shard]
            code_ends = code_offsets[row : last + 1].tolist()
            text_ends = text_offsets[row : last + 1].tolist()
            skip = over = 0
            # Whole frames are dropped before they cost anything: a recording may be one utterance of an hour.
            if part.utterance_begin < 0 and number == part.first:
                skip = -part.utterance_begin
                num_text = text_ends[1] - text_ends[0] if self._has_text and part.text_first else 0
                dropped = self._frames_out(code_ends[1] - code_ends[0], skip, num_text)
                code_ends[0] += dropped * self._stored
                skip -= dropped * self._used
            number = last + shard_first
            if part.utterance_end > size and number == part.last:
                over = part.utterance_end - size
                num_text = text_ends[-1] - text_ends[-2] if self._has_text and not part.text_first else 0
                dropped = self._frames_out(code_ends[-1] - code_ends[-2], over, num_text)
                code_ends[-1] -= dropped * self._stored
                over -= dropped * self._used
            codes.append(all_codes[CODE_BYTES * code_ends[0] : CODE_BYTES * code_ends[-1]])
            runs.append(_Run(text, code_ends, text_ends, skip, over))
        return runs

    def _frames_out(self, num_codes: int, num_tokens: int, num_text: int) -> int:
        """Whole frames among the `num_tokens` out of sight, where `num_text` ids stand outside the speech."""
        out = (num_tokens - (num_text + 3 if num_text else 1)) // self._used
        # One frame is kept, so that the utterance still is one with speech.
        return max(0, min(out, num_codes // self._stored - 1))

    def _code_ids(self, codes: list[Bytes]) -> np.ndarray:
        joined = np.frombuffer(b"".join(codes), np.uint16)
        if self._used < self._stored:
            return joined.reshape(-1, self._stored)[:, : self._used] + self._base_K
        if len(self._bases) < len(joined):
            self._bases = np.tile(self._base_K, 2 * len(joined) // self._used)
        ids = joined.astype(np.int32)
        ids += self._bases[: len(ids)]
        return ids

    def _add(self, run: _Run, text_first: bool, ids: memoryview, at: int, pieces: list[Bytes]) -> int:
        """Add a run's utterances to `pieces`; the place in `ids` after them."""
        first_piece = len(pieces)
        (audio_start, audio_end), (text_start, text_end) = self._audio, self._text
        has_text, text, frame_bytes = self._has_text, run.text, ID_BYTES * self._used
        code_end, text_at = run.code_ends[0], ID_BYTES * run.text_ends[0]
        for next_code_end, next_text_end in zip(run.code_ends[1:], run.text_ends[1:], strict=True):
            num_codes = next_code_end - code_end
            end = at + num_codes // self._stored * frame_bytes
            text_end_at = ID_BYTES * next_text_end
            if not has_text or text_end_at == text_at:
                if num_codes:
                    pieces += (audio_start, ids[at:end], audio_end)
            elif not num_codes:
                pieces += (text_start, text[text_at:text_end_at], text_end)
            elif text_first:
                pieces += (
                    text_start,
                    text[text_at:text_end_at],
                    self._text_to_audio,
                    ids[at:end],
                    audio_end,
                )
            else:
                pieces += (
                    audio_start,
                    ids[at:end],
                    self._audio_to_text,
                    text[text_at:text_end_at],
                    text_end,
                )
            at, code_end, text_at = end, next_code_end, text_end_at
        if run.skip:
            _cut(pieces, range(first_piece, len(pieces)), ID_BYTES * run.skip, front=True)
        if run.over:
            _cut(pieces, range(len(pieces) - 1, first_piece - 1, -1), ID_BYTES * run.over, front=False)
        return at

    def _plain_text(self, part: Part, size: int) -> Bytes:
        if part.first == part.last:
            return b""
        shard = bisect_right(self._ends, part.first)
        row = part.first - (self._ends[shard - 1] if shard else 0)
        _, _, text, offsets = self._shards[shard]
        begin, end = int(offsets[row]), int(offsets[row + 1])
        begin += max(0, -part.utterance_begin)
        end -= max(0, part.utterance_end - size)
        return text[ID_BYTES * begin : ID_BYTES * end]


def _cut(pieces: list[Bytes], places: range, num_bytes: int, front: bool) -> None:
    """Leave `num_bytes` away from the pieces at `places`, in that order."""
    for place in places:
        size = len(pieces[place])
        if num_bytes < size:
            pieces[place] = pieces[place][num_bytes:] if front else pieces[place][: size - num_bytes]
            return
        pieces[place] = b""
        num_bytes -= size


def _ids(*ids: int) -> bytes:
    return np.array(ids, np.int32).tobytes()


def _bytes(array: np.ndarray) -> memoryview:
    # An empty array has no bytes to look at, and memoryview.cast refuses it.
    return np.ascontiguousarray(array).data.cast("B") if array.size else memoryview(b"")
