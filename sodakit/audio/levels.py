"""How loud a sound is, and when it is none: every place that speaks of levels or of silence asks here."""

import numpy as np

from sodakit.audio.wave import Wave
from sodakit.errors import AudioError

FRAME_S = 0.02
"""Levels are those of frames this long, where nothing else is said."""
QUIETEST_DB = -100.0
"""What is quieter counts as this."""
SILENT_DB = -50.0
"""A sound whose loudest frame is under this, of full scale, is silent to a listener."""
PAUSE_DB = -40.0
"""A frame this far under the loudest one of its sound is a pause."""
STILL_PEAK = 1e-4
"""-80 dBFS: a sound whose samples are all nearer to their mean holds nothing."""

LOUDEST = 100.0
"""Full scale is 1. Samples beyond this, 40 dB above it, are no sound: integers read as floats, or damage."""


def check_samples(samples: np.ndarray, name: str) -> None:
    """Raise unless all samples are numbers that a sound can have.

    Raises:
        AudioError: NaN, infinite, or beyond `LOUDEST`.
    """
    if not np.isfinite(samples).all():
        raise AudioError(f"{name} holds NaN or infinite samples.")
    if peak(samples) > LOUDEST:
        raise AudioError(
            f"{name} holds samples of {peak(samples):.3g}; full scale is 1, and at most {LOUDEST:g} is taken for sound. "
            "Were integers written as floats? Scale it, or leave it out."
        )


def rms(samples_S: np.ndarray) -> float:
    """The root of the mean square; 0 of no samples."""
    return float(np.sqrt(np.mean(np.square(samples_S, dtype=np.float64)))) if len(samples_S) else 0.0


def peak(samples_S: np.ndarray) -> float:
    """The largest absolute sample; 0 of no samples."""
    return float(np.abs(samples_S).max(initial=0.0))


def decibels(amplitude: float) -> float:
    """An amplitude in dB of full scale, at least `QUIETEST_DB`."""
    return max(QUIETEST_DB, 20 * float(np.log10(max(amplitude, 1e-30))))


def frame_powers(wave: Wave, frame_s: float = FRAME_S) -> np.ndarray:
    """Mean square of each `frame_s` as float64 power_F; the last frame may be filled with silence."""
    size = max(1, round(frame_s * wave.sample_rate_hz))
    padded_S = np.pad(wave.samples_S, (0, -len(wave.samples_S) % size))
    return np.mean(np.square(padded_S.reshape(-1, size), dtype=np.float64), axis=1)


def is_silent(wave: Wave, silent_db: float = SILENT_DB) -> bool:
    """Whether no frame is as loud as `silent_db` of full scale; no samples are silent."""
    power_F = frame_powers(wave)
    return float(power_F.max(initial=0.0)) < 10 ** (silent_db / 10)


def silence_share(wave: Wave, below_loudest_db: float = PAUSE_DB) -> float:
    """Share of frames further than `below_loudest_db` under the loudest one; 1 of a sound without any."""
    power_F = frame_powers(wave)
    loudest = float(power_F.max(initial=0.0))
    return 1.0 if loudest <= 0 else float((power_F < loudest * 10 ** (below_loudest_db / 10)).mean())


def moving_peak(samples_S: np.ndarray) -> float:
    """The largest absolute sample without the constant offset."""
    return peak(samples_S - samples_S.mean(dtype=np.float64)) if len(samples_S) else 0.0
