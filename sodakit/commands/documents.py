"""`sodakit documents`: a store as the published parquet documents."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sodakit.commands.options import read_options


@dataclass(frozen=True, kw_only=True)
class Options:
    """A store of 8 codebooks of 2,048 codes as parquet documents whose audio is characters.

    `sodakit prepare` reads them back into an equal store.

    Example: sodakit documents stores/mine --out documents/
    """

    store: tyro.conf.Positional[Path]
    """Folder made by `sodakit prepare`."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Where the tables go, one for each split."""
    bare: bool = False
    """Only `id` and `text`, as the published sets have; ids of utterances, times and speakers are left out."""


def main(argv: list[str]) -> None:
    """Export as argv says."""
    options = read_options(Options, "documents", argv)
    from sodakit.store.reader import StoreReader
    from sodakit.store.written import write_documents

    print(write_documents(StoreReader(options.store), options.out, options.bare))
