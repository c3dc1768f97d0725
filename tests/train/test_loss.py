import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sodakit.train import loss as loss_module
from sodakit.train.loss import Slot, cross_entropy


def reference(x, head, targets, weights, z_loss, allowed=None):
    logits = x @ head.T
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -torch.inf)
    lse = logits.logsumexp(1)
    nll = lse - logits.gather(1, targets[:, None])[:, 0]
    return (weights * (nll + z_loss * lse**2)).sum(), nll


def random_problem(tokens=70, width=12, vocab=40, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, width, generator=g, dtype=torch.float64)
    head = torch.randn(vocab, width, generator=g, dtype=torch.float64)
    targets = torch.randint(0, vocab, (tokens,), generator=g)
    return x, head, targets, torch.rand(tokens, generator=g, dtype=torch.float64)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 200), st.integers(0, 99), st.sampled_from([0.0, 1e-2]))
def test_chunked_loss_and_gradients_equal_plain_float64(tokens, seed, z_loss):
    x, head, targets, weights = random_problem(tokens=tokens, seed=seed)
    a, b = x.clone().requires_grad_(), head.clone().requires_grad_()
    expected, nll = reference(a, b, targets, weights, z_loss)
    expected.backward()
    c, d = x.float().requires_grad_(), head.float().requires_grad_()
    found, found_nll = cross_entropy(c, d, targets, weights.float(), z_loss=z_loss)
    (found * 2).backward()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found_nll.double(), nll, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(c.grad.double(), 2 * a.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(d.grad.double(), 2 * b.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tokens", [1, 70, 200])
@pytest.mark.parametrize("block_ids", [1, 7, 39])
def test_ids_in_several_blocks_equal_plain_float64(tokens, block_ids, monkeypatch):
    """As in every real run: what a block weighs in the sum is known only after the last one."""
    monkeypatch.setattr(loss_module, "BLOCK_IDS", block_ids)
    monkeypatch.setitem(loss_module.BLOCK_ELEMENTS, "cpu", 1)
    x, head, targets, weights = random_problem(tokens=tokens)
    head[35:] *= 8  # the largest scores come in the last blocks
    a, b = x.clone().requires_grad_(), head.clone().requires_grad_()
    expected, nll = reference(a, b, targets, weights, 1e-2)
    expected.backward()
    c, d = x.float().requires_grad_(), head.float().requires_grad_()
    found, found_nll = cross_entropy(c, d, targets, weights.float(), z_loss=1e-2)
    found.backward()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found_nll.double(), nll, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(c.grad.double(), a.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(d.grad.double(), b.grad, rtol=1e-4, atol=1e-4)


def test_slots_equal_a_masked_softmax():
    x, head, _, weights = random_problem()
    rows = [slice(0, 10), slice(9, 25), slice(25, 40)]
    group = np.arange(len(x)) % 3
    targets = torch.tensor([rows[g].start + i % 10 for i, g in enumerate(group)])
    allowed = torch.zeros(len(x), 40, dtype=torch.bool)
    for i, g in enumerate(group):
        allowed[i, rows[g]] = True
    a, b = x.clone().requires_grad_(), head.clone().requires_grad_()
    expected, _ = reference(a, b, targets, weights, 1e-3, allowed)
    expected.backward()
    slots = [Slot(torch.from_numpy(np.flatnonzero(group == g)), r) for g, r in enumerate(rows)]
    c, d = x.float().requires_grad_(), head.float().requires_grad_()
    found, _ = cross_entropy(c, d, targets, weights.float(), slots=slots, z_loss=1e-3)
    found.backward()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(c.grad.double(), a.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(d.grad.double(), b.grad, rtol=1e-4, atol=1e-5)


def test_the_result_does_not_depend_on_the_chunk(monkeypatch):
    x, head, targets, weights = (
        t.float() if t.is_floating_point() else t for t in random_problem(tokens=700)
    )
    whole, nll = cross_entropy(x, head, targets, weights)
    monkeypatch.setitem(loss_module.CHUNK_ELEMENTS, "cpu", 1)
    parts, nll_parts = cross_entropy(x, head, targets, weights)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(nll_parts, nll)


def test_bfloat16_products_stay_close():
    x, head, targets, weights = (t.float() if t.is_floating_point() else t for t in random_problem())
    exact, _ = cross_entropy(x, head, targets, weights)
    low, _ = cross_entropy(x, head, targets, weights, dtype=torch.bfloat16)
    assert low.item() == pytest.approx(exact.item(), rel=0.02)
