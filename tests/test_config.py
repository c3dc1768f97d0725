from dataclasses import dataclass, field

import pytest

from sodakit.config import config_digest, from_plain, override, parse_overrides, to_plain
from sodakit.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    rate: float = 1.0
    name: str | None = None


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    sizes: tuple[int, ...] = (1, 2)
    weights: dict[str, float] = field(default_factory=dict)
    on: bool = False


def test_configs_survive_json():
    config = Outer(Inner(0.5, "x"), (3,), {"text": 2.0}, True)
    assert from_plain(Outer, to_plain(config)) == config


def test_overrides_reach_dotted_names_and_keep_types():
    changed = override(
        Outer(), parse_overrides(["inner.rate=3e-5", "sizes=[4,5]", "on=true", "inner.name=abc"])
    )
    assert changed == Outer(Inner(3e-5, "abc"), (4, 5), {}, True)


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(ConfigError, match=r"Did you mean 'inner\.rate'"):
        override(Outer(), {"inner.rat": "1"})


@pytest.mark.parametrize("word", ["on=3", "sizes=4", "inner.rate=fast"])
def test_a_wrong_type_is_refused(word):
    with pytest.raises(ConfigError):
        override(Outer(), parse_overrides([word]))


def test_equal_configs_and_only_those_have_equal_digests():
    assert config_digest(Outer()) == config_digest(Outer(Inner()))
    assert config_digest(Outer()) != config_digest(Outer(Inner(2.0)))


def test_what_has_no_default_and_is_not_given_is_named():
    @dataclass(frozen=True)
    class Needs:
        steps: int
        rate: float = 1.0

    with pytest.raises(ConfigError, match="x lacks steps"):
        from_plain(Needs, {"rate": 1}, "x")
