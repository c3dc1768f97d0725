"""What a sound is like before anybody listens: how much of its band is used, how far it stands above its noise."""

import numpy as np

from sodakit.audio.levels import FRAME_S, QUIETEST_DB, frame_powers
from sodakit.audio.wave import Wave

CLIPPED = 0.999
"""A sample at this share of full scale or above counts as clipped."""

MOST_SNR_DB = 100.0
"""What is said of a sound without any noise."""

_BAND_FLOOR_DB = -60.0
"""Under the loudest part of its spectrum; what is fainter is no part of the band."""
_SPECTRUM_S = 0.032
_SMOOTH_HZ = 200.0
_LOUD_SHARE, _NOISE_SHARE = 0.95, 0.10
"""Quantiles of the frames: what is heard of a band, and of noise between words."""
_ABSENT_DB = -90.0
"""A fainter frame is silence that somebody wrote, and tells nothing of the noise of a recording."""


def clipped_fraction(samples_S: np.ndarray) -> float:
    """Share of samples at full scale; 0 of no samples."""
    return float(np.mean(np.abs(samples_S) >= CLIPPED)) if len(samples_S) else 0.0


def bandwidth_hz(wave: Wave) -> float:
    """The highest frequency at which the sound is within 60 dB of its loudest; 0 of silence.

    Speech over a telephone is at 3,400 however many samples a second it is written with. Sibilants are short, so each
    frequency counts as loud as its loudest twentieth of the frames.
    """
    size = max(16, round(_SPECTRUM_S * wave.sample_rate_hz))
    samples_S = np.pad(wave.samples_S, (0, max(0, size - len(wave.samples_S))))
    frames_FS = np.lib.stride_tricks.sliding_window_view(samples_S, size)[:: size // 2]
    power_FC = np.abs(np.fft.rfft(frames_FS * np.hanning(size), axis=1)) ** 2
    heard_C = np.quantile(power_FC, _LOUD_SHARE, axis=0)
    width = max(1, round(_SMOOTH_HZ * size / wave.sample_rate_hz))
    smooth_C = np.convolve(heard_C, np.ones(width) / width, mode="same")
    loudest = float(smooth_C.max())
    if loudest <= 0:
        return 0.0
    inside = np.flatnonzero(smooth_C >= loudest * 10 ** (_BAND_FLOOR_DB / 10))
    # Smoothing widens a band by half its width.
    last = max(0, int(inside[-1]) - width // 2) if inside[-1] < len(smooth_C) - 1 else inside[-1]
    return float(last * wave.sample_rate_hz / size)


def signal_to_noise_db(wave: Wave) -> float:
    """How far loud frames stand above quiet ones, in dB: the estimate of one who has only the mixture.

    The quietest tenth of the frames is the noise, the loudest twentieth noise and speech. Reverberation and music fill the
    pauses, and count as noise too.
    """
    power_F = frame_powers(wave, FRAME_S)[: max(1, int(wave.duration_s / FRAME_S))]
    present_F = power_F[power_F > 10 ** (_ABSENT_DB / 10)]
    if not len(present_F):
        return 0.0
    loud, noise = np.quantile(present_F, _LOUD_SHARE), np.quantile(present_F, _NOISE_SHARE)
    signal = max(float(loud - noise), 10 ** (QUIETEST_DB / 10))
    return float(min(MOST_SNR_DB, 10 * np.log10(signal / float(noise))))
