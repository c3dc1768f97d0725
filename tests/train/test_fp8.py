"""Products in 8 bits against the same in float32. A CPU makes them as a GPU does, but for the order of its sums."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from sodakit.checkpoint.hf import export_hf
from sodakit.checkpoint.load import latest_checkpoint, load_checkpoint
from sodakit.errors import ConfigError
from sodakit.model.config import model_size
from sodakit.model.layers import Linear
from sodakit.model.transformer import Transformer
from sodakit.train.config import LoraConfig, ParallelConfig, ScheduleConfig
from sodakit.train.fp8 import Fp8Linear, check_fp8, rounded, use_fp8
from sodakit.train.run import Run
from sodakit.train.trainer import train
from tests.train.ranks import rank_config, together, train_all

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
STEPS = 30


def fp8_config(store, **changes):
    """The nano model, whose smallest matrices are 64 x 64."""
    return replace(
        rank_config(
            store, steps=STEPS, precision="bfloat16", fp8_from_width=64, schedule=ScheduleConfig(peak_lr=2e-3)
        ),
        **changes,
    )


def pair(width_in=96, width_out=160):
    """A plain matrix and the same in 8 bits."""
    plain = Linear(width_in, width_out)
    torch.nn.init.normal_(plain.weight, std=0.02, generator=torch.Generator().manual_seed(0))
    return plain, Fp8Linear(plain)


def randn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def relative(a, b):
    return float(((a - b).norm() / b.norm()).detach())


def cosine(a, b):
    return float(torch.cosine_similarity(a.flatten(), b.flatten(), dim=0))


@pytest.mark.parametrize(("dtype", "digits"), [(E4M3, 3), (E5M2, 2)])
def test_a_value_is_rounded_to_as_many_digits_as_its_format_has(dtype, digits):
    x = randn(64, 64).clamp(-4, 4)
    low, unit = rounded(x, dtype)
    large = x.abs() > 0.1  # far above the smallest values, which have fewer digits
    error = ((low.float() * unit - x).abs() / x.abs())[large]
    assert 0.8 * 2.0 ** -(digits + 1) < error.max() <= 2.0 ** -(digits + 1)


def test_the_scale_is_a_power_of_two_that_uses_the_top_octave():
    for size in (1e-20, 3e-5, 1.0, 448.0, 7e8):
        for dtype in (E4M3, E5M2):
            low, unit = rounded(randn(16, 16) * size, dtype)
            largest = torch.finfo(dtype).max
            assert torch.frexp(unit).mantissa == 0.5
            assert largest / 2 * 0.9 < low.float().abs().max() <= largest


def test_what_a_row_becomes_does_not_depend_on_its_neighbours():
    """`micro_rows` and the layout over ranks are no part of a run's identity, and decide which rows share a scale."""
    alone, louder = randn(16, 64), 100 * randn(16, 64, seed=2)
    (low, unit), (low_both, unit_both) = rounded(alone, E4M3), rounded(torch.cat((alone, louder)), E4M3)
    together_, apart = low_both[:16].float() * unit_both, low.float() * unit
    assert unit_both > 16 * unit and cosine(together_, apart) > 0.9999
    ordinary = alone.abs() > 2.0**-6 * unit_both
    assert ordinary.float().mean() > 0.9 and torch.equal(together_[ordinary], apart[ordinary])


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("dtype", [E4M3, E5M2])
def test_what_is_not_finite_stays_so(dtype, value):
    x = randn(16, 16)
    x[3, 5] = value
    low, unit = rounded(x, dtype)
    assert not torch.isfinite(low.float() * unit)[3, 5]


def test_zeros_stay_zeros():
    low, unit = rounded(torch.zeros(16, 16), E4M3)
    assert torch.isfinite(unit) and not (low.float() * unit).any()


def test_the_product_is_that_of_the_rounded_matrices():
    plain, matrix = pair()
    x = randn(32, 96)
    (x_low, x_unit), (w_low, w_unit) = rounded(x, E4M3), rounded(plain.weight, E4M3)
    expected = (x_low.double() @ w_low.double().T) * x_unit * w_unit
    torch.testing.assert_close(matrix(x).double(), expected, rtol=1e-5, atol=1e-6)


def test_products_are_as_near_to_float32_as_their_formats_allow():
    """Rounding to n digits errs by about 2^-n / 3.4 of a value; two factors err independently."""
    plain, matrix = pair()
    x, x_low = (randn(4, 32, 96).requires_grad_() for _ in range(2))
    y, y_low = plain(x), matrix(x_low)
    grad = 1e-7 * randn(*y.shape, seed=3)
    dx, dw = torch.autograd.grad(y, (x, plain.weight), grad)
    dx_low, dw_low = torch.autograd.grad(y_low, (x_low, matrix.weight), grad)
    assert 0.02 < relative(y_low, y) < 0.045
    assert relative(dx_low, dx) < 0.075 and relative(dw_low, dw) < 0.075
    assert cosine(dx_low, dx) > 0.997 and cosine(dw_low, dw) > 0.997


def test_under_autocast_states_are_bfloat16_and_gradients_of_weights_float32():
    _, matrix = pair()
    x = randn(2, 16, 96).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = matrix(x)
    y.float().sum().backward()
    assert y.dtype == x.grad.dtype == torch.bfloat16 and matrix.weight.grad.dtype == torch.float32


