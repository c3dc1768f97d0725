"""Which attention is the fastest for rows that hold several documents? Every route there is, forward and backward.

    python benchmarks/attention_routes.py                                       # a GPU: heads of the suite, T = 4096
    python benchmarks/attention_routes.py --device cpu --tokens 1024 --rows 1 --sizes soda_135m --rounds 5

Each route first has to agree with the definition (`reference_attention`, float32, on a part small enough for its dense mask),
outputs and gradients; one that does not is named and not timed. Then the routes take turns, `--rounds` times. Printed: the
median milliseconds of forward and backward (lowest to highest), and TFLOP/s by what a causal document needs, 4·N·H·Σ n²/2
forward and 2.5 times that backward; a route that computes masked scores too looks slow by that count, as it should.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from alone import write_page
from torch import Tensor

from sodakit.ceilings import timed
from sodakit.model.attention import Packing, attend_packed
from sodakit.model.attention_routes import (
    Candidate,
    Heads,
    candidates,
    flash_implementation,
    forward_and_backward,
    problem_of,
    random_heads,
)
from sodakit.model.config import model_size

SIZES = ("soda_135m", "soda_600m", "soda_1.7b", "soda_4b")
PATTERNS = {"documents of 1,500": 1500, "one document a row": None}
CHECKED_TOKENS = 512
"""Positions on which a route is held against the definition."""


def chosen(q_PNH: Tensor, k_PGH: Tensor, v_PGH: Tensor, packing: Packing) -> Tensor:
    """What the model takes here when nothing was measured."""
    return attend_packed(q_PNH[None], k_PGH[None], v_PGH[None], packing)[0]


def dense_mask(q_PNH: Tensor, k_PGH: Tensor, v_PGH: Tensor, packing: Packing) -> Tensor:
    """torch's attention with a mask of every pair of positions."""
    q, k, v = (x.transpose(0, 1)[None] for x in (q_PNH, k_PGH, v_PGH))
    grouped = q.shape[1] != k.shape[1]
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=packing.seen_PP, enable_gqa=grouped)
    return out[0].transpose(0, 1)


def equal_rows(q_PNH: Tensor, k_PGH: Tensor, v_PGH: Tensor, packing: Packing) -> Tensor:
    """torch's attention over rows of one document each; cuDNN's kernel where torch prefers it."""
    if len(set(packing.lengths)) > 1:
        raise NotImplementedError("only for documents of equal length")
    rows = (len(packing.lengths), packing.lengths[0])
    q, k, v = (x.unflatten(0, rows).transpose(1, 2) for x in (q_PNH, k_PGH, v_PGH))
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])
    return out.transpose(1, 2).flatten(0, 1)


def routes(device: torch.device, dtype: torch.dtype, head_width: int) -> list[Candidate]:
    """What a run chooses from, and what it would not take."""
    return [
        *candidates(device, dtype, head_width),
        Candidate("by shape, unmeasured", chosen),
        Candidate("dense mask", dense_mask),
        Candidate("rows of equal documents", equal_rows),
    ]


def inputs(size: str, tokens: int, dtype: torch.dtype, device: torch.device) -> Heads:
    """Random queries, keys and values with the heads of a size."""
    config = model_size(size)
    return random_heads(tokens, config.heads, config.kv_heads, config.head_width, dtype, device)


def packing_of(tokens: int, rows: int, document: int | None, device: torch.device) -> Packing:
    """Rows cut into documents of this length; the last of a row is what is left."""
    length = document or tokens
    lengths = [min(length, tokens - start) for _ in range(rows) for start in range(0, tokens, length)]
    return Packing.from_lengths(lengths, device)


def race(
    size: str, document: int | None, options: argparse.Namespace, device: torch.device, dtype: torch.dtype
) -> Iterator[str]:
    """A Markdown row for each route."""
    packing = packing_of(options.tokens, options.rows, document, device)
    short = None if document is None else max(document * CHECKED_TOKENS // 4096, 1)
    small = packing_of(CHECKED_TOKENS, 2, short, device)
    heads = inputs(size, packing.num_positions, dtype, device)
    checked = inputs(size, small.num_positions, dtype, device)
    grad = torch.randn_like(heads[0])
    width = heads[0].shape[1] * heads[0].shape[2]
    flops = 3.5 * 4 * width * sum(n * n for n in packing.lengths) / 2
    entered: dict[str, tuple[Callable[[], object], str | None]] = {}
    samples: dict[str, list[float]] = {}
    for candidate in routes(device, dtype, heads[0].shape[2]):
        _, problem = problem_of(candidate, checked, small)
        if problem is not None:
            yield f"| {candidate.name} | {problem} | |"
            continue
        work = partial(forward_and_backward, candidate.route, heads, packing, grad)
        entered[candidate.name], samples[candidate.name] = (work, candidate.implementation), []
    for _ in range(options.rounds):
        for name, (work, under) in entered.items():
            with flash_implementation(under):
                samples[name].append(timed(work, device, rounds=1))
    for name, seconds in samples.items():
        middle = statistics.median(seconds)
        ends = f"{1e3 * min(seconds):.2f} to {1e3 * max(seconds):.2f}"
        yield f"| {name} | {1e3 * middle:.2f} ({ends}) | {flops / middle / 1e12:.3g} |"


def main() -> None:
    """Check, race, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--tokens", type=int, default=4096, help="in a row")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, help="file for the tables, written anew after each")
    options = parser.parse_args()
    device = torch.device(options.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    text = f"torch {torch.__version__}, {where}, {dtype}, {options.rows} rows of {options.tokens} tokens\n"
    for size in options.sizes:
        for pattern, document in PATTERNS.items():
            text += f"\n### {size}, {pattern}\n\n"
            text += (
                "| route | forward and backward, ms (lowest to highest) | TFLOP/s |\n| --- | --- | --- |\n"
            )
            text += "".join(line + "\n" for line in race(size, document, options, device, dtype))
            write_page(options.out, text)
    print(text)


if __name__ == "__main__":
    main()
