"""Small models and packings for tests."""

from typing import Any

import torch
from hypothesis import strategies as st

from sodakit.model.config import ModelConfig
from sodakit.model.transformer import Transformer

lengths = st.lists(st.integers(1, 40), min_size=1, max_size=12).map(tuple)


def small_config(**changes: Any) -> ModelConfig:
    """Two layers, grouped queries, heads that do not add up to the width."""
    settings: dict[str, Any] = {
        "vocab_size": 97,
        "width": 48,
        "layers": 2,
        "heads": 4,
        "kv_heads": 2,
        "head_width": 16,
        "ffn_width": 80,
        "context": 512,
    }
    return ModelConfig(**settings | changes)


def lively_model(config: ModelConfig, seed: int = 0) -> Transformer:
    """A model whose logits are of order one and whose norms are not all ones: small mistakes show."""
    model = Transformer(config, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2:
                parameter.copy_(1 + 0.3 * torch.randn(parameter.shape, generator=generator))
            else:
                parameter.mul_(8)
    return model


def some_ids(batch: int, tokens: int, vocab_size: int = 97, seed: int = 0) -> torch.Tensor:
    """Ids of a batch, the same for the same seed."""
    return torch.randint(vocab_size, (batch, tokens), generator=torch.Generator().manual_seed(seed))
