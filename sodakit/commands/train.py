"""`sodakit train`: train a model by a recipe."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sodakit.bounds import Count, PositiveShare
from sodakit.commands.options import ResumeOptions, read_options, refuse_unused
from sodakit.config import override, parse_overrides, to_plain
from sodakit.errors import ConfigError


@dataclass(frozen=True)
class Options(ResumeOptions):
    """Train a model by a recipe; the same command resumes a run that was stopped.

    Settings of the recipe are overridden by name=value words. Under torchrun it trains on all ranks.

    Example: sodakit train --recipe demo --data stores/mine --out runs/mine steps=500 schedule.peak_lr=1e-3
    """

    settings: tyro.conf.Positional[tuple[str, ...]] = ()
    """Overrides, name=value."""
    data: tuple[Path, ...] = ()
    """Stores to train on, made by `sodakit prepare`. A dry run needs none."""
    recipe: str = "demo"
    """demo, soda_135m, soda_600m, soda_1.7b, soda_4b, with _depth or _delay for models of frames, soda_hier_1b, or one of
    the studies; a wrong name lists them."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("runs/train")
    """Run folder."""
    device: str | None = None
    """cpu, cuda, …"""
    dry_run: bool = False
    """Print the config and what it costs, and stop."""
    gpu: str = "H200"
    """GPU that a dry run is costed on: B200, H200, H200 NVL, H100, H100 NVL, H100 PCIe, A100, L40S or RTX 4090; `here` is this
    machine as `sodakit doctor --bench` measured it."""
    gpus: Count = 1
    """How many of them."""
    mfu: PositiveShare = 0.4
    """Share of their peak that the dry run assumes."""
    gpu_price: float = 3.5
    """Dollars per GPU and hour that the dry run assumes."""
    resume: bool = True
    """Go on where a run of the same config in the folder stopped; with --no-resume such a folder is refused."""
    wandb: str | None = None
    """Also log to this project on Weights & Biases."""


def main(argv: list[str]) -> None:
    """Train as argv says."""
    options = read_options(Options, "train", argv)
    from sodakit.recipes.catalogue import recipe

    config = override(recipe(options.recipe, options.data), parse_overrides(list(options.settings)))
    if options.dry_run:
        from sodakit.train.cost import Machine, describe_cost

        machine = Machine.named(
            options.gpu, num_gpus=options.gpus, mfu=options.mfu, price_per_gpu_hour=options.gpu_price
        )
        print(json.dumps(to_plain(config), indent=2))
        print(describe_cost(config, machine))
        return
    refuse_unused(options, ("gpu", "gpus", "mfu", "gpu_price"), "without --dry-run")
    from sodakit.recipes.listener import listener_of
    from sodakit.train.trainer import train

    if not options.data:
        raise ConfigError("Nothing to train on. Give --data a store made by `sodakit prepare`, or --dry-run.")
    if not options.resume and (options.out / "config.json").exists():
        raise ConfigError(
            f"{options.out} holds a run. Leave --no-resume out to go on with it, or choose another folder."
        )
    path = train(
        config,
        options.out,
        device=options.device,
        listen=listener_of(config, options.out),
        other_code=options.other_code,
        wandb_project=options.wandb,
    )
    print(path)
