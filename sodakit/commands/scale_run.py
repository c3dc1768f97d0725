"""`sodakit scale run`: the queue that trains a design."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from sodakit.bounds import Count
from sodakit.commands.options import ResumeOptions, refuse_unused
from sodakit.log import say

if TYPE_CHECKING:
    from sodakit.scaling.point import DesignPoint
    from sodakit.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Run(ResumeOptions):
    """Train a design; the same command goes on after an interruption. Start it once for each GPU to share the queue.

    Example: sodakit scale run design.jsonl --data stores/mine --out runs/scale
    """

    design: Annotated[Path, tyro.conf.Positional]
    """Made by `scale design --out`."""
    data: tuple[Path, ...]
    """Stores to train on; the first one's validation split is what losses are measured on."""
    out: Path = Path("runs/scale")
    """Gets one folder for each run."""
    device: str | None = None
    """cpu, cuda, cuda:1, …"""
    micro_rows: Count | None = None
    """Rows through the model at a time; default: as many as fit."""
    validation_rows: Count = 64
    """Rows to validate on."""
    ray: str | None = None
    """Run on a Ray cluster at this address (auto, ray://…), or `local`; --out is a folder all its machines see."""
    cpus_per_run: float = 1
    """Cores that Ray keeps for each run."""
    gpus_per_run: float = 0
    """GPUs that Ray keeps for each run."""
    dry_run: bool = False
    """Say how far the queue is, and stop."""

    def run(self) -> None:
        from sodakit.scaling.design_file import read_design
        from sodakit.scaling.run import progress, run_design

        if self.ray is None:
            refuse_unused(self, ("cpus_per_run", "gpus_per_run"), "without --ray")
        points = read_design(self.design)
        if self.dry_run:
            print(progress(self.out, points))
            return
        from sodakit.recipes.isoflop import isoflop
        from sodakit.scaling.ray_queue import run_on_ray
        from sodakit.train.trainer import train

        # Ray's workers have another working directory.
        stores = self.data if self.ray is None else tuple(store.resolve() for store in self.data)

        def make(point: "DesignPoint") -> "TrainConfig":
            return isoflop(
                point, stores, micro_rows=self.micro_rows or "auto", validation_rows=self.validation_rows
            )

        def teach(config: "TrainConfig", folder: Path) -> Path:
            return train(config, folder, device=self.device, other_code=self.other_code)

        if self.ray is None:
            done = run_design(points, self.out, make, teach)
        else:
            done = run_on_ray(
                points,
                self.out,
                make,
                teach,
                address=None if self.ray == "local" else self.ray,
                cpus_per_run=self.cpus_per_run,
                gpus_per_run=self.gpus_per_run,
            )
        left = [name for name, state in done.states.items() if state in ("waiting", "running")]
        then = "The same command goes on." if left else f"Fit them with: sodakit scale fit {self.out}"
        say(f"{done}. {then}")
