"""A codec for tests: no weights, real sound, exact streaming, and codes that survive their own round trip.

Each codebook is one band of the spectrum; its code is the level of that band, and decodes to a tone in the band's
middle. Speech comes out as a chord that follows it: enough to hear that the right thing was played.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from sodakit.codec.chunks import chunks
from sodakit.codec.contract import Codec, CodecSpec, StreamingDecoder
from sodakit.errors import CodecError
from sodakit.files import digest

_QUIETEST_DB = -60.0
_CHUNK_FRAMES = 100
_LOWEST_HZ = 100.0


class ToyCodec(Codec):
    """K bands of an 80 ms spectrum, their levels in `codebook_size - 1` steps from -60 dB to full scale, or silence."""

    def __init__(
        self,
        num_codebooks: int = 4,
        codebook_size: int = 32,
        sample_rate_hz: int = 8000,
        frame_samples: int = 640,
    ) -> None:
        bins = frame_samples // 2 - 1
        lowest = max(1, round(_LOWEST_HZ * frame_samples / sample_rate_hz))
        fits = 1 <= num_codebooks < bins
        borders = np.geomspace(lowest, bins, num_codebooks + 1 if fits else 1)
        self._edges = np.unique(borders.round().astype(int))
        if not fits or len(self._edges) != num_codebooks + 1 or codebook_size < 3:
            raise CodecError(
                f"A toy codec of {num_codebooks} codebooks of {codebook_size} does not fit {bins} spectrum bins; "
                "use fewer codebooks (at least 1), longer frames, or at least 3 entries."
            )
        name = f"toy-{num_codebooks}x{codebook_size}-{sample_rate_hz}-{frame_samples}"
        self.spec = CodecSpec(
            name="toy",
            sample_rate_hz=sample_rate_hz,
            frame_samples=frame_samples,
            num_codebooks=num_codebooks,
            codebook_size=codebook_size,
            fingerprint=digest(name),
        )
        # A whole number of cycles a frame: frames join without clicks, and tones are orthogonal within one.
        middles = (self._edges[:-1] + self._edges[1:] - 1) // 2
        angle = 2 * np.pi * np.outer(middles, np.arange(frame_samples)) / frame_samples
        self._tones_KS = np.sin(angle).astype(np.float32)

    def encode_batch(self, waves_S: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [self._encode_one(wave_S) for wave_S in waves_S]

    def encode_blocks(self, blocks_S: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        frame = self.spec.frame_samples
        yield from map(self._encode_one, chunks(blocks_S, _CHUNK_FRAMES * frame, frame))

    def decode(self, codes_KF: np.ndarray) -> np.ndarray:
        self.spec.check_codes(codes_KF)
        level_db = _QUIETEST_DB * (1 - (codes_KF - 1.0) / (self.spec.codebook_size - 2))
        amplitude_KF = np.where(codes_KF == 0, 0, 10 ** (level_db / 20) / self.spec.num_codebooks)
        # Codebook after codebook: a matrix product rounds differently with the number of frames, and pieces must give
        # what the whole gives.
        sound_FS = np.zeros((codes_KF.shape[1], self.spec.frame_samples), np.float32)
        for amplitude_F, tone_S in zip(amplitude_KF.astype(np.float32), self._tones_KS, strict=True):
            sound_FS += amplitude_F[:, None] * tone_S
        return sound_FS.reshape(-1)

    def stream(self) -> StreamingDecoder:
        return _ToyStream(self)

    def _encode_one(self, wave_S: np.ndarray) -> np.ndarray:
        frames = self.spec.num_frames(len(wave_S))
        padded = np.zeros(frames * self.spec.frame_samples, np.float32)
        padded[: len(wave_S)] = wave_S
        power = np.abs(np.fft.rfft(padded.reshape(frames, self.spec.frame_samples).astype(np.float64))) ** 2
        bands = zip(self._edges[:-1], self._edges[1:], strict=True)
        power_KF = np.stack([power[:, low:high].sum(1) for low, high in bands])
        amplitude_KF = 2 / self.spec.frame_samples * np.sqrt(power_KF) * self.spec.num_codebooks
        level_db = 20 * np.log10(np.maximum(amplitude_KF, 1e-9))
        steps = (self.spec.codebook_size - 2) * (1 - level_db / _QUIETEST_DB)
        return (np.rint(steps) + 1).clip(0, self.spec.codebook_size - 1).astype(np.uint16)


class _ToyStream(StreamingDecoder):
    def __init__(self, codec: ToyCodec) -> None:
        self._codec = codec

    def push(self, codes_KF: np.ndarray) -> np.ndarray:
        # Frames are independent, so there is nothing to remember.
        return self._codec.decode(codes_KF)
