"""What a recording goes through before somebody encodes it: lost bands, lossy formats, noise, another level.

Codebook 0 learns to say the same of a damaged sound as of the whole one. The other codebooks copy what they hear.
"""

import math

import numpy as np

TELEPHONE_HZ = (300.0, 3400.0)
LEVELS_DB = (-14.0, 6.0)
_WINDOW = 512


def damaged(wave_S: np.ndarray, sample_rate_hz: int, random: np.random.Generator) -> np.ndarray:
    """float32 (S,), as long as it was: without the upper bands, through a telephone, a lossy format or noise, at another
    level; now and then two of them."""
    kinds = random.permutation(5)[: 1 + int(random.random() < 0.25)]
    for kind in kinds:
        if kind == 0:
            wave_S = band(
                wave_S, sample_rate_hz, 0.0, math.exp(random.uniform(math.log(3000), math.log(11_000)))
            )
        elif kind == 1:
            wave_S = band(wave_S, sample_rate_hz, *TELEPHONE_HZ)
        elif kind == 2:
            wave_S = coarse(wave_S, random.uniform(4, 14))
        elif kind == 3:
            wave_S = wave_S * 10 ** (random.uniform(*LEVELS_DB) / 20)
        else:
            wave_S = noisy(wave_S, random.uniform(12, 40), random)
    return wave_S.astype(np.float32)


def band(wave_S: np.ndarray, sample_rate_hz: int, low_hz: float, high_hz: float) -> np.ndarray:
    """The samples (S,) of what lies between two frequencies (Hz), with edges of a tenth of an octave, and no delay."""
    spectrum = np.fft.rfft(wave_S)
    hz = np.fft.rfftfreq(len(wave_S), 1 / sample_rate_hz)
    keep = 1 / (1 + (hz / high_hz) ** 40)
    if low_hz > 0:
        keep = keep / (1 + (low_hz / np.maximum(hz, 1e-3)) ** 40)
    return np.fft.irfft(spectrum * keep, len(wave_S))


def coarse(wave_S: np.ndarray, signal_to_noise_db: float) -> np.ndarray:
    """The samples (S,) with spectra rounded band by band, as lossy formats do: what is far below its band is lost.

    A band's step leaves an error of about `signal_to_noise_db` below its level where the band is kept.
    """
    hop = _WINDOW // 2
    window = np.sin(np.pi * (np.arange(_WINDOW) + 0.5) / _WINDOW)
    padded = np.pad(wave_S, (hop, _WINDOW + hop))
    count = 1 + (len(padded) - _WINDOW) // hop
    frames_TW = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::hop][:count] * window
    spectra_TF = np.fft.rfft(frames_TW)
    edges = np.unique(np.round(np.geomspace(4, spectra_TF.shape[1], 20)).astype(int))
    for first, end in zip([0, *edges[:-1]], edges, strict=True):
        part_TF = spectra_TF[:, first:end]
        level_T1 = np.sqrt(np.mean(np.abs(part_TF) ** 2, axis=1, keepdims=True)) + 1e-9
        # An error of step^2 / 12 in each half of a number; a windowed frame has half the power of the sound.
        step_T1 = level_T1 * 10 ** (-signal_to_noise_db / 20) * math.sqrt(12)
        spectra_TF[:, first:end] = (
            np.round(part_TF.real / step_T1) + 1j * np.round(part_TF.imag / step_T1)
        ) * step_T1
    out = np.zeros(len(padded))
    for number, frame_W in enumerate(np.fft.irfft(spectra_TF, _WINDOW) * window):
        out[number * hop : number * hop + _WINDOW] += frame_W
    return out[hop : hop + len(wave_S)]


def noisy(wave_S: np.ndarray, signal_to_noise_db: float, random: np.random.Generator) -> np.ndarray:
    """The samples (S,) with white noise so far (dB) below the level of the whole."""
    level = math.sqrt(float(np.mean(np.square(wave_S, dtype=np.float64)))) * 10 ** (-signal_to_noise_db / 20)
    return wave_S + level * random.standard_normal(len(wave_S))
