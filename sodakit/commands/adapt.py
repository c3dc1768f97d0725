"""`sodakit adapt`: one's own voice, accent, words or language, from minutes of recordings with transcripts."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from sodakit.bounds import Count, Positive, ShareBelowOne
from sodakit.checkpoint.shipped import STARTER
from sodakit.commands.options import JudgeOptions, ResumeOptions, ask_for_consent, introduce, read_options
from sodakit.log import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sodakit.eval.judges import Judge


@dataclass(frozen=True)
class Options(JudgeOptions, ResumeOptions):
    """Adapt a model to recordings with transcripts: a voice, an accent, words, a language.

    Some recordings are held out. After each epoch the model hears and says a few of them, and the best epoch is kept in
    OUT/best; OUT/report.html has them before and after, to be heard. Stopped at any time, the same command resumes.

    Example: sodakit adapt recordings/ --out runs/me --consent "My own voice."
    """

    data: tyro.conf.Positional[Path]
    """Folder of recordings with transcripts, in any layout that `sodakit prepare` reads, such as name.wav + name.txt."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("runs/adapted")
    """Run folder; it is the model, too: --model OUT."""
    model: Annotated[Path, tyro.conf.arg(aliases=["-m"])] = STARTER
    """Model to adapt: checkpoint, or run folder. `starter` comes with sodakit."""
    test: Path | None = None
    """Folder of recordings to test on before and after; default: a tenth of the others."""
    consent: str | None = None
    """A note of who agreed to the use of the voice, and how; kept in the model's file. All its speech says whether there
    is one."""
    lora: int = 0
    """Rank of adapters; 0 trains all weights."""
    lr: Positive = 3e-4
    """Peak learning rate; adapters want about five times as much."""
    epochs: Count = 10
    """Passes over the recordings, at most."""
    patience: Count = 3
    """Stop after this many epochs without a better one."""
    replay: Path | None = None
    """Store of what the model was trained on, to train on again and to see what is lost; default: what it brings along."""
    replay_share: ShareBelowOne = 0.2
    """Share of the tokens that are replayed."""
    variants: int = 3
    """Copies of each recording that begin a little later and are a little faster or slower; 0 for none."""
    report_cases: Count = 6
    """Held-out recordings heard and said after each epoch."""
    test_cases: Count = 40
    """Test recordings heard and said before and after."""
    seed: int = 0
    """Of splits, order, adapters and sounds."""
    codec: str | None = None
    """Codec by name, hub id or folder; default: the one the model was trained with."""
    device: str | None = None
    """cpu, cuda, …"""
    dry_run: bool = False
    """Say what is new to the model, try a few steps, print what it costs, and stop."""


def main(argv: list[str]) -> None:
    """Adapt as argv says."""
    run(read_options(Options, "adapt", argv))


def run(options: Options) -> None:
    """Adapt as the options say."""
    from sodakit.files import read_json
    from sodakit.recipes.adapt import Ears, adapt, open_adaptation, say_result
    from sodakit.recipes.adapt_config import AdaptSettings
    from sodakit.recipes.adapt_cost import estimate
    from sodakit.train.config import LoraConfig

    settings = AdaptSettings(
        epochs=options.epochs,
        patience=options.patience,
        peak_lr=options.lr,
        lora=LoraConfig(rank=options.lora, alpha=2.0 * options.lora) if options.lora else None,
        replay=None if options.replay is None else str(options.replay),
        replay_fraction=options.replay_share,
        variants=options.variants,
        report_cases=options.report_cases,
        test_cases=options.test_cases,
        seed=options.seed,
        consent=options.consent,
    )
    named, speakers = options.named_recogniser(), options.speakers()  # what is missing is said now
    adaptation = open_adaptation(
        options.model,
        options.data,
        options.out,
        settings,
        test=options.test,
        codec=options.codec,
        device=options.device,
    )
    introduce(adaptation.base, options.model)
    for line in adaptation.warnings():
        say(line)
    ask_for_consent(options.consent)
    if options.dry_run:
        print(*estimate(adaptation, options.device).lines(), sep="\n")
        return
    reader = adaptation.prepare()
    held_out = [u.text for split in ("validation", "test") for u in reader.utterances(split) if u.text]
    judge = named or _small_judge(held_out, options.out)
    best = adapt(adaptation, Ears(judge, speakers), device=options.device, other_code=options.other_code)
    say_result(read_json(options.out / "adapted.json"), options.out)
    print(best)


def _small_judge(texts: "Sequence[str]", out: Path) -> "Judge | None":
    """A recogniser made on the spot; None, said, where there is nothing to make one with."""
    from sodakit.errors import MissingExtra
    from sodakit.eval.default_judge import default_judge

    try:
        return default_judge(texts, out / "judge.safetensors")
    except MissingExtra as error:
        say(f"Nobody writes down what the model says: {error} Or name a recogniser with --judge or --judges.")
        return None
