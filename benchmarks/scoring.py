"""Scoring speed on a CPU against transformers' Qwen3 with the same weights, on the shapes that tasks have.

    python benchmarks/scoring.py --size soda_135m --rounds 5 --batch-tokens 1024

Their loop is the published one: a clip at a time, one call, log-softmax of all logits, the targets picked from it. Ours
is `score_items`, which gives three softmaxes instead of one, and `score_targets` for text, as lm-evaluation-harness
calls it. Both in float32, alternating in one process; a token is one that their loop predicts, and a speed is such
tokens over time, whoever found a way not to compute some. Printed for each task and for all together are the medians,
the ratio with its range over rounds, and the largest difference of a log-probability.

    clips        independent, nothing in common
    salmon       two sides that share the first half of their codes
    storycloze   two endings of one spoken story
    hellaswag    four endings of one text

`--batch-tokens` adds a stronger transformers: clips of similar length padded to one batch. `--one-blas` takes our
products by oneDNN away, which `sodakit/hardware.py` chooses on some processors, and leaves what sharing brings.
Weights are random: no step of any depends on their values.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

os.environ.setdefault("GOMP_SPINCOUNT", "20000")

import numpy as np
import torch
import transformers

from sodakit.checkpoint.hf import export_hf
from sodakit.eval.logprobs import TokenItem, score_items, score_targets
from sodakit.hardware import has_slow_float32_blas
from sodakit.model import layers
from sodakit.model.config import model_size
from sodakit.model.transformer import Transformer
from sodakit.tokens.documents import Speech, Template
from sodakit.tokens.vocabulary import soda_vocabulary

FRAMES_PER_S, CODEBOOKS, CODES = 12.5, 8, 2048
VOCABULARY = soda_vocabulary()
Logprobs = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Task:
    """Sequences as a benchmark asks for them, and of how many last ids of each the log-probabilities count."""

    name: str
    sequences: list[np.ndarray]
    counts: list[int]

    @property
    def num_tokens(self) -> int:
        """Those that the published loop predicts."""
        return sum(len(ids_T) - 1 for ids_T in self.sequences)

    def wanted(self, logprobs: Sequence[np.ndarray]) -> np.ndarray:
        """Of all log-probabilities of each sequence those that count."""
        return np.concatenate([p[len(p) - n :] for p, n in zip(logprobs, self.counts, strict=True)])


def tasks(num_questions: int, seconds: tuple[float, float]) -> list[Task]:
    """Random ids in the shapes of tasks: eight codebooks at 12.5 frames a second, or text."""
    rng = np.random.default_rng(0)

    def codes(shortest_s: float, longest_s: float) -> np.ndarray:
        return rng.integers(0, CODES, (CODEBOOKS, round(FRAMES_PER_S * rng.uniform(shortest_s, longest_s))))

    def ended(begin_KF: np.ndarray, *endings_KF: np.ndarray) -> list[np.ndarray]:
        return [_clip(np.concatenate([begin_KF, end_KF], axis=1)) for end_KF in endings_KF]

    def text(tokens: float) -> np.ndarray:
        return rng.integers(0, VOCABULARY.text_size, round(tokens * rng.uniform(0.7, 1.3)))

    clips, pairs, stories, texts, counts = [], [], [], [], []
    for _ in range(num_questions):
        clips += [_clip(codes(*seconds)), _clip(codes(*seconds))]
        half_KF = codes(1.5, 4)
        pairs += ended(half_KF, *(rng.integers(0, CODES, half_KF.shape) for _ in range(2)))
        stories += ended(codes(8, 12), codes(2, 3), codes(2, 3))
        context_T = np.append(VOCABULARY.bos, text(80))
        endings = [text(30) for _ in range(4)]
        texts += [np.append(context_T, ending_T).astype(np.int32) for ending_T in endings]
        counts += [len(ending_T) for ending_T in endings]
    spoken = {"clips": clips, "salmon": pairs, "storycloze": stories}
    made = [Task(name, sides, [len(s) - 1 for s in sides]) for name, sides in spoken.items()]
    return [*made, Task("hellaswag", texts, counts)]


def _clip(codes_KF: np.ndarray) -> np.ndarray:
    template = Template(VOCABULARY, CODEBOOKS)
    return np.concatenate([[VOCABULARY.bos], template.span(Speech(codes_KF))]).astype(np.int32)


def sodakits(model: Transformer, task: Task) -> Logprobs:
    """Our way to a task's log-probabilities."""
    if task.name == "hellaswag":
        return lambda: np.concatenate(
            [p for p, _ in score_targets(model, VOCABULARY, task.sequences, task.counts)]
        )
    items = [TokenItem(str(n), ids_T) for n, ids_T in enumerate(task.sequences)]
    return lambda: score_items(model, VOCABULARY, items).logprob_P


