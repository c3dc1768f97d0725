"""Sounds as files that are joined, cut off, or say wrong things of themselves."""

import io
import struct

import numpy as np
import soundfile


def speechlike(duration_s: float = 2.0, rate_hz: int = 16_000, seed: int = 0) -> np.ndarray:
    """float32 samples_S that rise from near silence, so that the first frames are small."""
    random = np.random.default_rng(seed)
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    sound_S = 0.1 * np.sin(2 * np.pi * 220 * time_s) + 0.05 * random.standard_normal(len(time_s))
    return (sound_S * np.linspace(0.001, 1, len(time_s))).astype(np.float32)


def encoded(
    samples: np.ndarray, kind: str, subtype: str | None = None, rate_hz: int = 16_000, **settings
) -> bytes:
    """The samples (S) or (S, C) as a file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, subtype, format=kind, **settings)
    return buffer.getvalue()


def vbr_mp3(duration_s: float = 2.0, rate_hz: int = 16_000) -> bytes:
    """An mp3 of variable rate, with its Info frame."""
    return encoded(speechlike(duration_s, rate_hz), "MP3", "MPEG_LAYER_III", rate_hz, bitrate_mode="VARIABLE")


def without_info(mp3: bytes) -> bytes:
    """The mp3 without its first frame, which says how many follow."""
    at = mp3.index(b"\xff\xf3")
    (head,) = struct.unpack(">I", mp3[at : at + 4])
    kbits = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)[head >> 12 & 15]
    rate_hz = (22_050, 24_000, 16_000)[head >> 10 & 3]
    return mp3[at + 72 * kbits * 1000 // rate_hz + (head >> 9 & 1) :]
