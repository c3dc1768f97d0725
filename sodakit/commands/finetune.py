"""`sodakit finetune`: teach a model a task of pairs, such as translating speech in the speaker's voice."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sodakit.bounds import Count, Positive, ShareBelowOne
from sodakit.checkpoint.shipped import STARTER
from sodakit.commands.options import JudgeOptions, ResumeOptions, read_options, refuse_unused
from sodakit.config import override, parse_overrides, to_plain


@dataclass(frozen=True)
class Options(JudgeOptions, ResumeOptions):
    """Fine-tune a model on pairs of recordings, with a safety report after each epoch; the same command resumes.

    The settings are the published ones unless given. The best epoch is kept in OUT/best, by what --judge hears.

    Example: sodakit finetune --model runs/base --data stores/pairs --out runs/s2st --base stores/base --replay 0.2
    """

    data: Path
    """Store of pairs, prepared with the tokenizer and codec of the model."""
    settings: tyro.conf.Positional[tuple[str, ...]] = ()
    """Overrides of the run, name=value."""
    model: Annotated[str, tyro.conf.arg(aliases=["-m"])] = str(STARTER)
    """Checkpoint to start from, or run folder: its best checkpoint where it kept one, else its newest; `scratch` for none."""
    task: str = "s2st"
    """s2st, s2st_no_source_text, s2st_direct, s2tt or s2tt_direct."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("runs/finetune")
    """Run folder."""
    epochs: Count = 5
    """Passes over the pairs, at most."""
    patience: Count = 2
    """Stop after this many epochs without a better score."""
    batch_rows: Count = 64
    """Rows in a step."""
    lr: Positive = 2e-5
    """Peak learning rate."""
    lora: int = 0
    """Rank of adapters; 0 trains all weights."""
    whole: bool = False
    """Take the loss on the whole sequence, not on the answers alone."""
    base: Path | None = None
    """Store of the pretraining data, to report what is lost on it."""
    replay: ShareBelowOne = 0.0
    """Share of the tokens replayed from --base."""
    size: str = "demo"
    """Shape of a model from scratch."""
    family: Literal["flat", "depth", "delay"] = "flat"
    """Of a model from scratch."""
    report_cases: int = 24
    """Validation pairs translated after each epoch."""
    seed: int = 0
    """Of order, adapters and sounds."""
    codec: str | None = None
    """Codec by name, hub id or folder; default: the one of the store."""
    device: str | None = None
    """cpu, cuda, …"""
    dry_run: bool = False
    """Print the config and stop."""


def main(argv: list[str]) -> None:
    """Fine-tune as argv says."""
    options = read_options(Options, "finetune", argv)
    from sodakit.codec.load import load_codec_of
    from sodakit.eval.default_judge import default_judge
    from sodakit.recipes.epochs import held_out_split
    from sodakit.recipes.finetune import finetune, pair_cases
    from sodakit.recipes.finetune_config import FinetuneSettings, finetune_config
    from sodakit.store.reader import StoreReader
    from sodakit.train.config import LoraConfig

    if options.model != "scratch":
        refuse_unused(options, ("size", "family"), "with --model: the shape is the model's")
    settings = FinetuneSettings(
        task=options.task,
        epochs=options.epochs,
        patience=options.patience,
        batch_rows=options.batch_rows,
        peak_lr=options.lr,
        given_spans=0 if options.whole else None,
        lora=LoraConfig(rank=options.lora, alpha=2.0 * options.lora) if options.lora else None,
        base=None if options.base is None else str(options.base),
        replay_fraction=options.replay,
        report_cases=options.report_cases,
        seed=options.seed,
    )
    init = None if options.model == "scratch" else Path(options.model)
    config = finetune_config(settings, options.data, init, options.size, options.family)
    config = override(config, parse_overrides(list(options.settings)))
    if options.dry_run:
        print(json.dumps(to_plain(config), indent=2))
        return
    spec = StoreReader(options.data).codec_spec
    codec = load_codec_of(spec, f"{options.data} holds codes of", options.codec)
    judge = options.named_recogniser()
    if judge is None:
        cases = pair_cases(
            options.data, held_out_split(options.data), options.task, codec, options.report_cases
        )
        judge = default_judge([c.reference for c in cases], options.out / "judge.safetensors")
    best = finetune(
        config,
        settings,
        options.out,
        codec,
        judge,
        options.speakers(),
        device=options.device,
        other_code=options.other_code,
    )
    print(best)
