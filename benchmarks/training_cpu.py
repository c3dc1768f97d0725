"""Training speed on a CPU against transformers' Qwen3 on the same weights shape, same tokens, same documents.

    python benchmarks/training_cpu.py --rounds 7

Alternates the two in one process and prints the median tokens per second of each, the spread, and the ratio with its
spread. Both run forward, full-vocabulary cross-entropy and backward under bfloat16 autocast where the CPU has it; the
optimizer is left out. transformers gets a dense mask that blocks attention across documents: the same work.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("GOMP_SPINCOUNT", "20000")

import torch
import torch.nn.functional as F
import transformers

from sodakit.hardware import has_fast_bfloat16
from sodakit.model.attention import Packing
from sodakit.model.config import model_size
from sodakit.model.transformer import Transformer
from sodakit.train.loss import cross_entropy

VOCAB, ROWS, CONTEXT = 8_708, 2, 2048


def random_lengths(seed: int = 0) -> list[int]:
    """Documents of 200 to 600 tokens that fill each row."""
    generator = torch.Generator().manual_seed(seed)
    lengths: list[int] = []
    for _ in range(ROWS):
        left = CONTEXT
        while left:
            length = min(left, int(torch.randint(200, 600, (), generator=generator)))
            lengths.append(length)
            left -= length
    return lengths


def ours(ids_BT: torch.Tensor, packing: Packing, dtype: torch.dtype) -> Callable[[], None]:
    """One forward and backward pass of sodakit."""
    model = Transformer(model_size("demo", VOCAB, context=CONTEXT))
    targets_T = ids_BT.flatten().roll(-1)
    weights_T = torch.full((targets_T.numel(),), 1 / targets_T.numel())

    def step() -> None:
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            x_BTD = model(ids_BT, packing=packing)
        loss, _ = cross_entropy(x_BTD.flatten(0, 1), model.head_VD, targets_T, weights_T, dtype=dtype)
        loss.backward()
        model.zero_grad(set_to_none=True)

    return step


def theirs(ids_BT: torch.Tensor, lengths: list[int], dtype: torch.dtype) -> Callable[[], None]:
    """The same with transformers' Qwen3ForCausalLM and its sdpa attention."""
    shape = model_size("demo", VOCAB, context=CONTEXT)
    config = transformers.Qwen3Config(
        vocab_size=VOCAB,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_width,
        intermediate_size=shape.ffn_width,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
    )
    model = transformers.Qwen3ForCausalLM(config)
    document_P = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).view(
        ROWS, CONTEXT
    )
    seen_BTT = (document_P[:, :, None] == document_P[:, None, :]) & torch.ones(CONTEXT, CONTEXT).tril().bool()
    mask_B1TT = torch.zeros(seen_BTT.shape).masked_fill(~seen_BTT, torch.finfo(torch.float32).min)[:, None]
    targets_T = ids_BT.flatten().roll(-1)

    def step() -> None:
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            logits = model(ids_BT, attention_mask=mask_B1TT, use_cache=False).logits
        F.cross_entropy(logits.float().flatten(0, 1), targets_T).backward()
        model.zero_grad(set_to_none=True)

    return step


def main() -> None:
    """Race and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    dtype = torch.bfloat16 if has_fast_bfloat16() else torch.float32
    lengths = random_lengths()
    ids_BT = torch.randint(0, VOCAB, (ROWS, CONTEXT), generator=torch.Generator().manual_seed(1))
    steps = {
        "sodakit": ours(ids_BT, Packing.from_lengths(lengths), dtype),
        "transformers": theirs(ids_BT, lengths, dtype),
    }
    for step in steps.values():
        step()
    speeds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start_s = time.perf_counter()
            step()
            speeds[name].append(ROWS * CONTEXT / (time.perf_counter() - start_s))
    for name, values in speeds.items():
        print(f"{name:<13} {statistics.median(values):7.0f} tok/s   ({min(values):.0f} to {max(values):.0f})")
    ratios = [a / b for a, b in zip(speeds["sodakit"], speeds["transformers"], strict=True)]
    print(f"{'ratio':<13} {statistics.median(ratios):7.2f}         ({min(ratios):.2f} to {max(ratios):.2f})")
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} threads, {dtype}"
    )


if __name__ == "__main__":
    main()
