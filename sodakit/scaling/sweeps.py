"""The optimum read off a sweep budget by budget: the envelope (approach 1) and parabolas (approach 2)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.interpolate import Akima1DInterpolator

from sodakit.errors import ConfigError
from sodakit.scaling.costs import flops_of_runs
from sodakit.scaling.fit import Fit
from sodakit.scaling.intervals import Quantity
from sodakit.scaling.laws import Law


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """value = factor · C^exponent."""

    factor: float
    exponent: float

    def __call__(self, flops: np.ndarray | float) -> np.ndarray:
        """The value at budgets."""
        return self.factor * np.asarray(flops, float) ** self.exponent

    def inverse(self, value: float) -> float:
        """The budget at which it has this value."""
        return float((value / self.factor) ** (1 / self.exponent))


@dataclass(frozen=True, kw_only=True)
class ValleyRule:
    """How the optimum of one budget is read off its runs."""

    window: float | None = 10.0
    """Runs with N (or D) within this factor of the lowest run's are used, six at least; None for all runs. A parabola holds near
    the minimum only: over a factor of 1,200 in N it gives exponents that the runs contradict."""
    edge_reach: float | None = 2.0
    """Minima outside the runs of their budget count if they are within this factor of them; 1 for none of them, None for all. To
    drop every one bends the exponent, because noise decides which; far ones are of the parabola alone."""
    method: Literal["parabola", "akima"] = "parabola"
    """A parabola in log N, or the minimum of Akima's curve through the runs, which has no shape to be wrong about."""


WINDOWED = ValleyRule()
PUBLISHED = ValleyRule(window=None, edge_reach=None)
"""As most papers do it: one parabola through every run of a budget, and every minimum counts."""
_FEWEST = 6
"""Runs that a window keeps at least, where the budget has as many: a parabola through fewer follows their noise."""
SEARCH_NEPERS = 7.0
"""How far beyond the sizes of the runs, in natural logarithms (a factor of 1,100), an optimum is looked for."""
OUTSIDE = "minimum outside the runs"


@dataclass(frozen=True, kw_only=True)
class Valley:
    """The parabola of one budget: loss over log size (or log tokens)."""

    budget: float
    optimum: float
    """Where it is lowest; nan where it bends the wrong way."""
    lowest_loss: float
    coefficients: tuple[float, float, float]
    """Of (log x)², log x and 1."""
    problem: str = ""
    """`bends down`, `minimum outside the runs` or `too few runs`; empty where all is well."""
    reach: tuple[float, float] = (-np.inf, np.inf)
    """Lowest and highest log x of the runs that were used."""
    off_centre: float = 0.0
    """Natural log of the optimum over the middle of the runs: a drift of it with C biases the exponent."""


@dataclass(frozen=True, kw_only=True)
class SweepFit:
    """N* and D* as power laws of C, read off a sweep. a + b need not be 1."""

    method: str
    size: PowerLaw
    tokens: PowerLaw
    valleys: Sequence[Valley] = ()
    """For N, one a budget; none for the envelope."""
    token_valleys: Sequence[Valley] = ()

    @property
    def a(self) -> float:
        """The exponent of N*."""
        return self.size.exponent

    @property
    def b(self) -> float:
        """The exponent of D*."""
        return self.tokens.exponent


def fit_parabolas(
    flops_R: np.ndarray,
    size_R: np.ndarray,
    tokens_R: np.ndarray,
    loss_R: np.ndarray,
    budget_R: np.ndarray,
    *,
    weights_R: np.ndarray | None = None,
    rule: ValleyRule = WINDOWED,
) -> SweepFit:
    """Approach 2: the minimum over log N and over log D of each budget, then a line through the minima.

    Args:
        budget_R: which runs share a budget; nan for those of none.
        rule: how a minimum is read off, and which count (those outside the runs are marked either way).
    Raises:
        ConfigError: fewer than two budgets have a minimum.
    """
    weights_R = np.ones(len(loss_R)) if weights_R is None else weights_R
    valleys, token_valleys = (_valleys(v, loss_R, budget_R, weights_R, rule) for v in (size_R, tokens_R))
    laws = []
    for found in (valleys, token_valleys):
        good = _usable(found, rule.edge_reach)
        if len(good) < 2:
            if not found:
                raise ConfigError(
                    "The runs form no budgets: their C's go on and on. Fit the surface, or name a column `budget`."
                )
            # Of a few budgets which, of many how many.
            problems = [v.problem for v in found]
            reasons = (
                "; ".join(f"{v.budget:.2g}: {v.problem}" for v in found)
                if len(found) < 6
                else ", ".join(f"{problems.count(p)} × {p or 'fine'}" for p in dict.fromkeys(problems))
            )
            raise ConfigError(
                f"{len(good)} of {len(found)} budgets have a minimum ({reasons}); needed: 2. Fit the surface, or widen the sweep."
            )
        laws.append(_line_of(good, flops_R, budget_R))
    return SweepFit(
        method="parabolas", size=laws[0], tokens=laws[1], valleys=valleys, token_valleys=token_valleys
    )


