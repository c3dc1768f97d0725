"""What to run next: the most informative run for its price, given what is done, one after the other.

What is to be told is a quantity of the law (c-optimal), its parameters together (`law`, D-optimal), or the losses of all
candidates (`losses`, V-optimal).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from sodakit.errors import ConfigError
from sodakit.scaling.information import NOISE, Runs, Surface
from sodakit.scaling.intervals import Quantity
from sodakit.scaling.point import DesignPoint

Aim = Quantity | Literal["law", "losses"]


@dataclass
class _State:
    """What is known by one surface, in parameters of about one scale."""

    inverse_PP: np.ndarray
    """Of the information of the runs so far."""
    slopes_RP: np.ndarray
    """Of the candidates' log losses."""
    goals_KP: np.ndarray | None
    """Derivatives of what is to be told; None for all parameters together."""

    def gain_R(self) -> np.ndarray:
        """By each candidate, how much the logarithm of the variance falls."""
        along_RP = self.slopes_RP @ self.inverse_PP
        grown_R = 1 + (along_RP * self.slopes_RP).sum(1)
        if self.goals_KP is None:
            return np.log(grown_R) / len(self.inverse_PP)
        drop_R = ((along_RP @ self.goals_KP.T) ** 2).sum(1) / grown_R
        return -np.log1p(-np.minimum(drop_R / max(self.variance, 1e-300), 1 - 1e-9))

    def add(self, index: int) -> None:
        """Take in a candidate as done."""
        along_P = self.inverse_PP @ self.slopes_RP[index]
        self.inverse_PP = self.inverse_PP - np.outer(along_P, along_P) / (1 + self.slopes_RP[index] @ along_P)

    @property
    def variance(self) -> float:
        """Summed over the goals; of all parameters their geometric mean, in units of what all candidates would give."""
        if self.goals_KP is None:
            whole = self.slopes_RP.T @ self.slopes_RP
            return float(
                np.exp((np.linalg.slogdet(self.inverse_PP)[1] + np.linalg.slogdet(whole)[1]) / len(whole))
            )
        return float(np.einsum("kp,pq,kq->", self.goals_KP, self.inverse_PP, self.goals_KP))


def next_runs(
    surfaces: Sequence[Surface],
    done: Runs,
    candidates: Runs,
    aim: Aim,
    *,
    count: int,
    budget_flops: float = float("inf"),
    cost_power: float = 0.5,
    noise: float = NOISE,
    once: bool = False,
) -> tuple[list[int], list[float]]:
    """Which candidates to run next, one after the other, each the most informative for its price; the standard error
    expected after each.

    Args:
        surfaces: the fitted law and some refits: the gain is averaged over them, so that no single surface is believed.
        aim: what is to be told. The error is that of the quantity; for `losses` the root mean square of log losses; for `law`
            the geometric mean over the parameters, relative to what all candidates together would give.
        cost_power: 1 asks for information per FLOP, 0 for information alone.
        once: no candidate twice, as in a pool of runs.
    Raises:
        ConfigError: no candidate is affordable.
    """
    states = [_state(surface, done, candidates, aim) for surface in surfaces]
    per_goal, unit = (len(candidates) if aim == "losses" else 1), (1.0 if aim == "law" else noise)
    chosen: list[int] = []
    errors, spent = [], 0.0
    for _ in range(count):
        possible = candidates.cost_R <= budget_flops - spent
        if once:
            possible[chosen] = False
        if not possible.any():
            break
        gain_R = np.mean([state.gain_R() for state in states], axis=0)
        best = int(np.argmax(np.where(possible, gain_R / candidates.cost_R**cost_power, -np.inf)))
        chosen.append(best)
        spent += float(candidates.cost_R[best])
        for state in states:
            state.add(best)
        errors.append(
            unit * float(np.mean([np.sqrt(max(state.variance, 0.0) / per_goal) for state in states]))
        )
    if not chosen:
        raise ConfigError(
            f"No candidate costs less than {budget_flops:.3g} FLOPs; the cheapest takes {candidates.cost_R.min():.3g}."
        )
    return chosen, errors


def _state(surface: Surface, done: Runs, candidates: Runs, aim: Aim) -> _State:
    raw_RP = surface.slopes(candidates)
    scale_P = np.sqrt((raw_RP**2).sum(0)) + 1e-300
    known_RP = surface.slopes(done) / scale_P
    # A trace of prior information, so that a pilot too small to determine the law can still be added to.
    information = known_RP.T @ known_RP + 1e-9 * np.eye(len(scale_P))
    goals_KP = None
    if aim == "losses":
        goals_KP = raw_RP / scale_P
    elif aim != "law":
        goals_KP = (surface.gradient(aim) / scale_P)[None]
    return _State(np.linalg.inv(information), raw_RP / scale_P, goals_KP)


def fresh_seeds(chosen: Runs, done: Runs, seeds_R: np.ndarray | None = None) -> list[DesignPoint]:
    """The points of the chosen runs, each with the lowest seed that no equal run has, done or chosen before it.

    Args:
        seeds_R: seeds of the runs that are done; where they are not known, equal runs are taken to have 0, 1, 2, …
    """
    taken: dict[tuple[float, float], set[int]] = {}
    points = []
    for size, tokens, point in zip(chosen.size_R, chosen.tokens_R, chosen.points, strict=True):
        equal = done.equal_to(size, tokens)
        known = np.full(len(done), np.nan) if seeds_R is None else np.asarray(seeds_R, float)
        told = known[equal & np.isfinite(known)]
        untold = int((equal & ~np.isfinite(known)).sum())
        used = taken.setdefault((size, tokens), {int(s) for s in told} | set(range(untold)))
        seed = next(s for s in range(len(used) + 1) if s not in used)
        used.add(seed)
        points.append(replace(point, seed=seed))
    return points
