"""`sodakit describe`: what a store holds."""

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from sodakit.commands.options import read_options


@dataclass(frozen=True)
class Options:
    """What stores hold: hours, tokens and speakers of each split and source.

    Example: sodakit describe stores/mine
    """

    stores: tyro.conf.Positional[tuple[Path, ...]]
    """Folders made by `sodakit prepare`."""
    verify: bool = False
    """Also read every byte and compare it with the digests in store.json."""


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
