"""Decoding speed on a GPU: one CUDA graph per frame, against transformers' `generate` with its static cache.

    python benchmarks/decode_gpu.py --sizes soda_135m soda_600m --batches 1 256 --rounds 5

Random weights in bfloat16. Prints tokens per second of each, their spread, the ratio, and the share of the limit
that reading the weights and the cache once per token sets at the bandwidth of a large copy on this device.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import transformers

from sodakit.checkpoint.qwen3 import hf_config
from sodakit.generate.engine import Engine, Request
from sodakit.generate.frame_graph import FrameEngine
from sodakit.generate.sampling import Sampling
from sodakit.model.config import SODA_VOCAB_SIZE, ModelConfig, model_size
from sodakit.model.transformer import Transformer
from sodakit.tokens.documents import Template
from sodakit.tokens.vocabulary import Vocabulary

CODEBOOKS, CODES = 8, 2048
SPOKEN = Sampling(temperature=0.9, top_p=0.8)


def copy_bandwidth() -> float:
    """Bytes per second, read and written, of a copy of 2 GiB."""
    source = torch.empty(2**30, dtype=torch.bfloat16, device="cuda")
    target = torch.empty_like(source)
    best_s = min(timed(lambda: target.copy_(source)) for _ in range(5))
    return 2 * source.numel() * source.element_size() / best_s


def timed(work: Callable[[], object]) -> float:
    """Seconds until the device has done it."""
    torch.cuda.synchronize()
    start_s = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start_s


def read_bytes_per_token(model: Transformer, config: ModelConfig, batch: int, context: int) -> float:
    """Body and head slice once per step, the cache of every row: per token of the batch."""
    body = sum(weight.numel() for weight in model.blocks.parameters()) + CODES * config.width
    cache = 2 * config.layers * config.key_width * context
    return 2 * (body / batch + cache)


def ours(model: Transformer, batch: int, prompt_tokens: int, frames: int) -> Callable[[], float]:
    """Tokens per second over all rows, the frames after the prompt."""
    vocabulary = Vocabulary.layout(
        text_size=SODA_VOCAB_SIZE - 4 - CODEBOOKS * CODES,
        bos=128_000,
        eos=128_001,
        num_codebooks=CODEBOOKS,
        codebook_size=CODES,
    )
    codes_KF = (
        np.random.default_rng(0).integers(0, CODES, (CODEBOOKS, prompt_tokens // CODEBOOKS)).astype(np.uint16)
    )
    request = Request(
        prompt_T=Template(vocabulary, CODEBOOKS).continue_prompt(codes_KF),
        closing=vocabulary.audio_end,
        max_new_tokens=CODEBOOKS,
    )
    engine = FrameEngine(Engine(model, vocabulary, CODEBOOKS), batch, semantic=SPOKEN, acoustic=SPOKEN)
    # Timed without the host's book-keeping of endings: rows that close go on, which costs the same.
    engine.generate([request] * batch)
    start = len(request.prompt_T) + CODEBOOKS

    def run() -> float:
        def speak() -> None:
            for frame in range(frames):
                engine.frame(start + CODEBOOKS * (frame + 1))

        return batch * frames * CODEBOOKS / timed(speak)

    return run


def theirs(config: ModelConfig, batch: int, prompt_tokens: int, new_tokens: int) -> Callable[[], float]:
    """The same with `generate`, static cache, which compiles itself."""
    shape = transformers.Qwen3Config(**hf_config(config))
    model = transformers.Qwen3ForCausalLM(shape).to("cuda", torch.bfloat16).eval()
    ids_BT = torch.randint(0, 1000, (batch, prompt_tokens), device="cuda")

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
            cache_implementation="static",
        )

    def run() -> float:
        # The prompt is in both, and falls out of the difference.
        short_s, long_s = timed(lambda: generate(8)), timed(lambda: generate(8 + new_tokens))
        return batch * new_tokens / (long_s - short_s)

    return run


def main() -> None:
    """Race and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["soda_135m", "soda_600m", "soda_1.7b", "soda_4b"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 256])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--no-peer", action="store_true")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("No CUDA device here. This race needs one; benchmarks/decode_cpu.py does not.")
    bandwidth = copy_bandwidth()
    print(f"{torch.cuda.get_device_name()}, copy {bandwidth / 1e12:.2f} TB/s, torch {torch.__version__}")
    for size in options.sizes:
        config = model_size(size, context=2048)
        model = Transformer(config).to("cuda", torch.bfloat16)
        for batch in options.batches:
            runs = {"sodakit": ours(model, batch, options.prompt, options.frames)}
            if not options.no_peer:
                runs["transformers"] = theirs(config, batch, options.prompt, options.frames * CODEBOOKS)
            speeds: dict[str, list[float]] = {name: [] for name in runs}
            for run in runs.values():
                run()
            for _ in range(options.rounds):
                for name, run in runs.items():
                    speeds[name].append(run())
            limit = bandwidth / read_bytes_per_token(model, config, batch, options.prompt)
            for name, values in speeds.items():
                middle = statistics.median(values)
                print(
                    f"{size:<10} batch {batch:<4} {name:<13} {middle:9.0f} tok/s ({min(values):.0f} to "
                    f"{max(values):.0f})   {100 * middle / limit:3.0f} % of the limit",
                    flush=True,
                )


if __name__ == "__main__":
    main()
