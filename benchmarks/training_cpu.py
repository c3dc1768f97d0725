"""Training speed and memory on a CPU: the 135M of the suite, against transformers on the same shape and tokens.

    python benchmarks/training_cpu.py --rounds 7

Each contender lives in a process of its own, so its peak memory is its own; one steps while the other waits, A B A B.
A step is forward, full-vocabulary cross-entropy, backward, gradient clipping and the optimizer, on one row of 1,024
tokens (one document), under bfloat16 autocast (`--precision float32`: all in float32). transformers runs `Qwen3ForCausalLM` with sdpa and
`torch.optim.AdamW`, with its default (one tensor at a time) or, as a second peer, `fused=True`. A sample counts only if
other processes used less than 6 % of the machine meanwhile (method and figures: training_cpu.md).
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "20000")
SIZE, CONTEXT, THREADS = "soda_135m", 1024, 2
QUIET = 0.06
"""Largest share of the machine that others may use during a sample that counts."""
CONTENDERS = ("sodakit, blocks recomputed", "sodakit", "transformers", "transformers, fused AdamW")


def ours(recompute: bool, precision: str) -> Callable[[int], None]:
    """One step of sodakit, from the parts that the trainer is made of.

    Args:
        recompute: keep a block's input only, as `parallel.activation_checkpointing=True` does.
    """
    import torch

    from sodakit.model.config import model_size
    from sodakit.model.transformer import Transformer
    from sodakit.train.config import OptimConfig
    from sodakit.train.loss import cross_entropy
    from sodakit.train.optim import Optimizer
    from sodakit.train.parallel import Ranks, lay_out

    dtype = getattr(torch, precision)
    model = Transformer(model_size(SIZE, context=CONTEXT))
    lay_out(model, Ranks(0, 1, torch.device("cpu"), "ddp"), recompute=recompute)
    model.embedding.sparse = True  # as `train/run.py` does for one process on a CPU
    optimizer = Optimizer(model.named_parameters(), OptimConfig(), peak_lr=3e-3)
    weights_T = torch.full((CONTEXT - 1,), 1 / (CONTEXT - 1))

    def step(number: int) -> None:
        ids_BT = row(number, model.config.vocab_size)
        with torch.autocast("cpu", dtype=dtype, enabled=dtype == torch.bfloat16, cache_enabled=False):
            x_TD = model(ids_BT)[0, :-1]
        loss, _ = cross_entropy(x_TD, model.head_VD, ids_BT[0, 1:], weights_T, z_loss=1e-4, dtype=dtype)
        loss.backward()
        optimizer.clip()
        optimizer.step(1e-5)

    return step


def theirs(fused: bool, precision: str) -> Callable[[int], None]:
    """One step of transformers with its own loss."""
    import torch
    import transformers

    from sodakit.checkpoint.qwen3 import hf_config
    from sodakit.model.config import model_size

    plain = hf_config(model_size(SIZE, context=CONTEXT))
    config = transformers.Qwen3Config(**plain, attn_implementation="sdpa")
    model = transformers.Qwen3ForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, **({"fused": True} if fused else {}))

    def step(number: int) -> None:
        ids_BT = row(number, config.vocab_size)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            loss = model(ids_BT, labels=ids_BT, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def row(number: int, vocab_size: int):
    """The same ids for every contender: as the mixture has them, mostly audio, some text."""
    import torch

    generator = torch.Generator().manual_seed(number)
    audio = torch.randint(128_260, vocab_size, (1, CONTEXT), generator=generator)
    text = torch.randint(0, 128_000, (1, CONTEXT), generator=generator)
    return torch.where(torch.rand(1, CONTEXT, generator=generator) < 0.05, text, audio)


def serve(name: str, precision: str) -> None:
    """A contender's process: a step for every line it is sent, answered with seconds and peak bytes."""
    import torch

    torch.set_num_threads(THREADS)
    if name in CONTENDERS[:2]:
        step = ours(name == CONTENDERS[0], precision)
    else:
        step = theirs(name == CONTENDERS[3], precision)
    for number, _ in enumerate(sys.stdin):
        start_s = time.perf_counter()
        step(number)
        print(time.perf_counter() - start_s, peak_bytes(), flush=True)


