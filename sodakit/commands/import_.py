"""`sodakit import`: a Hugging Face folder as a model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sodakit.commands.options import read_options


@dataclass(frozen=True)
class Options:
    """Make a checkpoint of a Hugging Face folder or hub id: one that `sodakit export` wrote, or a released SODA model.

    Example: sodakit import soda-research/soda-600m-base --codec kyutai/mimi --out models/soda-600m
    """

    model: tyro.conf.Positional[str]
    """Folder or hub id."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Checkpoint folder to write."""
    codec: str | None = None
    """The codec of its audio, where the folder does not say: kyutai/mimi for the released models."""


def main(argv: list[str]) -> None:
    """Import as argv says."""
    options = read_options(Options, "import", argv)
    from sodakit.checkpoint.hf_folder import import_folder
    from sodakit.codec.load import load_codec
    from sodakit.config import to_plain

    codec = to_plain(load_codec(options.codec).spec) if options.codec else None
    print(import_folder(options.model, options.out, codec=codec))
