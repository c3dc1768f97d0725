"""Seconds of sound per second of training and of decoding, by family of models, on a CPU.

    python benchmarks/families_cpu.py train --sizes nano demo small soda_135m --rounds 7
    python benchmarks/families_cpu.py decode --sizes demo soda_135m --rounds 7

All families have the same backbone, vocabulary (the published one) and documents, and take turns. A training step is
what `sodakit train` does: targets, forward, loss over every id, backward, clipping, update, on documents of about ten
seconds with their transcripts. Decoding is one request, sampled, prompt included. Figures: families_cpu.md.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from sodakit.data.loader import Batch
from sodakit.generate.engine import Engine, Request
from sodakit.generate.sampling import Sampling
from sodakit.hardware import has_fast_bfloat16
from sodakit.model.any_config import Family, family_config
from sodakit.model.config import MODEL_SIZES, model_size
from sodakit.model.families import build_model, pattern_of
from sodakit.tokens.documents import Speech, Template, Text
from sodakit.tokens.layouts.contract import lay
from sodakit.tokens.vocabulary import Vocabulary, soda_vocabulary
from sodakit.train.config import LossConfig, OptimConfig
from sodakit.train.objective import Objective
from sodakit.train.optim import Optimizer

FRAME_RATE_HZ = 12.5
FRAMES, TEXT_IDS = 125, 30
"""Of a document: ten seconds, and what is said in them."""
FAMILIES: tuple[Family, ...] = ("flat", "depth", "delay")
SPOKEN = Sampling(temperature=0.8, top_p=0.95)


def documents(vocabulary: Vocabulary, count: int, seed: int) -> list[np.ndarray]:
    """Codes and text drawn at random: the arithmetic does not look at them."""
    rng, template = np.random.default_rng(seed), Template(vocabulary, vocabulary.num_codebooks)
    shape = (vocabulary.num_codebooks, FRAMES)
    return [
        template.document(
            [
                Speech(rng.integers(0, vocabulary.codebook_size, shape).astype(np.uint16)),
                Text(rng.integers(0, 100_000, TEXT_IDS)),
            ]
        )
        for _ in range(count)
    ]


def trainer(family: Family, size: str, vocabulary: Vocabulary, in_step: int) -> Callable[[int], float]:
    """A step of training; it returns the seconds of sound in it."""
    config = family_config(family, model_size(size, vocabulary.size, context=8192), vocabulary)
    dtype = torch.bfloat16 if has_fast_bfloat16() else torch.float32
    model = build_model(config)
    model.embedding.sparse = not config.tied_embeddings
    objective = Objective(vocabulary, LossConfig(), config, torch.device("cpu"), dtype)
    optimizer = Optimizer(model.named_parameters(), OptimConfig(), peak_lr=3e-3)
    layout = pattern_of(config).layout(vocabulary, vocabulary.num_codebooks)

    def step(number: int) -> float:
        laid = [lay(layout, ids_T) for ids_T in documents(vocabulary, in_step, number)]
        batch = Batch(np.concatenate(laid)[None], (tuple(map(len, laid)),), number)
        micro = objective.targets(batch, slice(None), objective.total_weights(batch))
        objective(model, micro)[0].backward()
        optimizer.clip()
        optimizer.step(1e-5)
        return in_step * FRAMES / FRAME_RATE_HZ

    return step


def decoder(family: Family, size: str, vocabulary: Vocabulary, precision: str) -> Callable[[int], float]:
    """One request for speech; it returns the seconds of sound made."""
    config = family_config(family, model_size(size, vocabulary.size, context=4096), vocabulary)
    engine = Engine(build_model(config), vocabulary, vocabulary.num_codebooks, precision)  # type: ignore[arg-type]
    template = Template(vocabulary, vocabulary.num_codebooks)

    def run(number: int) -> float:
        prompt_T = template.speak_prompt(np.arange(1000, 1000 + TEXT_IDS))
        request = Request(
            prompt_T=prompt_T,
            closing=vocabulary.eos,  # which speech never reaches, so that it lasts
            max_new_tokens=5 * int(FRAME_RATE_HZ) * vocabulary.num_codebooks,
            semantic=SPOKEN,
            acoustic=SPOKEN,
            seed=number,
        )
        ids_T = engine.generate([request])[0].ids_T
        return float(vocabulary.is_audio(ids_T).sum()) / vocabulary.num_codebooks / FRAME_RATE_HZ

    return run


def race(runs: dict[str, Callable[[int], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of sound per second of each contestant in each round, in turn; the first round warms up."""
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            start_s = time.perf_counter()
            sound_s = run(number)
            if number:
                speeds[name].append(sound_s / (time.perf_counter() - start_s))
    return speeds


def report(what: str, size: str, speeds: dict[str, list[float]]) -> None:
    """A line for each: median, range, and the ratio to flat round by round."""
    for name, found in speeds.items():
        ratios = [a / b for a, b in zip(found, next(iter(speeds.values())), strict=True)]
        print(
            f"{what:<14} {size:<10} {name:<6} {statistics.median(found):9.2f} s/s ({min(found):.2f} to {max(found):.2f})  "
            f"{statistics.median(ratios):6.2f} ({min(ratios):.2f} to {max(ratios):.2f}) times flat",
            flush=True,
        )


def main() -> None:
    """Race and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("train", "decode"))
    parser.add_argument("--sizes", nargs="+", default=["demo"], choices=list(MODEL_SIZES))
    parser.add_argument("--families", nargs="+", default=FAMILIES, choices=FAMILIES)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--documents", type=int, default=4, help="in a step of training")
    parser.add_argument("--precision", nargs="+", default=["float32", "int8"], help="of decoding")
    options = parser.parse_args()
    vocabulary = soda_vocabulary()
    for size in options.sizes:
        if options.what == "train":
            made = {f: trainer(f, size, vocabulary, options.documents) for f in options.families}
            report("train", size, race(made, options.rounds))
            continue
        for precision in options.precision:
            made = {f: decoder(f, size, vocabulary, precision) for f in options.families}
            report(f"decode {precision}", size, race(made, options.rounds))


if __name__ == "__main__":
    main()