def test_where_nothing_is_differentiated_the_product_is_the_plain_one():
    """What is validated, listened to and exported is one model."""
    plain, matrix = pair()
    x = randn(5, 96)
    with torch.no_grad():
        assert torch.equal(matrix(x), plain(x))


def test_only_large_matrices_of_blocks_are_changed_and_no_name():
    model = Transformer(model_size("nano", 500, tied_embeddings=False))
    before = {n: p for n, p in model.named_parameters()}
    assert use_fp8(model, 64) == 7 * 2
    assert all(p is before[n] for n, p in model.named_parameters()) and len(before) == len(model.state_dict())
    assert isinstance(model.blocks[1].feed_forward.down, Fp8Linear) and type(model.head) is Linear
    wide = model_size("soda_1.7b", 500, layers=1)
    with torch.device("meta"):
        body = Transformer(wide)
    assert use_fp8(body, 2048) == 5, "all but keys and values, which are 1024 wide"


def test_it_compiles_whole_and_to_the_same():
    """The compiler may sum in another order; nothing else."""
    torch.compiler.reset()
    _, matrix = pair()
    x = randn(32, 96).requires_grad_()
    compiled = torch.compile(matrix, backend="aot_eager", fullgraph=True)
    grads = [torch.autograd.grad(f(x).square().sum(), (x, matrix.weight)) for f in (matrix, compiled)]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def losses(config, folder, steps=STEPS) -> list[float]:
    run = Run(config, folder, torch.device("cpu"))
    values = []
    for step in range(steps):
        run.update(run.loader.batch(step))
        values.append(run.losses()["loss/all"])
    return values


@pytest.mark.slow  # a CPU multiplies 8 bits number by number: 2 s a step
def test_thirty_steps_follow_bfloat16(store, tmp_path):
    low = losses(fp8_config(store), tmp_path / "fp8")
    wide = losses(fp8_config(store, fp8_from_width=None), tmp_path / "bf16")
    assert wide[-1] < 0.85 * wide[0], "nothing was learnt, so nothing was compared"
    assert low != wide and low == pytest.approx(wide, rel=5e-3)


def test_two_steps_are_near_bfloat16_and_not_the_same(store, tmp_path):
    low = losses(fp8_config(store), tmp_path / "fp8", 2)
    wide = losses(fp8_config(store, fp8_from_width=None), tmp_path / "bf16", 2)
    assert low != wide and low == pytest.approx(wide, rel=5e-3)


@pytest.mark.slow
def test_sharded_recomputing_ranks_follow_one_process(store, tmp_path):
    config = fp8_config(store, steps=4, validation=(), save_every_steps=4)
    shared = replace(config, parallel=ParallelConfig(kind="fsdp", activation_checkpointing=True))
    train(config, tmp_path / "one", device="cpu")
    together(2, train_all, [(shared, tmp_path / "two")])
    one, two = (
        load_checkpoint(latest_checkpoint(tmp_path / n / "checkpoints")).weights() for n in ("one", "two")
    )
    assert one.keys() == two.keys()
    begun = Transformer(config.model, seed=config.seed).state_dict()
    moved = [cosine(one[n] - begun[n], two[n] - begun[n]) for n in one if one[n].ndim == 2]
    assert min(moved) > 0.9


def test_a_checkpoint_does_not_show_it(store, tmp_path):
    config = fp8_config(store, steps=1, validation=())
    train(config, tmp_path / "fp8", device="cpu")
    saved = load_checkpoint(latest_checkpoint(tmp_path / "fp8" / "checkpoints")).weights()
    plain, low = (Transformer(config.model) for _ in range(2))
    use_fp8(low, 64)
    assert saved.keys() == plain.state_dict().keys() == low.state_dict().keys()
    for name, model in (("plain", plain), ("low", low)):
        model.load_state_dict(saved)
        export_hf(model, tmp_path / name)
    files = sorted(p.name for p in (tmp_path / "plain").iterdir())
    assert files and all(
        (tmp_path / "plain" / f).read_bytes() == (tmp_path / "low" / f).read_bytes() for f in files
    )


def test_what_cannot_work_is_said_at_the_start(store, tmp_path, monkeypatch):
    config = fp8_config(store)
    with pytest.raises(ConfigError, match=r"no matrix.*largest: 64"):
        Run(replace(config, fp8_from_width=2048), tmp_path, torch.device("cpu"))
    odd = Transformer(model_size("nano", 500, ffn_width=200))
    with pytest.raises(ConfigError, match=r"200 x 64.*multiples of 16"):
        use_fp8(odd, 64)
    with pytest.raises(ConfigError, match=r"data.context=60.*Use 64"):
        check_fp8(replace(config, data=replace(config.data, context=60)), torch.device("cpu"))
    with pytest.raises(ConfigError, match="adapters"):
        replace(config, lora=LoraConfig())
    with pytest.raises(ConfigError, match="at least 1"):
        replace(config, fp8_from_width=0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100")
    with pytest.raises(ConfigError, match=r"A100.*8.0; needed: 8.9"):
        check_fp8(config, torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    check_fp8(config, torch.device("cuda"))
    with pytest.raises(ConfigError, match="mps"):
        check_fp8(config, SimpleNamespace(type="mps"))
