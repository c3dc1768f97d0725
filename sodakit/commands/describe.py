"""`sodakit describe`: what a store holds, and what a mixture of stores comes to."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from sodakit.bounds import Bounds, Count, Positive
from sodakit.commands.options import read_options


@dataclass(frozen=True)
class Options:
    """What stores hold: hours, tokens and speakers of each split and source; with a budget, the mixture of them.

    Example: sodakit describe stores/mine stores/text --weights 0.95 0.05 --budget-tokens 1e9
    """

    stores: tyro.conf.Positional[tuple[Path, ...]]
    """Folders made by `sodakit prepare`."""
    verify: bool = False
    """Also read every byte and compare it with the digests in store.json."""
    weights: tuple[float, ...] = ()
    """Token share of each store in a mixture; default: equal."""
    budget_tokens: Positive | None = None
    """Tokens a run will train on: shows how often it passes through each store."""
    context: Annotated[int, Bounds(least=2)] = 4096
    """Tokens in a window of the mixture."""
    batch_rows: Count = 8
    """Windows in a step of the mixture."""
    order: Literal["audio_first", "text_first", "both"] = "both"
    """Order of speech and transcript in the mixture's documents."""


def main(argv: list[str]) -> None:
    """Describe as argv says."""
    options = read_options(Options, "describe", argv)
    from sodakit.store.reader import StoreReader
    from sodakit.store.summary import store_tree

    for folder in options.stores:
        reader = StoreReader(folder)
        Console().print(store_tree(reader))
        if options.verify:
            reader.verify()
            print("every digest is as store.json says")
    if options.weights or options.budget_tokens is not None:
        _describe_mixture(options)


def _describe_mixture(options: Options) -> None:
    from sodakit.data.config import DataConfig, SourceConfig, ViewConfig
    from sodakit.data.describe import mixture_tree
    from sodakit.data.language import open_language
    from sodakit.data.loader import Loader
    from sodakit.errors import ConfigError

    weights = options.weights or (1.0,) * len(options.stores)
    if len(weights) != len(options.stores):
        raise ConfigError(
            f"{len(weights)} weights for {len(options.stores)} stores; needed: one each. Name them in the same order."
        )
    view = ViewConfig(order=options.order)
    sources = tuple(
        SourceConfig(store=str(store), weight=weight, view=view)
        for store, weight in zip(options.stores, weights, strict=True)
    )
    config = DataConfig(sources=sources, context=options.context, batch_rows=options.batch_rows)
    loader = Loader(config, open_language(options.stores[0])[1])
    Console().print(mixture_tree(loader, options.budget_tokens))
