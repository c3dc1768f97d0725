"""How often nominal 95 % intervals of `sodakit scale` hold the truth: parabolas with a window, checkpoints drawn as runs, own laws, scores,
losses with an onset.

python benchmarks/scaling_coverage.py --sweeps 300 --out coverage.json
"""

import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from sodakit.scaling.costs import six_n
from sodakit.scaling.fit import fit_law
from sodakit.scaling.groups import clusters
from sodakit.scaling.intervals import bootstrap, log_optimal_size
from sodakit.scaling.laws import LAWS, named_law
from sodakit.scaling.onset import ONSET_LAWS
from sodakit.scaling.onsets import fit_onset
from sodakit.scaling.records import table_from_rows
from sodakit.scaling.score_law import chained, fit_score_law
from sodakit.scaling.simulate import HOFFMANN
from sodakit.scaling.sweeps import bootstrap_parabolas, fit_parabolas

NOISE = 0.004
Hits = Iterator[dict[str, bool]]


def _inside(ends: tuple[float, float], truth: float) -> bool:
    return ends[0] <= truth <= ends[1]


def parabolas(sweeps: int, draws: int) -> Hits:
    """Six budgets, nine sizes within 8 times the optimum; the truth is what noise-free parabolas return."""
    flops_R = np.repeat(np.geomspace(1e18, 1e21, 6), 9)
    size_R = np.concatenate(
        [np.exp(log_optimal_size(c)(HOFFMANN)) * np.geomspace(1 / 8, 8, 9) for c in np.unique(flops_R)]
    )
    tokens_R = flops_R / 6 / size_R
    clean_R = LAWS["chinchilla"].loss(HOFFMANN, N=size_R, D=tokens_R)
    truth = fit_parabolas(flops_R, size_R, tokens_R, clean_R, flops_R)
    random = np.random.default_rng(1)
    for seed in range(sweeps):
        loss_R = clean_R * np.exp(random.normal(0, NOISE, len(clean_R)))
        boot = bootstrap_parabolas(flops_R, size_R, tokens_R, loss_R, flops_R, draws=draws, seed=seed)
        yield {"a": _inside(boot.a, truth.a), "b": _inside(boot.b, truth.b)}


def checkpoints(sweeps: int, draws: int, cluster: str | None = None) -> Hits:
    """Fourteen runs with four checkpoints each, whose errors mostly go together."""
    random = np.random.default_rng(2)
    for seed in range(sweeps):
        rows = []
        for i, size in enumerate(np.geomspace(2e6, 2e8, 14)):
            shared = random.normal(0, 0.9 * NOISE)
            for step, tokens in enumerate(np.geomspace(5 * size, 80 * size, 4)):
                clean = float(LAWS["chinchilla"].loss(HOFFMANN, N=size, D=tokens)[0])
                loss = clean * np.exp(shared + random.normal(0, 0.44 * NOISE))
                rows.append({"run": f"r{i}-step{step}", "N": size, "D": tokens, "loss": loss})
        table = table_from_rows(rows)
        fit = fit_law(LAWS["chinchilla"], {"N": table.sizes(), "D": table.tokens()}, table.loss())
        boot = bootstrap(fit, draws=draws, seed=seed, clusters=clusters(table, cluster)[0])
        yield {x: _inside(boot.interval(lambda p, x=x: p[x]), HOFFMANN[x]) for x in ("alpha", "beta")}


def own_law(sweeps: int, draws: int) -> Hits:
    """Sixty runs of E + A/N^x + B/(D^y N^z)."""
    law = named_law("E + A/N^x + B/(D^y N^z)")
    truth = {"E": 1.7, "A": 400.0, "B": 300.0, "x": 0.34, "y": 0.28, "z": 0.03}
    random = np.random.default_rng(3)
    size_R, tokens_R = np.exp(random.uniform(14, 22, 60)), np.exp(random.uniform(18, 25, 60))
    clean_R = law.loss(truth, N=size_R, D=tokens_R)
    for seed in range(sweeps):
        loss_R = clean_R * np.exp(random.normal(0, NOISE, 60))
        boot = bootstrap(fit_law(law, {"N": size_R, "D": tokens_R}, loss_R), draws=draws, seed=seed)
        yield {x: _inside(boot.interval(lambda p, x=x: p[x]), truth[x]) for x in ("E", "x", "y")}


