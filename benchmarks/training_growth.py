"""How the cost of a training step grows: with the model, with the context, with the documents in a window.

    python benchmarks/training_growth.py                        # on a CPU: small sizes and the 135M
    python benchmarks/training_growth.py --device cuda          # the suite
    python benchmarks/training_growth.py --quick                # about a minute: does it run?

Three sweeps, each with all else held still. A step is forward, full-vocabulary cross-entropy, backward, clipping and the
optimizer, from the parts that the trainer is made of. Beside each measured step stands what no step can be faster than
here: its exact FLOPs at the machine's own rate of matrix products, then what the optimizer must read and write at its
own rate of copies. Prints tables, writes `growth.json`, `growth.png` and `growth.svg` (method and figures:
training_growth.md).
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from training_cpu import QUIET, busy_s, own_s

from sodakit.files import write_json
from sodakit.hardware import has_fast_bfloat16
from sodakit.model.accounting import count_parameters, training_flops_per_token
from sodakit.model.attention import Packing
from sodakit.model.config import SODA_VOCAB_SIZE, ModelConfig, model_size
from sodakit.model.transformer import Transformer
from sodakit.scaling.plot import save
from sodakit.train.config import OptimConfig
from sodakit.train.loss import cross_entropy
from sodakit.train.optim import Optimizer
from sodakit.units import format_count

OPTIMIZER_VALUES = 11
"""float32 values moved per parameter: the gradient for its norm; then gradient and moments in, moments out; then
weight, gradient and moments in, weight out. The cautious update needs its second pass (`train/update.py`)."""
WARM_UP = 3
SAMPLE_S = 0.5
"""A sample is as many steps as last about this long: the system counts what others use in hundredths of a second."""
TRIES = 4
"""Samples tried for each one wanted, until enough of them were quiet."""
UNITS = {
    "size": "parameters in matrix products",
    "context": "context, tokens",
    "documents": "documents in a window",
}


@dataclass(frozen=True)
class Plan:
    """What to measure on a kind of machine."""

    sizes: tuple[str, ...]
    size_context: int
    """One document a row; as many rows as `size_tokens` has."""
    size_tokens: int
    size: str
    """The model of the other two sweeps."""
    contexts: tuple[int, ...]
    """Rows of one document; the longest is the tokens of every step."""
    window: int
    documents: tuple[int, ...]
    vocabulary: int = SODA_VOCAB_SIZE


PLANS = {
    "cuda": Plan(
        sizes=("soda_135m", "soda_600m", "soda_1.7b", "soda_4b"),
        size_context=4096,
        size_tokens=8192,
        size="soda_600m",
        contexts=(512, 1024, 2048, 4096, 8192, 16384, 32768),
        window=16384,
        documents=(1, 2, 4, 8, 16, 32, 64, 128),
    ),
    "cpu": Plan(
        sizes=("nano", "tiny", "demo", "small", "soda_135m"),
        size_context=1024,
        size_tokens=1024,
        size="demo",
        contexts=(128, 256, 512, 1024, 2048, 4096),
        window=2048,
        documents=(1, 2, 4, 8, 16, 32, 64),
    ),
    "quick": Plan(
        sizes=("nano", "tiny", "demo"),
        size_context=256,
        size_tokens=256,
        size="tiny",
        contexts=(64, 256, 1024),
        window=1024,
        documents=(1, 4, 16),
        vocabulary=4096,
    ),
}


@dataclass(frozen=True)
class Point:
    """One step to be timed."""

    sweep: str
    name: str
    at: float
    """Its place on the sweep's axis."""
    config: ModelConfig
    rows: int
    lengths: tuple[int, ...]
    """Documents of a row."""

    @property
    def tokens(self) -> int:
        """Of a step."""
        return self.rows * sum(self.lengths)

    @property
    def flops(self) -> float:
        """Of a step, as computed: attention inside documents, half the square."""
        attended = sum(n * n for n in self.lengths) / sum(self.lengths)
        return self.tokens * training_flops_per_token(self.config, attended)

    def optimizer_bytes(self, sparse: bool) -> float:
        """That an update moves at least; of a sparse embedding only the rows that were read."""
        count = count_parameters(self.config)
        unread = max(self.config.vocab_size - self.tokens, 0) * self.config.width if sparse else 0
        return 4 * OPTIMIZER_VALUES * (count.total - unread)


