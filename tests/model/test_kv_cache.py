import pytest
import torch

from sodakit.errors import ConfigError
from sodakit.model.accounting import cache_bytes
from sodakit.model.kv_cache import KVCache
from tests.memory import STATM, resident_bytes
from tests.model.strategies import lively_model, small_config, some_ids


@pytest.fixture(
    params=[{}, {"kv_heads": 4}, {"kv_heads": 1, "tied_embeddings": True}], ids=["gqa", "mha", "mqa"]
)
def model(request: pytest.FixtureRequest):
    return lively_model(small_config(**request.param)).eval()


@torch.no_grad()
@pytest.mark.parametrize("pieces", [[40], [1] * 40, [17, 1, 1, 5, 16]], ids=["whole", "one by one", "mixed"])
def test_decoding_piece_by_piece_equals_one_forward_pass(model, pieces: list[int]) -> None:
    ids = some_ids(2, 40)
    cache = KVCache(model.config, 2, 40)
    states = torch.cat([model(piece, cache=cache) for piece in ids.split(pieces, dim=1)], dim=1)
    assert (states - model(ids)).abs().max() < 1e-5
    assert (model.logits(states) - model.logits(model(ids))).abs().max() < 2e-5


@torch.no_grad()
def test_rows_of_different_lengths_decode_as_if_alone(model) -> None:
    prompts = [some_ids(1, length, seed=length) for length in (3, 11, 7)]
    more = some_ids(3, 6, seed=99)
    padded = torch.zeros(3, 11, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        padded[row, : prompt.shape[1]] = prompt
    cache = KVCache(model.config, 3, 32)
    model(padded, cache=cache)
    cache.set_lengths([3, 11, 7])
    together = torch.cat([model(piece, cache=cache) for piece in more.split([1, 4, 1], dim=1)], dim=1)
    for row, prompt in enumerate(prompts):
        alone = model(torch.cat([prompt, more[row : row + 1]], dim=1))
        assert (together[row] - alone[0, prompt.shape[1] :]).abs().max() < 1e-5
    assert cache.lengths == [9, 17, 13]


@torch.no_grad()
def test_a_copied_prompt_and_a_reused_row_decode_like_fresh_ones(model) -> None:
    prompt, more = some_ids(1, 9), some_ids(2, 3, seed=7)
    cache = KVCache(model.config, 2, 32)
    model(some_ids(2, 20, seed=3), cache=cache)
    cache.reset()
    model(torch.cat([prompt, some_ids(1, 9, seed=11)]), cache=cache)
    cache.copy_row(0, 1, tokens=5)
    cache.set_lengths([9, 5])
    states = model(more, cache=cache)
    for row, start in enumerate((prompt, prompt[:, :5])):
        alone = model(torch.cat([start, more[row : row + 1]], dim=1))[0, start.shape[1] :]
        assert (states[row] - alone).abs().max() < 1e-5
    cache.reset(1)
    assert cache.lengths == [12, 0]


def test_a_row_that_outgrows_the_cache_is_told_so() -> None:
    model = lively_model(small_config())
    cache = KVCache(model.config, 1, 8)
    with torch.no_grad():
        model(some_ids(1, 6), cache=cache)
        with pytest.raises(ConfigError, match="holds 8"):
            model(some_ids(1, 3), cache=cache)
    assert cache.lengths == [6]


def test_a_cache_beyond_the_context_is_refused() -> None:
    with pytest.raises(ConfigError, match="context is 512"):
        KVCache(small_config(), 1, 513)


def test_rows_can_be_cut_back_but_not_stretched() -> None:
    cache = KVCache(small_config(), 2, 8)
    cache.advance(4)
    cache.set_lengths([0, 4])
    with pytest.raises(ConfigError, match="cut back"):
        cache.set_lengths([1, 4])
    with pytest.raises(ConfigError, match="has 4"):
        cache.copy_row(1, 0, tokens=5)


def test_a_cache_takes_the_memory_announced() -> None:
    config = small_config()
    assert KVCache(config, 3, 50, dtype=torch.bfloat16).num_bytes == cache_bytes(config, 3, 50, itemsize=2)


@pytest.mark.skipif(not STATM.exists(), reason="needs /proc")
def test_a_cache_takes_memory_only_where_something_is_written() -> None:
    """All of it written down, a row of 4,096 positions of the 135M took two thirds of the time to its first frame."""
    before = resident_bytes()
    cache = KVCache(small_config(context=200_000), 16, 200_000, dtype=torch.bfloat16)
    assert cache.num_bytes > 2**29 and resident_bytes() - before < cache.num_bytes / 8
    assert not cache.v_LBGTH[:, -1, :, -100:].any() and cache.k_LBGTH.dtype == torch.bfloat16