def fit_envelope(
    flops_R: np.ndarray,
    size_R: np.ndarray,
    tokens_R: np.ndarray,
    loss_R: np.ndarray,
    *,
    curves: Sequence[object],
    points: int = 200,
) -> SweepFit:
    """Approach 1: the run that is best at each of many budgets, along the training curves.

    Args:
        curves: which rows are checkpoints of one training run (the model size is the same in all).
        points: budgets, evenly in log C.
    Raises:
        ConfigError: fewer than two models are ever best.
    """
    names = np.array([str(c) for c in curves])
    grid = np.linspace(np.log(flops_R.min()), np.log(flops_R.max()), points)
    best, winner, tokens = np.full(points, np.inf), np.zeros(points), np.zeros(points)
    for name in np.unique(names):
        rows = np.flatnonzero(names == name)
        rows = rows[np.argsort(flops_R[rows])]
        logs = np.log(flops_R[rows])
        # A single checkpoint covers only its own budget: the grid point next to it.
        inside = (grid >= logs[0] - (grid[1] - grid[0]) / 2) & (grid <= logs[-1] + (grid[1] - grid[0]) / 2)
        loss = np.interp(grid, logs, loss_R[rows])
        better = inside & (loss < best)
        best[better], winner[better] = loss[better], size_R[rows[0]]
        tokens[better] = np.exp(np.interp(grid, logs, np.log(tokens_R[rows])))[better]
    # A run that got further down with less compute stays the best until someone beats it.
    lowest = np.minimum.accumulate(best)
    on = np.isfinite(best) & (best <= lowest)
    if len(np.unique(winner[on])) < 2:
        raise ConfigError(
            f"{len(np.unique(winner[on]))} model is ever the best; needed: 2 sizes on the envelope. Give checkpoints along the runs."
        )
    at = np.exp(grid[on])
    return SweepFit(method="envelope", size=_line(at, winner[on]), tokens=_line(at, tokens[on]))


@dataclass(frozen=True, kw_only=True)
class SweepBootstrap:
    """Approach 2 on the same sweep with its losses drawn anew."""

    a: tuple[float, float]
    """Percentile interval of a, over the draws that have a line; nan where none has."""
    b: tuple[float, float]
    noise: float
    """Scatter of the losses about their parabolas as a share of them, pooled over the budgets; nan where there are no more runs than
    parameters."""
    num_failed: int
    """Draws without two minima."""
    dropped_share: float
    """Share of all parabolas, those of failed draws too, without a minimum: bending down, or with too few sizes."""
    edge_share: float
    """Share whose minimum lies outside the runs of its budget."""
    size_S2: np.ndarray
    """Log factor and exponent of N* in every draw that has a line."""
    tokens_S2: np.ndarray
    """The same of D*."""
    level: float = 0.95

    def at(self, flops: float) -> tuple[tuple[float, float], tuple[float, float]]:
        """Percentile intervals of N* and D* at a budget; nan where no draw has a line."""
        ends = []
        for lines_S2 in (self.size_S2, self.tokens_S2):
            values_S = np.exp(lines_S2[:, 0] + lines_S2[:, 1] * np.log(flops))
            tail = (1 - self.level) / 2
            low, high = np.quantile(values_S, [tail, 1 - tail]) if len(values_S) else (np.nan, np.nan)
            ends.append((float(low), float(high)))
        return ends[0], ends[1]


