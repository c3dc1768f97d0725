"""Recipes by name, for `sodakit train --recipe NAME`."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import get_args

from sodakit.data.config import Composition
from sodakit.errors import ConfigError, nearest
from sodakit.model.any_config import Family
from sodakit.recipes.ablations import (
    MIXES,
    SOURCES,
    TEXT_PERCENTS,
    anneal,
    composition,
    cooldown,
    data_source,
    text_ratio,
)
from sodakit.recipes.demo import demo
from sodakit.recipes.evening import evening
from sodakit.recipes.isoflop import isoflop
from sodakit.recipes.starter import starter
from sodakit.recipes.suite import TEXT_MODELS, prelim, soda_hier, suite, suite_by_family, warm_start
from sodakit.scaling.design import soda_design
from sodakit.scaling.point import DesignPoint
from sodakit.train.config import TrainConfig

Recipe = Callable[[Sequence[Path]], TrainConfig]
"""Takes the stores and returns a complete config; with none, one to be printed and costed."""


def _demo(family: Family, stores: Sequence[Path]) -> TrainConfig:
    if len(stores) > 1:
        raise ConfigError(
            f"The recipe demo trains on one store; {len(stores)} were given: {', '.join(map(str, stores))}. Name one with --data, "
            "or take a recipe that mixes, such as evening."
        )
    return demo(_given("demo", stores)[0], family=family)


def _evening(stores: Sequence[Path]) -> TrainConfig:
    return evening(_given("evening", stores))


def _starter(interleaved: bool, stores: Sequence[Path]) -> TrainConfig:
    return starter(_given("starter", stores), interleaved=interleaved)


def _given(name: str, stores: Sequence[Path]) -> Sequence[Path]:
    if not stores:
        raise ConfigError(f"The recipe {name} takes its settings from its stores: name one with --data.")
    return stores


def _isoflop(point: DesignPoint, stores: Sequence[Path]) -> TrainConfig:
    return isoflop(point, stores, micro_rows="auto")


SUITE = ("soda_135m", "soda_600m", "soda_1.7b", "soda_4b")
FRAMES: tuple[Family, ...] = ("depth", "delay")
RECIPES: dict[str, Recipe] = {
    "demo": partial(_demo, "flat"),
    **{f"demo_{family}": partial(_demo, family) for family in FRAMES},
    "evening": _evening,
    "starter": partial(_starter, False),
    "starter_words": partial(_starter, True),
    **{name: partial(suite, name) for name in SUITE},
    **{f"{name}_{family}": partial(suite_by_family, family, name) for name in SUITE for family in FRAMES},
    "soda_hier_1b": soda_hier,
    **{f"{name}_warm": partial(warm_start, name) for name in TEXT_MODELS},
    "prelim": prelim,
    **{f"anneal_{source}": partial(anneal, source) for source in SOURCES},
    "cooldown_135m": cooldown,
    **{f"source_{name}": partial(data_source, name) for name in MIXES},
    **{f"text_{percent:g}": partial(text_ratio, percent) for percent in TEXT_PERCENTS},
    **{f"tokens_{kind}": partial(composition, kind) for kind in get_args(Composition)},
    **{f"isoflop_{p.name.removesuffix('_s0')}": partial(_isoflop, p) for p in soda_design()},
}


def recipe(name: str, stores: Sequence[Path]) -> TrainConfig:
    """The config of a recipe on these stores.

    Raises:
        ConfigError: no such recipe; the message names the nearest one.
    """
    if name not in RECIPES:
        raise ConfigError(f"No recipe {name!r}.{nearest(name, RECIPES, 'Recipes')}")
    return RECIPES[name](stores)
