"""Who is speaking: voices as vectors, and how alike two of them are.

`HubSpeaker` is a speaker-verification model (WavLM and its like) by name and revision. `SpectralSpeaker` needs no
download: long-term spectra and their spread. It tells voices apart far worse, so its own equal error rate on the
originals stands beside every number it gives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch

from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.eval.recogniser import RATE_HZ, SILENCE_FRAMES, log_mels
from sodakit.files import digest
from sodakit.pretrained import Pretrained, revision_of, shown_name

SHORTEST_S = 0.5
"""An x-vector head looks at a third of a second at once and then at how that varies: shorter sounds are repeated."""


class SpeakerJudge(Protocol):
    """Whatever turns a voice into a vector."""

    @property
    def name(self) -> str:
        """What a table calls it."""

    @property
    def fingerprint(self) -> str:
        """Digest of everything its vectors depend on. Similarities by different judges are not comparable."""

    def embed(self, waves: Sequence[Wave]) -> np.ndarray:
        """One vector of length 1 for each sound, as rows: float64 (len(waves), width)."""


def similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The cosine of each row of `first` with the row of `second` beside it."""
    return np.einsum("iw,iw->i", first, second)


def equal_error_rate(vectors: np.ndarray, speakers: Sequence[str]) -> float | None:
    """How often a judge is wrong at the threshold where it mistakes the same voice for two as often as two for one.

    Args:
        vectors: of recordings.
        speakers: who speaks in each.
    Returns:
        None where there are not both kinds of pairs.
    """
    first, second = np.triu_indices(len(speakers), k=1)
    names = np.asarray(speakers)
    same = names[first] == names[second]
    if not same.any() or same.all():
        return None
    cosine = np.einsum("iw,iw->i", vectors[first], vectors[second])
    thresholds = np.unique(cosine)
    missed = np.searchsorted(np.sort(cosine[same]), thresholds) / same.sum()
    taken = (
        1 - np.searchsorted(np.sort(cosine[np.logical_not(same)]), thresholds) / np.logical_not(same).sum()
    )
    best = int(np.abs(missed - taken).argmin())
    return float((missed[best] + taken[best]) / 2)


@dataclass(frozen=True)
class SpectralSpeaker:
    """Mean and spread of each mel band's level while somebody speaks: no weights at all."""

    @property
    def name(self) -> str:
        """What it is."""
        return "spectral voice print (no download)"

    @property
    def fingerprint(self) -> str:
        """Of this definition."""
        return digest("spectral voice print 1")

    def embed(self, waves: Sequence[Wave]) -> np.ndarray:
        """One vector of length 1 for each sound."""
        return _unit(np.stack([_print(wave) for wave in waves]))


def _print(wave: Wave) -> np.ndarray:
    mel_FM = log_mels(wave)[SILENCE_FRAMES:-SILENCE_FRAMES].numpy().astype(np.float64)
    level_F = mel_FM.mean(axis=1)
    loud_FM = mel_FM[level_F >= np.median(level_F)]  # the louder half: pauses hold the room, not the voice
    # Slopes from band to band, not levels: distance to the microphone shifts all bands alike.
    return np.concatenate([np.diff(loud_FM.mean(axis=0)), np.diff(loud_FM.std(axis=0))])


@dataclass(frozen=True, eq=False)
class HubSpeaker:
    """A speaker-verification model from the Hugging Face hub or a folder: WavLM, Wav2Vec2 or UniSpeech with x-vectors."""

    model_id: str
    revision: str
    """Commit on the hub, or a digest of the folder's weights."""
    model: Any
    extractor: Any

    @classmethod
    def load(cls, model_id: str, *, revision: str | None = None, device: str = "cpu") -> "HubSpeaker":
        """The model, ready to listen, for example `microsoft/wavlm-base-plus-sv`.

        seed-tts-eval's own judge is a WavLM-large with an ECAPA head, which transformers does not have: numbers by
        another judge are not comparable with published ones.

        Raises:
            ConfigError: no such model, or none that tells speakers apart.
        """
        from transformers import AutoFeatureExtractor, AutoModelForAudioXVector

        found = Pretrained(
            model_id,
            "a speaker model",
            "the hub id or folder of a WavLM-like model with an x-vector head, as microsoft/wavlm-base-plus-sv, or "
            "pretrained.pt as the package Resemblyzer brings it",
            revision,
        )
        model = found.model(AutoModelForAudioXVector, device)
        return cls(model_id, revision_of(model), model, found.part(AutoFeatureExtractor))

    @property
    def name(self) -> str:
        """For example `microsoft/wavlm-base-plus-sv@feb593a6c23c`."""
        return shown_name(self.model_id, self.revision)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the revision."""
        return digest(self.revision)

    @torch.inference_mode()
    def embed(self, waves: Sequence[Wave]) -> np.ndarray:
        """One vector of length 1 for each sound; one by one, so neighbours do not matter."""
        return _unit(np.stack([self._embed(resample(wave, RATE_HZ)) for wave in waves]))

    def _embed(self, wave: Wave) -> np.ndarray:
        times = -(-round(SHORTEST_S * RATE_HZ) // max(1, len(wave.samples_S)))
        samples_S = np.tile(wave.samples_S, max(1, times))
        inputs = self.extractor(samples_S, sampling_rate=RATE_HZ, return_tensors="pt")
        vector = self.model(**inputs.to(self.model.device)).embeddings[0]
        return vector.double().cpu().numpy()


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


@dataclass(frozen=True)
class SpeakerScores:
    """What a judge makes of copies."""

    similarity: float
    """Mean cosine of a copy and its original, both relative to the mean original."""
    found_copies: float
    """Share of copies whose nearest original, their own left out, is by their speaker."""
    found_originals: float
    """The same of the originals: what the judge can do at best."""
    judge: str


def score_speakers(
    originals: Sequence[Wave], copies: Sequence[Wave], speakers: Sequence[str], judge: SpeakerJudge
) -> SpeakerScores | None:
    """How well the copies keep their speakers; None with fewer than two speakers of two clips each to tell apart."""
    clips_of = {speaker: list(speakers).count(speaker) for speaker in set(speakers)}
    if len(clips_of) < 2 or min(clips_of.values()) < 2 or "" in clips_of:
        return None
    original_ND, copy_ND = judge.embed(originals), judge.embed(copies)
    centre, scale = original_ND.mean(0), original_ND.std(0) + 1e-9
    original_ND, copy_ND = (_unit((x_ND - centre) / scale) for x_ND in (original_ND, copy_ND))
    return SpeakerScores(
        similarity=float((original_ND * copy_ND).sum(1).mean()),
        found_copies=_found(copy_ND, original_ND, speakers),
        found_originals=_found(original_ND, original_ND, speakers),
        judge=judge.name,
    )


def _found(asked_ND: np.ndarray, known_ND: np.ndarray, speakers: Sequence[str]) -> float:
    cosines_NN = asked_ND @ known_ND.T
    np.fill_diagonal(cosines_NN, -np.inf)
    return float(np.mean([speakers[i] == speakers[j] for i, j in enumerate(cosines_NN.argmax(1))]))
