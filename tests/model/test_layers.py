import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from sodakit.model import layers
from sodakit.model.layers import Linear, RMSNorm, product, rotary_frequencies, rotary_table, turned
from tests.model.strategies import small_config


def _angles(tokens: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    cos, sin = rotary_table(small_config(), tokens, torch.device("cpu"))
    return cos.to(dtype), sin.to(dtype)


def test_the_lean_norm_has_the_gradient_of_its_definition() -> None:
    """Its backward pass is written by hand; a wrong term would train a little worse and nobody would see."""
    norm = RMSNorm(16, 1e-5).double()
    x = torch.randn(2, 5, 3, 16, dtype=torch.float64, requires_grad=True)
    weight = norm.weight.detach().normal_().requires_grad_()

    def normed(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(norm, {"weight": weight}, (x, *_angles(5, torch.float64)))

    assert gradcheck(normed, (x, weight))
    assert gradcheck(lambda x, w: torch.func.functional_call(norm, {"weight": w}, (x,)), (x, weight))


def test_the_lean_norm_takes_gradients_of_any_layout() -> None:
    norm, x = RMSNorm(16, 1e-5), torch.randn(6, 4, 16, requires_grad=True)
    direction = torch.randn(6, 4, 16)
    gradients = []
    for grad in (direction, direction.transpose(0, 1).contiguous().transpose(0, 1)):
        x.grad = None
        norm(x, *_angles(6)).backward(grad)
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("angled", [False, True])
def test_the_norm_is_the_same_with_and_without_gradients(angled: bool) -> None:
    norm = RMSNorm(16, 1e-5)
    x = torch.randn(2, 5, 3, 16)
    angles = _angles(5) if angled else ()
    with torch.no_grad():
        plain = norm(x, *angles)
    torch.testing.assert_close(norm(x, *angles), plain, atol=1e-6, rtol=1e-6)


def test_a_norm_inside_autocast_feeds_the_next_product_its_dtype() -> None:
    norm, x = RMSNorm(16, 1e-5), torch.randn(3, 16)
    with torch.autocast("cpu", torch.bfloat16):
        inside = norm(x)
    assert inside.dtype == torch.bfloat16
    assert norm(x).dtype == torch.float32
    torch.testing.assert_close(inside.float(), norm(x), atol=2e-2, rtol=1e-2)


def test_turning_keeps_lengths_and_only_distances_matter() -> None:
    q, k = torch.randn(16, dtype=torch.float64), torch.randn(16, dtype=torch.float64)
    cos, sin = _angles(300, torch.float64)
    turned_q, turned_k = (turned(x.expand(300, 1, 16), cos, sin)[:, 0] for x in (q, k))
    torch.testing.assert_close(turned_q.norm(dim=-1), q.norm().expand(300), atol=1e-6, rtol=1e-6)
    scores = turned_q @ turned_k.T
    for distance in (0, 7, 123):
        along = scores.diagonal(-distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), atol=1e-5, rtol=0)


def test_turning_back_gives_what_came_in() -> None:
    x = torch.randn(2, 9, 3, 16)
    cos, sin = _angles(9)
    torch.testing.assert_close(turned(turned(x, cos, sin), cos, -sin), x)


def test_scaling_keeps_fast_rotations_and_slows_the_slowest_by_its_factor() -> None:
    plain = rotary_frequencies(small_config(head_width=64, rope_scaling=None))
    scaled = rotary_frequencies(small_config(head_width=64))
    ratio = plain / scaled
    assert ratio[0] == 1
    assert ratio[-1] == pytest.approx(8)
    assert (ratio.diff() >= -1e-12).all()


def test_a_linear_layer_is_a_product_without_bias() -> None:
    layer = Linear(3, 5)
    torch.nn.init.normal_(layer.weight)
    x = torch.randn(2, 3)
    assert layer.bias is None
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch is built without oneDNN")
@pytest.mark.parametrize("shape", [(4,), (70,), (2, 9), (3, 0)])
def test_onednns_products_are_as_precise_as_float32(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "has_slow_float32_blas", lambda: True)
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(*shape, 96, generator=generator), torch.randn(130, 96, generator=generator)
    exact = x.double() @ weight[40:110].double().T
    with torch.inference_mode():
        torch.testing.assert_close(product(x, weight[40:110]).double(), exact, atol=5e-5, rtol=0)


def test_products_with_gradients_or_in_float64_are_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN's operation has no gradient, and knows no float64."""
    monkeypatch.setattr(layers, "has_slow_float32_blas", lambda: True)
    weight = torch.randn(8, 6, requires_grad=True)
    product(torch.randn(5, 6), weight).sum().backward()
    assert weight.grad is not None
    with torch.no_grad():
        x = torch.randn(5, 6).double()
        assert torch.equal(product(x, weight.double()), F.linear(x, weight.double()))
