"""Scoring speed on a CPU against transformers' Qwen3 with the same weights: log-probabilities of every token of clips.

    python benchmarks/scoring.py --size soda_135m --rounds 5

Their loop is the published one: a clip at a time, one call, log-softmax of all logits, the targets picked from it. Ours
is `score_items`, which gives three softmaxes instead of one. Both in float32, alternating in one process; printed are
the median tokens per second of each with their range, the ratio with its range, and the largest difference of a
log-probability. Weights are random: no step of either depends on their values.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable

os.environ.setdefault("GOMP_SPINCOUNT", "20000")

import numpy as np
import torch
import transformers

from sodakit.checkpoint.hf import export_hf
from sodakit.eval.logprobs import TokenItem, score_items
from sodakit.model.config import model_size
from sodakit.model.transformer import Transformer
from sodakit.tokens.documents import Speech, Template
from sodakit.tokens.vocabulary import soda_vocabulary


def clips(num_clips: int, seconds: tuple[float, float], seed: int = 0) -> list[TokenItem]:
    """Random codes of eight codebooks at 12.5 frames a second, as long as benchmark clips are."""
    rng, template = np.random.default_rng(seed), Template(soda_vocabulary(), 8)
    items = []
    for number in range(num_clips):
        codes_KF = rng.integers(0, 2048, (8, round(12.5 * rng.uniform(*seconds))))
        ids_T = np.concatenate([[template.vocabulary.bos], template.span(Speech(codes_KF))])
        items.append(TokenItem(str(number), ids_T.astype(np.int32)))
    return items


def published_loop(model: torch.nn.Module, items: list[TokenItem]) -> np.ndarray:
    """log p of every token but the first of each clip."""
    found = []
    with torch.inference_mode():
        for item in items:
            ids_BT = torch.from_numpy(item.ids_T.astype(np.int64))[None]
            logprobs_TV = model(ids_BT).logits[0, :-1].log_softmax(-1)
            found.append(logprobs_TV.gather(1, ids_BT[0, 1:, None])[:, 0].numpy())
    return np.concatenate(found)


def timed(run: Callable[[], np.ndarray], num_tokens: int) -> float:
    """Tokens per second of one call."""
    start_s = time.perf_counter()
    run()
    return num_tokens / (time.perf_counter() - start_s)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="soda_135m")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument(
        "--seconds", type=float, nargs=2, default=(2.0, 5.0), help="shortest and longest clip"
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    model = Transformer(model_size(options.size), seed=0).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs = transformers.Qwen3ForCausalLM.from_pretrained(export_hf(model, f"{folder}/hf")).eval()
    items, vocabulary = clips(options.clips, tuple(options.seconds)), soda_vocabulary()
    num_tokens = sum(len(item.ids_T) - 1 for item in items)

    def ours() -> np.ndarray:
        return score_items(model, vocabulary, items).logprob_P

    difference = float(np.abs(ours() - published_loop(theirs, items)).max())  # and both are warm
    rounds = [
        (timed(ours, num_tokens), timed(lambda: published_loop(theirs, items), num_tokens))
        for _ in range(options.rounds)
    ]
    ratios = [a / b for a, b in rounds]
    print(f"{options.size}, {len(items)} clips, {num_tokens} tokens, {torch.get_num_threads()} threads")
    for name, values in (("sodakit", [a for a, _ in rounds]), ("transformers", [b for _, b in rounds])):
        print(
            f"{name:<13} {statistics.median(values):8.0f} tokens/s ({min(values):.0f} to {max(values):.0f})"
        )
    print(f"ratio         {statistics.median(ratios):8.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"largest difference of a log-probability: {difference:.1e}")


if __name__ == "__main__":
    main()
