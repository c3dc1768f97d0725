"""Seconds of sound per second of training and of decoding, by family of models, on a CPU.

    python benchmarks/families_cpu.py train --sizes nano demo small soda_135m --rounds 7
    python benchmarks/families_cpu.py decode --sizes demo soda_135m --rounds 7
    python benchmarks/families_cpu.py growth --sizes soda_135m --precision int8 --plot benchmarks/families_growth.png
    python benchmarks/families_cpu.py profile --sizes soda_135m --precision int8

All families have the same backbone, vocabulary (the published one) and documents, and take turns. A training step is
what `sodakit train` does: targets, forward, loss over every id, backward, clipping, update, on documents of about ten
seconds with their transcripts; the machine's limit is that of training_growth.py. Decoding is one request, sampled,
prompt included; the first frame is timed from the request. Growth is the time of a second of sound after ever longer
prompts. `--clock cpu` races by the processor time of one thread, on a machine that others use too. `profile` says where a training step and a position's decoding spend their time. Figures: families_cpu.md.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
from checkouts import CLOCKS
from training_growth import OPTIMIZER_VALUES, ceilings  # before torch: it says how its threads wait

import torch  # isort: skip

from sodakit.data.loader import Batch
from sodakit.generate.engine import Batch as Answers
from sodakit.generate.engine import Engine, Request
from sodakit.generate.sampling import Sampling
from sodakit.hardware import freed_memory_is_kept, has_fast_bfloat16
from sodakit.model import compiled
from sodakit.model.accounting import count_parameters, training_flops_per_token
from sodakit.model.any_config import Family, family_config
from sodakit.model.config import MODEL_SIZES, model_size
from sodakit.model.families import build_model, pattern_of
from sodakit.model.frame import cpu_decoder
from sodakit.tokens.documents import Speech, Template, Text
from sodakit.tokens.layouts.contract import lay
from sodakit.tokens.vocabulary import Vocabulary, soda_vocabulary
from sodakit.train.config import LossConfig, OptimConfig
from sodakit.train.objective import Objective
from sodakit.train.optim import Optimizer

FRAME_RATE_HZ = 12.5
FRAMES, TEXT_IDS = 125, 30
"""Of a document: ten seconds, and what is said in them."""
FAMILIES: tuple[Family, ...] = ("flat", "depth", "delay")
SPOKEN = Sampling(temperature=0.8, top_p=0.95)


def documents(vocabulary: Vocabulary, count: int, seed: int) -> list[np.ndarray]:
    """Codes and text drawn at random: the arithmetic does not look at them."""
    rng, template = np.random.default_rng(seed), Template(vocabulary, vocabulary.num_codebooks)
    shape = (vocabulary.num_codebooks, FRAMES)
    return [
        template.document(
            [
                Speech(rng.integers(0, vocabulary.codebook_size, shape).astype(np.uint16)),
                Text(rng.integers(0, 100_000, TEXT_IDS)),
            ]
        )
        for _ in range(count)
    ]


def trainer(family: Family, size: str, vocabulary: Vocabulary, in_step: int) -> Callable[[int], float]:
    """A step of training; it returns the seconds of sound in it. Its caller keeps freed memory, as a run does."""
    config = family_config(family, model_size(size, vocabulary.size, context=8192), vocabulary)
    dtype = torch.bfloat16 if has_fast_bfloat16() else torch.float32
    model = build_model(config)
    model.embedding.sparse = not config.tied_embeddings
    objective = Objective(vocabulary, LossConfig(), config, torch.device("cpu"), dtype)
    optimizer = Optimizer(model.named_parameters(), OptimConfig(), peak_lr=3e-3)
    layout = pattern_of(config).layout(vocabulary, vocabulary.num_codebooks)

    def step(number: int) -> float:
        laid = [lay(layout, ids_T) for ids_T in documents(vocabulary, in_step, number)]
        batch = Batch(np.concatenate(laid)[None], (tuple(map(len, laid)),), number)
        micro = objective.targets(batch, slice(None), objective.total_weights(batch))
        objective(model, micro)[0].backward()
        optimizer.clip()
        optimizer.step(1e-5)
        return in_step * FRAMES / FRAME_RATE_HZ

    return step


def fastest(
    family: Family, size: str, vocabulary: Vocabulary, in_step: int, limits: dict[str, float]
) -> float:
    """Seconds of sound per second that no step can exceed here: its FLOPs, as computed, at the machine's rate of products,
    then what the update reads and writes at its rate of copies. As in training_growth.py."""
    config = family_config(family, model_size(size, vocabulary.size, context=8192), vocabulary)
    layout = pattern_of(config).layout(vocabulary, vocabulary.num_codebooks)
    positions = len(lay(layout, documents(vocabulary, 1, 0)[0]))
    flops = training_flops_per_token(config, positions, FRAMES / positions) * positions * in_step
    spared = 0 if config.tied_embeddings else vocabulary.size - in_step * (FRAMES * 8 + TEXT_IDS)
    values = count_parameters(config).total - max(spared, 0) * config.backbone.width
    step_s = (
        flops / limits["product_flops_per_s"] + 4 * OPTIMIZER_VALUES * values / limits["copy_bytes_per_s"]
    )
    return in_step * FRAMES / FRAME_RATE_HZ / step_s


def engine_of(family: Family, size: str, vocabulary: Vocabulary, precision: str) -> Engine:
    """An engine of random weights."""
    config = family_config(family, model_size(size, vocabulary.size, context=4096), vocabulary)
    return Engine(build_model(config), vocabulary, vocabulary.num_codebooks, precision)  # type: ignore[arg-type]


def grow(
    engine: Engine, frames: int, measured: int = 25, before: Callable[[], object] = lambda: None
) -> float:
    """Seconds for a second of sound after a prompt of so many frames; `before` is called when the clock starts."""
    v = engine.layout.vocabulary
    codes_KF = np.random.default_rng(0).integers(0, v.codebook_size, (v.num_codebooks, frames))
    prompt_T = Template(v, v.num_codebooks).continue_prompt(codes_KF.astype(np.uint16))
    request = Request(
        prompt_T=prompt_T,
        closing=v.eos,
        max_new_tokens=(measured + 2) * v.num_codebooks,
        semantic=SPOKEN,
        acoustic=SPOKEN,
    )
    batch = Answers(engine, 1, 0)
    row = batch.admit(request)
    made, start_s = 0, time.perf_counter()
    while not row.done and made < (measured + 1) * v.num_codebooks:
        made += sum(len(ids) for _, ids in batch.step())
        if made <= v.num_codebooks:
            before()
            start_s = time.perf_counter()
    return (time.perf_counter() - start_s) / (made / v.num_codebooks - 1) * FRAME_RATE_HZ


def growth(sizes: list[str], families: list[Family], precisions: list[str], plot: str | None) -> None:
    """Print, and draw, how the time of a second of sound grows with what stands before it."""
    import matplotlib.pyplot as plt

    vocabulary = soda_vocabulary()
    figure, axes = plt.subplots(figsize=(7, 4))
    for size in sizes:
        for family in families:
            for precision in precisions:
                engine = engine_of(family, size, vocabulary, precision)
                a_frame = engine.layout.frame_positions
                at = [
                    n
                    for n in (64, 128, 256, 480, 1024, 2048, 3072, 4000)
                    if n * a_frame < 3900 + 100 // a_frame
                ]
                times = [statistics.median(grow(engine, n) for _ in range(3)) for n in at]
                for frames, time_s in zip(at, times, strict=True):
                    print(
                        f"growth {precision:<8} {size:<10} {family:<6} {frames * a_frame:>5} positions, "
                        f"{frames / FRAME_RATE_HZ:6.1f} s of sound before: {1 / time_s:7.2f} times real time",
                        flush=True,
                    )
                seconds = [n / FRAME_RATE_HZ for n in at]
                axes.plot(seconds, [1 / t for t in times], marker="o", label=f"{size}, {family}, {precision}")
    axes.set(xlabel="sound before, s", ylabel="times real time", yscale="log", xscale="log")
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.legend(fontsize=8)
    if plot:
        figure.savefig(plot, bbox_inches="tight")


def first_frame_s(engine: Engine, number: int) -> float:
    """From the request to the codes of the first frame."""
    v = engine.layout.vocabulary
    request = Request(
        prompt_T=Template(v, v.num_codebooks).speak_prompt(np.arange(1000, 1000 + TEXT_IDS)),
        closing=v.eos,
        max_new_tokens=2 * v.num_codebooks,
        semantic=SPOKEN,
        acoustic=SPOKEN,
        seed=number,
    )
    start_s, made = time.perf_counter(), 0
    batch = Answers(engine, 1, 0)
    batch.admit(request)
    while made < v.num_codebooks:
        made += sum(len(ids) for _, ids in batch.step())
    return time.perf_counter() - start_s


def decoder(family: Family, size: str, vocabulary: Vocabulary, precision: str) -> Callable[[int], float]:
    """One request for speech; it returns the seconds of sound made."""
    engine = engine_of(family, size, vocabulary, precision)
    waits = sorted(first_frame_s(engine, number) for number in range(6))
    print(f"first frame {precision} {size} {family}: {1000 * waits[2]:.0f} ms", flush=True)
    template = Template(vocabulary, vocabulary.num_codebooks)

    def run(number: int) -> float:
        prompt_T = template.speak_prompt(np.arange(1000, 1000 + TEXT_IDS))
        request = Request(
            prompt_T=prompt_T,
            closing=vocabulary.eos,  # which speech never reaches, so that it lasts
            max_new_tokens=5 * int(FRAME_RATE_HZ) * vocabulary.num_codebooks,
            semantic=SPOKEN,
            acoustic=SPOKEN,
            seed=number,
        )
        ids_T = engine.generate([request])[0].ids_T
        return float(vocabulary.is_audio(ids_T).sum()) / vocabulary.num_codebooks / FRAME_RATE_HZ

    return run


def shares(what: str, parts: dict[str, float], whole_s: float) -> None:
    """A line: what took how much of a time, the largest first; and the rest."""
    largest = sorted(parts.items(), key=lambda part: -part[1])[:12]
    told = ", ".join(
        f"{name} {seconds / whole_s:.0%}" for name, seconds in largest if seconds > 0.005 * whole_s
    )
    rest = 1 - sum(parts.values()) / whole_s
    print(f"profile {what}: {1000 * whole_s:.1f} ms; {told}; outside of these {rest:.0%}", flush=True)


def profile_training(family: Family, size: str, vocabulary: Vocabulary, in_step: int, steps: int = 3) -> None:
    """Shares of torch's operations in a step. The compiled update and Python are outside of them."""
    step = trainer(family, size, vocabulary, in_step)
    for number in range(2):
        step(number)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as recorded:
        start_s = time.perf_counter()
        for number in range(steps):
            step(number)
        elapsed_s = time.perf_counter() - start_s
    parts = {row.key: row.self_cpu_time_total / 1e6 / steps for row in recorded.key_averages()}
    shares(f"train {size} {family}", parts, elapsed_s / steps)