def bootstrap_parabolas(
    flops_R: np.ndarray,
    size_R: np.ndarray,
    tokens_R: np.ndarray,
    loss_R: np.ndarray,
    budget_R: np.ndarray,
    *,
    weights_R: np.ndarray | None = None,
    rule: ValleyRule = WINDOWED,
    draws: int = 500,
    seed: int = 0,
    level: float = 0.95,
) -> SweepBootstrap:
    """`fit_parabolas`, by the same rule, of losses drawn about the fitted parabolas with the scatter that they leave.

    Sizes of a sweep are chosen, so they stay. A budget has few more runs than its parabola has parameters: its own
    residuals say little of the noise, and resampled runs often leave three sizes and a minimum anywhere. The scatter of
    all budgets together does better. Percentiles are given, for a few parabolas that hardly bend are wild.
    """
    weights_R = np.ones(len(loss_R)) if weights_R is None else weights_R
    sides = [_valleys(v, loss_R, budget_R, weights_R, rule) for v in (size_R, tokens_R)]
    on_R = [
        _on_parabolas(v, values_R, budget_R) for v, values_R in zip(sides, (size_R, tokens_R), strict=True)
    ]
    used = (weights_R > 0) & np.isfinite(on_R[0])
    off_R, spare = _scatter(sides[0], size_R, loss_R, budget_R, weights_R, used, on_R[0])
    # Runs outside a window have no parabola: their losses are drawn about themselves, so that a draw may take them in.
    fitted = [np.where(np.isfinite(at), at, loss_R) for at in on_R]
    # Of the loss: runs scatter on its logarithm, so small and cheap ones by more nats.
    share_R = off_R / loss_R[used]
    noise = float(np.sqrt((weights_R[used] * share_R**2).sum() / spare)) if spare > 0 else float("nan")
    spread_R = noise * loss_R / np.sqrt(np.where(weights_R > 0, weights_R, 1.0))
    rng, found, valleys = np.random.default_rng(seed), [], []
    for _ in range(draws if spare > 0 else 0):
        moved_R = spread_R * rng.standard_normal(len(loss_R))
        both = [
            _valleys(values_R, at_R + moved_R, budget_R, weights_R, rule)
            for values_R, at_R in zip((size_R, tokens_R), fitted, strict=True)
        ]
        valleys += both[0]
        good = [_usable(v, rule.edge_reach) for v in both]
        if min(map(len, good)) >= 2:
            lines = [_line_of(v, flops_R, budget_R) for v in good]
            found.append([(np.log(line.factor), line.exponent) for line in lines])
    lines_S22 = np.array(found).reshape(-1, 2, 2)
    ends = np.full((2, 2), np.nan)
    if found:
        ends = np.quantile(lines_S22[:, :, 1], [(1 - level) / 2, (1 + level) / 2], axis=0)
    return SweepBootstrap(
        a=(float(ends[0, 0]), float(ends[1, 0])),
        b=(float(ends[0, 1]), float(ends[1, 1])),
        noise=noise,
        num_failed=draws - len(found),
        dropped_share=1 - len(_usable(valleys, None)) / max(len(valleys), 1),
        edge_share=sum(v.problem == OUTSIDE for v in valleys) / max(len(valleys), 1),
        size_S2=lines_S22[:, 0],
        tokens_S2=lines_S22[:, 1],
        level=level,
    )


def expected_bias(
    surface: Fit,
    flops_R: np.ndarray,
    size_R: np.ndarray,
    tokens_R: np.ndarray,
    budget_R: np.ndarray,
    rule: ValleyRule = WINDOWED,
) -> dict[str, float]:
    """What approach 2 would return on this grid if the fitted surface were the noise-free truth, minus that truth.

    The truth minimises the surface at each budget with the FLOPs per token that these runs had, so that exact FLOPs
    (6ND/C varies with N) are no bias.
    """
    read = fit_parabolas(
        flops_R, size_R, tokens_R, surface.predict(N=size_R, D=tokens_R), budget_R, rule=rule
    )
    true = {
        k: q(surface.parameters)
        for k, q in counted_exponents(surface.law, flops_R, size_R, tokens_R, budget_R).items()
    }
    return {"a": read.a - true["a"], "b": read.b - true["b"], "true_a": true["a"], "true_b": true["b"]}


