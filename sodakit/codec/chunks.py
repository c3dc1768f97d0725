"""A sound that comes in parts, as the pieces that a codec encodes one after the other."""

from collections.abc import Iterable, Iterator

import numpy as np


def chunks(
    blocks_S: Iterable[np.ndarray], length: int, frame: int, lookahead: int = 0
) -> Iterator[np.ndarray]:
    """float32 samples_S of `length` samples and the `lookahead` after them; the last is as many whole frames as are left,
    filled with silence. Nothing comes of an empty sound.

    Args:
        blocks_S: the sound, in parts of any length.
        length: samples of a piece: whole frames.
        frame: samples of a frame.
        lookahead: samples beyond a piece that its codes depend on.
    """
    waiting_S = np.zeros(0, np.float32)
    for block_S in blocks_S:
        waiting_S = np.concatenate([waiting_S, block_S])
        start = 0
        while len(waiting_S) - start >= length + lookahead:
            yield waiting_S[start : start + length + lookahead]
            start += length
        waiting_S = waiting_S[start:]
    while len(waiting_S):
        whole = min(length, -(-len(waiting_S) // frame) * frame)
        part_S = np.zeros(whole + lookahead, np.float32)
        part_S[: min(len(waiting_S), len(part_S))] = waiting_S[: len(part_S)]
        yield part_S
        waiting_S = waiting_S[whole:]


class Windows:
    """Pieces of a sound or of codes with what surrounds them, for networks that look to both sides.

    A piece and its window are the same however the parts came, so what is made of them is too.

    Args:
        unit: numbers of the last axis that make a frame.
        left: frames before a piece that its window holds.
        right: frames after it.
        piece: frames of a piece. None: whatever is there, for networks that see no further than `left` and `right`.
    """

    def __init__(self, unit: int, left: int, right: int, piece: int | None = None) -> None:
        self.unit, self.left, self.right, self.piece = unit, left, right, piece
        self._held: np.ndarray | None = None
        self._start = self._next = 0
        """Frames: where what is held begins, and the first that no piece has had."""

    def push(self, part: np.ndarray) -> Iterator[tuple[np.ndarray, int, int]]:
        """The windows that this part completes: each with the frames before its piece, and the frames of it."""
        self._held = part if self._held is None else np.concatenate([self._held, part], axis=-1)
        ready = self._start + self._held.shape[-1] // self.unit - self.right - self._next
        while ready > 0 and ready >= (self.piece or 1):
            taken = self.piece or ready
            yield self._window(taken, self._next + taken + self.right)
            ready -= taken

    def finish(self) -> Iterator[tuple[np.ndarray, int, int]]:
        """The windows of what is left. A last frame that is not whole is filled with nought."""
        if self._held is None:
            return
        whole = -(-self._held.shape[-1] // self.unit)
        missing = whole * self.unit - self._held.shape[-1]
        if missing:
            self._held = np.pad(self._held, [(0, 0)] * (self._held.ndim - 1) + [(0, missing)])
        end = self._start + whole
        while self._next < end:
            taken = min(self.piece or end, end - self._next)
            yield self._window(taken, min(self._next + taken + self.right, end))

    def _window(self, taken: int, stop: int) -> tuple[np.ndarray, int, int]:
        assert self._held is not None
        begin = max(0, self._next - self.left)
        self._held = self._held[..., (begin - self._start) * self.unit :]
        self._start, before = begin, self._next - begin
        self._next += taken
        return self._held[..., : (stop - begin) * self.unit], before, taken
