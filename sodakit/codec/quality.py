"""How good a codec is: how near its sound is to the original, and what its codes carry."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.codec import spectra
from sodakit.codec.pitch import track_pitch

_DB = 20 / math.log(10)


@dataclass(frozen=True)
class SoundDistance:
    """A decoded sound against its original."""

    mel_db: float
    """Mean absolute difference of 80 log-mel bands, in dB; floor at about -60 dB."""
    stoi: float
    """Short-time objective intelligibility, 0 to 1; above about 0.8 speech is easily understood."""
    pitch_semitones: float
    """Median absolute pitch difference where both are voiced; NaN where they never are."""
    voicing: float
    """Fraction of 10 ms hops on which both are voiced or both are not."""


def compare(original: Wave, decoded: Wave) -> SoundDistance:
    """The distances between two sounds of the same rate, over the length of the shorter."""
    length = min(len(original.samples_S), len(decoded.samples_S))
    ours, theirs = (Wave(wave.samples_S[:length], wave.sample_rate_hz) for wave in (decoded, original))
    semitones, voicing = _pitch_distance(theirs, ours)
    return SoundDistance(mel_distance_db(theirs, ours), stoi(theirs, ours), semitones, voicing)


def mel_distance_db(original: Wave, decoded: Wave) -> float:
    """Mean absolute difference of 80 log-mel bands (windows of 1024, hops of 256), in dB."""
    mels = []
    for wave in (original, decoded):
        magnitude = spectra.magnitudes(torch.from_numpy(wave.samples_S)[None], 1024, 256)
        mels.append(spectra.log_mel(magnitude, wave.sample_rate_hz, 80, floor=0.02))
    return _DB * float((mels[0] - mels[1]).abs().mean())


def stoi(original: Wave, decoded: Wave) -> float:
    """Short-time objective intelligibility: correlation of third-octave envelopes over 384 ms, clipped at -15 dB.

    Source: Taal et al. 2011, "An algorithm for intelligibility prediction of time-frequency weighted noisy speech".
    NaN for sounds with less than 384 ms of speech.
    """
    clean, noisy = (_stoi_spectrum(wave) for wave in (original, decoded))
    energy_T = clean.square().sum(0)
    speech = energy_T > energy_T.max() * 1e-4  # frames within 40 dB of the loudest
    bands = _third_octaves(clean.shape[0])
    clean, noisy = ((bands @ spectrum.square()).sqrt()[:, speech] for spectrum in (clean, noisy))
    if clean.shape[1] < 30:
        return math.nan
    x, y = clean.unfold(1, 30, 1), noisy.unfold(1, 30, 1)
    y = y * (x.norm(dim=-1, keepdim=True) / y.norm(dim=-1, keepdim=True).clamp_min(1e-9))
    y = torch.minimum(y, x * (1 + 10 ** (15 / 20)))
    x, y = x - x.mean(-1, keepdim=True), y - y.mean(-1, keepdim=True)
    correlation = (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1)).clamp_min(1e-9)
    return float(correlation.mean())


def _stoi_spectrum(wave: Wave) -> torch.Tensor:
    samples_S = torch.from_numpy(resample(wave, 10_000).samples_S)
    frames = samples_S.unfold(0, 256, 128) * spectra.hann(256)
    return torch.fft.rfft(frames, n=512).abs().T


def _third_octaves(bins: int) -> torch.Tensor:
    centres_hz = 150 * 2 ** (torch.arange(15) / 3)
    bins_hz = torch.linspace(0, 5000, bins)
    low, high = centres_hz[:, None] * 2 ** (-1 / 6), centres_hz[:, None] * 2 ** (1 / 6)
    return ((bins_hz >= low) & (bins_hz < high)).float()


def _pitch_distance(original: Wave, decoded: Wave) -> tuple[float, float]:
    ours, theirs = (track_pitch(wave, 0.01, 0.04) for wave in (decoded, original))
    both = (ours > 0) & (theirs > 0)
    agreement = float(np.mean((ours > 0) == (theirs > 0)))
    if not both.any():
        return math.nan, agreement
    return float(np.median(np.abs(12 * np.log2(ours[both] / theirs[both])))), agreement


@dataclass(frozen=True)
class CodebookUse:
    """What one codebook's codes carry."""

    used_fraction: float
    """Entries that occur."""
    entropy_bits: float
    """Entropy of the codes."""
    phone_purity: float
    """Share of frames whose phone is the most frequent one of their code."""
    phone_information: float
    """Mutual information of code and phone over the phone's entropy, 0 to 1."""


def codebook_use(codes_KF: np.ndarray, phones_F: Sequence[str], codebook_size: int) -> list[CodebookUse]:
    """What each codebook carries of the phone in the middle of each frame.

    Purity and information grow when frames are few against entries: compare codebooks with each other on the same
    frames, not with other numbers.
    """
    _, phone_F = np.unique(np.asarray(phones_F), return_inverse=True)
    return [_use(codes_F.astype(np.int64), phone_F, codebook_size) for codes_F in codes_KF]


def _use(codes_F: np.ndarray, phone_F: np.ndarray, codebook_size: int) -> CodebookUse:
    table = np.zeros((codebook_size, int(phone_F.max()) + 1))
    np.add.at(table, (codes_F, phone_F), 1)
    joint = table / table.sum()
    code_bits, phone_bits = _entropy_bits(joint.sum(1)), _entropy_bits(joint.sum(0))
    shared_bits = code_bits + phone_bits - _entropy_bits(joint.ravel())
    return CodebookUse(
        used_fraction=float((table.sum(1) > 0).mean()),
        entropy_bits=code_bits,
        phone_purity=float(joint.max(1).sum()),
        phone_information=shared_bits / phone_bits if phone_bits else math.nan,
    )


def _entropy_bits(probabilities: np.ndarray) -> float:
    positive = probabilities[probabilities > 0]
    return float(-(positive * np.log2(positive)).sum())
