"""Recipes by name, for `sodakit train --recipe NAME`."""

import difflib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sodakit.errors import ConfigError
from sodakit.recipes.demo import demo
from sodakit.recipes.suite import suite
from sodakit.train.config import TrainConfig


def _demo(stores: Sequence[Path]) -> TrainConfig:
    return demo(stores[0])


RECIPES: dict[str, Callable[[Sequence[Path]], TrainConfig]] = {
    "demo": _demo,
    "soda_135m": partial(suite, "soda_135m"),
    "soda_600m": partial(suite, "soda_600m"),
    "soda_1.7b": partial(suite, "soda_1.7b"),
    "soda_4b": partial(suite, "soda_4b"),
}
"""Each takes the stores and returns a complete config."""


def recipe(name: str, stores: Sequence[Path]) -> TrainConfig:
    """The config of a recipe on these stores.

    Raises:
        ConfigError: no such recipe; the message names the nearest one.
    """
    if name not in RECIPES:
        close = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else f" Recipes: {', '.join(RECIPES)}."
        raise ConfigError(f"No recipe {name!r}.{hint}")
    return RECIPES[name](stores)
