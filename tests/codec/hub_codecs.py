"""Small checkpoints with random weights of every class of codec in transformers that the adapter knows."""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

SPEECH_ENCODER = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": (8, 8, 8),
    "conv_stride": (5, 4, 4),
    "conv_kernel": (10, 8, 4),
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
"""A HuBERT that makes a frame of 80 samples."""
ACOUSTIC = {
    "encoder_hidden_size": 4,
    "downsampling_ratios": [5, 4, 4],
    "upsampling_ratios": [4, 4, 5],
    "decoder_hidden_size": 16,
    "hidden_size": 8,
}


def _encodec(**settings: Any) -> Any:
    from transformers import EncodecConfig, EncodecModel

    sizes = {"num_filters": 4, "hidden_size": 16, "codebook_size": 64, "target_bandwidths": (1.8, 3.6)}
    return EncodecModel(EncodecConfig(**{**sizes, "upsampling_ratios": (5, 4, 4, 4), **settings}))


def _dac(**settings: Any) -> Any:
    from transformers import DacConfig, DacModel

    sizes = {"encoder_hidden_size": 4, "decoder_hidden_size": 32, "n_codebooks": 3, "codebook_size": 64}
    # 44,100 Hz over 400 samples: 110.25 frames a second, and a stride that is odd.
    rate = {"sampling_rate": 44_100, "downsampling_ratios": [4, 5, 4, 5], "codebook_dim": 4}
    return DacModel(DacConfig(**{**sizes, **rate, **settings}))


def _xcodec(**settings: Any) -> Any:
    from transformers import HubertConfig, XcodecConfig, XcodecModel

    semantic = HubertConfig(**SPEECH_ENCODER).to_dict()
    sizes = {"codebook_size": 64, "target_bandwidths": (1.2, 3.6)}
    config = XcodecConfig(
        **{**sizes, "acoustic_model_config": ACOUSTIC, "semantic_model_config": semantic, **settings}
    )
    return XcodecModel(config)


def _higgs(**settings: Any) -> Any:
    from transformers import HubertConfig
    from transformers.models.higgs_audio_v2_tokenizer.configuration_higgs_audio_v2_tokenizer import (
        HiggsAudioV2TokenizerConfig,
    )

    # It imports torchaudio, and calls it only where its speech encoder hears another rate. Others look whether it is
    # there, so the stand-in goes at once.
    absent = find_spec("torchaudio") is None
    if absent:
        sys.modules["torchaudio"] = ModuleType("torchaudio")
    try:
        from transformers.models.higgs_audio_v2_tokenizer.modeling_higgs_audio_v2_tokenizer import (
            HiggsAudioV2TokenizerModel,
        )
    finally:
        if absent:
            del sys.modules["torchaudio"]

    # Its padding is of the published encoder: 320 samples a frame.
    strides = {"conv_stride": (5, 4, 4, 4), "conv_kernel": (10, 8, 4, 4), "conv_dim": (8, 8, 8, 8)}
    sizes = {"codebook_size": 64, "codebook_dim": 8, "target_bandwidths": (0.3, 0.9), "sample_rate": 16_000}
    config = HiggsAudioV2TokenizerConfig(
        acoustic_model_config=ACOUSTIC
        | {"downsampling_ratios": [5, 4, 4, 4], "upsampling_ratios": [4, 4, 4, 5]},
        semantic_model_config=HubertConfig(**SPEECH_ENCODER | strides).to_dict(),
        **{**sizes, **settings},
    )
    return HiggsAudioV2TokenizerModel(config)


def _speech_bert() -> dict[str, Any]:
    from transformers import Wav2Vec2BertConfig

    return Wav2Vec2BertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_depthwise_kernel_size=3,
    ).to_dict()


XCODEC2 = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "encoder_hidden_size": 2,
    "quantization_dim": 48,
}


def _xcodec2(**settings: Any) -> Any:
    from transformers import Xcodec2Config, Xcodec2Model

    return Xcodec2Model(Xcodec2Config(semantic_model_config=_speech_bert(), **XCODEC2, **settings))


def _neucodec(**settings: Any) -> Any:
    from transformers import NeuCodecConfig, NeuCodecModel

    return NeuCodecModel(NeuCodecConfig(semantic_model_config=_speech_bert(), **XCODEC2, **settings))


def _wavtokenizer(**settings: Any) -> Any:
    from transformers import WavTokenizerConfig, WavTokenizerModel

    sizes = {"num_filters": 2, "hidden_size": 16, "codebook_dim": 16, "codebook_size": 64}
    decoder = {"decoder_hidden_size": 32, "decoder_intermediate_size": 32, "decoder_num_layers": 1}
    return WavTokenizerModel(WavTokenizerConfig(**{**sizes, **decoder, **settings}))


MAKERS: dict[str, Callable[..., Any]] = {
    "encodec": _encodec,
    "encodec-both-sides": lambda: _encodec(use_causal_conv=False),
    "dac": _dac,
    "xcodec": _xcodec,
    "higgs_audio_v2_tokenizer": _higgs,
    "xcodec2": _xcodec2,
    "neucodec": _neucodec,
    "wavtokenizer": _wavtokenizer,
}


GAINS = {"dac": 0.6}
"""DAC's activations make signals larger, and its tanh would turn them into noise at full scale."""


def random_model(kind: str, **settings: Any) -> Any:
    """A model whose signals neither vanish nor explode, and whose codebooks lie where its latents do."""
    torch.manual_seed(0)
    model = MAKERS[kind](**settings).eval()
    with torch.no_grad():
        for tensor in model.parameters():
            if tensor.ndim > 1 and tensor[0].numel() > 1:
                tensor.normal_(0, GAINS.get(kind, 1.0) * tensor[0].numel() ** -0.5)
        for module in model.modules():
            # transformers leaves them at nought, and what is added twice would not show.
            if isinstance(module, torch.nn.ConvTranspose1d) and module.bias is not None:
                module.bias.normal_(0, 0.1)
        for name, buffer in model.named_buffers():
            if name.endswith("codebook.embed"):
                buffer.copy_(0.3 * torch.randn_like(buffer))
        holder = getattr(model, "encoder_model", model)
        if hasattr(model.config, "num_filters"):
            _entries_among_latents(holder)
    return model


def _entries_among_latents(holder: Any) -> None:
    """EnCodec's latents lie close together, far from nought."""
    quantizer = holder.quantizer
    latents_FD = holder.encoder(
        0.2 * torch.randn(1, holder.config.audio_channels, 64 * holder.config.hop_length)
    )[0].T
    for i, layer in enumerate(getattr(quantizer, "layers", [quantizer])):
        entries = layer.codebook.embed
        entries.copy_(latents_FD.std(0) * torch.randn_like(entries) / (i + 1) + latents_FD.mean(0) * (i == 0))


def save(kind: str, folder: Path, **settings: Any) -> Path:
    random_model(kind, **settings).save_pretrained(folder)
    return folder
