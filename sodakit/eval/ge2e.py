"""A small speaker encoder: the GE2E network (Wan et al. 2018) that Resemblyzer's `pretrained.pt` holds.

Three LSTM layers over windows of 1.6 s of mels; a voice is the mean of its windows. Resemblyzer also cuts long pauses with
WebRTC's detector, which is not done here: numbers are near its own, and not the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sodakit.audio.files import resample
from sodakit.audio.levels import rms
from sodakit.audio.wave import Wave
from sodakit.errors import CheckpointError, first_line
from sodakit.eval.mels import RATE_HZ, power_mels
from sodakit.files import digest, file_sha256, refuse_odd
from sodakit.pretrained import shown_name
from sodakit.tensors import broken_weight

FILE = "pretrained.pt"
NUM_MELS, WIDTH, LAYERS = 40, 256, 3
WINDOW_FRAMES, STEP_FRAMES = 160, 77
"""Frames of 10 ms: windows of 1.6 s, 1.3 a second."""
HOP_SAMPLES = RATE_HZ // 100
QUIET_DB = -30.0
"""A quieter sound is made as loud as this, RMS relative to full scale."""
LEAST_COVERAGE = 0.75
"""A last window with less sound is left out."""


class Ge2eEncoder(nn.Module):
    """Windows of mels to vectors of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(NUM_MELS, WIDTH, LAYERS, batch_first=True)
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, mels_BFM: Tensor) -> Tensor:
        """The vectors, (windows, WIDTH): none of their numbers is negative."""
        _, (hidden_LBD, _) = self.lstm(mels_BFM)
        return nn.functional.normalize(torch.relu(self.linear(hidden_LBD[-1])), dim=1)


@dataclass(frozen=True, eq=False)
class Ge2eSpeaker:
    """A speaker judge by GE2E."""

    path: Path
    encoder: Ge2eEncoder

    @classmethod
    def load(cls, path: Path | str, device: str = "cpu") -> "Ge2eSpeaker":
        """The encoder in a `.pt` file, or in a folder with `pretrained.pt`. Only numbers are read of it, no code.

        Raises:
            CheckpointError: missing, damaged, or of another network.
        """
        path = Path(path)
        path = path / FILE if path.is_dir() else path
        encoder = Ge2eEncoder()
        try:
            refuse_odd(path)
            found = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
            weights = {name: found[name] for name in encoder.state_dict()}
            encoder.load_state_dict(weights)
            if broken := broken_weight(weights):
                raise ValueError(broken)
        except Exception as error:  # torch.load raises whatever a damaged pickle makes it
            raise CheckpointError(
                f"{path} is no GE2E speaker encoder ({first_line(error)}). "
                "Needed: pretrained.pt as the package Resemblyzer brings it."
            ) from error
        return cls(path, encoder.eval().to(device))

    @property
    def name(self) -> str:
        """For example `GE2E speakers@0a1b2c3d4e5f`."""
        return f"GE2E {shown_name(str(self.path.parent), self.fingerprint)}"

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the weights, and of how they are used."""
        return digest("ge2e 1", file_sha256(self.path))

    def embed(self, waves: Sequence[Wave]) -> np.ndarray:
        """One vector of length 1 for each sound, as rows: float64; one by one, so neighbours do not matter."""
        return np.stack([self._embed(resample(wave, RATE_HZ).samples_S) for wave in waves])

    @torch.inference_mode()
    def _embed(self, samples_S: np.ndarray) -> np.ndarray:
        device = next(self.encoder.parameters()).device
        vectors_ND = self.encoder(torch.from_numpy(mel_windows(_loud(samples_S))).to(device))
        mean_D = vectors_ND.double().mean(dim=0).cpu().numpy()
        return mean_D / max(float(np.linalg.norm(mean_D)), 1e-12)


def mel_windows(samples_S: np.ndarray) -> np.ndarray:
    """float32 (windows, WINDOW_FRAMES, NUM_MELS): silence fills the last one."""
    num_frames = -(-(len(samples_S) + 1) // HOP_SAMPLES)
    starts = list(range(0, max(1, num_frames - WINDOW_FRAMES + STEP_FRAMES + 1), STEP_FRAMES))
    window_samples = WINDOW_FRAMES * HOP_SAMPLES
    covered = (len(samples_S) - starts[-1] * HOP_SAMPLES) / window_samples
    if covered < LEAST_COVERAGE and len(starts) > 1:
        starts.pop()
    needed = starts[-1] * HOP_SAMPLES + window_samples
    padded_S = np.pad(samples_S, (0, max(0, needed - len(samples_S))))
    mels_FM = power_mels(padded_S, fft_samples=RATE_HZ // 40, hop_samples=HOP_SAMPLES, num_mels=NUM_MELS)
    return np.stack([mels_FM[start : start + WINDOW_FRAMES] for start in starts])


def _loud(samples_S: np.ndarray) -> np.ndarray:
    level = rms(samples_S)
    gain = 10 ** (QUIET_DB / 20) / level if level > 0 else 1.0
    return samples_S * np.float32(max(1.0, gain))
