import pytest
import torch

from sodakit.errors import ConfigError
from sodakit.generate.sampling import GREEDY, Sampling, choose


def frequencies(logits, sampling, draws=20_000):
    g = torch.Generator().manual_seed(0)
    rows = logits.expand(draws, -1)
    picks = choose(rows, torch.rand(draws, generator=g, dtype=torch.float64), sampling)
    return torch.bincount(picks, minlength=logits.shape[-1]).double() / draws


def test_plain_sampling_follows_the_softmax():
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    expected = (logits / 0.7).softmax(0).double()
    torch.testing.assert_close(frequencies(logits, Sampling(temperature=0.7)), expected, atol=0.015, rtol=0)


def test_top_p_keeps_the_smallest_set_that_reaches_p():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    found = frequencies(logits, Sampling(top_p=0.6))
    torch.testing.assert_close(found, torch.tensor([0.625, 0.375, 0, 0]).double(), atol=0.015, rtol=0)


def test_top_k_keeps_k():
    found = frequencies(torch.tensor([3.0, 2.0, 1.0, 0.0]), Sampling(top_k=2))
    assert found[2:].sum() == 0 and found[:2].min() > 0


def test_temperature_zero_takes_the_largest():
    assert choose(torch.tensor([[0.0, 5.0, 1.0]]), torch.tensor([0.99]), GREEDY).tolist() == [1]


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 1e-16, 0.5])
def test_extreme_numbers_still_choose_a_legal_id(uniform):
    picks = choose(
        torch.randn(4, 7), torch.full((4,), uniform, dtype=torch.float64), Sampling(top_p=0.3, top_k=3)
    )
    assert ((picks >= 0) & (picks < 7)).all()


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match="top_p"):
        Sampling(top_p=0.0)


def test_top_p_that_is_reached_exactly_keeps_no_further_id():
    logits = torch.tensor([0.5, 0.25, 0.25]).log()
    found = frequencies(logits, Sampling(top_p=0.5), draws=200)
    assert found.tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("temperature", [5e-324, 1e-310, 1e-40, 1e-31, 1e-20])
def test_hardly_any_temperature_takes_the_largest(temperature):
    logits = torch.tensor([[-3.0, 5.0, 1.0], [900.0, 5.0, 1.0]])
    assert choose(logits, torch.tensor([0.99, 0.0]), Sampling(temperature=temperature)).tolist() == [1, 0]


@pytest.mark.parametrize("name", ["temperature", "top_p", "repeat_penalty"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_settings_that_are_no_number_are_refused(name, value):
    with pytest.raises(ConfigError, match=name):
        Sampling(**{name: value})


def test_a_share_that_is_nothing_in_32_bits_keeps_the_likeliest():
    chosen = choose(torch.tensor([[0.0, 2.0, 1.0]]), torch.tensor([0.9]), Sampling(top_p=1e-300))
    assert chosen.tolist() == [1]
