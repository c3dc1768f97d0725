import pytest

from sodakit.config import from_plain, to_plain
from sodakit.errors import ConfigError
from sodakit.model.config import MODEL_SIZES, ModelConfig, RopeScaling, model_size, soda_grid_shape
from tests.model.strategies import small_config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocab_size", 0),
        ("layers", -1),
        ("heads", 2.5),
        ("kv_heads", 3),
        ("head_width", 15),
        ("context", True),
        ("norm_eps", 0.0),
        ("init_std", -0.1),
    ],
)
def test_a_bad_field_is_named_in_the_error(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        small_config(**{field: value})


def test_scaling_that_would_divide_by_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="low_frequency_factor"):
        RopeScaling(low_frequency_factor=4.0, high_frequency_factor=4.0)


def test_a_mistyped_size_or_field_is_answered_with_the_right_one() -> None:
    with pytest.raises(ConfigError, match="soda_600m"):
        model_size("soda-600m")
    with pytest.raises(ConfigError, match="ffn_width"):
        model_size("tiny", fnn_width=3)


@pytest.mark.parametrize("name", sorted(MODEL_SIZES))
def test_every_size_builds_and_survives_json(name: str) -> None:
    config = model_size(name, layers=2)
    assert config.layers == 2
    assert from_plain(ModelConfig, to_plain(config)) == config


@pytest.mark.parametrize(
    ("width", "layers", "heads"),
    [(256, 3, 2), (384, 4, 3), (768, 8, 6), (1024, 11, 8), (1664, 17, 13), (2048, 20, 16), (3072, 30, 24)],
)
def test_the_grid_rule_gives_the_shapes_of_the_paper(width: int, layers: int, heads: int) -> None:
    shape = soda_grid_shape(width)
    assert (shape.layers, shape.heads, shape.kv_heads, shape.head_width) == (layers, heads, heads, 128)
    assert shape.ffn_width == 4 * width


def test_a_grid_width_its_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ConfigError, match="width=257"):
        soda_grid_shape(257)
