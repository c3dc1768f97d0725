"""Does a copy still sound like its speaker: ears that turn a sound into a vector, and what they make of copies.

`StatisticsEar` needs nothing downloaded: averages and spreads of the cepstrum, and the pitch. `HubEar` is a speaker
model (WavLM, x-vector) by name or folder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.codec import spectra
from sodakit.codec.pitch import track_pitch
from sodakit.errors import ConfigError

_RATE_HZ = 16_000
_NUM_CEPSTRA = 20


class SpeakerEar(Protocol):
    """Whatever tells speakers apart."""

    @property
    def name(self) -> str:
        """What a table calls it."""

    def hear(self, waves: Sequence[Wave]) -> np.ndarray:
        """A vector for each sound, (N, D) float64."""


@dataclass(frozen=True)
class StatisticsEar:
    """Mean and spread of 20 mel cepstra over the loud frames, and median and spread of log pitch."""

    name: str = "cepstral statistics"

    def hear(self, waves: Sequence[Wave]) -> np.ndarray:
        """A vector of 42 numbers for each sound."""
        return np.stack([_statistics(resample(wave, _RATE_HZ)) for wave in waves])


def _statistics(wave: Wave) -> np.ndarray:
    samples_BS = torch.from_numpy(np.pad(wave.samples_S, (0, max(0, 640 - len(wave.samples_S)))))[None]
    mel_TM = spectra.log_mel(spectra.magnitudes(samples_BS, 640, 160), _RATE_HZ, 40, floor=1e-3)[0]
    loudness_T = mel_TM.mean(1)
    mel_TM = mel_TM[loudness_T >= loudness_T.quantile(0.4)]
    terms = torch.arange(1, _NUM_CEPSTRA + 1)[:, None]  # not the 0th: a level is no property of a speaker
    cepstra = mel_TM @ torch.cos(torch.pi / 40 * terms * (torch.arange(40) + 0.5)).T
    pitch_hz = track_pitch(wave, 0.01, 0.04)
    octaves = np.log2(pitch_hz[pitch_hz > 0]) if (pitch_hz > 0).any() else np.zeros(1)
    spread = cepstra.std(0, correction=0)
    return np.concatenate([cepstra.mean(0), spread, [np.median(octaves), octaves.std()]]).astype(np.float64)


@dataclass(frozen=True, eq=False)
class HubEar:
    """A speaker model from the Hugging Face hub or a folder, for example `microsoft/wavlm-base-plus-sv`."""

    model_id: str
    """Hub id or folder."""
    model: Any
    extractor: Any

    @classmethod
    def load(cls, model_id: str) -> "HubEar":
        """The model, ready to listen.

        Raises:
            ConfigError: no such model, or none with an x-vector head.
        """
        from transformers import AutoFeatureExtractor, AutoModelForAudioXVector

        try:
            model = AutoModelForAudioXVector.from_pretrained(model_id)
            extractor = AutoFeatureExtractor.from_pretrained(model_id)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{model_id!r} does not load as a speaker model ({str(error).splitlines()[0]}). "
                "Needed: the hub id or folder of a model with an x-vector head and its feature extractor."
            ) from error
        return cls(model_id, model.eval(), extractor)

    @property
    def name(self) -> str:
        """The id, or the folder's name."""
        return Path(self.model_id).name if Path(self.model_id).exists() else self.model_id

    @torch.inference_mode()
    def hear(self, waves: Sequence[Wave]) -> np.ndarray:
        """The x-vector of each sound, one by one, so neighbours do not matter."""
        vectors = []
        for wave in waves:
            samples_S = resample(wave, _RATE_HZ).samples_S
            inputs = self.extractor(samples_S, sampling_rate=_RATE_HZ, return_tensors="pt")
            vectors.append(self.model(**inputs).embeddings[0].double().numpy())
        return np.stack(vectors)


@dataclass(frozen=True)
class SpeakerScores:
    """What an ear makes of copies."""

    similarity: float
    """Mean cosine of a copy and its original, both relative to the mean original."""
    found_copies: float
    """Share of copies whose nearest original, their own left out, is by their speaker."""
    found_originals: float
    """The same of the originals: what the ear can do at best."""
    ear: str


def score_speakers(
    originals: Sequence[Wave], copies: Sequence[Wave], speakers: Sequence[str], ear: SpeakerEar
) -> SpeakerScores | None:
    """How well the copies keep their speakers; None with fewer than two speakers of two clips each to tell apart."""
    clips_of = {speaker: list(speakers).count(speaker) for speaker in set(speakers)}
    if len(clips_of) < 2 or min(clips_of.values()) < 2 or "" in clips_of:
        return None
    original_ND, copy_ND = ear.hear(originals), ear.hear(copies)
    centre, scale = original_ND.mean(0), original_ND.std(0) + 1e-9
    original_ND, copy_ND = (_unit((x_ND - centre) / scale) for x_ND in (original_ND, copy_ND))
    return SpeakerScores(
        similarity=float((original_ND * copy_ND).sum(1).mean()),
        found_copies=_found(copy_ND, original_ND, speakers),
        found_originals=_found(original_ND, original_ND, speakers),
        ear=ear.name,
    )


def _unit(x_ND: np.ndarray) -> np.ndarray:
    return x_ND / np.maximum(np.linalg.norm(x_ND, axis=1, keepdims=True), 1e-9)


def _found(asked_ND: np.ndarray, known_ND: np.ndarray, speakers: Sequence[str]) -> float:
    cosines_NN = asked_ND @ known_ND.T
    np.fill_diagonal(cosines_NN, -np.inf)
    return float(np.mean([speakers[i] == speakers[j] for i, j in enumerate(cosines_NN.argmax(1))]))
