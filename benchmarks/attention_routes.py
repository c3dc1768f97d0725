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
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from sodakit.model.attention import (
    Packing,
    attend_packed,
    document_attention,
    has_varlen_kernel,
    reference_attention,
)
from sodakit.model.config import model_size

SIZES = ("soda_135m", "soda_600m", "soda_1.7b", "soda_4b")
PATTERNS = {"documents of 1,500": 1500, "one document a row": None}
CHECKED_TOKENS = 512
"""Positions on which a route is held against the definition."""
TOLERANCE = {torch.bfloat16: 3e-2, torch.float32: 1e-4}
"""Largest error of outputs and gradients, relative to the largest value: a few units of rounding."""

Route = Callable[[Tensor, Tensor, Tensor, Packing], Tensor]
"""(q_PNH, k_PGH, v_PGH, packing) to out_PNH."""


def chosen(q_PNH: Tensor, k_PGH: Tensor, v_PGH: Tensor, packing: Packing) -> Tensor:
    """What the model takes here."""
    return attend_packed(q_PNH[None], k_PGH[None], v_PGH[None], packing)[0]


def by_document(q_PNH: Tensor, k_PGH: Tensor, v_PGH: Tensor, packing: Packing) -> Tensor:
    """torch's attention, a call for each document."""
    return document_attention(q_PNH, k_PGH, v_PGH, packing.lengths)


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


class Flex:
    """FlexAttention, compiled; on a CPU torch has no backward pass for it. A query sees the keys from its document's
    beginning on, which is one comparison less than asking whether both are of one document."""

    def __init__(self) -> None:
        from torch.nn.attention import flex_attention as flex

        self.flex = flex
        self.attention = torch.compile(flex.flex_attention)
        self.masks: dict[tuple[int, ...], object] = {}

    def __call__(self, q_PNH: Tensor, k_PGH: Tensor, v_PGH: Tensor, packing: Packing) -> Tensor:
        q, k, v = (x.transpose(0, 1)[None] for x in (q_PNH, k_PGH, v_PGH))
        out = self.attention(
            q, k, v, block_mask=self._mask(packing, q.device), enable_gqa=q.shape[1] != k.shape[1]
        )
        return out[0].transpose(0, 1)  # type: ignore[index]

    def _mask(self, packing: Packing, device: torch.device) -> object:
        if packing.lengths not in self.masks:
            start_P = (torch.arange(packing.num_positions) - packing.positions_P.cpu()).to(device)

            def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
                return (key <= query) & (key >= start_P[query])

            n = packing.num_positions
            self.masks[packing.lengths] = self.flex.create_block_mask(
                seen, None, None, n, n, device=str(device)
            )
        return self.masks[packing.lengths]


@contextmanager
def implementation(name: str | None) -> Iterator[None]:
    """torch's flash attention by another implementation than its own, where a package brings one."""
    if name is None:
        yield
        return
    from torch.nn.attention import activate_flash_attention_impl, restore_flash_attention_impl

    activate_flash_attention_impl(name)
    try:
        yield
    finally:
        restore_flash_attention_impl()


def routes(device: torch.device) -> dict[str, tuple[Route, str | None]]:
    """Routes by name, each with the implementation of flash attention it runs under."""
    found: dict[str, tuple[Route, str | None]] = {
        "what the model takes": (chosen, None),
        "a call for each document": (by_document, None),
        "dense mask": (dense_mask, None),
        "rows of equal documents": (equal_rows, None),
    }
    if device.type == "cuda":
        found["FlexAttention"] = (Flex(), None)
        from torch.nn.attention import list_flash_attention_impls

        for name in list_flash_attention_impls():
            found[f"variable-length kernel of {name}"] = (chosen, name)
    return found


