"""Sweeps that answer a stated question with the least compute: Elfving's bound, and designs near it.

The least standard error of any quantity under a budget is a linear programme (Elfving 1952); every sweep has an
efficiency against it. The optimum believes the law, so it is mixed with a plain grid that can contradict it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from sodakit.errors import ConfigError
from sodakit.scaling.information import NOISE, Runs, Surface, standard_error
from sodakit.scaling.intervals import Quantity
from sodakit.units import spread


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The least standard error any sweep of these candidates can reach."""

    error: float
    """At the noise asked for."""
    counts_R: np.ndarray
    """How often each candidate is run, not rounded; zero for all but a few."""


def elfving_bound(
    surface: Surface,
    candidates: Runs,
    quantity: Quantity,
    *,
    budget_flops: float,
    max_runs: int,
    noise: float = NOISE,
) -> Bound:
    """The best real-valued design under a compute budget and a number of runs, by a linear programme for each price.

    Both limits are one cost, (1 − μ)·C/budget + μ/max_runs; the largest optimum over μ is the bound for both.
    """
    slopes_RP = surface.slopes(candidates)
    scale_P = np.sqrt((slopes_RP**2).sum(0))
    design_PR = (slopes_RP / scale_P).T
    target_P = surface.gradient(quantity) / scale_P
    best = Bound(error=0.0, counts_R=np.zeros(len(candidates)))

    def solve(mu: float) -> Bound:
        cost_R = (1 - mu) * candidates.cost_R / budget_flops + mu / max_runs
        root_R = np.sqrt(cost_R)
        found = optimize.linprog(
            np.concatenate([root_R, root_R]),
            A_eq=np.concatenate([design_PR, -design_PR], axis=1),
            b_eq=target_P,
            bounds=(0, None),
            method="highs",
        )
        if not found.success:
            raise ConfigError(
                f"No sweep of these {len(candidates)} candidates determines the quantity ({found.message}). Widen the sizes or budgets."
            )
        z_R = found.x[: len(candidates)] + found.x[len(candidates) :]
        counts_R = z_R / root_R / max(found.fun, 1e-300)
        return Bound(error=float(noise * found.fun), counts_R=counts_R)

    for mu in (0.02, 0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 0.95):
        bound = solve(mu)
        if bound.error > best.error:
            best = bound
    return best


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A design with what it promises."""

    runs: Runs
    errors: Mapping[str, float]
    """Expected standard error by quantity."""
    bounds: Mapping[str, float]
    """The least any sweep of the same candidates and limits could reach."""

    @property
    def efficiency(self) -> dict[str, float]:
        """(bound / error)²: the share of the compute that was needed."""
        return {name: (self.bounds[name] / self.errors[name]) ** 2 for name in self.errors}

    @property
    def cost_flops(self) -> float:
        """Training FLOPs of all runs."""
        return float(self.runs.cost_R.sum())

    @property
    def distinct(self) -> int:
        """Different runs; the others are repeats with another seed."""
        pairs = np.stack([self.runs.size_R, self.runs.tokens_R], axis=1)
        return len(np.unique(pairs, axis=0))


def compound_design(
    surface: Surface,
    candidates: Runs,
    quantities: Mapping[str, Quantity],
    *,
    budget_flops: float,
    max_runs: int,
    noise: float = NOISE,
    grid_share: float = 0.5,
    max_repeats: int = 3,
) -> Sweep:
    """A sweep for several questions at once, part Elfving's optimum for each and part a plain grid.

    Args:
        candidates: runs to choose from.
        quantities: the questions by name, for example a and ln N* at a target.
        grid_share: share of the compute and runs for the plain grid that can contradict the law.
        max_repeats: equal runs at most; what is over goes to the nearest other candidates.
    Raises:
        ConfigError: the candidates cannot answer a question.
    """
    grid = _plain_grid(candidates, budget_flops * grid_share, round(max_runs * grid_share))
    bounds, wanted_R = {}, np.zeros(len(candidates))
    for name, quantity in quantities.items():
        bound = elfving_bound(
            surface, candidates, quantity, budget_flops=budget_flops, max_runs=max_runs, noise=noise
        )
        bounds[name] = bound.error
        wanted_R += (1 - grid_share) * bound.counts_R / len(quantities)
    spread_R = _spread(candidates, wanted_R, max_repeats)
    left_flops = budget_flops - float(candidates.cost_R[grid].sum())
    chosen = _round(candidates, spread_R, left_flops, max_runs - len(grid))
    chosen = _fill(
        surface, candidates, list(quantities.values()), [*grid, *chosen], budget_flops, max_runs, max_repeats
    )
    runs = candidates.take(chosen)
    errors = {name: standard_error(surface, runs, q, noise=noise) for name, q in quantities.items()}
    return Sweep(runs=runs, errors=errors, bounds=bounds)


def _plain_grid(candidates: Runs, budget_flops: float, max_runs: int) -> list[int]:
    """Candidates of an even grid: four budgets (three where runs are few), evenly apart up to what is affordable,
    with sizes evenly apart from edge to edge in each."""
    num_budgets = 4 if max_runs >= 20 else 3
    num_sizes = max_runs // num_budgets
    if num_sizes < 3:
        return []
    logs = np.log(candidates.cost_R)
    for top in np.unique(logs.round(2))[::-1]:
        chosen: list[int] = []
        for level in np.linspace(logs.min(), top, num_budgets):
            near = logs[np.argmin(np.abs(logs - level))]
            row = np.flatnonzero(np.abs(logs - near) < 0.02)
            row = row[np.argsort(candidates.size_R[row])]
            chosen += spread(row.tolist(), num_sizes)
        if candidates.cost_R[chosen].sum() <= budget_flops and len(set(chosen)) == len(chosen):
            return chosen
    return []


def _fill(
    surface: Surface,
    candidates: Runs,
    quantities: Sequence[Quantity],
    chosen: list[int],
    budget_flops: float,
    max_runs: int,
    max_repeats: int,
) -> list[int]:
    """Spend what rounding left over, each time on the run that helps the questions most for its share of both limits."""
    slopes_RP = surface.slopes(candidates)
    scale_P = np.sqrt((slopes_RP**2).sum(0)) + 1e-300
    slopes_RP = slopes_RP / scale_P
    goals = [surface.gradient(q) / scale_P for q in quantities]
    chosen, spent = list(chosen), float(candidates.cost_R[chosen].sum())
    while len(chosen) < max_runs:
        room_R = candidates.cost_R <= budget_flops - spent
        room_R &= np.bincount(chosen, minlength=len(candidates)) < max_repeats
        if not room_R.any():
            break
        inverse = np.linalg.inv(slopes_RP[chosen].T @ slopes_RP[chosen] + 1e-12 * np.eye(len(scale_P)))
        along_RP = slopes_RP @ inverse
        shrink_R = 1 + (along_RP * slopes_RP).sum(1)
        gain_R = sum(-np.log1p(-((along_RP @ g) ** 2) / shrink_R / (g @ inverse @ g)) for g in goals)
        price_R = candidates.cost_R / (budget_flops - spent) + 1 / (max_runs - len(chosen))
        best = int(np.argmax(np.where(room_R, gain_R / price_R, -np.inf)))
        chosen.append(best)
        spent += float(candidates.cost_R[best])
    return chosen


def _spread(candidates: Runs, wanted_R: np.ndarray, max_repeats: int) -> np.ndarray:
    """No candidate more than `max_repeats` times: what is over goes to neighbours in log size and log cost."""
    counts = wanted_R.copy()
    places = np.stack([np.log(candidates.size_R), np.log(candidates.cost_R)], axis=1)
    for i in np.argsort(-wanted_R):
        over = counts[i] - max_repeats
        if over <= 0:
            continue
        counts[i] = max_repeats
        for j in np.argsort(np.linalg.norm(places - places[i], axis=1))[1:]:
            room = min(max(max_repeats - counts[j], 0.0), over)
            counts[j] += room
            over -= room
            if over <= 1e-12:
                break
    return counts


def _round(candidates: Runs, counts_R: np.ndarray, budget_flops: float, max_runs: int) -> list[int]:
    """Whole runs: the integer parts, then the largest remainders that both limits allow."""
    whole = np.floor(counts_R).astype(int)
    chosen = np.repeat(np.arange(len(candidates)), whole).tolist()
    spent = float(candidates.cost_R[chosen].sum()) if chosen else 0.0
    while chosen and (spent > budget_flops or len(chosen) > max_runs):
        dropped = chosen.pop(int(np.argmax(candidates.cost_R[chosen])))
        spent -= float(candidates.cost_R[dropped])
    for i in np.argsort(-(counts_R - whole)):
        if counts_R[i] - whole[i] <= 1e-9 or len(chosen) >= max_runs:
            break
        if spent + candidates.cost_R[i] <= budget_flops:
            chosen.append(int(i))
            spent += float(candidates.cost_R[i])
    return sorted(chosen)