def points(plan: Plan) -> Iterator[Point]:
    """All steps of a plan."""
    for size in plan.sizes:
        config = model_size(size, plan.vocabulary, context=plan.size_context)
        rows = plan.size_tokens // plan.size_context
        yield Point("size", size, count_parameters(config).matmul, config, rows, (plan.size_context,))
    for context in plan.contexts:
        config = model_size(plan.size, plan.vocabulary, context=context)
        rows = plan.contexts[-1] // context
        yield Point("context", f"{plan.size}, {rows} x {context}", context, config, rows, (context,))
    for number in plan.documents:
        config = model_size(plan.size, plan.vocabulary, context=plan.window)
        length = plan.window // number
        name = f"{plan.size}, {number} x {length}"
        yield Point("documents", name, number, config, 1, (length,) * number)


def is_sparse(point: Point, device: torch.device) -> bool:
    """Whether the embedding has sparse gradients, as `train/run.py` decides for one process."""
    return device.type == "cpu" and not point.config.tied_embeddings


def step_of(point: Point, device: torch.device, dtype: torch.dtype) -> Callable[[], None]:
    """One training step."""
    model = Transformer(point.config).to(device)
    model.embedding.sparse = is_sparse(point, device)
    if device.type == "cuda":
        model.compile_blocks()
    optimizer = Optimizer(model.named_parameters(), OptimConfig(), peak_lr=3e-3)
    context = sum(point.lengths)
    ids_BT = torch.randint(point.config.vocab_size, (point.rows, context), device=device)
    num_targets = point.rows * (context - 1)
    weights_T = torch.full((num_targets,), 1 / num_targets, device=device)

    def step() -> None:
        packing = Packing.from_lengths(point.lengths * point.rows, device=device)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype == torch.bfloat16):
            x_TD = model(ids_BT, packing=packing)[:, :-1].flatten(0, 1)
        targets_T = ids_BT[:, 1:].flatten()
        loss, _ = cross_entropy(x_TD, model.head_VD, targets_T, weights_T, z_loss=1e-4, dtype=dtype)
        loss.backward()
        optimizer.clip()
        optimizer.step(1e-5)

    return step


def samples(work: Callable[[], Any], device: torch.device, rounds: int) -> tuple[list[float], bool]:
    """Seconds of some work, warm, and whether the machine was quiet: on a CPU, others used at most `QUIET` of it."""
    for _ in range(WARM_UP):
        first_s, _ = timed(work, device, 1)
    repeats = max(1, round(SAMPLE_S / first_s))
    quiet, every = [], []
    for _ in range(TRIES * rounds):
        elapsed_s, others = timed(work, device, repeats)
        every.append(elapsed_s)
        if device.type == "cuda" or others <= QUIET:
            quiet.append(elapsed_s)
        hopeless = len(every) >= rounds and len(quiet) < len(every) / TRIES
        if len(quiet) == rounds or hopeless:
            break
    return (quiet, True) if len(quiet) == rounds else (every, False)


def timed(work: Callable[[], Any], device: torch.device, repeats: int) -> tuple[float, float]:
    """Seconds of some work, a mean over repetitions, and the share of the machine that others used meanwhile."""
    busy, own, start_s = busy_s(), own_s(os.getpid()), time.perf_counter()
    for _ in range(repeats):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elapsed_s = time.perf_counter() - start_s
    others_s = (busy_s() - busy) - (own_s(os.getpid()) - own)
    return elapsed_s / repeats, others_s / elapsed_s / (os.cpu_count() or 1)


