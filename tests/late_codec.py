"""A codec that looks ahead, for tests of everything that streams."""

import numpy as np

from sodakit.codec.contract import StreamingDecoder
from sodakit.codec.toy import ToyCodec


class Late(ToyCodec):
    """The toy, as if a frame needed the next three."""

    lookahead_frames = 3

    def stream(self):
        return LateStream(self)


class LateStream(StreamingDecoder):
    def __init__(self, toy):
        self.toy, self.waiting_KF = toy, np.zeros((toy.spec.num_codebooks, 0), np.uint16)

    def push(self, codes_KF):
        held_KF = np.concatenate([self.waiting_KF, codes_KF], axis=1)
        ready = max(0, held_KF.shape[1] - 3)
        self.waiting_KF = held_KF[:, ready:]
        return self.toy.decode(held_KF[:, :ready])

    def finish(self):
        return self.toy.decode(self.waiting_KF)
