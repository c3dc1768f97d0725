"""Spectra: the mel filters and windows that the codec, its losses and its measurements share."""

import math
from functools import cache

import torch
from torch import Tensor


@cache
def mel_filters(sample_rate_hz: int, window_samples: int, num_mels: int) -> Tensor:
    """Triangular filters from power-spectrum bins to mel bands: (window // 2 + 1, num_mels), each band summing to 1.

    HTK's mel scale, from 0 Hz to half the rate. A band narrower than a bin takes its nearest bin.
    """
    num_bins = window_samples // 2 + 1
    bins_hz = torch.linspace(0, sample_rate_hz / 2, num_bins, dtype=torch.float64)
    top_mel = 2595 * math.log10(1 + sample_rate_hz / 2 / 700)
    edges_hz = 700 * (10 ** (torch.linspace(0, top_mel, num_mels + 2, dtype=torch.float64) / 2595) - 1)
    low_hz, centre_hz, high_hz = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rising = (bins_hz[:, None] - low_hz) / (centre_hz - low_hz)
    falling = (high_hz - bins_hz[:, None]) / (high_hz - centre_hz)
    filters = torch.minimum(rising, falling).clamp_min(0)
    empty = filters.sum(0) == 0
    nearest = (bins_hz[:, None] - centre_hz).abs().argmin(0)
    filters[nearest[empty], torch.nonzero(empty)[:, 0]] = 1
    return (filters / filters.sum(0)).float()


@cache
def hann(window_samples: int) -> Tensor:
    """The periodic Hann window."""
    return torch.hann_window(window_samples)


def magnitudes(wave_BS: Tensor, window_samples: int, hop_samples: int) -> Tensor:
    """STFT magnitudes (B, frames, window // 2 + 1) of the windows that lie wholly inside the sound."""
    window = hann(window_samples).to(wave_BS.device)
    frames = wave_BS.unfold(-1, window_samples, hop_samples) * window
    spectrum = torch.fft.rfft(frames)
    # Not abs(), whose gradient at 0 is undefined: digital silence is common.
    return (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt()


def log_mel(magnitudes_BTW: Tensor, sample_rate_hz: int, num_mels: int, floor: float = 1e-4) -> Tensor:
    """Natural log of the mel-band magnitudes (B, frames, num_mels)."""
    filters = mel_filters(sample_rate_hz, 2 * (magnitudes_BTW.shape[-1] - 1), num_mels)
    return (magnitudes_BTW @ filters.to(magnitudes_BTW.device)).clamp_min(floor).log()
