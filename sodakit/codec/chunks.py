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
