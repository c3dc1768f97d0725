"""A name that is nearly one of those known is answered with that one, wherever names are asked for."""

from collections.abc import Callable
from typing import Any

import pytest

from sodakit.errors import ConfigError, nearest
from sodakit.scaling.laws import named_law
from sodakit.scaling.residuals import named_misfit
from sodakit.tokens.tasks import task
from sodakit.train.cost import Machine
from sodakit.voices.catalogue import voice
from sodakit.voices.names import find_voices


@pytest.mark.parametrize(
    ("look", "name", "meant"),
    [
        (voice, "ana", "anna"),
        (task, "s2st_drect", "s2st_direct"),
        (named_law, "chinchila", "chinchilla"),
        (named_misfit, "hubber", "huber"),
        (Machine.named, "H10", "H100"),
        (lambda name: find_voices((name,)), "espek:en", "espeak"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(look: Callable[[str], Any], name: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"Did you mean '{meant}'"):
        look(name)


def test_what_is_like_nothing_is_answered_with_all() -> None:
    assert nearest("xyz", ["anna", "bella"], "Voices") == " Voices: anna, bella."
    assert nearest("xyz", [], "Its losses") == " Its losses: none."