def ceilings(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """FLOPs per second of the fastest of some square products, and bytes per second of a copy."""
    cuda = device.type == "cuda"
    rates = []
    for side in (4096, 8192) if cuda else (512, 1024, 2048):
        a = torch.randn(side, side, dtype=dtype, device=device)
        rates.append(2 * side**3 / min(samples(lambda a=a: a @ a, device, 5)[0]))
    source = torch.empty(2**28 if cuda else 2**24, device=device).fill_(1.0)
    target = torch.empty_like(source).fill_(0.0)
    copy_s = min(samples(lambda: target.copy_(source), device, 5)[0])
    return {"product_flops_per_s": max(rates), "copy_bytes_per_s": 2 * source.nbytes / copy_s}


def measure(
    point: Point, device: torch.device, dtype: torch.dtype, rounds: int, limits: dict[str, float]
) -> dict[str, Any]:
    """A point's figures and its limits."""
    known = {
        "sweep": point.sweep,
        "name": point.name,
        "at": point.at,
        "tokens": point.tokens,
        "flops": point.flops,
        "products_s": point.flops / limits["product_flops_per_s"],
        "optimizer_s": point.optimizer_bytes(is_sparse(point, device)) / limits["copy_bytes_per_s"],
    }
    try:
        seconds, quiet = samples(step_of(point, device, dtype), device, rounds)
    except torch.OutOfMemoryError:
        return known | {"error": "out of memory"}
    finally:
        torch.compiler.reset()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return known | {
        "step_s": statistics.median(seconds),
        "lowest_s": min(seconds),
        "highest_s": max(seconds),
        "samples": len(seconds),
        "quiet": quiet,
    }


def limit_s(row: dict[str, Any]) -> float:
    """What no such step can be faster than: products first, then the update, which waits for all gradients."""
    return row["products_s"] + row["optimizer_s"]


def table(rows: list[dict[str, Any]]) -> str:
    """One sweep as Markdown."""
    lines = [
        f"### {rows[0]['sweep']}",
        "",
        "| | FLOPs per token | step, ms (lowest to highest) | tokens/s | limit: products + optimizer, ms | limit / step |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        limits = f"{1e3 * row['products_s']:.3g} + {1e3 * row['optimizer_s']:.3g}"
        cells = [row["name"], format_count(row["flops"] / row["tokens"])]
        if "error" in row:
            cells += [row["error"], "", limits, ""]
        else:
            low, middle, high = (1e3 * row[k] for k in ("lowest_s", "step_s", "highest_s"))
            mark = "" if row["quiet"] else " *"
            cells += [
                f"{middle:.3g} ({low:.3g} to {high:.3g}){mark}",
                f"{row['tokens'] / row['step_s']:,.0f}",
                limits,
                f"{limit_s(row) / row['step_s']:.0%}",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], title: str, folder: Path) -> None:
    """Cost of a token along each sweep, over its limits."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, (sweep, unit) in zip(panels, UNITS.items(), strict=True):
        part = [r for r in rows if r["sweep"] == sweep]
        good = [r for r in part if "error" not in r]
        at = [r["at"] for r in part]
        micros = [1e6 * r["step_s"] / r["tokens"] for r in good]
        errors = [
            [1e6 * abs(r["step_s"] - r[end]) / r["tokens"] for r in good] for end in ("lowest_s", "highest_s")
        ]
        axes.errorbar(
            [r["at"] for r in good],
            micros,
            errors,
            fmt="o",
            color="#0072B2",
            capsize=3,
            label="measured, lowest to highest",
        )
        axes.plot(at, [1e6 * limit_s(r) / r["tokens"] for r in part], color="#D55E00", label="limit")
        axes.plot(
            at,
            [1e6 * r["products_s"] / r["tokens"] for r in part],
            "--",
            color="#D55E00",
            label="limit of the products alone",
        )
        axes.set(xscale="log", yscale="log", xlabel=unit, ylabel="µs per token")
        axes.set_xticks(at, [format_count(x) for x in at])
        axes.set_xticks([], minor=True)
        axes.yaxis.set(
            major_locator=LogLocator(subs=(1, 2, 5)),
            major_formatter=StrMethodFormatter("{x:g}"),
            minor_locator=NullLocator(),
        )
        axes.grid(alpha=0.3)
    panels[0].legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    for suffix in ("png", "svg"):
        save(figure, folder / f"growth.{suffix}")


def main() -> None:
    """Measure, print, write, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), help="default: what is fast here")
    parser.add_argument("--rounds", type=int, default=7, help="samples of each point, at least 5")
    parser.add_argument("--quick", action="store_true", help="tiny sizes and a small vocabulary")
    parser.add_argument("--out", type=Path, default=Path("runs/training_growth"))
    options = parser.parse_args()
    if options.rounds < 5:
        parser.error(f"--rounds {options.rounds}; needed: at least 5, or the median says little.")
    device = torch.device(options.device)
    precision = options.precision or ("bfloat16" if has_fast_bfloat16() else "float32")
    dtype = getattr(torch, precision)
    plan = PLANS["quick" if options.quick else device.type]
    limits = ceilings(device, dtype)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    title = (
        f"{where}, {torch.get_num_threads()} threads, torch {torch.__version__}, {precision}; "
        f"products {limits['product_flops_per_s'] / 1e12:.3g} TFLOP/s, copy {limits['copy_bytes_per_s'] / 1e9:.3g} GB/s"
    )
    print(title, flush=True)
    rows: list[dict[str, Any]] = []
    for sweep in UNITS:
        part = [measure(p, device, dtype, options.rounds, limits) for p in points(plan) if p.sweep == sweep]
        print(f"\n{table(part)}", flush=True)
        rows += part
    if not all(row.get("quiet", True) for row in rows):
        print(f"\n* others used more than {QUIET:.0%} of the machine: this figure does not count.")
    options.out.mkdir(parents=True, exist_ok=True)
    about = {"machine": title, "plan": asdict(plan), "limits": limits, "rows": rows}
    write_json(options.out / "growth.json", about)
    draw(rows, title, options.out)
    print(f"\n{options.out}/growth.json, growth.png, growth.svg")


if __name__ == "__main__":
    main()
