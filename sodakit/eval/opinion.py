"""Judges of how good a sound is, by ear: networks that foretell the mean opinion of listeners, 1 (bad) to 5 (excellent).

`DnsMos` is DNSMOS P.835 (Reddy et al. 2022) with P.808 beside it, from a folder with its two networks:

    FOLDER/sig_bak_ovr.onnx    overall quality, speech, background, of 9 s of 16 kHz sound
    FOLDER/model_v8.onnx       P.808 overall quality, of the mel spectrogram of the same
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.errors import ConfigError
from sodakit.eval.mels import power_mels
from sodakit.files import digest, file_sha256
from sodakit.pretrained import shown_name
from sodakit.voices.onnx_session import Network, open_network

WORST = 1.0
"""Of the scale: what an output that failed counts."""

_RATE_HZ = 16_000
_WINDOW_S = 9.01
_PURPOSE = "DNSMOS"
_NETWORKS = ("sig_bak_ovr.onnx", "model_v8.onnx")

# From the raw numbers of the network to the scale, highest power first (DNSMOS, not personalised).
_SIGNAL = (-0.08397278, 1.22083953, 0.0052439)
_BACKGROUND = (-0.13166888, 1.60915514, -0.39604546)
_OVERALL = (-0.06766283, 1.11546468, 0.04602535)


class OpinionJudge(Protocol):
    """Whatever foretells opinions."""

    @property
    def name(self) -> str:
        """What a table calls it."""

    @property
    def fingerprint(self) -> str:
        """Digest of everything its numbers depend on."""

    def rate(self, waves: Sequence[Wave]) -> list[Mapping[str, float]]:
        """For each sound the numbers by column: `mos_ovrl` first, and others of the same scale."""


@dataclass(frozen=True, eq=False)
class DnsMos:
    """Columns `mos_ovrl`, `mos_sig`, `mos_bak` (P.835) and `mos_p808`; means over windows a second apart."""

    folder: Path
    primary: Network
    p808: Network

    @classmethod
    def load(cls, folder: Path | str) -> "DnsMos":
        """The networks of a folder.

        Raises:
            ConfigError: it lacks one.
            MissingExtra: the package onnxruntime is not installed.
        """
        folder = Path(folder)
        missing = [name for name in _NETWORKS if not (folder / name).is_file()]
        if missing:
            raise ConfigError(
                f"{folder} has no {' and no '.join(missing)}. Needed: the folder of DNSMOS with {' and '.join(_NETWORKS)}; "
                "the package speechmos brings them."
            )
        return cls(folder, *(open_network(folder / name, _PURPOSE) for name in _NETWORKS))

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens the networks anew."""
        return DnsMos.load, (self.folder,)

    @property
    def name(self) -> str:
        """For example `DNSMOS dnsmos@0a1b2c3d4e5f`."""
        return f"DNSMOS {shown_name(str(self.folder), self.fingerprint)}"

    @cached_property
    def fingerprint(self) -> str:
        """Digest of both networks, and of how they are used."""
        return digest("dnsmos 1", *(file_sha256(self.folder / name) for name in _NETWORKS))

    def rate(self, waves: Sequence[Wave]) -> list[Mapping[str, float]]:
        """The four numbers of each sound; one by one, so neighbours do not matter."""
        return [self._rate(resample(wave, _RATE_HZ).samples_S) for wave in waves]

    def _rate(self, samples_S: np.ndarray) -> dict[str, float]:
        rows_NC = np.stack([self._window(window_S) for window_S in windows(np.clip(samples_S, -1, 1))])
        columns = ("mos_ovrl", "mos_sig", "mos_bak", "mos_p808")
        return dict(zip(columns, rows_NC.mean(axis=0).tolist(), strict=True))

    def _window(self, window_S: np.ndarray) -> np.ndarray:
        signal, background, overall = _numbers(self.primary, window_S, 3)
        (p808,) = _numbers(self.p808, _spectrogram(window_S[:-160]), 1)
        return np.array(
            [
                np.polyval(_OVERALL, overall),
                np.polyval(_SIGNAL, signal),
                np.polyval(_BACKGROUND, background),
                p808,
            ]
        )


def _numbers(network: Network, input_X: np.ndarray, count: int) -> np.ndarray:
    found = network.run({"input_1": input_X[None]}).reshape(-1)
    if len(found) != count or not np.isfinite(found).all():
        raise ConfigError(
            f"{network.path} says {found[:4]!r:.60}; needed of DNSMOS: {count} finite numbers. Copy it again."
        )
    return found


def windows(samples_S: np.ndarray) -> list[np.ndarray]:
    """Nine seconds at a time, a second apart; a shorter sound is doubled until it fills one, as DNSMOS does.

    Raises:
        ConfigError: no sound at all.
    """
    if not len(samples_S):
        raise ConfigError("A sound of 0 samples has no quality; needed: sound.")
    length = int(_WINDOW_S * _RATE_HZ)
    while len(samples_S) < length:
        samples_S = np.concatenate([samples_S, samples_S])
    count = int(np.floor(len(samples_S) / _RATE_HZ) - _WINDOW_S) + 1
    starts = (n * _RATE_HZ for n in range(count))
    found = [samples_S[start : start + length].astype(np.float32) for start in starts]
    return [window_S for window_S in found if len(window_S) == length]


def _spectrogram(window_S: np.ndarray) -> np.ndarray:
    """float32 (frames, 120): decibels below the loudest, 80 at most, from -1 to 1."""
    mels_FM = power_mels(window_S, fft_samples=321, hop_samples=160, num_mels=120)
    db_FM = 10 * np.log10(np.maximum(mels_FM, 1e-10))
    db_FM -= db_FM.max()
    return ((np.maximum(db_FM, db_FM.max() - 80) + 40) / 40).astype(np.float32)
