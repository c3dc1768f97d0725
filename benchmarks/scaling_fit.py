"""Every number of `benchmarks/scaling_fit.md`: the published fit, its speed, coverage of intervals, designs, SODA's grid.

    python benchmarks/scaling_fit.py published --table chinchilla_epoch.csv
    python benchmarks/scaling_fit.py race      --table chinchilla_epoch.csv
    python benchmarks/scaling_fit.py coverage  --sweeps 500 --case soda
    python benchmarks/scaling_fit.py designs   --sweeps 500
    python benchmarks/scaling_fit.py grid

Times are CPU seconds of this process on one core (`time.process_time`), so that other programs on the machine count little.
"""

import argparse
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import get_args

# One core: set before numpy loads its libraries.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import numpy as np
from scipy import optimize, special

from sodakit.scaling.design import soda_design
from sodakit.scaling.fit import fit_chinchilla, fit_law
from sodakit.scaling.information import Runs, Surface, exponent_a, ideal_candidates, runs_of, standard_error
from sodakit.scaling.intervals import (
    Quantity,
    Resample,
    bootstrap,
    delta_method,
    log_optimal_size,
    quantities,
)
from sodakit.scaling.laws import LAWS
from sodakit.scaling.optimal import compound_design
from sodakit.scaling.plan import SODA_LAW
from sodakit.scaling.records import read_table
from sodakit.scaling.residuals import MISFITS
from sodakit.scaling.simulate import BESIROGLU, SODA_SURFACE, simulate
from sodakit.scaling.sweeps import counted_exponents, fit_parabolas

EXACT_OBJECTIVE = 0.001018274018
"""The minimum of the published objective, found elsewhere by a 4,500-start grid."""
PUBLISHED_ERRORS = {"A": 124.5, "B": 1293.0, "E": 0.0257, "alpha": 0.0154, "beta": 0.0206}
REFERENCE_ERRORS = {"A": 120.1, "B": 1408.0, "E": 0.0256, "alpha": 0.0151, "beta": 0.0204}
TARGET_FLOPS = 3e22


