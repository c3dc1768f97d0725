"""How long fits of `sodakit scale` take: 250 runs, their refits, laws of one's own, Farseer's, and fifteen groups with intervals.

python benchmarks/scaling_speed.py --draws 4000
"""

import argparse
import os
import time
from collections.abc import Callable
from statistics import median

# One core: set before numpy loads its libraries.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import numpy as np

from sodakit.scaling.compare import fit_groups
from sodakit.scaling.fit import fit_law
from sodakit.scaling.intervals import bootstrap
from sodakit.scaling.laws import named_law
from sodakit.scaling.records import table_from_rows
from sodakit.scaling.simulate import HOFFMANN, simulate

LAWS = {"chinchilla": 1.0, "E + A/N^a + B/(D^b N^c)": 1.0, "farseer": 0.05}
"""And the part of the refits that each is given."""


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start_s = time.perf_counter()
    work()
    return time.perf_counter() - start_s


def runs(count: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """N and D anywhere in three decades, and losses of Hoffmann's law with a scatter of 0.4 %."""
    random = np.random.default_rng(seed)
    values = {"N": np.exp(random.uniform(14, 22, count)), "D": np.exp(random.uniform(18, 25, count))}
    return values, simulate(HOFFMANN, values["N"], values["D"], noise=0.004, seed=seed)


def main() -> None:
    """Print the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=4000)
    draws = parser.parse_args().draws
    values, loss_R = runs(250, seed=0)
    for name, share in LAWS.items():
        law = named_law(name)
        fit = fit_law(law, values, loss_R)
        fit_s = median(seconds(lambda law=law: fit_law(law, values, loss_R)) for _ in range(5))
        refits = round(share * draws)
        refits_s = seconds(lambda fit=fit, refits=refits: bootstrap(fit, draws=refits))
        print(f"{name}: a fit of 250 runs {fit_s:.3f} s, {refits} refits {refits_s:.2f} s", flush=True)
    rows = []
    for group in range(15):
        own, losses = runs(28, seed=group)
        rows += [
            {"N": n, "D": d, "loss": loss, "config": f"c{group}"}
            for n, d, loss in zip(own["N"], own["D"], losses, strict=True)
        ]
    table = table_from_rows(rows)
    print(f"15 groups of 28 runs, 300 refits each: {seconds(lambda: fit_groups(table, 'config')):.2f} s")


if __name__ == "__main__":
    main()