def onset(sweeps: int, draws: int, scale: float) -> Hits:
    """Four budgets of six sizes, a loss that begins to fall among them; then the run at three times the largest budget."""
    law = ONSET_LAWS["onset"]
    truth = {"E": 4.0, "A": 4.7e6 * scale, "B": 5.7e6 * scale, "H": 2.9, "alpha": 0.9, "beta": 0.9}
    flops_R, size_R = np.repeat(np.geomspace(1e13, 3e14, 4), 6), np.tile(np.geomspace(8e5, 6e6, 6), 4)
    values = {"N": size_R, "D": flops_R / 6 / size_R, "C": flops_R}
    beyond = {"N": 6e6, "D": 9e14 / 36e6, "C": 9e14}
    begins = law.onset_flops(truth, six_n, size_R)
    clean_R, there = law.loss(truth, **values), float(law.loss(truth, **beyond)[0])
    random = np.random.default_rng(5)
    for seed in range(sweeps):
        loss_R = clean_R * np.exp(random.normal(0, NOISE, len(clean_R)))
        found = fit_onset("simulated", values, loss_R, flops_R, draws=draws, seed=seed)
        one = there * np.exp(random.normal(0, NOISE))
        yield {
            "onset": _inside(found.onset_95, begins),
            "plateau": _inside(found.plateau_95, law.plateau(truth)),
            "a run beyond": _inside(found.predict(**beyond)[1], one),
            "a law holds": found.holds,
        }


def score(sweeps: int, draws: int) -> Hits:
    """A loss by sixty runs of Hoffmann's law, then a score of sixteen models by a sigmoid of the loss."""
    random = np.random.default_rng(4)
    size_R, tokens_R = np.exp(random.uniform(14, 22, 60)), np.exp(random.uniform(18, 25, 60))
    clean_R = LAWS["chinchilla"].loss(HOFFMANN, N=size_R, D=tokens_R)
    at = {"N": 1e10, "D": 2e11}
    true_loss = float(LAWS["chinchilla"].loss(HOFFMANN, **at)[0])
    models_R = np.linspace(true_loss, 4.0, 16)

    def curve(loss: np.ndarray) -> np.ndarray:
        return 0.5 + 0.45 / (1 + np.exp(4 * (loss - 2.8)))

    for seed in range(sweeps):
        fit = fit_law(
            LAWS["chinchilla"], {"N": size_R, "D": tokens_R}, clean_R * np.exp(random.normal(0, NOISE, 60))
        )
        boot = bootstrap(fit, draws=draws, seed=seed)
        losses = boot.of(lambda p: float(LAWS["chinchilla"].loss(p, **at)[0]))
        law = fit_score_law(models_R, curve(models_R) + random.normal(0, 0.01, 16), floor=0.5)
        _, mean, one = chained(law, float(fit.predict(**at)[0]), losses.tolist(), draws=draws, seed=seed)
        truth = float(curve(np.array(true_loss)))
        yield {"mean": _inside(mean, truth), "one run": _inside(one, truth + random.normal(0, 0.01))}


CASES: dict[str, Callable[[int, int], Hits]] = {
    "parabolas": parabolas,
    "checkpoints": checkpoints,
    "checkpoints as runs": partial(checkpoints, cluster="none"),
    "own law": own_law,
    "score": score,
    "onset early": partial(onset, scale=0.3),
    "onset amid": partial(onset, scale=0.6),
    "onset late": partial(onset, scale=1.5),
}


def main() -> None:
    """Print and keep the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweeps", type=int, default=300)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = {}
    for name in options.cases:
        hits = list(CASES[name](options.sweeps, options.draws))
        found[name] = {key: float(np.mean([h[key] for h in hits])) for key in hits[0]}
        print(name, {key: f"{share:.1%}" for key, share in found[name].items()}, flush=True)
    if options.out:
        options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
