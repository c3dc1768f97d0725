"""Training speed and memory on a GPU: the four sizes of the suite, against transformers and the machine's own ceilings.

    python benchmarks/training_gpu.py                     # all sizes, T = 4096
    python benchmarks/training_gpu.py --sizes soda_135m --rounds 3 --limit-s 540 --out training.md

First what the machine can do at all (copy, matrix product), then every contender in a process of its own, every size once and
then over again while there is time; the table is written anew after each: sodakit, its model of frames (`depth`, whose
positions hold a frame), the same with its large matrices in 8-bit floats, transformers (compiled, fused AdamW), the
same with Liger's kernels, and torchtitan's model and loss (compiled, fused AdamW), where they are installed. A step is forward, loss, backward, clipping and the optimizer, on rows that hold documents of about 1,500
tokens; transformers attends over whole rows, as it does when people pack without telling it, and once more on rows of one
document so that both do the same work. The table names the FLOP convention beside every MFU (method: training_gpu.md).
"""

import argparse
import gc
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from alone import Clock, alone, write_page
from made_on import made_on

from sodakit.ceilings import Ceilings, keep, memory_bytes, timed
from sodakit.ceilings import measure as measure_ceilings
from sodakit.data.loader import Batch
from sodakit.hardware import gpu_named
from sodakit.model.accounting import (
    count_parameters,
    palm_flops_per_token,
    training_flops_per_token,
    training_memory,
)
from sodakit.model.any_config import family_config
from sodakit.model.attention import Packing
from sodakit.model.attention_routes import candidates, fastest_route
from sodakit.model.config import ModelConfig, model_size
from sodakit.tokens.vocabulary import soda_vocabulary
from sodakit.train.loss import chunk_positions
from sodakit.train.recompute import recompute_blocks

SIZES = ("soda_135m", "soda_600m", "soda_1.7b", "soda_4b")
ROWS = {"soda_135m": 16, "soda_600m": 8, "soda_1.7b": 4, "soda_4b": 2}
"""Rows at a time; halved until they fit, from the first number that may: each that does not is compiled in vain."""
CONTENDERS = (
    "sodakit, packed",
    "transformers",
    "sodakit",
    "sodakit, depth",
    "torchtitan",
    "transformers, Liger",
    "sodakit, packed, fp8",
)
"""In order of worth: the first are measured whatever happens."""
DOCUMENT = 1500
CODEBOOKS = 8
"""Of a frame of the published vocabulary: a position of `depth` holds as many ids."""
FP8_FROM_WIDTH = 2048
"""As published gains begin; a narrower model takes its own width, to see whether that is still so."""


