import torch

from sodakit.model.transformer import Transformer
from tests.model.strategies import small_config


def test_a_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, again, other = (Transformer(small_config(), seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])


def test_adding_a_layer_leaves_all_other_weights_as_they_were() -> None:
    shallow = Transformer(small_config(layers=2)).state_dict()
    deep = Transformer(small_config(layers=3)).state_dict()
    assert len(deep) > len(shallow)
    assert all(torch.equal(shallow[name], deep[name]) for name in shallow)


def test_matrices_have_the_configs_deviation_and_norms_are_ones() -> None:
    model = Transformer(small_config(width=128, ffn_width=512, init_std=0.05))
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            assert (parameter == 1).all(), name
        else:
            assert abs(parameter.std().item() / 0.05 - 1) < 0.05, name
            assert abs(parameter.mean().item()) < 0.005, name


def test_no_two_matrices_begin_equal() -> None:
    blocks = Transformer(small_config(kv_heads=4)).blocks
    matrices = [
        getattr(block.attention, name).weight for block in blocks for name in ("query", "key", "value")
    ]
    for index, matrix in enumerate(matrices):
        assert not any(torch.equal(matrix, other) for other in matrices[index + 1 :])


def test_building_leaves_the_global_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    Transformer(small_config())
    assert torch.equal(before, torch.random.get_rng_state())