def inputs(
    size: str, tokens: int, dtype: torch.dtype, device: torch.device, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Random queries, keys and values with the heads of a size."""
    config = model_size(size)
    heads = [config.query_width // config.head_width] + 2 * [config.key_width // config.head_width]
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(tokens, n, config.head_width, generator=generator) for n in heads]
    q, k, v = (x.to(device, dtype).requires_grad_() for x in drawn)
    return q, k, v


def packing_of(tokens: int, rows: int, document: int | None, device: torch.device) -> Packing:
    """Rows cut into documents of this length; the last of a row is what is left."""
    length = document or tokens
    lengths = [min(length, tokens - start) for _ in range(rows) for start in range(0, tokens, length)]
    return Packing.from_lengths(lengths, device)


def step(route: Route, heads: tuple[Tensor, Tensor, Tensor], packing: Packing, grad: Tensor) -> list[Tensor]:
    """Output and the three gradients."""
    out = route(*heads, packing)
    return [out, *torch.autograd.grad(out, heads, grad)]


def error_of(
    route: Route, size: str, document: int | None, dtype: torch.dtype, device: torch.device
) -> float:
    """The largest error of output and gradients against the definition in float32, relative to the largest value."""
    short = None if document is None else max(document * CHECKED_TOKENS // 4096, 1)
    packing = packing_of(CHECKED_TOKENS, 2, short, device)
    heads = inputs(size, packing.num_positions, dtype, device)
    exact = tuple(x.detach().float().requires_grad_() for x in heads)
    grad = torch.randn_like(heads[0])
    found = step(route, heads, packing, grad)
    plain = partial(_reference, lengths=packing.lengths)
    wanted = step(plain, exact, packing, grad.float())
    return max(
        float(((a.float() - b).abs().max() / b.abs().max()).detach())
        for a, b in zip(found, wanted, strict=True)
    )


def _reference(q: Tensor, k: Tensor, v: Tensor, _: Packing, *, lengths: tuple[int, ...]) -> Tensor:
    return reference_attention(q, k, v, lengths)


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, all of it done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start_s = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start_s


def race(
    size: str, document: int | None, options: argparse.Namespace, device: torch.device, dtype: torch.dtype
) -> Iterator[str]:
    """A Markdown row for each route."""
    packing = packing_of(options.tokens, options.rows, document, device)
    heads = inputs(size, packing.num_positions, dtype, device)
    grad = torch.randn_like(heads[0])
    width = heads[0].shape[1] * heads[0].shape[2]
    flops = 3.5 * 4 * width * sum(n * n for n in packing.lengths) / 2
    entered: dict[str, tuple[Callable[[], object], str | None]] = {}
    samples: dict[str, list[float]] = {}
    for name, (route, under) in routes(device).items():
        try:
            with implementation(under):
                error = error_of(route, size, document, dtype, device)
                if not error <= TOLERANCE[dtype]:
                    yield f"| {name} | wrong: error {error:.2g} of the largest value | |"
                    continue
                work = partial(step, route, heads, packing, grad)
                for _ in range(2):
                    seconds_of(work, device)
        except Exception as problem:  # a route that a machine lacks is a row that says so
            yield f"| {name} | not here: {str(problem).splitlines()[0][:80]} | |"
            continue
        entered[name], samples[name] = (work, under), []
    for _ in range(options.rounds):
        for name, (work, under) in entered.items():
            with implementation(under):
                samples[name].append(seconds_of(work, device))
    for name, seconds in samples.items():
        middle = statistics.median(seconds)
        ends = f"{1e3 * min(seconds):.2f} to {1e3 * max(seconds):.2f}"
        yield f"| {name} | {1e3 * middle:.2f} ({ends}) | {flops / middle / 1e12:.3g} |"


def main() -> None:
    """Check, race, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--tokens", type=int, default=4096, help="in a row")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    device = torch.device(options.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"torch {torch.__version__}, {where}, {dtype}, {options.rows} rows of {options.tokens} tokens")
    if device.type == "cuda":
        fused = has_varlen_kernel(torch.empty(1, 1, 64, dtype=dtype, device=device))
        print(f"the model takes {'the fused variable-length kernel' if fused else 'another route'} here")
    for size in options.sizes:
        for pattern, document in PATTERNS.items():
            print(f"\n### {size}, {pattern}\n")
            print("| route | forward and backward, ms (lowest to highest) | TFLOP/s |\n| --- | --- | --- |")
            for line in race(size, document, options, device, dtype):
                print(line, flush=True)


if __name__ == "__main__":
    main()
