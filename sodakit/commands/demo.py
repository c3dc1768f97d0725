"""`sodakit demo`: the whole way in minutes."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sodakit.bounds import Count
from sodakit.commands.options import JudgeOptions, ResumeOptions, read_options, refuse_unused
from sodakit.errors import ConfigError
from sodakit.log import say


@dataclass(frozen=True)
class Options(ResumeOptions, JudgeOptions):
    """Speech, store, model, report: train a small model that listens and speaks, on two CPU cores.

    A judge named with --judge or --judges hears some of the speech beside the one that is taught on the spot.
    Without --data, speech is made on the spot by synthetic voices. Stopped at any time, the same command goes on.

    Example: sodakit demo --data recordings/ --out runs/mine
    """

    data: Path | None = None
    """Folder of recordings with transcripts, in any layout that `sodakit prepare` reads, such as name.wav + name.txt."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("runs/demo")
    """Folder for everything that is made."""
    codec: str = "mini"
    """mini, toy, kyutai/mimi, or a folder."""
    steps: Count | None = None
    """Training steps; default: 1150, fewer for little data."""
    sentences: Count | None = None
    """Sentences of built-in speech to train on; default: 4000."""
    voices: tuple[str, ...] = ("seen",)
    """Who speaks, in training and test: `sodakit voices` lists the names. Default: ten of espeak-ng."""
    unseen_voices: tuple[str, ...] = ("unseen",)
    """Who else speaks in the test, and never in training."""
    family: Literal["flat", "depth", "delay"] = "depth"
    """Of models: one position for every code; or one for every frame, its codes written by a depth decoder, or by heads
    side by side."""
    start: Path | None = None
    """With --data: adapt this model as `sodakit adapt` does, rather than train one from nothing; `starter` comes with
    sodakit."""
    seed: int = 0
    """Another seed, another draw of sentences, splits and weights."""
    hourly_cost: float = 0.10
    """What an hour of this machine costs, in dollars, for the cost column."""

    @property
    def expected_language(self) -> str | None:
        """Speech that is made is English."""
        return self.judge_language or ("en" if self.data is None else None)


def main(argv: list[str]) -> None:
    """Run the demo."""
    options = read_options(Options, "demo", argv)
    if options.start is not None:
        _adapt(options, options.start)
        return
    from sodakit.codec.load import load_codec
    from sodakit.recipes import demo, street
    from sodakit.recipes.street_report import write_report

    if options.data:
        refuse_unused(
            options, ("sentences", "voices", "unseen_voices"), "with --data: speech is read, not made"
        )
    second, speakers = options.named_recogniser(), options.speakers()  # what is missing is said now
    size = demo.DemoConfig(seed=options.seed, voices=options.voices, unseen_voices=options.unseen_voices)
    if options.sentences is not None:
        size = replace(size, train_sentences=options.sentences)
    stopwatch = street.Stopwatch(options.out / "stages.json")
    with stopwatch.stage("Open the recordings" if options.data else "Make speech"):
        source = demo.recordings(options.data, options.seed) if options.data else demo.household(size)
    walk = street.Street(
        options.out, source.items, source.unseen_speakers, load_codec(options.codec), stopwatch
    )
    reader = street.build_store(walk, source.options)
    street.teach_judge(walk, reader)
    config = demo.demo(walk.store, steps=options.steps, seed=options.seed, family=options.family)
    street.train_model(walk, config, other_code=options.other_code)
    street.measure(walk, reader, second=second, speakers=speakers)
    with stopwatch.stage("Write the report"):
        write_report(walk, source.title, source.describe(reader), demo.notes(config), options.hourly_cost)
    street.say_scores(walk)
    say(f'Try: sodakit speak "{source.example}" --model {walk.run}')


def _adapt(options: Options, start: Path) -> None:
    """The recordings learnt by a model that is there."""
    from sodakit.commands import adapt

    if options.data is None:
        raise ConfigError("--start needs --data FOLDER: the recordings that the model is adapted to.")
    unused = ("codec", "steps", "sentences", "voices", "unseen_voices", "family", "hourly_cost")
    refuse_unused(options, unused, "with --start: the model is there")
    shared = {f.name: getattr(options, f.name) for f in fields(JudgeOptions)}
    adapt.run(
        adapt.Options(
            data=options.data,
            model=start,
            out=options.out,
            seed=options.seed,
            other_code=options.other_code,
            **shared,
        )
    )
