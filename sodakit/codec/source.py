"""Sound from pitch and two envelopes: pulses and noise, each through a filter that changes every hop.

Why not predict magnitudes and phases, as Vocos does: without an adversary to teach it phases, minutes of training on
a CPU give hoarse harmonics. Here phase follows from pitch, and the network learns envelopes, which it does quickly.
A source-filter model as in arXiv:2001.04643 (DDSP), filtered in the STFT domain.
"""

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from sodakit.codec.blocks import Memory, with_past

_NOISE_HOPS = 499
"""Hops until the noise repeats: 5 s, and prime so that no loop in speech falls in step with it."""


class SourceFilter(nn.Module):
    """Features and a pitch at each hop, to sound.

    Each hop's excitation, faded over two hops, is filtered without delay or advance (zero phase), which spreads it one
    hop to either side: four hops of sound, overlapped and added. What step t releases is complete at step t.
    """

    def __init__(self, width: int, hop_samples: int, sample_rate_hz: int, num_bands: int) -> None:
        super().__init__()
        self.hop_samples, self.sample_rate_hz = hop_samples, sample_rate_hz
        self.norm = nn.LayerNorm(width)
        self.envelopes = nn.Linear(width, 2 * num_bands)
        # The outline counts from log-mel -4, and a source of unit power has log-mel 3; a little less, as there are two.
        nn.init.constant_(self.envelopes.bias, -7.3)
        nn.init.normal_(self.envelopes.weight, std=0.005)
        # Distinct keys for the memory: one layer keeps three kinds of past.
        self.blocks, self.overlap, self.clock = nn.Identity(), nn.Identity(), nn.Identity()
        spread = _spread(sample_rate_hz, 4 * hop_samples, num_bands)
        self.register_buffer("spread", spread, persistent=False)
        self.register_buffer("fade", torch.hann_window(2 * hop_samples), persistent=False)
        self.register_buffer("noise", _noise(_NOISE_HOPS, hop_samples), persistent=False)

    spread: Tensor
    fade: Tensor
    noise: Tensor

    def forward(
        self, x_BTD: Tensor, outline_BTD: Tensor, pitch_hz_BT: Tensor, memory: Memory | None = None
    ) -> Tensor:
        """The sound wave_BS, `S = T * hop_samples`.

        Args:
            x_BTD: features at each hop.
            outline_BTD: log gain of both envelopes at each hop and band, to which the features add.
            pitch_hz_BT: float64, also where nothing is voiced.
        """
        hop, length = self.hop_samples, x_BTD.shape[1]
        envelopes = self.envelopes(self.norm(x_BTD)).unflatten(2, (2, -1)) + outline_BTD[:, :, None]
        gains = (envelopes.float() @ self.spread).clamp(max=5.0).exp()
        excitation = self._excitation(pitch_hz_BT, memory)
        past = with_past(self.blocks, excitation.flatten(2), 1, memory).unflatten(2, (2, hop))
        blocks = torch.cat([past[:, :-1], past[:, 1:]], dim=-1) * self.fade
        spectrum = torch.fft.rfft(nn.functional.pad(blocks, (hop, hop)))
        pieces = torch.fft.irfft((spectrum * gains).sum(2), n=4 * hop)
        overlapping = with_past(self.overlap, pieces, 3, memory).unflatten(2, (4, hop))
        return torch.stack([overlapping[:, 3 - j : 3 - j + length, j] for j in range(4)]).sum(0).flatten(1)

    @torch.no_grad()
    def _excitation(self, pitch_hz_BT: Tensor, memory: Memory | None) -> Tensor:
        """Pulses and noise of unit power, (B, T, 2, hop); the pitch glides from the last hop's to this one's."""
        hop = self.hop_samples
        cycles_BT = pitch_hz_BT.double() / self.sample_rate_hz
        clock = memory.get(self.clock) if memory is not None else None
        if clock is None:
            first = cycles_BT[:, :1]
            clock = torch.cat([torch.zeros_like(first), torch.zeros_like(first), first], dim=1)
        count, phase, last = clock[:, :1], clock[:, 1:2], clock[:, 2:]
        before = torch.cat([last, cycles_BT[:, :-1]], dim=1)
        advance = (before + cycles_BT) * hop / 2
        ends = phase + advance.cumsum(1)
        hops = count + torch.arange(1, cycles_BT.shape[1] + 1, device=cycles_BT.device)
        if memory is not None:
            memory[self.clock] = torch.cat([hops[:, -1:], ends[:, -1:] % 1, cycles_BT[:, -1:]], dim=1)
        step = (torch.arange(hop, device=cycles_BT.device, dtype=torch.float64) + 0.5)[None, None]
        glide = (cycles_BT - before)[..., None] / hop
        inside = (ends - advance)[..., None] + before[..., None] * step + glide * step.square() / 2
        rate = before[..., None] + glide * step
        noise = self.noise[((hops - 1) % _NOISE_HOPS).long()]
        return torch.stack([pulses(inside % 1, rate), noise], dim=2)


def pulses(phase: Tensor, cycles_per_sample: Tensor) -> Tensor:
    """A pulse train of unit power without aliasing: all harmonics below half the rate, in closed form (float32)."""
    harmonics = (0.5 / cycles_per_sample).floor().clamp_min(1).float()
    # Into [-1/2, 1/2), where the only zero of the denominator is at the pulse itself.
    half_angle = (math.pi * (phase - phase.round())).float()
    denominator = half_angle.sin()
    at_pulse = denominator.abs() < 1e-4
    ratio = ((2 * harmonics + 1) * half_angle).sin() / torch.where(at_pulse, 1.0, denominator)
    total = torch.where(at_pulse, harmonics, (ratio - 1) / 2)
    return total / (harmonics / 2).sqrt()


@cache
def _spread(sample_rate_hz: int, window_samples: int, num_bands: int) -> Tensor:
    """Linear interpolation (num_bands, bins) from points evenly spaced in mel to STFT bins."""
    bins = window_samples // 2 + 1
    bins_hz = np.linspace(0, sample_rate_hz / 2, bins)
    points_mel = np.linspace(0, 2595 * math.log10(1 + sample_rate_hz / 2 / 700), num_bands)
    position = np.interp(2595 * np.log10(1 + bins_hz / 700), points_mel, np.arange(num_bands))
    low = np.minimum(position.astype(int), num_bands - 2)
    spread = torch.zeros(num_bands, bins)
    part = torch.from_numpy(position - low).float()
    columns = torch.arange(bins)
    spread[torch.from_numpy(low), columns] = 1 - part
    spread[torch.from_numpy(low + 1), columns] = part
    return spread


@cache
def _noise(hops: int, hop_samples: int) -> Tensor:
    # RandomState's stream is frozen by numpy's policy: the same noise with every version.
    drawn = np.random.RandomState(0).uniform(-1, 1, (hops, hop_samples)) * math.sqrt(3)
    return torch.from_numpy(drawn).float()
