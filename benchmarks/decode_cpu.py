"""Decoding speed on a CPU, one request, against transformers' `generate` on the same weights.

    python benchmarks/decode_cpu.py --rounds 5
    python benchmarks/decode_cpu.py --clock cpu --threads 1          on a machine that others use too
    pip install gguf llama-cpp-python
    python benchmarks/decode_cpu.py --llama float32 int8            llama.cpp beside it, on the same weights

Alternates all contestants in one process, and prints the median speed of each, its spread, and its ratio to
transformers at the same precision. The model is the 135M shape of the paper with its vocabulary and random weights,
which change nothing about speed. transformers' int8 is torch's dynamic quantisation of its linear layers.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import transformers

from sodakit.checkpoint.qwen3 import hf_config
from sodakit.codec.toy import ToyCodec
from sodakit.generate.engine import Batch, Engine, Request
from sodakit.generate.sampling import Sampling
from sodakit.generate.stream import Endings, SpeechStream
from sodakit.model.config import SODA_VOCAB_SIZE, ModelConfig, model_size
from sodakit.model.transformer import Transformer
from sodakit.tokens.documents import Template
from sodakit.tokens.vocabulary import Vocabulary

CODEBOOKS, CODES = 8, 2048
SPOKEN = Sampling(temperature=0.9, top_p=0.8)
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
GGUF_TYPES = {"float32": "F32", "int8": "Q8_0"}
Run = Callable[[int, int], float]
"""(prompt tokens, new tokens) to seconds for the new ones."""


def vocabulary() -> Vocabulary:
    """SODA's sizes: 128,256 ids of text, four markers, eight codebooks of 2,048."""
    return Vocabulary.layout(
        text_size=SODA_VOCAB_SIZE - 4 - CODEBOOKS * CODES,
        bos=128_000,
        eos=128_001,
        num_codebooks=CODEBOOKS,
        codebook_size=CODES,
    )


def request(prompt_tokens: int, new_tokens: int) -> Request:
    """Speech to go on with, of about `prompt_tokens`."""
    frames = (prompt_tokens - 2) // CODEBOOKS
    codes_KF = np.random.default_rng(0).integers(0, CODES, (CODEBOOKS, frames)).astype(np.uint16)
    v = vocabulary()
    prompt_T = Template(v, CODEBOOKS).continue_prompt(codes_KF)
    # An id that audio never reaches, so that nothing ends before its time.
    return Request(
        prompt_T=prompt_T, closing=v.eos, max_new_tokens=new_tokens, semantic=SPOKEN, acoustic=SPOKEN
    )


def ours(engine: Engine, clock: Callable[[], float]) -> Run:
    """sodakit, as the server runs it, sampling included."""

    def run(prompt_tokens: int, new_tokens: int) -> float:
        batch = Batch(engine, capacity=1, prefixes=0)
        batch.admit(request(prompt_tokens, new_tokens + 8))
        start_s = clock()
        for _ in range(new_tokens):
            if not batch.rows:
                raise RuntimeError("The answer ended early; try another seed.")
            batch.step()
        return clock() - start_s

    return run


def theirs(config: ModelConfig, precision: str, clock: Callable[[], float]) -> Run:
    """transformers' `generate` with its dynamic cache and the same sampling, over the whole vocabulary."""
    shape = transformers.Qwen3Config(**hf_config(config), attn_implementation="sdpa")
    model = transformers.Qwen3ForCausalLM(shape).eval()
    if precision == "bfloat16":
        model = model.to(torch.bfloat16)
    if precision == "int8":
        model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)

    class Stopwatch(transformers.generation.streamers.BaseStreamer):
        def put(self, value: torch.Tensor) -> None:
            times_s.append(clock())

        def end(self) -> None:
            pass

    times_s: list[float] = []

    def run(prompt_tokens: int, new_tokens: int) -> float:
        times_s.clear()
        ids_BT = torch.from_numpy(request(prompt_tokens, 8).prompt_T.astype(np.int64))[None]
        with torch.inference_mode():
            model.generate(
                ids_BT,
                attention_mask=torch.ones_like(ids_BT),
                do_sample=True,
                temperature=0.9,
                top_p=0.8,
                top_k=0,
                min_new_tokens=new_tokens + 1,
                max_new_tokens=new_tokens + 1,
                pad_token_id=0,
                streamer=Stopwatch(),
            )
        # The first time is the prompt's, the second that of the first new id, which comes with the prompt.
        return times_s[-1] - times_s[1]

    return run


