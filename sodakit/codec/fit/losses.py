"""How far a decoded sound is from the original, as the trainer counts it."""

from collections.abc import Sequence

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
