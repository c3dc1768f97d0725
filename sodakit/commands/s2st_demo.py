"""`sodakit s2st_demo`: voice-preserving translation, the whole experiment."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sodakit.bounds import Count
from sodakit.commands.options import JudgeOptions, ResumeOptions, read_options
from sodakit.log import say


@dataclass(frozen=True)
class Options(JudgeOptions, ResumeOptions):
    """Pretrain a small model in three languages, fine-tune it to translate speech, and report against baselines.

    Under an hour on two CPU cores, with nothing downloaded unless a judge is named. A named recogniser hears every
    language of the experiment: tell it none to expect. Stopped at any time, the same command goes on.

    Example: sodakit s2st_demo --out runs/s2st_demo
    """

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("runs/s2st_demo")
    """Folder for everything that is made."""
    codec: str = "mini"
    """mini, toy, kyutai/mimi, or a folder."""
    sources: tuple[str, ...] = ("es", "de")
    """Languages to translate from: es, de, fr."""
    base_sentences: Count | None = None
    """Sentences of each language to pretrain on; default: 1600."""
    train_pairs: Count | None = None
    """Pairs of each source language to fine-tune on; default: 800."""
    test_pairs: Count | None = None
    """Pairs of each source language to be scored on; default: 60."""
    pretrain_steps: Count | None = None
    """Steps of pretraining; default: 1500."""
    epochs: Count | None = None
    """Passes over the pairs; default: 3."""
    size: str | None = None
    """Shape of the model; default: demo."""
    family: Literal["flat", "depth", "delay"] = "flat"
    """Of models: one position for every code; or one for every frame, its codes written by a depth decoder, or by heads
    side by side."""
    voices: tuple[str, ...] = ("seen",)
    """Who speaks in training, in every language: `sodakit voices` lists the names."""
    unseen_voices: tuple[str, ...] = ("unseen",)
    """Who else speaks in the test."""
    seed: int = 0
    """Another seed, another draw of sentences and weights."""


def main(argv: list[str]) -> None:
    """Run the experiment."""
    options = read_options(Options, "s2st_demo", argv)
    from sodakit.codec.load import load_codec
    from sodakit.recipes.s2st_demo import S2stDemoConfig, run
    from sodakit.recipes.s2st_report import write_s2st_report

    given = {
        n: getattr(options, n)
        for n in ("base_sentences", "train_pairs", "test_pairs", "pretrain_steps", "epochs", "size")
    }
    config = replace(
        S2stDemoConfig(
            sources=options.sources,
            voices=options.voices,
            unseen_voices=options.unseen_voices,
            family=options.family,
            seed=options.seed,
        ),
        **{name: value for name, value in given.items() if value is not None},
    )
    experiment, scores = run(
        config,
        options.out,
        load_codec(options.codec),
        options.named_recogniser(),
        options.speakers(),
        other_code=options.other_code,
    )
    path = write_s2st_report(experiment, scores)
    for name, pairs in scores["systems"].items():
        bleu = pairs["all"]["asr_bleu"]
        say(f"{name}: ASR-BLEU {bleu['value']:.1f} ({bleu['low']:.1f} to {bleu['high']:.1f})")
    for name, d in scores["differences"].items():
        say(f"{name}: {d['value']:+.1f} BLEU ({d['low']:+.1f} to {d['high']:+.1f})")
    say(
        f"{path}. Try: sodakit translate FILE --to {config.target} --model {experiment.finetuned('pretrained')}"
    )