def counted_exponents(
    law: Law, flops_R: np.ndarray, size_R: np.ndarray, tokens_R: np.ndarray, budget_R: np.ndarray
) -> dict[str, Quantity]:
    """a and b of the surface's optimum at the budgets of these runs, with the FLOPs per token that they had.

    Both are read off parameters, so that refits give them intervals. With C = 6ND, a + b is 1; here it need not be.
    They are nan where the surface has no optimum within `SEARCH_NEPERS` of the sizes of the runs.

    Raises:
        ConfigError: the law needs more than N and D.
    """
    cost = flops_of_runs(size_R, tokens_R, flops_R)
    fine_G = np.arange(np.log(size_R.min()) - SEARCH_NEPERS, np.log(size_R.max()) + SEARCH_NEPERS, 0.01)
    budgets = _levels(budget_R)
    # Runs of a budget may differ a little in C: its middle is what its optimum belongs to.
    log_c_B = np.array([np.log(flops_R[budget_R == b]).mean() for b in budgets])
    log_cost_G = np.log(cost(np.exp(fine_G)))
    log_d_BG = log_c_B[:, None] - log_cost_G
    grid = {
        "N": np.broadcast_to(np.exp(fine_G), log_d_BG.shape).reshape(-1),
        "D": np.exp(log_d_BG).reshape(-1),
    }
    losses = law.losses(grid)
    line_B = (log_c_B - log_c_B.mean()) / max(float(((log_c_B - log_c_B.mean()) ** 2).sum()), 1e-300)

    def log_sizes(p: Mapping[str, float]) -> np.ndarray:
        loss_BG = losses(p).reshape(log_d_BG.shape)
        at_B = loss_BG.argmin(1)
        if at_B.min() == 0 or at_B.max() == len(fine_G) - 1:
            return np.full(len(at_B), np.nan)
        below, here, above = (loss_BG[np.arange(len(at_B)), at_B + i] for i in (-1, 0, 1))
        bend = below - 2 * here + above
        # A parabola through the lowest point and its neighbours finds the minimum between points of the grid.
        shift_B = np.clip(0.5 * (below - above) / np.where(bend > 0, bend, np.inf), -1, 1)
        return fine_G[at_B] + shift_B * (fine_G[1] - fine_G[0])

    def a(p: Mapping[str, float]) -> float:
        return float(line_B @ log_sizes(p))

    def b(p: Mapping[str, float]) -> float:
        sizes_B = log_sizes(p)
        return float(line_B @ (log_c_B - np.log(cost(np.exp(sizes_B)))))

    return {"a": a, "b": b}


def _levels(budget_R: np.ndarray) -> np.ndarray:
    """The budgets there are, ascending."""
    return np.unique(budget_R[np.isfinite(budget_R)])


def _valleys(
    values_R: np.ndarray, loss_R: np.ndarray, budget_R: np.ndarray, weights_R: np.ndarray, rule: ValleyRule
) -> list[Valley]:
    """The valley of every budget that has runs of some weight."""
    found = []
    for budget in _levels(budget_R):
        at = np.flatnonzero((budget_R == budget) & (weights_R > 0))
        if not len(at):
            continue
        near = at[_in_window(np.log(values_R[at]), loss_R[at], rule.window)]
        read = _valley if rule.method == "parabola" else _akima_valley
        found.append(read(float(budget), values_R[near], loss_R[near], weights_R[near]))
    return found


def _in_window(logs: np.ndarray, losses: np.ndarray, window: float | None) -> np.ndarray:
    """Which runs lie within the window about the lowest; of too few the nearest instead."""
    if window is None:
        return np.ones(len(logs), bool)
    away = np.abs(logs - logs[np.argmin(losses)])
    reach = max(np.log(window), np.sort(away)[min(_FEWEST, len(away)) - 1])
    return away <= reach + 1e-9


def _on_parabolas(valleys: Sequence[Valley], values_R: np.ndarray, budget_R: np.ndarray) -> np.ndarray:
    """The loss of each run on the parabola of its budget; nan where that has none."""
    found_R = np.full(len(values_R), np.nan)
    for v in valleys:
        logs = np.log(values_R)
        at = (budget_R == v.budget) & (logs >= v.reach[0] - 1e-9) & (logs <= v.reach[1] + 1e-9)
        found_R[at] = np.polyval(v.coefficients, logs[at])
    return found_R


