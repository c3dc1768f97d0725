"""Training steps and decoding of two checkouts of this repository in turn: what a change costs or gains.

    git worktree add ../before 3e9b46b
    sodakit demo --out runs/demo                            # any run with a store
    python benchmarks/checkouts.py ../before . --store runs/demo/store
    python benchmarks/checkouts.py ../before . --store runs/demo/store --what float32 --family depth --size soda_135m
    python benchmarks/checkouts.py ../before . --store runs/demo/store --clock cpu      on a machine that others use too

Each checkout runs in processes of its own, one for each thing measured; one steps while the other waits, the first to
step changes every round. `train` is `Run.update` with the demo's recipe, `int8` and `float32` one request of random weights
at that precision. Prints the median of each, its spread, and the ratio round by round. By the clock on the wall a round counts only if
other processes used less than 6 % of the machine meanwhile (training_cpu.py); `--clock cpu` is processor time of one thread.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from training_cpu import QUIET, Contender, peak_bytes

THINGS = ("train", "int8", "float32")
SAMPLE_S = 1.0
"""A sample is as many steps as last about this long."""
NEW_TOKENS = 400
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def config_of(store: Path, size: str, family: str) -> Any:
    """The demo's training run, with a backbone of another size if one is asked for. Works in older checkouts for flat."""
    from sodakit.data.language import open_language
    from sodakit.model.config import model_size
    from sodakit.recipes.demo import demo

    _, vocabulary = open_language(store)
    config = demo(store, steps=100_000, **({} if family == "flat" else {"family": family}))  # type: ignore[arg-type]
    model = model_size(size, vocabulary.size, context=max(config.data.context, 1024))
    if family != "flat":
        from sodakit.model.any_config import family_config

        model = family_config(family, model, vocabulary)  # type: ignore[arg-type,assignment]
    return replace(config, model=model, validation=())


def trainer(config: Any, folder: Path) -> Callable[[], None]:
    """A step of training."""
    import torch

    from sodakit.train.run import Run

    run = Run(config, folder, torch.device("cpu"))
    batches = run.batches()
    return lambda: run.update(next(batches)) and None


def decoder(config: Any, store: Path, precision: Any) -> Callable[[], None]:
    """One request for speech that goes on until its limit."""
    import numpy as np

    from sodakit.data.language import open_language
    from sodakit.generate.engine import Engine, Request
    from sodakit.generate.sampling import Sampling
    from sodakit.model.transformer import Transformer
    from sodakit.tokens.documents import Template

    _, vocabulary = open_language(store)
    if hasattr(config.model, "backbone") and config.model.backbone is not config.model:
        from sodakit.model.families import build_model

        model = build_model(config.model)
    else:
        model = Transformer(config.model)
    engine = Engine(model, vocabulary, vocabulary.num_codebooks, precision)
    spoken = Sampling(temperature=0.8, top_p=0.95)
    request = Request(
        prompt_T=Template(vocabulary, vocabulary.num_codebooks).speak_prompt(np.arange(10, 40)),
        closing=vocabulary.eos,  # which speech never reaches
        max_new_tokens=NEW_TOKENS,
        semantic=spoken,
        acoustic=spoken,
    )

    def step() -> None:
        made = len(engine.generate([request])[0].ids_T)
        # A different place to end would be another amount of work.
        assert made == NEW_TOKENS, f"The answer ended after {made} ids; try another size."

    return step


def serve(tree: Path, what: str, store: Path, size: str, family: str, clock: str) -> None:
    """A contender's process: steps for about a second for every line it is sent, answered with seconds a step."""
    sys.path.insert(0, str(tree))
    import torch

    import sodakit

    assert Path(sodakit.__file__).is_relative_to(tree), f"{sodakit.__file__} is not of {tree}"
    torch.set_num_threads(2 if clock == "wall" else 1)
    now = CLOCKS[clock]
    out, sys.stdout = sys.stdout, sys.stderr  # the run's own lines are not answers
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(store, size, family)
        step = trainer(config, Path(folder)) if what == "train" else decoder(config, store, what)
        step()
        start_s = time.perf_counter()
        step()
        steps = max(1, round(SAMPLE_S / (time.perf_counter() - start_s)))
        for _ in sys.stdin:
            start_s = now()
            for _ in range(steps):
                step()
            print((now() - start_s) / steps, peak_bytes(), flush=True, file=out)


def race(
    trees: list[Path], words: list[str], rounds: int, max_tries: int, noisy: bool
) -> tuple[list[Contender], int]:
    """Alternate until each has so many quiet samples; how many rounds were disturbed."""
    command = (sys.executable, __file__, *words, "--serve")
    contenders = [Contender(tree.name, (*command, str(tree))) for tree in trees]
    for contender in contenders:
        contender.step()
    disturbed = 0
    for number in range(max_tries):
        order = contenders[:: 1 if number % 2 else -1]
        samples = {id(contender): contender.step() for contender in order}
        if not noisy and max(others for _, others in samples.values()) > QUIET:
            disturbed += 1
            continue
        for contender in contenders:
            contender.seconds.append(samples[id(contender)][0])
        if len(contenders[0].seconds) == rounds:
            break
    for contender in contenders:
        contender.stop()
    return contenders, disturbed


def report(what: str, contenders: list[Contender], disturbed: int) -> None:
    """A line: seconds of both, and the second's speed over the first's."""
    before, after = (c.seconds for c in contenders)
    if not before:
        raise SystemExit(f"No quiet sample in {disturbed} rounds: other processes used over {QUIET:.0%}.")
    each = [
        f"{c.name} {statistics.median(c.seconds):.4f} s ({min(c.seconds):.4f} to {max(c.seconds):.4f})"
        for c in contenders
    ]
    ratios = [a / b for a, b in zip(before, after, strict=True)]
    print(
        f"{what:<8} {', '.join(each)}; speed of the second over the first {statistics.median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f}), {len(ratios)} rounds, {disturbed} disturbed",
        flush=True,
    )


def main() -> None:
    """Race and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trees", nargs="*", type=Path, help="two checkouts, the older first")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--what", nargs="+", choices=THINGS, default=list(THINGS))
    parser.add_argument("--size", default="demo")
    parser.add_argument("--family", default="flat")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--max-tries", type=int, default=40)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(
            options.serve, options.what[0], options.store, options.size, options.family, options.clock
        )
    if len(options.trees) != 2:
        parser.error("two checkouts are needed")
    trees = [tree.resolve() for tree in options.trees]
    for what in options.what:
        words = ["--store", str(options.store), "--what", what]
        words += ["--size", options.size, "--family", options.family, "--clock", options.clock]
        noisy = options.clock == "cpu"
        report(what, *race(trees, words, options.rounds, options.max_tries, noisy))


if __name__ == "__main__":
    main()
