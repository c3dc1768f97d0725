"""A small Mimi checkpoint with random weights, and an untrained mini codec: shapes and state need no training."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sodakit.codec.mini import MiniCodec
from sodakit.codec.network import MiniConfig, MiniNetwork

TINY = MiniConfig(
    encoder_widths=(16, 24, 32),
    encoder_blocks=(1, 1, 1),
    decoder_widths=(32, 24, 16),
    decoder_blocks=(1, 1, 1),
    num_codebooks=3,
    codebook_size=64,
    code_width=16,
    outline_terms=(2, 4),
    phones=("_", "a", "t"),
)


def untrained_mini() -> MiniCodec:
    """A tiny mini codec whose codebooks lie where its latents do, so that many entries are used."""
    torch.manual_seed(0)
    network = MiniNetwork(TINY)
    for codebook in network.quantizer.codebooks:
        codebook.entries.mul_(0.3)
    return MiniCodec(network, "tiny")


@pytest.fixture(scope="session")
def tiny_mini() -> MiniCodec:
    return untrained_mini()


@pytest.fixture(scope="session")
def mimi_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import MimiConfig, MimiModel

    config = MimiConfig(
        hidden_size=32,
        num_filters=4,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=64,
        codebook_size=64,
        codebook_dim=16,
        vector_quantization_hidden_dimension=16,
        num_quantizers=12,
        upsample_groups=32,
        sliding_window=20,
    )
    torch.manual_seed(0)
    model = MimiModel(config)
    for name, buffer in model.named_buffers():
        if name.endswith("embed_sum"):
            buffer.copy_(0.1 * torch.randn_like(buffer))
        if name.endswith("cluster_usage"):
            buffer.fill_(1.0)
    folder = tmp_path_factory.mktemp("mimi")
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def sounds() -> list[np.ndarray]:
    """Noise of assorted lengths: empty, shorter than a frame, on and off the frame grid."""
    random = np.random.default_rng(0)
    return [(0.2 * random.standard_normal(n)).astype(np.float32) for n in (0, 700, 1920, 24_000, 60_001)]
