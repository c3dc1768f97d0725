"""The losses of one run over the tokens it has seen, as a figure for a page.

    python benchmarks/training_curve.py runs/evening --out docs/studies/evening_losses.png

Lines are training losses, a mean over the last rows of `metrics.jsonl`; points are held-out losses. Each kind of token has
its own colour: codebooks are learnt one after another, which their mean hides.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sodakit.files import read_json_lines
from sodakit.scaling.plot import save

SMOOTH_ROWS = 15
TRAINING, HELD_OUT = "loss/", "validation/loss/"


def kinds_of(rows: list[dict[str, Any]]) -> list[str]:
    """Names of the losses of a run, in the order the run has them; markers say little and are left out."""
    names = dict.fromkeys(name for row in rows for name in row if name.startswith(TRAINING))
    return [name.removeprefix(TRAINING) for name in names if name != TRAINING + "markers"]


def curve(axes: Axes, rows: list[dict[str, Any]], kind: str, colour: Any) -> None:
    """One kind of token: a smooth line of training, points of held-out data."""
    training = [row for row in rows if TRAINING + kind in row]
    tokens = {row["step"]: row["tokens"] / 1e6 for row in training}
    loss = np.array([row[TRAINING + kind] for row in training], float)
    width = min(SMOOTH_ROWS, len(loss))
    smooth = np.convolve(loss, np.full(width, 1 / width), mode="valid")
    axes.plot(
        list(tokens.values())[width - 1 :], smooth, color=colour, linewidth=1, label=kind.replace("_", " ")
    )
    held_out = [row for row in rows if HELD_OUT + kind in row and row["step"] in tokens]
    at = [tokens[row["step"]] for row in held_out]
    axes.plot(at, [row[HELD_OUT + kind] for row in held_out], "o", color=colour, markersize=3)


def main() -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--out", type=Path, required=True, help="PNG or SVG")
    options = parser.parse_args()
    rows = read_json_lines(options.run / "metrics.jsonl")
    kinds = kinds_of(rows)
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    acoustic = [kind for kind in kinds if kind.startswith("acoustic")]
    others = [kind for kind in kinds if kind not in acoustic]
    by_depth = colormaps["viridis"](np.linspace(0, 0.95, 1 + len(acoustic)))
    panels = (
        (left, others, colormaps["tab10"](range(len(others)))),
        (right, ["semantic", *acoustic], by_depth),
    )
    for axes, members, colours in panels:
        for kind, colour in zip(members, colours, strict=True):
            curve(axes, rows, kind, colour)
        axes.set(xlabel="million tokens", ylabel="nats per token")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.12))
    save(figure, options.out)
    print(options.out)


if __name__ == "__main__":
    main()
