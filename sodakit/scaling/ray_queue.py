"""The queue on a Ray cluster: one task for each run, or for each trunk with its legs. Optional: `sodakit[ray]`.

The tasks write to one folder that all machines see. A task whose machine dies is started again by Ray elsewhere and goes
on from its last checkpoint, once the dead one's lock is stale; finished runs are skipped.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sodakit.errors import MissingExtra
from sodakit.log import say
from sodakit.scaling.design import DesignPoint
from sodakit.scaling.run import MakeConfig, Progress, Train, claim_design, progress, train_group
from sodakit.scaling.trunks import computed_flops, trunk_groups

RETRIES = 5
"""How often Ray starts a task again whose machine died."""


def run_on_ray(
    points: Sequence[DesignPoint],
    root: Path,
    make_config: MakeConfig,
    train: Train,
    *,
    address: str | None = None,
    cpus_per_run: float = 1,
    gpus_per_run: float = 0,
) -> Progress:
    """Train every point that is left on a cluster; returns when none is running.

    Args:
        root: a folder that all machines share.
        address: of the cluster: `auto`, `ray://host:10001`; None starts one on this machine.
        cpus_per_run: processor cores Ray keeps for a run.
        gpus_per_run: GPUs it keeps; a run sees its own as `cuda`.
    Raises:
        MissingExtra: ray is not installed.
        ConfigError: `root` holds another design.
    """
    ray = _ray()
    root = root.resolve()
    claim_design(root, points)
    if not ray.is_initialized():
        ray.init(address=address, log_to_driver=False, include_dashboard=False if address is None else None)

    @ray.remote(num_cpus=cpus_per_run, num_gpus=gpus_per_run, max_retries=RETRIES)
    def work(group: list[DesignPoint]) -> None:
        train_group(group, root, make_config, train)

    waiting = [work.remote(group) for group in sorted(trunk_groups(points), key=computed_flops)]
    failed: Exception | None = None
    while waiting:
        done, waiting = ray.wait(waiting)
        try:
            ray.get(done)
        except ray.exceptions.RayError as error:
            # The others go on; the first mistake is told when they are through, without Ray's wrapping.
            failed = failed or getattr(error, "cause", None) or error
        say(str(progress(root, points)))
    if failed is not None:
        raise failed
    return progress(root, points)


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("ray", "ray", "A queue on a cluster") from error
    return ray
