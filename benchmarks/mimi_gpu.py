"""How fast a GPU encodes with Mimi: sodakit's batches against transformers, on the same random weights.

    python benchmarks/mimi_gpu.py --batches 1 16 64 --seconds 10

Speed does not depend on the weights. Each contender is a process of its own. Codes of both are compared on one batch: with random weights
rounding decides a few, so the share that agrees is told and no more is made of it.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from alone import Clock, alone, write_page

from sodakit.ceilings import device_name, timed
from sodakit.hardware import convolve_in_float32

RATE_HZ, CODEBOOKS = 24_000, 8
CONTENDERS = ("sodakit", "transformers", "transformers, compiled")


def random_mimi(folder: Path, toy: bool) -> None:
    """A Mimi without training, as a folder of transformers."""
    import transformers

    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_filters": 4, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
             "head_dim": 16, "intermediate_size": 64, "codebook_size": 64, "codebook_dim": 16,
             "vector_quantization_hidden_dimension": 16, "num_quantizers": 12, "upsample_groups": 32}  # fmt: skip
    model = transformers.MimiModel(transformers.MimiConfig(**(small if toy else {})))
    for name, buffer in model.named_buffers():
        if name.endswith("embed_sum"):  # else every code is the first one
            buffer.copy_(0.1 * torch.randn_like(buffer))
        if name.endswith("cluster_usage"):
            buffer.fill_(1.0)
    model.save_pretrained(folder)


def ours(folder: Path, waves_BS: np.ndarray, device: torch.device) -> Callable[[], Any]:
    """Sound to codes on the host, as `prepare` calls it."""
    from sodakit.codec.load import load_codec

    codec = load_codec(str(folder), device=str(device))
    waves = list(waves_BS)
    return lambda: codec.encode_batch(waves)


def theirs(folder: Path, waves_BS: np.ndarray, device: torch.device, compiled: bool) -> Callable[[], Any]:
    """The same, in one piece."""
    import transformers

    model = transformers.MimiModel.from_pretrained(folder).to(device).eval()
    encode = torch.compile(model.encode) if compiled else model.encode

    @torch.inference_mode()
    def run() -> Any:
        wave = torch.from_numpy(waves_BS)[:, None].to(device)
        return list(encode(wave, num_quantizers=CODEBOOKS).audio_codes.cpu().numpy())

    return run


def contender(name: str, folder: Path, waves_BS: np.ndarray, device: torch.device) -> Callable[[], Any]:
    """By its name."""
    if name == "sodakit":
        return ours(folder, waves_BS, device)
    return theirs(folder, waves_BS, device, "compiled" in name)


def measure(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """One contender's seconds of sound a second, and how many of its codes are those of transformers."""
    convolve_in_float32()  # as our codecs do, so that all make the same codes
    batch = options.batches[0]
    chance = np.random.default_rng(0)
    waves_BS = chance.standard_normal((batch, int(RATE_HZ * options.seconds))).astype(np.float32) * 0.1
    with tempfile.TemporaryDirectory() as place:
        random_mimi(Path(place), options.toy)
        run = contender(options.measure, Path(place), waves_BS, device)
        speeds = [batch * options.seconds / timed(run, device, rounds=1) for _ in range(options.rounds)]
        pairs = zip(run(), theirs(Path(place), waves_BS, device, compiled=False)(), strict=True)
        agree = float(np.mean([np.mean(a == b) for a, b in pairs]))
    return {"speeds": speeds, "agree": agree}


def main() -> None:
    """Race, and write the table after each contender."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", nargs="+", type=int, default=[16, 64, 1])
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--toy", action="store_true", help="a small network, to try the script")
    parser.add_argument(
        "--limit-s", type=float, default=3600, help="nothing new is begun after so many seconds"
    )
    parser.add_argument("--each-s", type=float, default=60, help="a process may take so long")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, help="file for the table, written anew after each process")
    parser.add_argument("--measure", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    device, clock = torch.device(options.device), Clock(options.limit_s)
    if options.measure:
        print(json.dumps(measure(options, device)))
        return
    lines = [
        f"{device_name(device)}, torch {torch.__version__}, {options.seconds:g} s of sound in each row, float32, random weights.",
        "",
        "| | rows | times real time (lowest to highest) | codes equal to transformers' |",
        "| --- | --- | --- | --- |",
    ]
    for batch in options.batches:
        for name in options.contenders:
            words = ["--measure", name, "--batches", str(batch), "--device", options.device]
            words += ["--seconds", str(options.seconds), "--rounds", str(options.rounds)]
            found = alone(__file__, words + ["--toy"] * options.toy, min(options.each_s, clock.left_s))
            if "error" in found:
                lines.append(f"| {name} | {batch} | {found['error']} | |")
            else:
                speeds = found["speeds"]
                spread = f"{statistics.median(speeds):,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f})"
                lines.append(f"| {name} | {batch} | {spread} | {found['agree']:.2%} |")
            print(lines[-1], flush=True)
            write_page(options.out, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