def _scatter(
    valleys: Sequence[Valley],
    values_R: np.ndarray,
    loss_R: np.ndarray,
    budget_R: np.ndarray,
    weights_R: np.ndarray,
    used: np.ndarray,
    on_R: np.ndarray,
) -> tuple[np.ndarray, int]:
    """What runs lie off the curves of their budgets, and how many runs there are beyond the parameters of the curves.

    Where a budget has runs enough, the curve is a cubic: losses rise more steeply on one side, which is no noise.
    """
    off_R, spare = np.array(on_R - loss_R), 0
    for v in valleys:
        at = np.flatnonzero(used & (budget_R == v.budget))
        degree = 3 if len(np.unique(values_R[at])) > _FEWEST else 2
        if degree == 3:
            x = np.log(values_R[at]) - np.log(values_R[at]).mean()
            cubic = np.polyfit(x, loss_R[at], 3, w=np.sqrt(weights_R[at]))
            off_R[at] = np.polyval(cubic, x) - loss_R[at]
        if np.isfinite(v.coefficients[0]):
            spare += len(at) - degree - 1
    return off_R[used], spare


def _usable(valleys: Sequence[Valley], edge_reach: float | None) -> list[Valley]:
    """Those with a minimum within this factor of their runs."""
    far = np.inf if edge_reach is None else np.log(edge_reach) + 1e-12
    return [
        v
        for v in valleys
        if np.isfinite(v.optimum) and v.reach[0] - far <= np.log(v.optimum) <= v.reach[1] + far
    ]


def _line_of(valleys: Sequence[Valley], flops_R: np.ndarray, budget_R: np.ndarray) -> PowerLaw:
    # Runs of a budget may differ a little in C: the middle of each budget is what its minimum belongs to.
    middle = [np.exp(np.mean(np.log(flops_R[budget_R == v.budget]))) for v in valleys]
    return _line(np.array(middle), np.array([v.optimum for v in valleys]))


def _valley(budget: float, values_R: np.ndarray, loss_R: np.ndarray, weights_R: np.ndarray) -> Valley:
    if len(np.unique(values_R)) < 3:
        return Valley(
            budget=budget,
            optimum=np.nan,
            lowest_loss=np.nan,
            coefficients=(np.nan,) * 3,
            problem="too few runs",
        )
    logs = np.log(values_R)
    reach = float(logs.min()), float(logs.max())
    middle = float(logs.mean())
    x = logs - middle
    design = np.stack([x**2, x, np.ones_like(x)], axis=1) * np.sqrt(weights_R)[:, None]
    bend, tilt, base = np.linalg.lstsq(design, loss_R * np.sqrt(weights_R), rcond=None)[0]
    coefficients = (
        float(bend),
        float(tilt - 2 * bend * middle),
        float(base - tilt * middle + bend * middle**2),
    )
    if bend <= 0:
        return Valley(
            budget=budget,
            optimum=np.nan,
            lowest_loss=np.nan,
            coefficients=coefficients,
            problem="bends down",
            reach=reach,
        )
    at = -tilt / (2 * bend)
    outside = not x.min() <= at <= x.max()
    return Valley(
        budget=budget,
        optimum=float(np.exp(middle + np.clip(at, -20, 20))),
        lowest_loss=float(base - tilt**2 / (4 * bend)),
        coefficients=coefficients,
        problem=OUTSIDE if outside else "",
        reach=reach,
        off_centre=float(at - (x.min() + x.max()) / 2),
    )


def _akima_valley(budget: float, values_R: np.ndarray, loss_R: np.ndarray, weights_R: np.ndarray) -> Valley:
    """The minimum of Akima's curve through the mean loss of each size; the parabola, beside, says how runs scatter."""
    parabola = _valley(budget, values_R, loss_R, weights_R)
    sizes, index = np.unique(np.log(values_R), return_inverse=True)
    if len(sizes) < 5:
        return replace(parabola, optimum=np.nan, lowest_loss=np.nan, problem="too few runs")
    means = np.bincount(index, loss_R * weights_R) / np.bincount(index, weights_R)
    fine = np.linspace(sizes[0], sizes[-1], 2001)
    curve = Akima1DInterpolator(sizes, means)(fine)
    at = int(np.argmin(curve))
    edge = at in (0, len(fine) - 1)
    return replace(
        parabola,
        optimum=float(np.exp(fine[at])),
        lowest_loss=float(curve[at]),
        problem=OUTSIDE if edge else "",
        off_centre=float(fine[at] - (sizes[0] + sizes[-1]) / 2),
    )


def _line(flops: np.ndarray, values: np.ndarray) -> PowerLaw:
    logs = np.log(flops)
    middle = logs.mean()
    slope, height = np.polyfit(logs - middle, np.log(values), 1)
    return PowerLaw(factor=float(np.exp(height - slope * middle)), exponent=float(slope))
