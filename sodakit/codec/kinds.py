"""What the adapter must know of each class of codec in transformers: a row each, by the `model_type` of its config."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.errors import CodecError

_MEL_RATE_HZ = 16_000
_MEL_WINDOW, _MEL_HOP, _MEL_BINS = 400, 160, 80


def _nothing(config: Any) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A class of codecs."""

    model: str
    """Its module and name, below `transformers.models`."""
    encode: Callable[[Any, Tensor], Tensor]
    """A model and wave_BCS of whole frames to codes_BKF."""
    decode: Callable[[Any, Tensor], Tensor]
    """A model and codes_BKF to their sound."""
    rate: str = "sampling_rate"
    """Field of the config with the rate of the sound it gives."""
    codebooks: str = ""
    """Field with the number of codebooks; none: it has one."""
    encoder: str = ""
    """The whole encoder, where it is made of convolutions only; none: it sees everything."""
    decoder: str = ""
    """The same of the decoder."""
    default_codebooks: int | None = None
    """Kept where nobody says otherwise; none: all."""
    refused: Callable[[Any], str] = _nothing
    """What a config has that codes cannot tell; empty: nothing."""


def frame_of(kind: Kind, config: Any, name: str) -> tuple[int, int, int]:
    """Rate of the sound, samples of a frame, entries of a codebook.

    From the strides: the frame rate that configs tell is rounded up (44,100 Hz over 512 is 86.13 a second, they say 87).

    Raises:
        CodecError: a frame is no whole number of samples.
    """
    rate_hz, frame = getattr(config, kind.rate), config.hop_length
    into_hz = getattr(config, "input_sampling_rate", rate_hz)
    if into_hz != rate_hz and config.encoder_hop_length * rate_hz % into_hz:
        raise CodecError(
            f"{name}: a frame is {config.encoder_hop_length * rate_hz / into_hz:g} samples at {rate_hz} Hz; needed: a "
            "whole number, or sound and codes drift apart."
        )
    size = getattr(config, "codebook_size", None) or prod(config.quantization_levels)
    if not min(rate_hz, frame, size) > 0:
        raise CodecError(
            f"{name}: {rate_hz} Hz, frames of {frame} samples and codebooks of {size}; needed: more than 0."
        )
    return int(rate_hz), int(frame), int(size)


def _encodec_refused(config: Any) -> str:
    if config.audio_channels != 1:
        return f"takes {config.audio_channels} channels, and codes here are of mono sound"
    if config.normalize:
        return "tells the loudness of each piece beside the codes, which hold codes only"
    return "works in pieces that overlap" if config.chunk_length_s is not None else ""


def _encodec_encode(model: Any, wave_BCS: Tensor) -> Tensor:
    return model.quantizer.encode(model.encoder(wave_BCS)).transpose(0, 1)


def _encodec_decode(model: Any, codes_BKF: Tensor) -> Tensor:
    return model.decoder(model.quantizer.decode(codes_BKF.transpose(0, 1)))


def _encoded(model: Any, wave_BCS: Tensor) -> Tensor:
    return model.encode(wave_BCS).audio_codes


def _decoded(model: Any, codes_BKF: Tensor) -> Tensor:
    # By name: DAC's first argument is something else.
    return model.decode(audio_codes=codes_BKF).audio_values


def _xcodec2_encode(model: Any, wave_BCS: Tensor) -> Tensor:
    around = model.config.hop_length // 2
    features = kaldi_features(torch.nn.functional.pad(wave_BCS[:, 0], (around, around)))
    return model.encode(wave_BCS, input_features=features).audio_codes


def _neucodec_encode(model: Any, wave_BCS: Tensor) -> Tensor:
    config = model.config
    frames = wave_BCS.shape[-1] // config.hop_length
    samples_S = wave_BCS[0, 0].cpu().numpy()
    heard_S = resample(Wave(samples_S, config.output_sampling_rate), config.input_sampling_rate).samples_S
    # A frame of silence follows, as in the published code: both encoders then tell of the last frame.
    whole_S = np.zeros((frames + 1) * config.encoder_hop_length, np.float32)
    heard_S = heard_S[: frames * config.encoder_hop_length]
    whole_S[: len(heard_S)] = heard_S
    heard_BCS = torch.from_numpy(whole_S)[None, None].to(wave_BCS.device)
    return model.encode(heard_BCS, input_features=kaldi_features(heard_BCS[:, 0])).audio_codes


