"""The melody codebook: a frame's pitch as one of a fixed set of contours, found by listening for all of them at once.

An entry is a height and a slope of log pitch. The code of a frame is the contour under which the sound repeats itself
best: autocorrelations of the frame's windows, read off along every contour and summed. Searching among whole contours
makes octave errors rare, and nothing is learnt, so voices unlike those in training are followed as well as others.
"""

import math

import torch
from torch import Tensor, nn

from sodakit.codec import spectra
from sodakit.errors import ConfigError

LOWEST_HZ, HIGHEST_HZ = 60.0, 500.0
_SLOPES_OCTAVES = (-0.5, -0.22, -0.1, -0.03, 0.03, 0.1, 0.22, 0.5)
"""Octaves from the beginning of a frame to its end."""
_HIGHEST_HARMONIC_HZ = 2000.0
"""Above it the autocorrelation is too sharp: a contour a little off would look worse than one an octave below."""
_VOICED = 0.4
"""Mean autocorrelation along the best contour from which a frame counts as voiced."""
_OCTAVE_COST = 0.02
"""For each octave down: a sound that repeats every 5 ms also repeats every 10."""
_JUMP_COST = 0.015
"""For each octave between the end of the last frame and the beginning of this one, if both are voiced.

Less than an octave costs: were it more, a voice once heard an octave low would stay there.
"""
_START_HZ = 140.0


class Melody(nn.Module):
    """All contours of a codebook of `size`, for frames of `hops` hops of `hop_samples`. Nothing in it is learnt."""

    contours_NT: Tensor

    def __init__(
        self, size: int, hops: int, hop_samples: int, window_samples: int, sample_rate_hz: int
    ) -> None:
        super().__init__()
        if size % len(_SLOPES_OCTAVES) or size < 2 * len(_SLOPES_OCTAVES):
            raise ConfigError(
                f"codebook_size={size}; a melody needs a multiple of {len(_SLOPES_OCTAVES)}, at least twice that."
            )
        self.hops, self.hop_samples = hops, hop_samples
        self.window_samples, self.sample_rate_hz = window_samples, sample_rate_hz
        self.register_buffer("contours_NT", _contours(size, hops), persistent=False)

    def log_pitch(self, codes_BF: Tensor) -> Tensor:
        """log2 of the pitch over 100 Hz at each hop, (B, F * hops) float64."""
        return self.contours_NT[codes_BF].flatten(1)

    def resting(self, batch: int, frames: int) -> Tensor:
        """The codes_BF that stand in where only the semantic codes are there: an even, middling pitch."""
        middle_N = (self.contours_NT - math.log2(_START_HZ / 100)).abs().sum(1)
        return middle_N.argmin().expand(batch, frames)

    def encode(self, wave_BS: Tensor, past_B2: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The codes_BF of whole frames plus a window, and what the next call needs of the past.

        Hop t of a frame is judged by the window that starts a hop later, as the decoder's sound of hop t is centred there.

        Args:
            past_B2: log pitch at the end of the last voiced frame, and 1 if the last frame was voiced.
        """
        scores_BFN, strength_BFN = self._scores(wave_BS)
        begins_N, ends_N = self.contours_NT[:, 0].float(), self.contours_NT[:, -1].float()
        slope_N = (ends_N - begins_N).abs()
        if past_B2 is None:
            past_B2 = wave_BS.new_tensor([math.log2(_START_HZ / 100), 0.0]).expand(len(wave_BS), 2)
        last_B, going_on_B = past_B2.unbind(1)
        codes = []
        for scores_BN, strength_BN in zip(scores_BFN.unbind(1), strength_BFN.unbind(1), strict=True):
            jump_BN = (begins_N - last_B[:, None]).abs()
            heard_B = (scores_BN - _JUMP_COST * going_on_B[:, None] * jump_BN).argmax(1)
            # Where nothing is voiced the melody stays where it was: a code that means nothing should not wander.
            rest_B = (jump_BN + slope_N).argmin(1)
            voiced_B = strength_BN.gather(1, heard_B[:, None])[:, 0] > _VOICED
            codes.append(torch.where(voiced_B, heard_B, rest_B))
            last_B = torch.where(voiced_B, ends_N[heard_B], last_B)
            going_on_B = voiced_B.float()
        return torch.stack(codes, 1), torch.stack([last_B, going_on_B], 1)

    def _scores(self, wave_BS: Tensor) -> tuple[Tensor, Tensor]:
        """Preference and mean autocorrelation of every contour in every frame, (B, F, size) each."""
        frames = wave_BS[:, self.hop_samples :].unfold(1, self.window_samples, self.hop_samples)
        normal_BTL, loud_BT = _autocorrelation(frames, self.sample_rate_hz)
        count = frames.shape[1] // self.hops
        weights = loud_BT[:, : count * self.hops].unflatten(1, (count, self.hops))
        weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-6)
        lags_TN = (self.sample_rate_hz / (100 * 2**self.contours_NT.T)).float()
        low_TN = lags_TN.long()
        part_TN = lags_TN - low_TN
        along = normal_BTL[:, : count * self.hops].unflatten(1, (count, self.hops))
        total = along.new_zeros(*along.shape[:2], len(self.contours_NT))
        for t in range(self.hops):
            at_BFL = along[:, :, t]
            value_BFN = torch.lerp(at_BFL[..., low_TN[t]], at_BFL[..., low_TN[t] + 1], part_TN[t])
            total = total + weights[:, :, t, None] * value_BFN
        return total + _OCTAVE_COST * self.contours_NT.mean(1).float(), total


def _contours(size: int, hops: int) -> Tensor:
    """log2 of the pitch over 100 Hz of every entry at every hop, float64; slopes vary fastest."""
    slopes = torch.tensor(_SLOPES_OCTAVES, dtype=torch.float64)
    low, high = math.log2(LOWEST_HZ / 100), math.log2(HIGHEST_HZ / 100)
    heights = torch.linspace(low, high, size // len(slopes), dtype=torch.float64)
    place = (torch.arange(hops, dtype=torch.float64) + 0.5) / hops - 0.5
    return (heights[:, None, None] + slopes[:, None] * place).flatten(0, 1).clamp(low, high)


def _autocorrelation(frames_BTW: Tensor, sample_rate_hz: int) -> tuple[Tensor, Tensor]:
    """Autocorrelation of each window over that of a steady tone, lags in samples up to the longest period, and loudness.

    Source: Boersma 1993, "Accurate short-term analysis of the fundamental frequency".
    """
    length = frames_BTW.shape[-1]
    size = 2 ** math.ceil(math.log2(2 * length))
    bins_hz = torch.linspace(0, sample_rate_hz / 2, size // 2 + 1, device=frames_BTW.device)
    keep = (bins_hz < _HIGHEST_HARMONIC_HZ).float()
    longest = math.ceil(sample_rate_hz / LOWEST_HZ) + 2
    window = spectra.hann(length).to(frames_BTW.device)

    def correlation(x: Tensor) -> Tensor:
        power = torch.fft.rfft(x, n=size).abs().square() * keep
        return torch.fft.irfft(power, n=size)[..., :longest]

    centred = frames_BTW - frames_BTW.mean(-1, keepdim=True)
    ours, its = correlation(centred * window), correlation(window)
    energy = ours[..., :1]
    # Of faint sounds, which rounding noise would make look voiced, nothing is claimed: the floor is -60 dB.
    normal = ours / (energy + 1e-6 * length * window.square().mean()) / (its / its[0]).clamp_min(0.05)
    return normal, energy[..., 0].clamp_min(0).sqrt()
