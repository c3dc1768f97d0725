"""Are pairs fair, and their intervals honest? Many models without training, which know nothing, answer one benchmark.

    sodakit eval build --out bench/people --recordings $DATA/vctk $DATA/librispeech_test_other --noises $DATA/esc10 --rooms $DATA/rir
    python benchmarks/untrained_pairs.py bench/people --model runs/evening --seeds 20

Clips are encoded once, with the codec and vocabulary of `--model`; each seed then gives a new model of random weights.
Printed for each part: the mean accuracy over seeds with its 95 % interval (50 %: nothing in the pairs favours a side), the
spread from seed to seed, and the share of the seeds whose own interval holds 50 % (95 %: intervals are as wide as they say).
With `--untied` embedding and head are drawn apart.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import t as student_t

from sodakit.eval.logprobs import TokenItem, score_items
from sodakit.eval.pair_layouts import Pair, read_pairs
from sodakit.eval.pairs import TASKS, judge, task, token_items
from sodakit.eval.policies import policy
from sodakit.generate.speech_model import SpeechModel
from sodakit.log import track
from sodakit.model.config import model_size
from sodakit.model.transformer import Transformer

CLIPS_AT_ONCE = 64


def encoded(model: SpeechModel, pairs: Sequence[Pair], speech: bool) -> list[TokenItem]:
    """All sides of all pairs as ids, by the names that `judge` asks for."""
    sides = [(f"{n}#{k}", side) for n, pair in enumerate(pairs) for k, side in enumerate(pair.sides)]
    parts = [sides[first : first + CLIPS_AT_ONCE] for first in range(0, len(sides), CLIPS_AT_ONCE)]
    found = [token_items(model, part, speech=speech) for part in track(parts, "encoding", total=len(parts))]
    return [item for items in found for item in items]


def main() -> None:
    """Encode, score with each seed, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", type=Path, help="folder of a benchmark")
    parser.add_argument("--task", default="salmon", choices=tuple(TASKS))
    parser.add_argument("--policy", default="sodakit")
    parser.add_argument("--model", type=Path, required=True, help="whose codec and vocabulary")
    parser.add_argument("--size", default="nano")
    parser.add_argument("--untied", action="store_true")
    parser.add_argument("--context", type=int, help="of the untrained models; default: that of --model")
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    chosen = task(options.task)
    rule = replace(policy(options.policy, chosen.family), missing="skip")
    model = SpeechModel.load(options.model)
    pairs = read_pairs(options.pairs, speech=chosen.speech)
    config = model_size(
        options.size,
        model.vocabulary.size,
        context=options.context or model.model.config.context,
        tied_embeddings=not options.untied,
    )
    model = SpeechModel(Transformer(config), model.vocabulary, model.tokenizer, model.codec)
    items = encoded(model, pairs, chosen.speech)
    left_out = sum(len(pair.sides) for pair in pairs) - len(items)
    if left_out:
        print(
            f"{left_out} clips are longer than {config.context} tokens; their pairs are left out (--context)"
        )
    values: dict[str, list[float]] = {}
    holds: dict[str, list[bool]] = {}
    for seed in track(range(options.seeds), "seeds", total=options.seeds):
        table = score_items(Transformer(config, seed=seed), model.vocabulary, items)
        for part, value in judge(table, pairs, rule).parts.items():
            values.setdefault(part, []).append(value.value)
            holds.setdefault(part, []).append(value.low <= 0.5 <= value.high)
    print(
        f"{options.seeds} models of size {options.size}, {'untied' if options.untied else 'tied'}, policy {rule.name}"
    )
    print("| part | mean accuracy | SD over seeds | intervals that hold 50 % |")
    print("| --- | --- | --- | --- |")
    for part, found in values.items():
        half = student_t.ppf(0.975, len(found) - 1) * np.std(found, ddof=1) / len(found) ** 0.5
        mean = np.mean(found)
        print(
            f"| {part or chosen.name} | {mean:.1%} ({mean - half:.1%} to {mean + half:.1%}) | {np.std(found, ddof=1):.1%} "
            f"| {sum(holds[part])} of {len(found)} |"
        )


if __name__ == "__main__":
    main()