def kaldi_features(wave_BS: Tensor) -> Tensor:
    """(B, F, 160): log mel energies of a sound at 16 kHz as Kaldi makes them, each band of mean 0 and variance 1 over the
    sound, two frames of 10 ms side by side."""
    frames_BFS = (wave_BS * 2**15).unfold(-1, _MEL_WINDOW, _MEL_HOP)
    frames_BFS = frames_BFS - frames_BFS.mean(-1, keepdim=True)
    before_BFS = torch.cat([frames_BFS[..., :1], frames_BFS[..., :-1]], dim=-1)
    window_S, mels_FM = (torch.from_numpy(part).to(wave_BS.device) for part in _kaldi_tables())
    spectrum_BFC = torch.fft.rfft((frames_BFS - 0.97 * before_BFS) * window_S, 512)
    energies_BFM = (spectrum_BFC.abs().square() @ mels_FM).clamp_min(torch.finfo(torch.float32).eps).log()
    variance_BM, mean_BM = torch.var_mean(energies_BFM, dim=1, keepdim=True)
    features_BFM = (energies_BFM - mean_BM) / torch.sqrt(variance_BM + 1e-7)
    even = features_BFM.shape[1] // 2 * 2
    return features_BFM[:, :even].reshape(len(wave_BS), even // 2, 2 * _MEL_BINS)


@cache
def _kaldi_tables() -> tuple[np.ndarray, np.ndarray]:
    from transformers.audio_utils import mel_filter_bank, window_function

    filters = mel_filter_bank(
        num_frequency_bins=257,
        num_mel_filters=_MEL_BINS,
        min_frequency=20,
        max_frequency=_MEL_RATE_HZ // 2,
        sampling_rate=_MEL_RATE_HZ,
        norm=None,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    window = window_function(_MEL_WINDOW, "povey", periodic=False)
    return window.astype(np.float32), filters.astype(np.float32)


KINDS = {
    "encodec": Kind(
        model="encodec.modeling_encodec.EncodecModel",
        encode=_encodec_encode,
        decode=_encodec_decode,
        codebooks="num_quantizers",
        # 6 kbit/s of the published 24; what language models are trained on.
        default_codebooks=8,
        refused=_encodec_refused,
    ),
    "dac": Kind(
        model="dac.modeling_dac.DacModel",
        encode=_encoded,
        decode=_decoded,
        codebooks="n_codebooks",
        encoder="encoder",
        decoder="decoder",
    ),
    "xcodec": Kind(
        model="xcodec.modeling_xcodec.XcodecModel",
        encode=_encoded,
        decode=_decoded,
        rate="sample_rate",
        codebooks="num_quantizers",
        decoder="acoustic_decoder",
    ),
    "higgs_audio_v2_tokenizer": Kind(
        model="higgs_audio_v2_tokenizer.modeling_higgs_audio_v2_tokenizer.HiggsAudioV2TokenizerModel",
        encode=_encoded,
        decode=_decoded,
        rate="sample_rate",
        codebooks="num_quantizers",
        decoder="acoustic_decoder",
    ),
    "xcodec2": Kind(
        model="xcodec2.modeling_xcodec2.Xcodec2Model",
        encode=_xcodec2_encode,
        decode=_decoded,
    ),
    "neucodec": Kind(
        model="neucodec.modeling_neucodec.NeuCodecModel",
        encode=_neucodec_encode,
        decode=_decoded,
        rate="output_sampling_rate",
    ),
    "wavtokenizer": Kind(
        model="wavtokenizer.modeling_wavtokenizer.WavTokenizerModel",
        encode=_encoded,
        decode=_decoded,
    ),
}

CONTINUOUS = ("pocket_tts_audio_tokenizer", "vibevoice_acoustic_tokenizer")
"""Kin without codebooks: what they make of a sound is no codes."""
