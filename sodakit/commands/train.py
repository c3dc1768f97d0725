"""`sodakit train`: train a model by a recipe."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sodakit.commands.options import read_options
from sodakit.config import override, parse_overrides, to_plain
from sodakit.errors import ConfigError


@dataclass(frozen=True)
class Options:
    """Train a model by a recipe; the same command resumes a run that was stopped.

    Settings of the recipe are overridden by name=value words.

    Example: sodakit train --recipe demo --data stores/mine --out runs/mine steps=500 schedule.peak_lr=1e-3
    """

    data: tuple[Path, ...]
    """Stores to train on, made by `sodakit prepare`."""
    settings: tyro.conf.Positional[tuple[str, ...]] = ()
    """Overrides, name=value."""
    recipe: str = "demo"
    """demo, soda_135m, soda_600m, soda_1.7b or soda_4b."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("runs/train")
    """Run folder."""
    device: str | None = None
    """cpu, cuda, …"""
    dry_run: bool = False
    """Print the config and what it costs, and stop."""
    resume: bool = True
    """Go on where a run of the same config in the folder stopped; with --no-resume such a folder is refused."""


def main(argv: list[str]) -> None:
    """Train as argv says."""
    options = read_options(Options, "train", argv)
    from sodakit.recipes.catalogue import recipe
    from sodakit.train.cost import describe_cost
    from sodakit.train.trainer import train

    config = override(recipe(options.recipe, options.data), parse_overrides(list(options.settings)))
    if options.dry_run:
        print(json.dumps(to_plain(config), indent=2))
        print(describe_cost(config))
        return
    if not options.resume and (options.out / "config.json").exists():
        raise ConfigError(
            f"{options.out} holds a run. Leave --no-resume out to go on with it, or choose another folder."
        )
    print(train(config, options.out, device=options.device))