def besiroglu_runs(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """N, D and loss of the 240 runs: all but the five with the highest losses."""
    table = read_table(path)
    table = table.select(np.sort(np.argsort(table.loss())[:-5]))
    return table.sizes(), table.tokens(), table.loss()


def published(path: Path, draws: int) -> None:
    """Objective, estimates and standard errors beside the published and the reference ones."""
    fit = fit_chinchilla(*besiroglu_runs(path))
    print(
        f"objective {fit.objective:.12g}, over the exact minimum {fit.objective / EXACT_OBJECTIVE - 1:+.1e}"
    )
    print(fit.certificate)
    boot, named = bootstrap(fit, draws=draws, resample="runs"), quantities(fit)
    print(f"{draws} bootstrap refits, {boot.num_failed} did not settle")
    print("parameter  value  published  (value - published)/SE  bootstrap SE  over the reference")
    for name, error in PUBLISHED_ERRORS.items():
        value, ours = fit.parameters[name], boot.standard_error(named[name])
        print(
            f"{name:9}  {value:.5g}  {BESIROGLU[name]:.5g}  {(value - BESIROGLU[name]) / error:+.2f}  "
            f"{ours:.4g}  {ours / REFERENCE_ERRORS[name] - 1:+.1%}"
        )
    print(
        f"a          {named['a'](fit.parameters):.4f}  0.513  bootstrap SE {boot.standard_error(named['a']):.4f}"
    )


def hoffmann_grid(size_R: np.ndarray, tokens_R: np.ndarray, loss_R: np.ndarray) -> tuple[float, int]:
    """The lowest objective of scipy's L-BFGS-B from the 4,500 starts of Hoffmann et al., with exact gradients."""
    log_n, log_d, log_l = np.log(size_R), np.log(tokens_R), np.log(loss_R)

    def objective(at: np.ndarray) -> tuple[float, np.ndarray]:
        a, b, e, alpha, beta = at
        terms = np.stack([a - alpha * log_n, b - beta * log_d, np.full_like(log_n, e)])
        total = special.logsumexp(terms, axis=0)
        residual = total - log_l
        slope = np.clip(residual, -1e-3, 1e-3)
        share = np.exp(terms - total)
        cost = np.where(np.abs(residual) <= 1e-3, residual**2 / 2, 1e-3 * (np.abs(residual) - 5e-4)).sum()
        pulled = share @ slope
        gradient = np.array(
            [pulled[0], pulled[1], pulled[2], -(share[0] * log_n) @ slope, -(share[1] * log_d) @ slope]
        )
        # A sum of Huber costs is so small that L-BFGS-B would stop at once.
        return 1e3 * float(cost), 1e3 * gradient

    steps = np.arange(0, 2.5, 0.5)
    starts = list(product(np.arange(0, 30, 5), np.arange(0, 30, 5), np.arange(-1, 1.5, 0.5), steps, steps))
    found = [
        optimize.minimize(
            objective, s, jac=True, method="L-BFGS-B", options={"maxiter": 1000, "ftol": 1e-12}
        ).fun
        for s in starts
    ]
    return min(found) / 1e3, len(starts)


def cpu_s(work: Callable[[], object], repeats: int = 1) -> tuple[float, float]:
    """Median and longest CPU time of the work."""
    times = []
    for _ in range(repeats):
        start_s = time.process_time()
        work()
        times.append(time.process_time() - start_s)
    return float(np.median(times)), max(times)


def race(path: Path, draws: int) -> None:
    """One fit and its bootstrap beside scipy's grid, in one process."""
    runs = besiroglu_runs(path)
    fit = fit_chinchilla(*runs)
    before, _ = cpu_s(lambda: fit_chinchilla(*runs), 15)
    lowest: list[tuple[float, int]] = []
    grid, _ = cpu_s(lambda: lowest.append(hoffmann_grid(*runs)))
    after, longest = cpu_s(lambda: fit_chinchilla(*runs), 15)
    once = (before + after) / 2
    print(f"one fit: median {before:.4f} s before and {after:.4f} s after the grid, longest {longest:.4f} s")
    print(
        f"scipy, {lowest[0][1]} starts: {grid:.1f} s, objective {lowest[0][0]:.12g}; ours {fit.objective:.12g}"
    )
    print(f"ratio {grid / once:.0f}")
    for resample in get_args(Resample):
        refits, _ = cpu_s(lambda resample=resample: bootstrap(fit, draws=draws, resample=resample))  # type: ignore[misc]
        print(
            f"{draws} bootstrap refits, {resample} resampled: {refits:.2f} s, {1e3 * refits / draws:.2f} ms each"
        )


@dataclass(frozen=True, kw_only=True)
class Case:
    """A surface, a grid and a noise for simulated sweeps."""

    surface: Mapping[str, float]
    runs: Runs
    budget_R: np.ndarray
    noise_R: np.ndarray
    target_flops: float
    outlier_fraction: float = 0.0


def cases() -> dict[str, Case]:
    """SODA's grid and an IsoFLOP grid on Besiroglu's surface, each with equal noise, unequal noise and outliers."""
    points = soda_design()
    soda = Case(
        surface=SODA_SURFACE,
        runs=runs_of(points),
        budget_R=np.array([p.budget_flops for p in points]),
        noise_R=np.full(len(points), 0.004),
        target_flops=TARGET_FLOPS,
    )
    grid = plain_grid(Surface(parameters=BESIROGLU), 9, 8, 5.0, 6e18, 3e21)
    isoflop = Case(
        surface=BESIROGLU,
        runs=grid,
        budget_R=grid.cost_R,
        noise_R=np.full(len(grid), 0.0057),
        target_flops=5.76e23,
    )
    found = {}
    for name, case in (("soda", soda), ("isoflop", isoflop)):
        found[name] = case
        found[f"{name}-unequal"] = replace(case, noise_R=case.noise_R * falling(case.budget_R))
        found[f"{name}-outliers"] = replace(case, outlier_fraction=0.02)
    return found


def falling(budget_R: np.ndarray) -> np.ndarray:
    """Factors on the noise, four times as large at the smallest budget as at the largest, of mean square 1."""
    part_R = np.log(budget_R / budget_R.min()) / np.log(budget_R.max() / budget_R.min())
    return 4.0**-part_R / np.sqrt(np.mean(16.0**-part_R))


def coverage(name: str, sweeps: int, draws: int) -> None:
    """How often nominal 95 % intervals hold the truth, and what parabolas say of the same runs."""
    case = cases()[name]
    n, d, c = case.runs.size_R, case.runs.tokens_R, case.runs.cost_R
    counted = counted_exponents(LAWS["chinchilla"], c, n, d, case.budget_R)
    asked: dict[str, Quantity] = {
        "a": exponent_a,
        "a, C as counted": counted["a"],
        "b, C as counted": counted["b"],
        "N*": log_optimal_size(case.target_flops),
        "E": lambda p: p["E"],
    }
    if name != "soda":
        # On the IsoFLOP grid C is 6ND, and b 1 − a; on SODA's they take most of the time, so once is enough.
        asked = {k: q for k, q in asked.items() if "counted" not in k}
    truth = {k: q(case.surface) for k, q in asked.items()}
    hits: dict[str, dict[str, list[bool]]] = {}
    read: dict[str, list[float]] = {k: [] for k in asked}
    parabola_a, parabola_b = [], []
    for losses in simulate(
        case.surface, n, d, noise=case.noise_R, seed=7, draws=sweeps, outlier_fraction=case.outlier_fraction
    ):
        squares = fit_law(LAWS["chinchilla"], {"N": n, "D": d}, losses, misfit=MISFITS["mse-log"])
        huber = fit_chinchilla(n, d, losses)
        for k, q in asked.items():
            read[k].append(q(huber.parameters))
        parabolas = fit_parabolas(c, n, d, losses, case.budget_R)
        parabola_a.append(parabolas.a)
        parabola_b.append(parabolas.b)
        for misfit, fit in (("squares", squares), ("Huber", huber)):
            for k, q in asked.items():
                _, low, high = delta_method(fit, q)
                hits.setdefault(f"{misfit}, delta method", {}).setdefault(k, []).append(
                    low <= truth[k] <= high
                )
            for resample in get_args(Resample):
                boot = bootstrap(fit, draws=draws, resample=resample)
                for k, q in asked.items():
                    low, high = boot.interval(q)
                    hits.setdefault(f"{misfit}, bootstrap of {resample}", {}).setdefault(k, []).append(
                        low <= truth[k] <= high
                    )
    print(
        f"{name}: {sweeps} sweeps of {len(n)} runs, noise {case.noise_R.min():.4f} to {case.noise_R.max():.4f}, {case.outlier_fraction:.0%} outliers"
    )
    print("share of 95 % intervals that hold the truth")
    for method, row in hits.items():
        print(f"{method}: " + ", ".join(f"{k} {np.mean(hit):.1%}" for k, hit in row.items()))
    known = {k: q(case.surface) for k, q in counted.items()}
    rows = [(f"Huber surface, {k}", read[k], truth[k]) for k in asked]
    rows += [
        ("parabolas, a, C as counted", parabola_a, known["a"]),
        ("parabolas, b, C as counted", parabola_b, known["b"]),
    ]
    for label, found, true in rows:
        print(
            f"{label}: mean {np.mean(found):.4f}, truth {true:.4f}, bias {np.mean(found) - true:+.4f}, SD {np.std(found):.4f}"
        )


def designs(sweeps: int) -> None:
    """Sweeps for a and N* at 4.1e21 FLOPs and at most 63 runs: promised errors, efficiency, and Monte Carlo."""
    surface = Surface(parameters=SODA_SURFACE)
    questions = {"a": exponent_a, "ln N*": log_optimal_size(TARGET_FLOPS)}
    candidates = ideal_candidates(surface, budgets=(3e18, 3e20), window=8)
    compound = compound_design(surface, candidates, questions, budget_flops=4.1e21, max_runs=63, noise=0.004)
    # The 7 x 9 grid costs 5.02e21: as in the reference, its errors are at its own cost.
    shown = {
        "SODA, 59 points": runs_of(soda_design(targets=False)),
        "7 budgets x 9 sizes, within x8": plain_grid(surface, 7, 9, 8.0),
        "compound": compound.runs,
    }
    print(
        "design: runs, distinct, FLOPs | SE(a), efficiency | SE(ln N*), efficiency | Monte Carlo SD(a), bias, SD(ln N*)"
    )
    for name, runs in shown.items():
        errors = {q: standard_error(surface, runs, f, noise=0.004) for q, f in questions.items()}
        efficiency = {q: (compound.bounds[q] / errors[q]) ** 2 for q in questions}
        a, size = monte_carlo(runs, sweeps)
        distinct = len(np.unique(np.stack([runs.size_R, runs.tokens_R], 1), axis=0))
        print(
            f"{name}: {len(runs)}, {distinct}, {runs.cost_R.sum():.3g} | {errors['a']:.4f}, {efficiency['a']:.0%} | "
            f"{errors['ln N*']:.4f}, {efficiency['ln N*']:.0%} | {np.std(a):.4f}, {np.mean(a) - exponent_a(SODA_SURFACE):+.4f}, {np.std(size):.4f}"
        )
    print("bound: " + ", ".join(f"{q} {b:.4f}" for q, b in compound.bounds.items()))


def plain_grid(
    surface: Surface,
    num_budgets: int,
    num_sizes: int,
    window: float,
    lowest: float = 3e18,
    highest: float = 3e20,
) -> Runs:
    """Even in log C and log N, from N*/window to window·N*."""
    c = np.repeat(np.geomspace(lowest, highest, num_budgets), num_sizes)
    n = surface.optimal_size(c) * np.tile(np.geomspace(1 / window, window, num_sizes), num_budgets)
    return Runs(size_R=n, tokens_R=c / 6 / n, cost_R=c)


def monte_carlo(runs: Runs, sweeps: int) -> tuple[np.ndarray, np.ndarray]:
    """a and ln N* of simulated sweeps."""
    found = []
    for losses in simulate(SODA_SURFACE, runs.size_R, runs.tokens_R, noise=0.004, seed=3, draws=sweeps):
        fit = fit_law(
            LAWS["chinchilla"], {"N": runs.size_R, "D": runs.tokens_R}, losses, misfit=MISFITS["mse-log"]
        )
        found.append((fit.optimum_exponents["a"], log_optimal_size(TARGET_FLOPS)(fit.parameters)))
    return tuple(np.array(found).T)  # type: ignore[return-value]


def grid() -> None:
    """SODA's design as the table of the published configurations, and the plans by its published law."""
    print("C  d  L  heads  B  steps  peak LR  beta2  N (M)  N non-emb (M)  D (B)  6ND/C  D/N  from")
    for p in sorted(soda_design(), key=lambda p: (p.budget_flops, p.model.width)):
        row, m = p.row(), p.model
        print(
            f"{p.budget_flops:.1e}  {m.width}  {m.layers}  {m.heads}  {p.batch_rows}  {p.steps}  {p.peak_lr:.5f}  {p.beta2:.5f}  "
            f"{p.size.two_embeddings / 1e6:.0f}  {p.size.non_embedding / 1e6:.0f}  {p.tokens / 1e9:.2f}  {row['6nd_over_c']:.2f}  "
            f"{p.tokens / p.size.two_embeddings:.1f}  {p.source}"
        )
    for flops in (3e18, 3e19, 3e20, 1e23):
        size, tokens = SODA_LAW.optimum(flops)
        print(
            f"published law at {flops:.0e}: N* {size / 1e9:.3g}B, D* {tokens / 1e9:.3g}B, D*/N* {tokens / size:.1f}"
        )
    for name, size in (("135M", 135e6), ("600M", 600e6), ("1.7B", 1.7e9), ("4B", 4e9)):
        print(
            f"{name} on 500B tokens: {SODA_LAW.over_training_factor(size, 500e9):.1f} times its optimal tokens"
        )


def main() -> None:
    """Measure what argv names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("published", "race", "coverage", "designs", "grid"))
    parser.add_argument("--table", type=Path, default=Path("../shared/data/scaling/chinchilla_epoch.csv"))
    parser.add_argument(
        "--draws", type=int, default=None, help="bootstrap refits: 4000, or 400 a sweep in coverage"
    )
    parser.add_argument("--case", choices=tuple(cases()), default="soda", help="of coverage")
    parser.add_argument("--sweeps", type=int, default=500, help="simulated sweeps")
    given = parser.parse_args()
    if given.what == "published":
        published(given.table, given.draws or 4000)
    elif given.what == "race":
        race(given.table, given.draws or 4000)
    elif given.what == "coverage":
        coverage(given.case, given.sweeps, given.draws or 400)
    elif given.what == "designs":
        designs(given.sweeps)
    else:
        grid()


if __name__ == "__main__":
    main()