def peak_bytes() -> int:
    """Memory that this process has held at most."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


class Contender:
    """A process that steps when asked: it answers each line with seconds and peak bytes."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self.seconds: list[float] = []
        self.peak_bytes = 0
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def step(self) -> tuple[float, float]:
        """Seconds of one step, and the share of the machine that others used meanwhile."""
        assert self._process.stdin and self._process.stdout
        busy, own, start_s = busy_s(), own_s(self._process.pid), time.perf_counter()
        self._process.stdin.write("step\n")
        elapsed_s, self.peak_bytes = map(float, self._process.stdout.readline().split())
        window_s = time.perf_counter() - start_s
        others_s = (busy_s() - busy) - (own_s(self._process.pid) - own)
        return elapsed_s, others_s / window_s / (os.cpu_count() or 1)

    def stop(self) -> None:
        """End the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def busy_s() -> float:
    """Seconds that all processors have worked since they started."""
    fields = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def own_s(pid: int) -> float:
    """Processor seconds of a process and its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def race(rounds: int, noisy: bool, max_tries: int, precision: str) -> None:
    """Alternate until every contender has `rounds` quiet samples."""
    command = (sys.executable, __file__, "--precision", precision, "--serve")
    contenders = [Contender(name, (*command, name)) for name in CONTENDERS]
    for contender in contenders:
        for _ in range(3):
            contender.step()
    disturbed = 0
    for _ in range(max_tries):
        samples = [contender.step() for contender in contenders]
        if not noisy and max(others for _, others in samples) > QUIET:
            disturbed += 1
            continue
        for contender, (elapsed_s, _) in zip(contenders, samples, strict=True):
            contender.seconds.append(elapsed_s)
        if len(contenders[0].seconds) == rounds:
            break
    for contender in contenders:
        contender.stop()
    report(contenders, disturbed, noisy, precision)


def report(contenders: list[Contender], disturbed: int, noisy: bool, precision: str) -> None:
    """Print the table."""
    import torch
    import transformers

    first = contenders[0]
    if not first.seconds:
        raise SystemExit(f"No quiet sample in {disturbed} rounds: other processes used over {QUIET:.0%}.")
    print(
        "| | tokens/s (lowest to highest) | peak memory | speed of the first over it | the first's memory in this |"
    )
    print("| --- | --- | --- | --- | --- |")
    for c in contenders:
        speeds = [CONTEXT / s for s in c.seconds]
        ratios = [b / a for a, b in zip(first.seconds, c.seconds, strict=True)]
        print(
            f"| {c.name} | {statistics.median(speeds):.0f} ({min(speeds):.0f} to {max(speeds):.0f}) | "
            f"{c.peak_bytes / 1e9:.2f} GB | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | "
            f"{first.peak_bytes / c.peak_bytes:.2f} |"
        )
    print(
        f"\n{len(first.seconds)} rounds, {disturbed} disturbed ones left out{', OTHERS WERE RUNNING' if noisy else ''}; "
        f"torch {torch.__version__}, transformers {transformers.__version__}, {THREADS} threads of {os.cpu_count()}, {precision}"
    )


def profile(precision: str) -> None:
    """Where a step of ours spends its time."""
    import torch
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    torch.set_num_threads(THREADS)
    step = ours(False, precision)
    for number in range(3):
        step(number)
    with record(activities=[ProfilerActivity.CPU]) as recorded:
        for number in range(3, 5):
            step(number)
    print(
        recorded.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=50)
    )


def main() -> None:
    """Race and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--max-tries", type=int, default=60)
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--noisy", action="store_true", help="count disturbed samples too; the ratio only")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--serve", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.precision)
    elif options.profile:
        profile(options.precision)
    else:
        race(options.rounds, options.noisy, options.max_tries, options.precision)


if __name__ == "__main__":
    main()
