"""How far a decoded sound is from the original, as the trainer counts it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sodakit.codec import spectra

# (window, mel bands): long windows resolve harmonics, short ones onsets. Hops are a quarter window.
RESOLUTIONS = ((2048, 120), (1024, 100), (480, 64), (240, 40))


def spectral_distances(
    decoded_BS: Tensor,
    original_BS: Tensor,
    sample_rate_hz: int,
    resolutions: Sequence[tuple[int, int]] = RESOLUTIONS,
) -> tuple[Tensor, Tensor]:
    """Mean absolute log-mel and log-magnitude distances, averaged over resolutions.

    Magnitudes only: at a kilobit a second the phase of the original is not in the codes.

    Args:
        resolutions: those to measure; a training step takes some of them, in turn.
    """
    mel, stft = decoded_BS.new_zeros(()), decoded_BS.new_zeros(())
    for window, num_mels in resolutions:
        ours = spectra.magnitudes(decoded_BS, window, window // 4)
        theirs = spectra.magnitudes(original_BS, window, window // 4)
        # Floors (about -70 dB) keep the inaudible from outweighing the audible.
        our_mel, their_mel = (spectra.log_mel(m, sample_rate_hz, num_mels, 5e-3) for m in (ours, theirs))
        mel = mel + (our_mel - their_mel).abs().mean()
        stft = stft + (ours.add(0.02).log() - theirs.add(0.02).log()).abs().mean()
    return mel / len(resolutions), stft / len(resolutions)


def envelope_mismatch(decoded_BS: Tensor, original_BS: Tensor, sample_rate_hz: int) -> Tensor:
    """1 minus the mean correlation of third-octave envelopes over pieces of 375 ms, where the original speaks.

    Nearly 1 - STOI: with it in training, STOI is no independent judge. It hears what log spectra hardly count, loud
    syllables against their pauses, and costs a fraction of them.
    """
    window, hop = sample_rate_hz // 40, sample_rate_hz // 80
    bands = _third_octaves(window + 1, sample_rate_hz).to(decoded_BS.device)
    ours, theirs = (
        # Twice the window: 20 Hz a bin, as the lowest bands are 35 Hz wide.
        torch.fft.rfft(
            wave_BS.unfold(-1, window, hop) * spectra.hann(window).to(wave_BS.device), n=2 * window
        )
        .abs()
        .square()
        @ bands
        for wave_BS in (decoded_BS, original_BS)
    )
    ours, theirs = ((power_BTN + 1e-6).sqrt().unfold(1, 30, 5) for power_BTN in (ours, theirs))
    loud_BT = theirs.square().sum((2, 3)).sqrt()
    weight_BT = (loud_BT > 0.03 * loud_BT.amax(1, keepdim=True)).float()
    ours, theirs = (x - x.mean(-1, keepdim=True) for x in (ours, theirs))
    agreement = (ours * theirs).sum(-1) / (ours.norm(dim=-1) * theirs.norm(dim=-1)).clamp_min(1e-4)
    return 1 - (agreement.mean(2) * weight_BT).sum() / weight_BT.sum()


def _third_octaves(bins: int, sample_rate_hz: int) -> Tensor:
    """Which bins belong to which of 15 bands from 150 Hz up, (bins, 15)."""
    centres_hz = 150 * 2 ** (torch.arange(15) / 3)
    bins_hz = torch.linspace(0, sample_rate_hz / 2, bins)[:, None]
    return ((bins_hz >= centres_hz * 2 ** (-1 / 6)) & (bins_hz < centres_hz * 2 ** (1 / 6))).float()