@torch.inference_mode()
def published_loop(model: torch.nn.Module, task: Task) -> np.ndarray:
    """log p, one sequence after another."""
    found = []
    for ids_T in task.sequences:
        ids_BT = torch.from_numpy(ids_T.astype(np.int64))[None]
        logprobs_TV = model(ids_BT).logits[0, :-1].log_softmax(-1)
        found.append(logprobs_TV.gather(1, ids_BT[0, 1:, None])[:, 0].numpy())
    return task.wanted(found)


@torch.inference_mode()
def batched_loop(model: torch.nn.Module, task: Task, batch_tokens: int) -> np.ndarray:
    """log p, sequences of similar length together, padded on the right to at most so many positions."""
    lengths = [len(ids_T) for ids_T in task.sequences]
    found: list[np.ndarray] = [np.zeros(0)] * len(lengths)
    for batch in _batches(lengths, batch_tokens):
        ids_BT = torch.zeros(len(batch), max(lengths[n] for n in batch), dtype=torch.int64)
        given_BT = torch.zeros_like(ids_BT)
        for row, n in enumerate(batch):
            ids_BT[row, : lengths[n]] = torch.from_numpy(task.sequences[n].astype(np.int64))
            given_BT[row, : lengths[n]] = 1
        logprobs_BTV = model(ids_BT, attention_mask=given_BT).logits[:, :-1].log_softmax(-1)
        picked_BT = logprobs_BTV.gather(2, ids_BT[:, 1:, None])[..., 0].numpy()
        for row, n in enumerate(batch):
            found[n] = picked_BT[row, : lengths[n] - 1]
    return task.wanted(found)


def _batches(lengths: list[int], batch_tokens: int) -> list[list[int]]:
    batches: list[list[int]] = [[]]
    for n in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batches[-1] and (len(batches[-1]) + 1) * lengths[n] > batch_tokens:
            batches.append([])
        batches[-1].append(n)
    return batches


def seconds_of(run: Logprobs) -> float:
    """Of one call."""
    start_s = time.perf_counter()
    run()
    return time.perf_counter() - start_s


def report(name: str, num_tokens: int, elapsed_s: dict[str, list[float]]) -> None:
    """A line of medians and ranges: tokens per second of each, and the ratios of ours to the others."""
    ours_s, *_ = elapsed_s.values()
    words = [f"{name:<11} {num_tokens:6d} tokens"]
    for who, theirs_s in elapsed_s.items():
        words.append(f"{who} {num_tokens / statistics.median(theirs_s):.0f}/s")
        if theirs_s is not ours_s:
            ratios = [theirs / ours for theirs, ours in zip(theirs_s, ours_s, strict=True)]
            words[-1] += f", ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    print("   ".join(words), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="soda_135m")
    parser.add_argument("--questions", type=int, default=4, help="of each task; a clip counts as half a one")
    parser.add_argument(
        "--seconds", type=float, nargs=2, default=(2.0, 5.0), help="shortest and longest independent clip"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--batch-tokens", type=int, default=0, help="positions of a padded batch; 0: no such baseline"
    )
    parser.add_argument("--one-blas", action="store_true", help="our products with torch's BLAS, as theirs")
    options = parser.parse_args()
    if options.one_blas:
        layers.has_slow_float32_blas = lambda: False
    model = Transformer(model_size(options.size), seed=0).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs = transformers.Qwen3ForCausalLM.from_pretrained(export_hf(model, f"{folder}/hf")).eval()
    by = "oneDNN" if has_slow_float32_blas() and not options.one_blas else "torch's BLAS"
    print(f"{options.size}, {torch.get_num_threads()} threads, our float32 products by {by}")
    every: dict[str, list[float]] = {}
    asked = tasks(options.questions, tuple(options.seconds))
    for task in asked:
        runs: dict[str, Logprobs] = {"sodakit": sodakits(model, task)}
        runs["transformers"] = lambda task=task: published_loop(theirs, task)
        if options.batch_tokens:
            runs["padded"] = lambda task=task: batched_loop(theirs, task, options.batch_tokens)
        ours, *others = [run() for run in runs.values()]  # and all are warm
        difference = max(float(np.abs(ours - other).max()) for other in others)
        rounds = [[seconds_of(run) for run in runs.values()] for _ in range(options.rounds)]
        elapsed_s = {who: [times[n] for times in rounds] for n, who in enumerate(runs)}
        report(task.name, task.num_tokens, elapsed_s)
        print(f"{'':<11} largest difference of a log-probability: {difference:.1e}")
        for who, values in elapsed_s.items():
            before = every.get(who, [0.0] * options.rounds)
            every[who] = [a + b for a, b in zip(before, values, strict=True)]
    report("all", sum(task.num_tokens for task in asked), every)


if __name__ == "__main__":
    main()
