"""Training speed and memory on a GPU: the four sizes of the suite, against transformers and the machine's own ceilings.

    python benchmarks/training_gpu.py                     # all sizes, T = 4096
    python benchmarks/training_gpu.py --sizes soda_135m --rounds 3

First what the machine can do at all (copy, matrix product), then every contender in a process of its own, one after the
other and over again: sodakit, the same with its large matrices in 8-bit floats, transformers (compiled, fused AdamW), the
same with Liger's kernels, and torchtitan's model and loss (compiled, fused AdamW), where they are installed. A step is forward, loss, backward, clipping and the optimizer, on rows that hold documents of about 1,500
tokens; transformers attends over whole rows, as it does when people pack without telling it, and once more on rows of one
document so that both do the same work. The table names the FLOP convention beside every MFU (method: training_gpu.md).
"""

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from sodakit.hardware import gpu_named
from sodakit.model.accounting import palm_flops_per_token, training_flops_per_token
from sodakit.model.attention import Packing
from sodakit.model.config import model_size

SIZES = ("soda_135m", "soda_600m", "soda_1.7b", "soda_4b")
ROWS = {"soda_135m": 16, "soda_600m": 8, "soda_1.7b": 4, "soda_4b": 2}
"""Rows at a time; halved until they fit."""
CONTENDERS = (
    "sodakit, packed",
    "sodakit, packed, fp8",
    "sodakit",
    "transformers",
    "transformers, Liger",
    "torchtitan",
)
DOCUMENT = 1500
FP8_FROM_WIDTH = 2048
"""As published gains begin; a narrower model takes its own width, to see whether that is still so."""


def ceilings(device: torch.device) -> dict[str, float]:
    """Bytes per second of a copy and FLOPs per second of a bfloat16 product: nothing can be faster than these."""
    source = torch.empty(2**28 if device.type == "cuda" else 2**24, dtype=torch.float32, device=device)
    target, side = torch.empty_like(source), 8192 if device.type == "cuda" else 1024
    a = torch.randn(side, side, dtype=torch.bfloat16, device=device)
    copy_s = timed(lambda: target.copy_(source), device)
    product_s = timed(lambda: a @ a, device)
    return {
        "copy_bytes_per_s": 2 * source.numel() * 4 / copy_s,
        "product_flops_per_s": 2 * side**3 / product_s,
    }


def timed(work: Callable[[], Any], device: torch.device, rounds: int = 10) -> float:
    """Median seconds of some work, warm."""
    seconds = []
    for number in range(rounds + 3):
        wait(device)
        start_s = time.perf_counter()
        work()
        wait(device)
        if number >= 3:
            seconds.append(time.perf_counter() - start_s)
    return statistics.median(seconds)