def profile_decoding(
    family: Family, size: str, vocabulary: Vocabulary, precision: str, frames: int = 40
) -> None:
    """Shares of the compiled calls in the time of a frame. Python and small tensors are outside of them."""
    engine = engine_of(family, size, vocabulary, precision)
    parts: dict[str, float] = {}
    plain = compiled.call

    def timed(name: str, *arguments: object) -> int:
        start_s = time.perf_counter()
        result = plain(name, *arguments)
        parts[name] = parts.get(name, 0.0) + time.perf_counter() - start_s
        return result

    compiled.call = cpu_decoder.call = timed  # type: ignore[attr-defined]
    try:
        elapsed_s = grow(engine, 50, frames, before=parts.clear) / FRAME_RATE_HZ
    finally:
        compiled.call = cpu_decoder.call = plain  # type: ignore[attr-defined]
    names = {name.removeprefix("sodakit_"): seconds / frames for name, seconds in parts.items()}
    shares(f"decode {precision} {size} {family}, a frame", names, elapsed_s)


def race(
    runs: dict[str, Callable[[int], float]], rounds: int, now: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of sound per second of each contestant in each round, in turn; the first round warms up."""
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            start_s = now()
            sound_s = run(number)
            if number:
                speeds[name].append(sound_s / (now() - start_s))
    return speeds


def report(
    what: str, size: str, speeds: dict[str, list[float]], limits: dict[str, float] | None = None
) -> None:
    """A line for each: median, range, the ratio to flat round by round, and the share of its limit."""
    for name, found in speeds.items():
        ratios = [a / b for a, b in zip(found, next(iter(speeds.values())), strict=True)]
        share = f", {statistics.median(found) / limits[name]:.0%} of the limit" if limits else ""
        print(
            f"{what:<14} {size:<10} {name:<6} {statistics.median(found):9.2f} s/s ({min(found):.2f} to {max(found):.2f})  "
            f"{statistics.median(ratios):6.2f} ({min(ratios):.2f} to {max(ratios):.2f}) times flat{share}",
            flush=True,
        )


def measure(options: argparse.Namespace, vocabulary: Vocabulary, now: Callable[[], float]) -> None:
    """Profile, or race and print."""
    if options.what == "profile":
        for size in options.sizes:
            for family in options.families:
                profile_training(family, size, vocabulary, options.documents)
                for precision in options.precision:
                    profile_decoding(family, size, vocabulary, precision)
        return
    dtype = torch.bfloat16 if has_fast_bfloat16() else torch.float32
    limits = ceilings(torch.device("cpu"), dtype)
    print(
        f"{torch.get_num_threads()} threads, products {limits['product_flops_per_s'] / 1e12:.3g} TFLOP/s, "
        f"copy {limits['copy_bytes_per_s'] / 1e9:.3g} GB/s",
        flush=True,
    )
    for size in options.sizes:
        if options.what == "train":
            made = {f: trainer(f, size, vocabulary, options.documents) for f in options.families}
            most = {f: fastest(f, size, vocabulary, options.documents, limits) for f in options.families}
            report("train", size, race(made, options.rounds, now), most)
            continue
        for precision in options.precision:
            made = {f: decoder(f, size, vocabulary, precision) for f in options.families}
            report(f"decode {precision}", size, race(made, options.rounds, now))


def main() -> None:
    """Race and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("train", "decode", "growth", "profile"))
    parser.add_argument("--sizes", nargs="+", default=["demo"], choices=list(MODEL_SIZES))
    parser.add_argument("--families", nargs="+", default=FAMILIES, choices=FAMILIES)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--documents", type=int, default=4, help="in a step of training")
    parser.add_argument("--precision", nargs="+", default=["float32", "int8"], help="of decoding")
    parser.add_argument("--plot", help="where the figure of growth goes")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    options = parser.parse_args()
    now = CLOCKS[options.clock]
    if options.clock == "cpu":
        torch.set_num_threads(1)
    vocabulary = soda_vocabulary()
    if options.what == "growth":
        growth(options.sizes, options.families, options.precision, options.plot)
        return
    with freed_memory_is_kept() if options.what in ("train", "profile") else nullcontext():
        measure(options, vocabulary, now)


if __name__ == "__main__":
    main()
