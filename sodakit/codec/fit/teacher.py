"""A speech encoder from the Hugging Face hub or a folder, whose features codebook 0 learns to foretell.

Features are computed once for each sound in the pool, before training: a pass of the teacher costs more than one of
the codec.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.errors import ConfigError

RATE_HZ = 16_000
_PIECE_S = 30.0
"""Longer sounds are heard in pieces: attention grows with the square of the length."""


@dataclass(frozen=True, eq=False)
class Teacher:
    """A WavLM-, HuBERT- or Wav2Vec2-like encoder.

    Source: distilling such features into the first codebook is Mimi's (arXiv:2410.00037) and SpeechTokenizer's
    (arXiv:2308.16692).
    """

    model: Any
    extractor: Any
    layer: int
    """Which hidden state: 0 is what enters the first block, -1 what leaves the last."""

    @classmethod
    def load(
        cls, model_id: str, *, layer: int = -1, revision: str | None = None, device: str = "cpu"
    ) -> "Teacher":
        """The encoder, ready to listen.

        Raises:
            ConfigError: no such model, none with a front of convolutions at 16 kHz, or no such layer.
        """
        from transformers import AutoFeatureExtractor, AutoModel

        try:
            model = AutoModel.from_pretrained(model_id, revision=revision)
            extractor = AutoFeatureExtractor.from_pretrained(model_id, revision=revision)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{model_id!r} does not load as a speech encoder ({str(error).splitlines()[0]}). "
                "Needed: the hub id or folder of a WavLM-, HuBERT- or Wav2Vec2-like model."
            ) from error
        if not hasattr(model.config, "conv_stride") or extractor.sampling_rate != RATE_HZ:
            raise ConfigError(
                f"{model_id!r} is a {model.config.model_type}; a teacher hears 16 kHz through convolutions, "
                "as WavLM, HuBERT and Wav2Vec2 do."
            )
        if not -model.config.num_hidden_layers - 1 <= layer <= model.config.num_hidden_layers:
            raise ConfigError(
                f"teacher_layer={layer}; {model_id!r} has hidden states 0 to {model.config.num_hidden_layers}."
            )
        return cls(model.eval().requires_grad_(False).to(device), extractor, layer)

    @property
    def width(self) -> int:
        """Of a feature."""
        return self.model.config.hidden_size

    @property
    def step_s(self) -> float:
        """Time from one feature to the next, 20 ms with the usual models."""
        return float(np.prod(self.model.config.conv_stride)) / RATE_HZ

    @property
    def first_s(self) -> float:
        """The middle of what the first feature hears."""
        field, step = 1, 1
        for kernel, stride in zip(self.model.config.conv_kernel, self.model.config.conv_stride, strict=True):
            field, step = field + (kernel - 1) * step, step * stride
        return field / 2 / RATE_HZ

    @torch.inference_mode()
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
        shortest = round(2 * self.first_s * RATE_HZ)
        padded_S = np.pad(samples_S, (0, max(0, shortest - len(samples_S))))
        inputs = self.extractor(padded_S, sampling_rate=RATE_HZ, return_tensors="pt").to(self.model.device)
        states = self.model(**inputs, output_hidden_states=True).hidden_states
        return states[self.layer][0].half().cpu().numpy()

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
