"""Mel power spectrograms as librosa makes them, which judges from elsewhere were trained on."""

from functools import cache

import numpy as np
import torch
from transformers.audio_utils import mel_filter_bank

RATE_HZ = 16_000


def power_mels(samples_S: np.ndarray, *, fft_samples: int, hop_samples: int, num_mels: int) -> np.ndarray:
    """float32 (frames, num_mels) of a sound at 16 kHz: Hann windows centred on each hop, Slaney's triangles.

    Args:
        fft_samples: length of a window.
        hop_samples: from one to the next.
    """
    spectrum_CF = torch.stft(
        torch.from_numpy(np.ascontiguousarray(samples_S, np.float32)),
        fft_samples,
        hop_samples,
        window=torch.hann_window(fft_samples),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    power_FC = spectrum_CF.abs().square().T.numpy()
    return (power_FC @ _filters_CM(fft_samples, num_mels)).astype(np.float32)


@cache
def _filters_CM(fft_samples: int, num_mels: int) -> np.ndarray:
    return mel_filter_bank(
        num_frequency_bins=1 + fft_samples // 2,
        num_mel_filters=num_mels,
        min_frequency=0.0,
        max_frequency=RATE_HZ / 2,
        # It takes the last bin to lie at half this rate; with an odd window it lies a little lower.
        sampling_rate=2 * RATE_HZ * (fft_samples // 2) / fft_samples,  # type: ignore[arg-type]
        norm="slaney",
        mel_scale="slaney",
    ).astype(np.float32)