def ours(
    size: str, context: int, rows: int, packed: bool, fp8: bool, recompute: bool, device: torch.device
) -> Callable[[], None]:
    """A step of sodakit, from the parts that the trainer is made of."""
    from sodakit.model.transformer import Transformer
    from sodakit.train.config import OptimConfig
    from sodakit.train.fp8 import use_fp8
    from sodakit.train.loss import cross_entropy
    from sodakit.train.optim import Optimizer

    model = made_on(device, lambda: Transformer(model_size(size, context=context)))
    if fp8:
        use_fp8(model, min(FP8_FROM_WIDTH, model.config.width))
    lengths = row_lengths(context, packed) * rows
    if device.type == "cuda":
        take_fastest(model.config, lengths, device)
        model.compile_blocks()
    if recompute:
        recompute_blocks(model.units(), alone_on_cpu=False)
    optimizer = Optimizer(model.named_parameters(), OptimConfig(), peak_lr=3e-3)
    ids_BT = torch.randint(model.config.vocab_size, (rows, context), device=device)
    weights_T = torch.full((rows * (context - 1),), 1 / (rows * (context - 1)), device=device)

    def step() -> None:
        packing = Packing.from_lengths(lengths, device=device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            x_TD = model(ids_BT, packing=packing)[:, :-1].flatten(0, 1)
        targets_T = ids_BT[:, 1:].flatten()
        loss, _ = cross_entropy(x_TD, model.head_VD, targets_T, weights_T, z_loss=1e-4, dtype=torch.bfloat16)
        loss.backward()
        optimizer.clip()
        optimizer.step(1e-5)

    return step


def depth(size: str, context: int, rows: int, recompute: bool, device: torch.device) -> Callable[[], None]:
    """A step of a model of frames around the same backbone, on rows of nothing but speech."""
    from sodakit.model.families import build_model
    from sodakit.train.config import LossConfig, OptimConfig
    from sodakit.train.objective import Objective
    from sodakit.train.optim import Optimizer

    vocabulary = soda_vocabulary()
    config = family_config("depth", model_size(size, vocabulary.size, context=context), vocabulary)
    model = made_on(device, lambda: build_model(config))
    # Documents of as many seconds as a flat row's, which has a position for every code.
    lengths = row_lengths(context, packed=True, document=max(DOCUMENT // CODEBOOKS, 1))
    if device.type == "cuda":
        take_fastest(config.backbone, lengths * rows, device)
        model.compile_blocks()
    if recompute:
        recompute_blocks(model.units(), alone_on_cpu=False)
    objective = Objective(vocabulary, LossConfig(), config, device, torch.bfloat16)
    optimizer = Optimizer(model.named_parameters(), OptimConfig(), peak_lr=3e-3)
    books = [vocabulary.codebook_range(k) for k in range(vocabulary.num_codebooks)]
    chance = np.random.default_rng(0)
    ids_BPW = np.stack([chance.integers(*book, (rows, context)) for book in books], axis=-1).astype(np.int32)
    batch = Batch(ids_BPW, (tuple(lengths),) * rows, 0)
    totals = objective.total_weights(batch)

    def step() -> None:
        targets = objective.targets(batch, slice(None), totals)
        loss, _ = objective(model, targets)
        loss.backward()
        optimizer.clip()
        optimizer.step(1e-5)

    return step


def take_fastest(shape: ModelConfig, lengths: list[int], device: torch.device) -> None:
    """The attention that a run would choose, as it chooses it."""
    among = candidates(device, torch.bfloat16, shape.head_width)
    sizes = (shape.heads, shape.kv_heads, shape.head_width)
    choice = fastest_route(among, device, torch.bfloat16, sizes, lengths)
    print(choice, file=sys.stderr)
    for candidate in among:
        if candidate.name == choice.name:
            candidate.activate()


def row_lengths(context: int, packed: bool, document: int = DOCUMENT) -> list[int]:
    """Documents of a row."""
    if not packed:
        return [context]
    whole, rest = divmod(context, document)
    return [document] * whole + ([rest] if rest else [])


def theirs(size: str, context: int, rows: int, liger: bool, device: torch.device) -> Callable[[], None]:
    """A step of transformers: compiled, sdpa, fused AdamW, float32 masters under autocast."""
    import transformers

    from sodakit.checkpoint.qwen3 import hf_config

    if liger:
        from liger_kernel.transformers import apply_liger_kernel_to_qwen3

        apply_liger_kernel_to_qwen3()
    plain = hf_config(model_size(size, context=context))
    config = transformers.Qwen3Config(**plain, attn_implementation="sdpa")
    with device:
        model = transformers.Qwen3ForCausalLM(config)
    forward = torch.compile(model) if device.type == "cuda" else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    ids_BT = torch.randint(config.vocab_size, (rows, context), device=device)

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = forward(ids_BT, labels=ids_BT, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def titan(size: str, context: int, rows: int, device: torch.device) -> Callable[[], None]:
    """A step of torchtitan's Qwen3 as its trainer makes it on one GPU: blocks and loss compiled, bfloat16 by autocast."""
    from torchtitan.components.loss import cross_entropy_loss
    from torchtitan.models.qwen3 import Qwen3Model, Qwen3ModelArgs

    shape = model_size(size, context=context)
    arguments = Qwen3ModelArgs(
        dim=shape.width,
        n_layers=shape.layers,
        n_heads=shape.heads,
        n_kv_heads=shape.kv_heads,
        head_dim=shape.head_width,
        hidden_dim=shape.ffn_width,
        vocab_size=shape.vocab_size,
        max_seq_len=context,
        norm_eps=shape.norm_eps,
        rope_theta=shape.rope_theta,
    )
    with device:
        model = Qwen3Model(arguments)
    with torch.no_grad():
        model.init_weights(device)
    loss_of = cross_entropy_loss
    if device.type == "cuda":
        for block in model.layers.values():
            block.compile(fullgraph=True)
        loss_of = torch.compile(cross_entropy_loss)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    ids_BT = torch.randint(shape.vocab_size, (rows, context), device=device)
    labels_BT = ids_BT.roll(-1, dims=1)
    labels_BT[:, -1] = -100  # what it leaves out

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = loss_of(model(ids_BT), labels_BT) / (rows * (context - 1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def first_try(name: str, size: str, context: int, memory: float) -> tuple[int, bool]:
    """Rows at a time to begin with, and whether activations are made again: the first that may fit so much memory.

    Of ours by what a run expects. Of the others by what they cannot do without: weights, gradients and moments, and the
    scores of all positions in 16 bits, in 32, and their gradient, which Liger never has at once.
    """
    shape = model_size(size, context=context)
    rows, recompute = ROWS.get(size, 1), False
    while not recompute:
        if name.startswith("sodakit"):
            config = family_config("depth", shape, soda_vocabulary()) if name == "sodakit, depth" else shape
            low = min(FP8_FROM_WIDTH, shape.width) if "fp8" in name else None
            head = chunk_positions(shape.vocab_size, "cuda")
            expected = training_memory(
                config, rows * context, logits_tokens=head, fp8_from_width=low
            ).total_bytes
        else:
            scores = 0 if "Liger" in name else 10 * rows * context * shape.vocab_size
            expected = 16 * count_parameters(shape).total + scores
        if expected <= memory or (rows == 1 and not name.startswith("sodakit")):
            break
        recompute, rows = rows == 1, max(rows // 2, 1)
    return rows, recompute


def measure(
    name: str, size: str, context: int, steps: int, device: torch.device, memory: float
) -> dict[str, Any]:
    """One contender's figures, with as many rows at a time as fit; ours makes activations again where not even one does, as
    a run would."""
    rows, recompute = first_try(name, size, context, memory)
    while True:
        if device.type == "cuda":
            # Out of the handler: there the traceback still holds the model that did not fit.
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        try:
            if name == "sodakit, depth":
                step = depth(size, context, rows, recompute, device)
            elif name.startswith("sodakit"):
                step = ours(size, context, rows, "packed" in name, "fp8" in name, recompute, device)
            elif name == "torchtitan":
                step = titan(size, context, rows, device)
            else:
                step = theirs(size, context, rows, "Liger" in name, device)
            seconds = timed(step, device, steps)
            break
        except torch.OutOfMemoryError:
            if rows == 1 and (recompute or not name.startswith("sodakit")):
                raise
            recompute, rows = rows == 1, max(rows // 2, 1)
            step = None  # its model and moments, before the next are made
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    codes = CODEBOOKS if name == "sodakit, depth" else 1
    told = f"{rows}, activations made again" if recompute else str(rows)
    return {"tokens_per_s": rows * context * codes / seconds, "rows": told, "peak_bytes": peak}


def run_alone(name: str, size: str, options: argparse.Namespace, limit_s: float) -> dict[str, Any]:
    """The same in a process of its own; what went wrong, where it did."""
    words = [
        "--measure",
        name,
        "--sizes",
        size,
        "--context",
        str(options.context),
        "--steps",
        str(options.steps),
    ]
    return alone(__file__, [*words, "--device", options.device], limit_s)


def table(
    size: str, results: dict[str, list[dict[str, Any]]], context: int, ceilings: Ceilings, on_gpu: bool
) -> str:
    """One size as Markdown: speed, MFU by both conventions and against what was measured, memory."""
    config = model_size(size, context=context)
    gpu = gpu_named(ceilings.device) if on_gpu else None
    lines = [
        f"### {size}",
        "",
        "| | tokens/s (lowest to highest) | rows | MFU causal / PaLM | causal, of the measured product | peak memory |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, samples in results.items():
        good = [s for s in samples if "error" not in s]
        if not good:
            lines.append(f"| {name} | {samples[0]['error'] if samples else 'not reached'} | | | | |")
            continue
        speeds = [s["tokens_per_s"] for s in good]
        speed = statistics.median(speeds)
        shares = f"{speed / 12.5 / CODEBOOKS:,.0f} s of sound a second | "
        if name != "sodakit, depth":
            lengths = row_lengths(context, "packed" in name)
            attended = sum(n * n for n in lengths) / sum(lengths)
            causal, palm = training_flops_per_token(config, attended), palm_flops_per_token(config, context)
            mfu = (
                f"{speed * causal / gpu.peak_flops:.1%} / {speed * palm / gpu.peak_flops:.1%}"
                if gpu
                else "peak not known"
            )
            shares = f"{mfu} | {speed * causal / ceilings.bfloat16_flops_per_s:.1%}"
        lines.append(
            f"| {name} | {speed:,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f}) | {good[0]['rows']} | {shares} | "
            f"{max(s['peak_bytes'] for s in good) / 1e9:.1f} GB |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure the ceilings, race, write tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each contender, in turn")
    parser.add_argument("--steps", type=int, default=10, help="timed steps of a process, after three others")
    parser.add_argument(
        "--limit-s", type=float, default=3600, help="nothing new is begun after so many seconds"
    )
    parser.add_argument("--each-s", type=float, default=150, help="a process may take so long")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, help="file for the tables, written anew after each process")
    parser.add_argument("--measure", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    device, clock = torch.device(options.device), Clock(options.limit_s)
    if options.measure:
        memory = memory_bytes(device)
        print(
            json.dumps(
                measure(options.measure, options.sizes[0], options.context, options.steps, device, memory)
            )
        )
        return
    ceilings = measure_ceilings(device)
    if device.type == "cuda":  # a CPU's are for `doctor --bench` to take, on a quiet machine
        keep(ceilings)
    results: dict[str, dict[str, list[dict[str, Any]]]] = {
        size: {name: [] for name in options.contenders} for size in options.sizes
    }
    head = (
        f"{ceilings.device}, torch {torch.__version__}: copy {ceilings.copy_bytes_per_s / 1e12:.3g} TB/s, bfloat16 product "
        f"{ceilings.bfloat16_flops_per_s / 1e12:.3g} TFLOP/s. T = {options.context}, median of {options.steps} steps."
    )
    for number in range(options.rounds):
        for name in options.contenders:
            for size in options.sizes:
                if clock.left_s < 1:
                    continue
                found = run_alone(name, size, options, min(options.each_s, clock.left_s))
                print(f"round {number + 1}, {size}, {name}: {found}", flush=True)
                results[size][name].append(found)
                on_gpu = device.type == "cuda"
                tables = [table(s, r, options.context, ceilings, on_gpu) for s, r in results.items()]
                write_page(options.out, "\n\n".join([head, *tables]) + "\n")
    print("\n\n".join([head, *tables]), flush=True)


if __name__ == "__main__":
    main()
