"""How good a codec is: how near its sound is to the original, and what its codes carry."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pystoi
import torch

from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.codec import spectra
from sodakit.codec.pitch import track_pitch

_DB = 20 / math.log(10)
_PESQ_HZ = 16_000


@dataclass(frozen=True)
class SoundDistance:
    """A decoded sound against its original."""

    mel_db: float
    """Mean absolute difference of 80 log-mel bands, in dB; floor at about -60 dB."""
    stft_db: float
    """Mean absolute difference of log magnitudes over four window lengths, in dB."""
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
    return SoundDistance(
        mel_db=mel_distance_db(theirs, ours),
        stft_db=stft_distance_db(theirs, ours),
        stoi=stoi(theirs, ours),
        pitch_semitones=semitones,
        voicing=voicing,
    )


def mel_distance_db(original: Wave, decoded: Wave) -> float:
    """Mean absolute difference of 80 log-mel bands (windows of 1024, hops of 256), in dB."""
    mels = []
    for wave in (original, decoded):
        magnitude = spectra.magnitudes(torch.from_numpy(wave.samples_S)[None], 1024, 256)
        mels.append(spectra.log_mel(magnitude, wave.sample_rate_hz, 80, floor=0.02))
    return _DB * float((mels[0] - mels[1]).abs().mean())


def stft_distance_db(original: Wave, decoded: Wave) -> float:
    """Mean absolute difference of log magnitudes over windows of 2048, 1024, 480 and 240 samples, in dB.

    Bins from 0 Hz to half the rate count alike. 0.02 is added to magnitudes: 88 dB (long windows) to 70 dB (short)
    under a full-scale sine.
    """
    distances = []
    for window in (2048, 1024, 480, 240):
        logs = [
            spectra.magnitudes(torch.from_numpy(wave.samples_S)[None], window, window // 4).add(0.02).log()
            for wave in (original, decoded)
        ]
        distances.append((logs[0] - logs[1]).abs().mean())
    return _DB * float(torch.stack(distances).mean())


def stoi(original: Wave, decoded: Wave) -> float:
    """Short-time objective intelligibility by `pystoi`: correlation of third-octave envelopes over 384 ms, 0 to 1.

    Looks at 150 Hz to 4.3 kHz. NaN for sounds with less than 384 ms of speech.
    Source: Taal et al. 2011, "An algorithm for intelligibility prediction of time-frequency weighted noisy speech".
    """
    with warnings.catch_warnings():
        # pystoi warns of too little speech and answers 1e-5.
        warnings.simplefilter("ignore", RuntimeWarning)
        score = float(pystoi.stoi(original.samples_S, decoded.samples_S, original.sample_rate_hz))
    return score if score > 1e-5 else math.nan


def pesq(original: Wave, decoded: Wave) -> float | None:
    """Wideband PESQ (ITU-T P.862.2, MOS-LQO 1.0 to 4.6) by the package `pesq`; NaN where it hears no speech.

    None where the package is not installed: its ITU source is licensed for evaluation only, so it stays optional.
    """
    try:
        import pesq as itu
    except ImportError:
        return None
    clean, copy = (resample(wave, _PESQ_HZ).samples_S for wave in (original, decoded))
    score = float(itu.pesq(_PESQ_HZ, clean, copy, "wb", on_error=itu.PesqError.RETURN_VALUES))
    return score if score > 0 else math.nan  # it answers -1 where it finds no utterance


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


def codebook_use(
    codes: Sequence[np.ndarray], phones: Sequence[Sequence[str]], codebook_size: int
) -> list[CodebookUse]:
    """What each codebook carries of the phone in the middle of each of its codes.

    Purity and information grow when codes are few against entries: compare codebooks with each other on the same
    sounds, not with other numbers.

    Args:
        codes: of each codebook, in time.
        phones: of each codebook, one for each code.
    """
    return [
        _use(codes_N.astype(np.int64), np.unique(np.asarray(own), return_inverse=True)[1], codebook_size)
        for codes_N, own in zip(codes, phones, strict=True)
    ]


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