def write_gguf(model: Transformer, path: Path, precision: str) -> None:
    """The weights as llama.cpp reads a Qwen3, without a tokenizer and without rotary scaling."""
    import gguf

    config, writer = model.config, gguf.GGUFWriter(path, "qwen3")
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.ffn_width)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_width)
    writer.add_value_length(config.head_width)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("none")
    for name, weight in gguf_tensors(model).items():
        values = weight.detach().float().numpy()
        stored = gguf.GGMLQuantizationType[GGUF_TYPES[precision] if values.ndim == 2 else "F32"]
        writer.add_tensor(name, gguf.quants.quantize(values, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_tensors(model: Transformer) -> dict[str, torch.Tensor]:
    """Every weight by llama.cpp's name for it."""
    tensors = {
        "token_embd.weight": model.embedding.weight,
        "output_norm.weight": model.final_norm.weight,
        "output.weight": model.head_VD,
    }
    for number, block in enumerate(model.blocks):
        attention, feed_forward = block.attention, block.feed_forward
        parts = {
            "attn_norm": block.attention_norm,
            "attn_q": attention.query,
            "attn_k": attention.key,
            "attn_v": attention.value,
            "attn_q_norm": attention.query_norm,
            "attn_k_norm": attention.key_norm,
            "attn_output": attention.out,
            "ffn_norm": block.feed_forward_norm,
            "ffn_gate": feed_forward.gate,
            "ffn_up": feed_forward.up,
            "ffn_down": feed_forward.down,
        }
        tensors |= {f"blk.{number}.{name}.weight": part.weight for name, part in parts.items()}
    return tensors


def llama(weights: Transformer, precision: str, threads: int, clock: Callable[[], float]) -> Run:
    """llama.cpp through llama-cpp-python on the same weights; all logits, but nothing sampled from them."""
    from llama_cpp import Llama

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        write_gguf(weights, path, precision)
        # Read whole, so that the file may go.
        model = Llama(
            str(path), n_ctx=4096, n_threads=threads, n_threads_batch=threads, use_mmap=False, verbose=False
        )

    def run(prompt_tokens: int, new_tokens: int) -> float:
        model.reset()
        model.eval(request(prompt_tokens, 8).prompt_T.tolist())
        start_s = clock()
        for number in range(new_tokens):
            model.eval([128_300 + number])
        return clock() - start_s

    return run


def first_sound(engine: Engine, clock: Callable[[], float]) -> float:
    """Seconds from a short sentence, without a voice, to its first frame of sound (the toy codec: add your own's)."""
    v = vocabulary()
    text_T = np.arange(1000, 1012, dtype=np.int32)
    prompt_T = Template(v, CODEBOOKS).speak_prompt(text_T)
    asked = Request(
        prompt_T=prompt_T, closing=v.audio_end, max_new_tokens=81, semantic=SPOKEN, acoustic=SPOKEN
    )
    batch = Batch(engine, capacity=1, prefixes=0)
    stream = SpeechStream(ToyCodec(CODEBOOKS, CODES), v, CODEBOOKS, Endings())
    start_s = clock()
    batch.admit(asked)
    while True:
        for _, tokens in batch.step():
            if any(stream.push(token) for token in tokens):
                return clock() - start_s


def race(runs: dict[str, Run], rounds: int, prompt_tokens: int, new_tokens: int) -> dict[str, list[float]]:
    """Tokens per second of each contestant in each round, in turn."""
    for run in runs.values():
        run(prompt_tokens, 4)
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            speeds[name].append(new_tokens / run(prompt_tokens, new_tokens))
    return speeds


def plot(growth: dict[str, dict[int, float]], path: Path) -> None:
    """Milliseconds per token over the tokens before it."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    for name, points in growth.items():
        axes.plot(list(points), [1000 / speed for speed in points.values()], marker="o", label=name)
    axes.axhline(10, color="grey", linestyle=":", label="real time (100 tokens/s)")
    axes.set(xlabel="tokens in context", ylabel="ms per token", ylim=(0, None))
    axes.legend()
    figure.savefig(path, bbox_inches="tight")


def main() -> None:
    """Race and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=200)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: seconds of processor time of this process"
    )
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16", "int8"])
    parser.add_argument("--contexts", type=int, nargs="*", default=[128, 512, 1024, 2048, 3840])
    parser.add_argument("--llama", nargs="*", choices=GGUF_TYPES, default=[], help="race llama.cpp as well")
    parser.add_argument("--out", type=Path, help="a folder for figures.json and growth.png")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = CLOCKS[options.clock]
    config = model_size("soda_135m")
    model = Transformer(config)
    engines = {p: Engine(model, vocabulary(), CODEBOOKS, p) for p in options.precisions}
    runs: dict[str, Run] = {}
    for precision, engine in engines.items():
        runs[f"sodakit {precision}"] = ours(engine, clock)
        runs[f"transformers {precision}"] = theirs(config, precision, clock)
    for precision in options.llama:
        runs[f"llama.cpp {precision}"] = llama(model, precision, options.threads, clock)
    speeds = race(runs, options.rounds, options.prompt, options.tokens)
    for name, values in speeds.items():
        peer = speeds.get(f"transformers {name.split()[-1]}", values)
        ratios = [a / b for a, b in zip(values, peer, strict=True)]
        print(
            f"{name:<24} {statistics.median(values):7.1f} tok/s ({min(values):.1f} to {max(values):.1f})"
            f"   x {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )
    sound_s = {
        p: statistics.median(first_sound(e, clock) for _ in range(options.rounds)) for p, e in engines.items()
    }
    for precision, value in sound_s.items():
        print(f"first sound, {precision:<10} {1000 * value:6.0f} ms")
    growth = {
        name: {c: statistics.median(race({name: run}, 3, c, 16)[name]) for c in options.contexts}
        for name, run in runs.items()
        if name.startswith("sodakit")
    }
    for name, points in growth.items():
        print(f"{name:<24} " + "  ".join(f"{c}: {speed:.0f} tok/s" for c, speed in points.items()))
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__}, {options.threads} threads, "
        f"{options.clock} clock, {options.prompt} tokens of prompt"
    )
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        figures = {"speeds": speeds, "first_sound_s": sound_s, "growth": growth, "options": vars(options)}
        (options.out / "figures.json").write_text(json.dumps(figures, indent=1, default=str))
        if growth:
            plot(growth, options.out / "growth.png")


if __name__ == "__main__":
    main()
