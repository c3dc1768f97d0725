"""The queue on a Ray cluster: one task for each run, or for each trunk with its legs. Optional: `sodakit[ray]`.

The tasks write to one folder that all machines see. A task whose machine dies is started again by Ray elsewhere. It finds
the dead one's lock, which looks alive for ten minutes, and comes back; it is asked again until the lock is stale, and
goes on from the last checkpoint. Finished runs are skipped.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sodakit.errors import MissingExtra
from sodakit.log import say
from sodakit.scaling.point import DesignPoint
from sodakit.scaling.run import MakeConfig, Progress, Train, claim_design, progress, train_group
from sodakit.scaling.trunks import computed_flops, trunk_groups

RETRIES = 5
"""How often Ray starts a task again whose machine died."""
ASK_AGAIN_S = 30.0
"""Until a group of runs that somebody held is tried again."""


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
    """Train every point that is left on a cluster; returns when all have finished or diverged.

    Points that somebody else holds are waited for: it finishes them, or its lock grows stale and they are trained here.

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
    def work(group: list[DesignPoint]) -> bool:
        return train_group(group, root, make_config, train)

    running = {work.remote(group): group for group in sorted(trunk_groups(points), key=computed_flops)}
    held: list[list[DesignPoint]] = []
    asked_s = time.monotonic()
    failed: Exception | None = None
    while running or held:
        for task in _done(ray, list(running)):
            group = running.pop(task)
            try:
                if not ray.get(task):
                    held.append(group)
            except ray.exceptions.RayError as error:
                # The others go on; the first mistake is told when they are through, without Ray's wrapping.
                failed = failed or getattr(error, "cause", None) or error
            say(str(progress(root, points)))
        if held and time.monotonic() - asked_s >= ASK_AGAIN_S:
            say(f"Asking again for what others held: {', '.join(p.name for group in held for p in group)}.")
            running |= {work.remote(group): group for group in held}
            held, asked_s = [], time.monotonic()
    if failed is not None:
        raise failed
    return progress(root, points)


def _done(ray: Any, tasks: list[Any]) -> list[Any]:
    """One task that is done, or none when it is time to ask again."""
    if not tasks:
        time.sleep(ASK_AGAIN_S)
        return []
    return list(ray.wait(tasks, timeout=ASK_AGAIN_S)[0])


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("ray", "ray", "A queue on a cluster") from error
    return ray
