"""A speech encoder from the Hugging Face hub or a folder, whose features codebook 0 learns to foretell.

Features are computed once for each sound in the pool, before training: a pass of the teacher costs more than one of
the codec.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from sodakit.audio.faster_whisper import is_faster_whisper, load_faster_whisper
from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.errors import ConfigError
from sodakit.files import file_sha256
from sodakit.pretrained import Pretrained, revision_of, shown_name

RATE_HZ = 16_000
_PIECE_S = 30.0
"""Longer sounds are heard in pieces: attention grows with the square of the length."""


@dataclass(frozen=True, eq=False)
class Teacher:
    """A speech encoder: WavLM-, HuBERT- or Wav2Vec2-like, or Whisper's.

    Source: distilling such features into the first codebook is Mimi's (arXiv:2410.00037) and SpeechTokenizer's
    (arXiv:2308.16692).
    """

    name: str
    """Whose features they are: the model, its commit or a digest of its weights, and the layer. What it heard is kept by it."""
    width: int
    """Of a feature."""
    step_s: float
    """Time from one feature to the next, 20 ms with the usual models."""
    first_s: float
    """The middle of what the first feature hears."""
    hear: Callable[[np.ndarray], np.ndarray]
    """float16 features (N, width) of at most 30 s of samples at 16 kHz."""

    @classmethod
    def load(
        cls,
        model_id: str,
        *,
        layer: int = -1,
        revision: str | None = None,
        device: str = "cpu",
        threads: int = 0,
    ) -> "Teacher":
        """The encoder, ready to listen.

        Args:
            model_id: hub id or folder.
            layer: which hidden state: 0 is what enters the first block, -1 what leaves the last.
            threads: of the CPU, for a Whisper in CTranslate2 form; 0 is its own choice.
        Raises:
            ConfigError: no such model, none that hears 16 kHz as these do, or no such layer.
            MissingExtra: a Whisper in CTranslate2 form without faster-whisper.
        """
        if is_faster_whisper(model_id):
            if layer != -1:
                raise ConfigError(f"teacher_layer={layer}; of {model_id!r} only the last, -1, can be had.")
            model, folder = load_faster_whisper(model_id, revision=revision, device=device, threads=threads)
            return _whisper(model, shown_name(model_id, file_sha256(folder / "model.bin")))
        return _convolutional(model_id, layer, revision, device)

    def features(self, wave: Wave) -> np.ndarray:
        """float16 features (N, width), one each `step_s` from `first_s` on."""
        heard = resample(wave, RATE_HZ).samples_S
        length = round(_PIECE_S / self.step_s) * round(self.step_s * RATE_HZ)
        pieces = [self._piece(heard[start : start + length]) for start in range(0, len(heard), length)]
        # The end of a piece is too short for features that a longer one has there: each stands for what follows it.
        count = max(1, round(length / (self.step_s * RATE_HZ)))
        whole = [_stretched(piece, count) for piece in pieces[:-1]]
        return np.concatenate([*whole, pieces[-1]])

    def _piece(self, samples_S: np.ndarray) -> np.ndarray:
        shortest = round(2 * max(self.first_s, self.step_s) * RATE_HZ)
        return self.hear(np.pad(samples_S, (0, max(0, shortest - len(samples_S)))))

    def pool(self, features_ND: np.ndarray, start_s: float, frames: int, frame_s: float) -> np.ndarray:
        """float32 means (F, width) of the features in the middle of each of `frames` frames from `start_s` on."""
        edges_s = start_s + frame_s * np.arange(frames + 1)
        edges = np.ceil((edges_s - self.first_s) / self.step_s).astype(int)
        rows = [self._mean(features_ND, first, end) for first, end in pairwise(edges)]
        return np.stack(rows)

    def _mean(self, features_ND: np.ndarray, first: int, end: int) -> np.ndarray:
        # A teacher slower than the codec has no feature in some frames: the last one before stands in.
        last = len(features_ND) - 1
        first = min(max(first if end > first else first - 1, 0), last)
        end = min(max(end, first + 1), last + 1)
        return features_ND[first:end].astype(np.float32).mean(0)


def _stretched(rows_ND: np.ndarray, count: int) -> np.ndarray:
    """Exactly `count` rows: the last one repeated, or the rest left out."""
    missing: Sequence[np.ndarray] = [rows_ND[-1:]] * (count - len(rows_ND))
    return np.concatenate([rows_ND[:count], *missing])


def _convolutional(model_id: str, layer: int, revision: str | None, device: str) -> Teacher:
    """An encoder of transformers' that hears 16 kHz through convolutions."""
    from transformers import AutoFeatureExtractor, AutoModel

    found = Pretrained(
        model_id,
        "a speech encoder",
        "the hub id or folder of a WavLM-, HuBERT- or Wav2Vec2-like model, or of a Whisper in CTranslate2 form",
        revision,
    )
    model, extractor = found.model(AutoModel, device), found.part(AutoFeatureExtractor)
    if not hasattr(model.config, "conv_stride") or extractor.sampling_rate != RATE_HZ:
        raise ConfigError(
            f"{model_id!r} is a {model.config.model_type}; a teacher hears 16 kHz through convolutions, "
            "as WavLM, HuBERT and Wav2Vec2 do, or is a Whisper in CTranslate2 form."
        )
    if not -model.config.num_hidden_layers - 1 <= layer <= model.config.num_hidden_layers:
        raise ConfigError(
            f"teacher_layer={layer}; {model_id!r} has hidden states 0 to {model.config.num_hidden_layers}."
        )
    field, step = 1, 1
    for kernel, stride in zip(model.config.conv_kernel, model.config.conv_stride, strict=True):
        field, step = field + (kernel - 1) * step, step * stride

    @torch.inference_mode()
    def hear(samples_S: np.ndarray) -> np.ndarray:
        inputs = extractor(samples_S, sampling_rate=RATE_HZ, return_tensors="pt").to(model.device)
        states = model(**inputs, output_hidden_states=True).hidden_states
        return states[layer][0].half().cpu().numpy()

    name = f"{shown_name(model_id, revision_of(model))}/{layer}"
    return Teacher(name, model.config.hidden_size, step / RATE_HZ, field / 2 / RATE_HZ, hear)


def _whisper(model: Any, name: str) -> Teacher:
    """The encoder of a `faster_whisper.WhisperModel`: a feature is about 20 ms, the first about the beginning.

    Sounds are not filled up to 30 s: that costs eight times as much, and features of 8 s agree with those of the filled
    window to a cosine of 0.97 (LOG.md, 2026-11-28).
    """
    mels_per_feature, mel_samples = 2, model.feature_extractor.hop_length

    def hear(samples_S: np.ndarray) -> np.ndarray:
        count = max(1, len(samples_S) // mel_samples // mels_per_feature)
        mel_DT = model.feature_extractor(samples_S.astype(np.float32))[:, : count * mels_per_feature]
        return np.asarray(model.encode(mel_DT)).astype(np.float16)[0]

    step_s = mels_per_feature * mel_samples / RATE_HZ
    return Teacher(name, hear(np.zeros(RATE_HZ, np.float32)).shape[1], step_s, 0.0, hear)
