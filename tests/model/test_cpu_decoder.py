import pytest
import torch

from sodakit.errors import ConfigError
from sodakit.model import compiled, native
from sodakit.model.compiled import quantised, supports
from sodakit.model.config import model_size
from sodakit.model.cpu_decoder import CpuDecoder
from sodakit.model.kv_cache import KVCache
from sodakit.model.transformer import Transformer

pytestmark = pytest.mark.skipif(native.compiled() is None, reason="needs a C++ compiler")
V = 150
PRECISIONS = ("float32", "bfloat16", "int8")


@pytest.fixture(scope="module")
def model():
    """Grouped heads, a feed-forward that is no multiple of 8 blocks, and an odd number of ids."""
    config = model_size("nano", V, heads=4, kv_heads=2, ffn_width=176, context=96, init_std=0.2)
    return Transformer(config, seed=1).eval()


def cache(model, decoder, rows):
    return KVCache(model.config, rows, 96, dtype=decoder.cache_dtype)


def rounded(model, precision):
    """The same model with the weights that `precision` keeps, in float32."""
    copy = Transformer(model.config).eval()
    plain = {}
    for name, weight in model.state_dict().items():
        if weight.ndim == 2 and precision == "int8" and "embedding" not in name:
            ids, scale_R = quantised(weight)
            weight = ids.float() * scale_R[:, None]
        elif weight.ndim == 2 and precision == "bfloat16" and "embedding" not in name:
            weight = weight.bfloat16().float()
        plain[name] = weight
    copy.load_state_dict(plain)
    return copy


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 2e-5), ("bfloat16", 3e-2), ("int8", 3e-2)])
@torch.inference_mode()
def test_states_are_those_of_the_same_weights_in_float32(model, precision, tolerance):
    """Weights in fewer bits are rounded; apart from that, only the cache in bfloat16 may add an error."""
    decoder, reference = CpuDecoder(model, precision), rounded(model, precision)
    ids_BT = torch.randint(0, V, (3, 40), generator=torch.Generator().manual_seed(0))
    kept = cache(model, decoder, 3)
    parts = [decoder(ids_BT[:, :25], kept), *(decoder(ids_BT[:, t : t + 1], kept) for t in range(25, 40))]
    expected_BTD = reference(ids_BT)
    relative = (torch.cat(parts, 1) - expected_BTD).norm() / expected_BTD.norm()
    assert relative < tolerance


@torch.inference_mode()
def test_logits_are_those_of_the_quantised_head(model):
    decoder, x_BD = CpuDecoder(model, "int8"), torch.randn(5, model.config.width)
    ids, scale_R = quantised(model.head_VD)
    expected = x_BD @ (ids.float() * scale_R[:, None])[7:140].T
    torch.testing.assert_close(decoder.logits(x_BD, slice(7, 140)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
@torch.inference_mode()
def test_a_row_is_the_same_to_the_last_bit_in_any_company_and_any_pieces(model, precision):
    decoder = CpuDecoder(model, precision)
    ids_BT = torch.randint(0, V, (7, 30), generator=torch.Generator().manual_seed(2))
    whole = cache(model, decoder, 7)
    together_BTD = decoder(ids_BT, whole)
    for row, cuts in ((0, (30,)), (3, (1, 28, 1)), (6, (1,) * 30)):
        alone, at, parts = cache(model, decoder, 1), 0, []
        for cut in cuts:
            parts.append(decoder(ids_BT[row : row + 1, at : at + cut], alone))
            at += cut
        assert torch.equal(torch.cat(parts, 1)[0], together_BTD[row])
        last_BD = together_BTD[:, -1]
        everyone = decoder.logits(last_BD, slice(0, V))
        assert torch.equal(decoder.logits(last_BD[row : row + 1], slice(3, V))[0], everyone[row, 3:])


@torch.inference_mode()
def test_the_number_of_threads_changes_nothing(model, monkeypatch):
    monkeypatch.setattr(compiled, "WORK_PER_THREAD", 1)
    decoder, ids_BT = CpuDecoder(model, "int8"), torch.arange(20)[None]
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(decoder(ids_BT, cache(model, decoder, 1)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_int8_is_off_by_half_a_step_at_most():
    weight = torch.randn(9, 64) * torch.logspace(-3, 2, 9)[:, None]
    ids, scale_R = quantised(weight)
    assert ((ids.float() * scale_R[:, None] - weight).abs() <= 0.5001 * scale_R[:, None]).all()
    assert quantised(torch.zeros(2, 16))[0].abs().sum() == 0


def test_what_does_not_fit_is_refused(model):
    decoder = CpuDecoder(model)
    with pytest.raises(ConfigError, match="the cache holds 96"):
        decoder(torch.zeros(1, 97, dtype=torch.int64), cache(model, decoder, 1))
    with pytest.raises(ConfigError, match=r"needed: torch\.float32"):
        decoder(torch.zeros(1, 1, dtype=torch.int64), KVCache(model.config, 1, 96, dtype=torch.bfloat16))
    with pytest.raises(ConfigError, match="precision='int4'"):
        CpuDecoder(model, "int4")
    assert not supports(model_size("nano", V, head_width=40))
