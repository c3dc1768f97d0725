"""What to run next: the most informative run for its price, given what is done, one after the other."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sodakit.errors import ConfigError
from sodakit.scaling.design import DesignPoint
from sodakit.scaling.information import NOISE, Runs, Surface
from sodakit.scaling.intervals import Quantity


def next_runs(
    surfaces: Sequence[Surface],
    done: Runs,
    candidates: Runs,
    quantity: Quantity,
    *,
    count: int,
    budget_flops: float = float("inf"),
    cost_power: float = 0.5,
    noise: float = NOISE,
) -> tuple[Runs, list[float]]:
    """The next runs to do, one after the other, each the most informative for its price; the standard error expected
    after each.

    Args:
        surfaces: the fitted law and some refits: the gain is averaged over them, so that no single surface is believed.
        cost_power: 1 asks for information per FLOP, 0 for information alone.
    Raises:
        ConfigError: no candidate is affordable.
    """
    states = []
    for surface in surfaces:
        scale_P = np.sqrt((surface.slopes(candidates) ** 2).sum(0)) + 1e-300
        slopes_RP = surface.slopes(candidates) / scale_P
        known_RP = surface.slopes(done) / scale_P
        # A trace of prior information, so that a pilot too small to determine the law can still be added to.
        information = known_RP.T @ known_RP + 1e-9 * np.eye(len(scale_P))
        states.append([np.linalg.inv(information), slopes_RP, surface.gradient(quantity) / scale_P])
    chosen: list[int] = []
    errors, spent = [], 0.0
    for _ in range(count):
        affordable = candidates.cost_R <= budget_flops - spent
        if not affordable.any():
            break
        gain_R = np.zeros(len(candidates))
        for inverse, slopes_RP, gradient_P in states:
            along_RP = slopes_RP @ inverse
            variance = max(float(gradient_P @ inverse @ gradient_P), 1e-300)
            drop_R = (along_RP @ gradient_P) ** 2 / (1 + (along_RP * slopes_RP).sum(1))
            gain_R += -np.log1p(-np.minimum(drop_R / variance, 1 - 1e-9)) / len(states)
        score_R = np.where(affordable, gain_R / candidates.cost_R**cost_power, -np.inf)
        best = int(np.argmax(score_R))
        chosen.append(best)
        spent += float(candidates.cost_R[best])
        for state in states:
            inverse, slopes_RP, _ = state
            along_P = inverse @ slopes_RP[best]
            state[0] = inverse - np.outer(along_P, along_P) / (1 + slopes_RP[best] @ along_P)
        errors.append(
            noise * float(np.mean([np.sqrt(max(g @ inverse @ g, 0.0)) for inverse, _, g in states]))
        )
    if not chosen:
        raise ConfigError(
            f"No candidate costs less than {budget_flops:.3g} FLOPs; the cheapest takes {candidates.cost_R.min():.3g}."
        )
    return candidates.take(chosen), errors


def fresh_seeds(chosen: Runs, done: Runs, seeds_R: np.ndarray | None = None) -> list[DesignPoint]:
    """The points of the chosen runs, each with the lowest seed that no equal run has, done or chosen before it.

    Args:
        seeds_R: seeds of the runs that are done; where they are not known, equal runs are taken to have 0, 1, 2, …
    """
    taken: dict[tuple[float, float], set[int]] = {}
    points = []
    for size, tokens, point in zip(chosen.size_R, chosen.tokens_R, chosen.points, strict=True):
        # Tables may give sizes and tokens rounded.
        equal = np.isclose(done.size_R, size, rtol=1e-3) & np.isclose(done.tokens_R, tokens, rtol=1e-3)
        known = np.full(len(done), np.nan) if seeds_R is None else np.asarray(seeds_R, float)
        told = known[equal & np.isfinite(known)]
        untold = int((equal & ~np.isfinite(known)).sum())
        used = taken.setdefault((size, tokens), {int(s) for s in told} | set(range(untold)))
        seed = next(s for s in range(len(used) + 1) if s not in used)
        used.add(seed)
        points.append(replace(point, seed=seed))
    return points
