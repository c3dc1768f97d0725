"""The pitch of a sound at each hop, by autocorrelation: what the codec's pitch head is taught."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sodakit.audio.files import resample
from sodakit.audio.wave import Wave

LOWEST_HZ, HIGHEST_HZ = 60.0, 500.0
_ANALYSIS_HZ = 8000
_FINER = 2


def track_pitch(wave: Wave, hop_s: float, window_s: float) -> np.ndarray:
    """The pitch in Hz (float32) of each window `[t * hop_s, t * hop_s + window_s)` that starts inside the sound.

    0 where unvoiced. The highest peak of the autocorrelation, divided by that of the window, with a small preference
    for short lags, then a median over five hops against jumps of an octave.
    Source: Boersma 1993, "Accurate short-term analysis of the fundamental frequency"; no path search.
    """
    samples_S = torch.from_numpy(resample(wave, _ANALYSIS_HZ).samples_S)
    hop, window_samples = round(hop_s * _ANALYSIS_HZ), round(window_s * _ANALYSIS_HZ)
    count = -(-len(samples_S) // hop)
    padded = functional.pad(samples_S, (0, max(0, (count - 1) * hop + window_samples - len(samples_S))))
    frames = padded.unfold(0, window_samples, hop)[:count]
    frames = frames - frames.mean(1, keepdim=True)
    pitch_hz, strength = _peaks(frames)
    loud = frames.square().mean(1).sqrt() > 0.004
    voiced = (strength > 0.5) & loud
    return _smooth(torch.where(voiced, pitch_hz, 0.0)).numpy().astype(np.float32)


def _peaks(frames: Tensor) -> tuple[Tensor, Tensor]:
    window = torch.hann_window(frames.shape[1])
    size = 2 * frames.shape[1]
    # Above 2 kHz the autocorrelation is too sharp: a peak between two lags would look lower than one an octave below.
    keep = (torch.linspace(0, _ANALYSIS_HZ / 2, frames.shape[1] + 1) < 2000).float()

    def correlation(x: Tensor) -> Tensor:
        power = torch.fft.rfft(x, n=size).abs().square() * keep
        return torch.fft.irfft(power, n=_FINER * size)[..., : _FINER * frames.shape[1]]

    ours, its = correlation(frames * window), correlation(window)
    normal = (ours / ours[:, :1].clamp_min(1e-9)) / (its / its[0]).clamp_min(0.05)
    lag_hz = _FINER * _ANALYSIS_HZ
    low, high = int(lag_hz / HIGHEST_HZ), int(lag_hz / LOWEST_HZ) + 1
    lags = torch.arange(low, high)
    preference = 0.01 * torch.log2(lags * LOWEST_HZ / lag_hz)
    best = (normal[:, low:high] - preference).argmax(1) + low
    left, peak, right = (normal.gather(1, (best + d)[:, None])[:, 0] for d in (-1, 0, 1))
    curve = left - 2 * peak + right
    shift = torch.where(curve < -1e-9, 0.5 * (left - right) / curve.clamp(max=-1e-9), 0.0).clamp(-0.5, 0.5)
    return lag_hz / (best + shift), peak


def _smooth(pitch_hz_T: Tensor) -> Tensor:
    around = functional.pad(pitch_hz_T[None], (2, 2), mode="replicate")[0] if len(pitch_hz_T) > 2 else None
    return pitch_hz_T if around is None else around.unfold(0, 5, 1).median(1).values
