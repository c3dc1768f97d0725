"""Adapters: nothing at first, everything that is trained, and gone when merged."""

import torch

from sodakit.checkpoint.contents import model_from_weights
from sodakit.model.config import model_size
from sodakit.model.lora import add_adapters, merge_adapters
from sodakit.model.transformer import Transformer

CONFIG = model_size("nano", 50, context=32)
IDS = torch.arange(20)[None] % 50


def adapted(touched: bool) -> Transformer:
    model = Transformer(CONFIG, seed=1)
    add_adapters(model, 4, 8.0, seed=0)
    if touched:
        for name, parameter in model.named_parameters():
            if name.endswith("lora_b"):
                torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    return model


def test_a_model_with_fresh_adapters_is_the_model():
    assert torch.equal(adapted(False)(IDS), Transformer(CONFIG, seed=1)(IDS))


def test_only_adapters_are_trained_and_they_are_few():
    model = adapted(True)
    model(IDS).square().sum().backward()
    trained = {n for n, p in model.named_parameters() if p.grad is not None}
    assert trained and all(n.endswith(("lora_a", "lora_b")) for n in trained)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) < frozen / 4


def test_merged_weights_are_a_plain_model_that_computes_the_same():
    model = adapted(True)
    plain = model_from_weights(CONFIG, merge_adapters(model.state_dict()), "test")
    assert set(plain.state_dict()) == set(Transformer(CONFIG).state_dict())
    torch.testing.assert_close(plain(IDS), model(IDS), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(plain(IDS), Transformer(CONFIG, seed=1)(IDS), atol=1e-3)
