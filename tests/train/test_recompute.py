"""A block computed again gives the very gradients of one that was kept."""

import subprocess
import sys
import weakref
from functools import partial

import pytest
import torch

from sodakit.model.attention import Packing, attend_packed
from sodakit.train.parallel import Ranks, lay_out
from tests.model.strategies import lively_model, small_config

ALONE = Ranks(0, 1, torch.device("cpu"), "ddp")


def gradients(recompute: bool, dtype: torch.dtype, enabled: bool) -> dict[str, torch.Tensor]:
    model = lively_model(small_config())
    lay_out(model, ALONE, recompute=recompute)
    ids = torch.randint(model.config.vocab_size, (2, 48), generator=torch.Generator().manual_seed(3))
    with torch.autocast("cpu", dtype=dtype, enabled=enabled, cache_enabled=False):
        x_BTD = model(ids, packing=Packing.from_lengths((48, 20, 28), device=ids.device))
    (x_BTD.float() ** 2).sum().backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None} | {"x": x_BTD.detach()}


@pytest.mark.parametrize("enabled", [False, True])
def test_recomputed_blocks_give_the_same_states_and_gradients(enabled):
    kept, again = (gradients(recompute, torch.bfloat16, enabled) for recompute in (False, True))
    assert kept.keys() == again.keys() and len(kept) > 5
    for name, tensor in kept.items():
        assert torch.equal(tensor, again[name]), name


def test_nothing_of_a_block_is_kept_but_its_input():
    model = lively_model(small_config())
    lay_out(model, ALONE, recompute=True)
    packing = Packing.from_rows(1, 64)
    saved: list[weakref.ref[torch.Tensor]] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        own = tensor.detach()  # else a weight would outlive its graph
        saved.append(weakref.ref(own))
        return own

    embedded = model.embedding(torch.randint(model.config.vocab_size, (1, 64)))
    angles = model.rotary_tables()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = model.blocks[0](embedded, *(a[:64] for a in angles), partial(attend_packed, packing=packing))
    kept = [tensor for ref in saved if (tensor := ref()) is not None]
    assert [t.shape for t in kept] == [embedded.shape] and out.requires_grad and len(saved) > 10


def test_training_alone_on_a_cpu_does_without_torchs_compiler():
    code = """
import sys
import torch
from sodakit.model.transformer import Transformer
from sodakit.train.config import OptimConfig
from sodakit.train.loss import cross_entropy
from sodakit.train.optim import Optimizer
from sodakit.train.parallel import Ranks, lay_out
from tests.model.strategies import small_config
model = Transformer(small_config())
lay_out(model, Ranks(0, 1, torch.device("cpu"), "ddp"), recompute=True)
optimizer = Optimizer(model.named_parameters(), OptimConfig(), peak_lr=1e-3)
x_TD = model(torch.zeros(1, 32, dtype=torch.long))[0]
loss, _ = cross_entropy(x_TD, model.head_VD, torch.zeros(32, dtype=torch.long), torch.ones(32))
loss.backward(); optimizer.clip(); optimizer.step(1e-3)
print([m for m in ("torch._dynamo", "torch.distributed.tensor", "sympy") if m in sys.modules])
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
