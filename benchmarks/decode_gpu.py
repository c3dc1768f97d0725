"""Decoding speed on a GPU: one CUDA graph per frame, against transformers' `generate` with its static cache.

    python benchmarks/decode_gpu.py --sizes soda_135m soda_600m --batches 1 256 --rounds 5

Random weights in bfloat16, each contender in a process of its own. Ids per second of each, their spread, and the share of the
limit that reading the weights and the cache once per token sets at the bandwidth of a large copy on this device. With
`--device cpu` the same runs without a graph, to try the script.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from alone import Clock, alone, write_page
from made_on import made_on

from sodakit.ceilings import device_name, measured, wait
from sodakit.ceilings import measure as measure_ceilings
from sodakit.checkpoint.qwen3 import hf_config
from sodakit.generate.engine import Engine, Request
from sodakit.generate.frame_graph import FrameEngine
from sodakit.generate.sampling import Sampling
from sodakit.model.any_config import Family, family_config
from sodakit.model.config import ModelConfig, model_size
from sodakit.model.families import build_model
from sodakit.model.transformer import Transformer
from sodakit.tokens.documents import Template
from sodakit.tokens.layouts.contract import lay
from sodakit.tokens.vocabulary import soda_vocabulary

CODEBOOKS, CODES = 8, 2048
SPOKEN = Sampling(temperature=0.9, top_p=0.8)


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Seconds until the device has done it."""
    wait(device)
    start_s = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start_s


def read_bytes_per_token(model: Transformer, config: ModelConfig, batch: int, context: int) -> float:
    """Body and head slice once per step, the cache of every row: per token of the batch."""
    body = sum(weight.numel() for weight in model.blocks.parameters()) + CODES * config.width
    cache = 2 * config.layers * config.key_width * context
    return 2 * (body / batch + cache)


def ours(
    size: str, batch: int, options: argparse.Namespace, device: torch.device, family: Family = "flat"
) -> Callable[[], float]:
    """Ids per second over all rows, the frames after the prompt; by a model of frames (`depth`) a position holds one."""
    vocabulary = soda_vocabulary()
    step = CODEBOOKS if family == "flat" else 1
    prompt = options.prompt // CODEBOOKS
    # No more room than is used: the cache of 256 rows is the largest thing here.
    backbone = model_size(size, vocabulary.size, context=step * (prompt + options.frames + 8))
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model = made_on(device, lambda: build_model(family_config(family, backbone, vocabulary)), dtype)
    codes_KF = np.random.default_rng(0).integers(0, CODES, (CODEBOOKS, prompt)).astype(np.uint16)
    request = Request(
        prompt_T=Template(vocabulary, CODEBOOKS).continue_prompt(codes_KF),
        closing=vocabulary.audio_end,
        max_new_tokens=CODEBOOKS,
    )
    engine = FrameEngine(Engine(model, vocabulary, CODEBOOKS), batch, semantic=SPOKEN, acoustic=SPOKEN)
    # Timed without the host's book-keeping of endings: rows that close go on, which costs the same.
    engine.generate([request] * batch)
    start = len(lay(engine.layout, request.prompt_T)) + step

    def run() -> float:
        def speak() -> None:
            for frame in range(options.frames):
                engine.frame(start + step * (frame + 1))

        # Every round begins where the prompt ended: the graphs of longer spans are others.
        engine.rewind(start)
        return batch * options.frames * CODEBOOKS / seconds_of(speak, device)

    return run


def theirs(size: str, batch: int, options: argparse.Namespace, device: torch.device) -> Callable[[], float]:
    """The same with `generate`, static cache, which compiles itself."""
    import transformers

    new_tokens = options.frames * CODEBOOKS
    config = model_size(size, context=options.prompt + new_tokens + 64)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    with device:
        model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**hf_config(config)))
    model = model.to(dtype).eval()
    ids_BT = torch.randint(0, 1000, (batch, options.prompt), device=device)

    def generate(tokens: int) -> None:
        model.generate(
            ids_BT,
            attention_mask=torch.ones_like(ids_BT),
            do_sample=True,
            temperature=0.9,
            top_p=0.8,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            pad_token_id=0,
            **({"cache_implementation": "static"} if device.type == "cuda" else {}),
        )

    def run() -> float:
        # The prompt is in both, and falls out of the difference.
        short_s, long_s = (seconds_of(lambda n=n: generate(n), device) for n in (8, 8 + new_tokens))
        return batch * new_tokens / (long_s - short_s)

    return run


CONTENDERS = {"sodakit": ours, "sodakit, depth": partial(ours, family="depth"), "transformers": theirs}


def measure(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """One contender's speeds."""
    run = CONTENDERS[options.measure](options.sizes[0], options.batches[0], options, device)
    run()
    speeds = [run() for _ in range(options.rounds)]
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return {"speeds": speeds, "peak_bytes": peak}


def row(size: str, batch: int, name: str, found: dict[str, Any], bandwidth: float, prompt: int) -> str:
    """A line of the table."""
    if "error" in found:
        return f"| {size} | {batch} | {name} | {found['error']} | | | |"
    speeds = found["speeds"]
    middle = statistics.median(speeds)
    limit = ""
    if name != "sodakit, depth":
        with torch.device("meta"):
            model = Transformer(model_size(size), seed=None)
        limit = f"{middle * read_bytes_per_token(model, model.config, batch, prompt) / bandwidth:.0%}"
    return (
        f"| {size} | {batch} | {name} | {middle:,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f}) | "
        f"{middle / CODEBOOKS / 12.5 / batch:.1f} | {limit} | {found['peak_bytes'] / 1e9:.1f} GB |"
    )


def main() -> None:
    """Race, each contender in a process of its own, and write the table after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["soda_135m", "soda_600m", "soda_1.7b", "soda_4b"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 256])
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument(
        "--limit-s", type=float, default=3600, help="nothing new is begun after so many seconds"
    )
    parser.add_argument("--each-s", type=float, default=120, help="a process may take so long")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, help="file for the table, written anew after each process")
    parser.add_argument("--measure", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    device, clock = torch.device(options.device), Clock(options.limit_s)
    if options.measure:
        print(json.dumps(measure(options, device)))
        return
    ceilings = measured(device_name(device)) or measure_ceilings(device)
    bandwidth = ceilings.copy_bytes_per_s
    lines = [
        f"{ceilings.device}, copy {bandwidth / 1e12:.3g} TB/s, torch {torch.__version__}, prompt of {options.prompt} ids, "
        f"{options.frames} frames, random weights in bfloat16.",
        "",
        "| | rows | | ids/s of all rows (lowest to highest) | times real time, each row | of the bandwidth's limit | peak memory |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in options.contenders:
        for batch in options.batches:
            for size in options.sizes:
                words = [
                    "--measure",
                    name,
                    "--sizes",
                    size,
                    "--batches",
                    str(batch),
                    "--device",
                    options.device,
                ]
                for option in ("rounds", "prompt", "frames"):
                    words += [f"--{option}", str(getattr(options, option))]
                found = alone(__file__, words, min(options.each_s, clock.left_s))
                lines.append(row(size, batch, name, found, bandwidth, options.prompt))
                print(lines[-1], flush=True)
                write_page(options.out, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