def wait(device: torch.device) -> None:
    """Until the device has done all it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ours(
    size: str, context: int, rows: int, packed: bool, fp8: bool, device: torch.device
) -> Callable[[], None]:
    """A step of sodakit, from the parts that the trainer is made of."""
    from sodakit.model.transformer import Transformer
    from sodakit.train.config import OptimConfig
    from sodakit.train.fp8 import use_fp8
    from sodakit.train.loss import cross_entropy
    from sodakit.train.optim import Optimizer

    model = Transformer(model_size(size, context=context)).to(device)
    if fp8:
        use_fp8(model, min(FP8_FROM_WIDTH, model.config.width))
    if device.type == "cuda":
        model.compile_blocks()
    optimizer = Optimizer(model.named_parameters(), OptimConfig(), peak_lr=3e-3)
    ids_BT = torch.randint(model.config.vocab_size, (rows, context), device=device)
    lengths = row_lengths(context, packed) * rows
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


def row_lengths(context: int, packed: bool) -> list[int]:
    """Documents of a row."""
    if not packed:
        return [context]
    whole, rest = divmod(context, DOCUMENT)
    return [DOCUMENT] * whole + ([rest] if rest else [])


def theirs(size: str, context: int, rows: int, liger: bool, device: torch.device) -> Callable[[], None]:
    """A step of transformers: compiled, sdpa, fused AdamW, float32 masters under autocast."""
    import transformers

    from sodakit.checkpoint.qwen3 import hf_config

    if liger:
        from liger_kernel.transformers import apply_liger_kernel_to_qwen3

        apply_liger_kernel_to_qwen3()
    plain = hf_config(model_size(size, context=context))
    config = transformers.Qwen3Config(**plain, attn_implementation="sdpa")
    model = transformers.Qwen3ForCausalLM(config).to(device)
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
    model = Qwen3Model(arguments).to(device)
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


def measure(
    name: str, size: str, context: int, rows: int, steps: int, device: torch.device
) -> dict[str, Any]:
    """One contender's figures, with as many rows at a time as fit."""
    while True:
        if device.type == "cuda":
            # Out of the handler: there the traceback still holds the model that did not fit.
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        try:
            if name.startswith("sodakit"):
                step = ours(size, context, rows, "packed" in name, "fp8" in name, device)
            elif name == "torchtitan":
                step = titan(size, context, rows, device)
            else:
                step = theirs(size, context, rows, "Liger" in name, device)
            seconds = timed(step, device, steps)
            break
        except torch.OutOfMemoryError:
            if rows == 1:
                raise
            rows //= 2
            step = None  # its model and moments, before the next are made
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return {"tokens_per_s": rows * context / seconds, "rows": rows, "peak_bytes": peak}


def run_alone(name: str, size: str, options: argparse.Namespace) -> dict[str, Any]:
    """The same in a process of its own; what went wrong, where it did."""
    command = [
        sys.executable,
        __file__,
        "--measure",
        name,
        "--sizes",
        size,
        "--context",
        str(options.context),
    ]
    command += ["--steps", str(options.steps), "--device", options.device]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1][:90] if done.stderr.strip() else "failed"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def table(size: str, results: dict[str, list[dict[str, Any]]], context: int, device: torch.device) -> str:
    """One size as Markdown: speed, MFU by both conventions, memory."""
    config = model_size(size, context=context)
    gpu = gpu_named(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    lines = [f"### {size}", "", "| | tokens/s (lowest to highest) | rows | MFU causal / PaLM | peak memory |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for name, samples in results.items():
        good = [s for s in samples if "error" not in s]
        if not good:
            lines.append(f"| {name} | {samples[0]['error']} | | | |")
            continue
        speeds = [s["tokens_per_s"] for s in good]
        speed = statistics.median(speeds)
        lengths = row_lengths(context, "packed" in name)
        attended = sum(n * n for n in lengths) / sum(lengths)
        shares = [
            speed * flops / gpu.peak_flops if gpu else float("nan")
            for flops in (
                training_flops_per_token(config, attended),
                palm_flops_per_token(config, context),
            )
        ]
        mfu = f"{shares[0]:.1%} / {shares[1]:.1%}" if gpu else "peak not known"
        lines.append(
            f"| {name} | {speed:,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f}) | {good[0]['rows']} | {mfu} | "
            f"{max(s['peak_bytes'] for s in good) / 1e9:.1f} GB |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure the ceilings, race, print tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each contender, in turn")
    parser.add_argument("--steps", type=int, default=10, help="timed steps of a process, after three others")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--measure", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = torch.device(options.device)
    if options.measure:
        size = options.sizes[0]
        rows = ROWS.get(size, 1)
        print(json.dumps(measure(options.measure, size, options.context, rows, options.steps, device)))
        return
    import transformers

    print(f"torch {torch.__version__}, transformers {transformers.__version__}, device {device}")
    print({name: f"{value:.3g}" for name, value in ceilings(device).items()})
    for size in options.sizes:
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
        for _ in range(options.rounds):
            for name, samples in results.items():
                samples.append(run_alone(name, size, options))
        print(table(size, results, options.context, device), flush=True)


if __name__ == "__main__":
    main()
