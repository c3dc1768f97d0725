"""`sodakit synthesise`: a corpus from texts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sodakit.bounds import Count
from sodakit.commands.options import read_options, refuse_unused
from sodakit.log import say
from sodakit.units import format_duration


@dataclass(frozen=True)
class Options:
    """Many texts said by many voices: sounds and manifest.jsonl, which `sodakit prepare` reads.

    Stopped at any time, even killed, the same command goes on, and the bytes are those of a run without a stop.
    What an engine cannot say is listed in unsaid.jsonl with its reason.

    Example: sodakit synthesise sentences.txt --voices seen flite piper:models/joe --out corpora/made
    """

    texts: Annotated[Path, tyro.conf.Positional]
    """A text a line, or JSON lines with `text`, and `id` and `language` where they have them; plain or compressed."""
    voices: tuple[str, ...] = ("seen",)
    """Who speaks: `sodakit voices --help` tells the names. They take turns; each text goes to those of its language."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder for the corpus; needed unless --dry-run."""
    voices_per_text: Count = 1
    """How many voices say each text."""
    lines_per_recording: Count = 1
    """Lines that a voice says in one recording, and so in one document of a store: from several a model learns to keep to a
    voice it is given."""
    language: str = "en"
    """ISO 639 code of the texts that name none."""
    sample_rate_hz: Count | None = None
    """Rate of the sounds in Hz; default: each engine's own."""
    format: Literal["flac", "wav"] = "flac"
    """Of the sound files, 16 bits."""
    workers: Count = 2
    """Processes; the bytes are the same for any number."""
    shard_lines: Count = 64
    """Lines that one process says at a time; a stop loses at most these."""
    seed: int = 0
    """Decides who says what, and the noise that some engines draw."""
    dry_run: bool = False
    """Say a few lines with each voice, print what the whole would cost, and stop."""


def main(argv: list[str]) -> None:
    """Make the corpus."""
    options = read_options(Options, "synthesise", argv)
    from sodakit.errors import ConfigError
    from sodakit.prepare.synthesis import SynthesisConfig, estimate, read_texts, synthesise
    from sodakit.voices.names import find_voices

    config = SynthesisConfig(
        voices_per_text=options.voices_per_text,
        lines_per_recording=options.lines_per_recording,
        language=options.language,
        sample_rate_hz=options.sample_rate_hz,
        format=options.format,
        shard_lines=options.shard_lines,
        seed=options.seed,
        workers=options.workers,
    )
    lines, voices = read_texts(options.texts, options.language), find_voices(options.voices)
    if options.dry_run:
        refuse_unused(options, ("out",), "with --dry-run: nothing is written")
        _print_costs(estimate(lines, voices, config), options.workers)
        return
    if options.out is None:
        raise ConfigError("--out FOLDER is needed, or --dry-run.")
    made = synthesise(lines, voices, options.out, config)
    say(f"{options.out}: {made.said} sounds, {format_duration(made.duration_s)}, by {len(voices)} voices.")
    if made.unsaid:
        say(f"{made.unsaid} lines were not said: {options.out / 'unsaid.jsonl'} has the reasons.")
    say(f"Next: sodakit prepare {options.out} --out STORE")


def _print_costs(rows: list[dict], workers: int) -> None:
    print(f"{'voice':<28} {'lines':>8} {'speech h':>9} {'core h':>8} {'GB':>7}")
    total = {key: sum(row[key] for row in rows) for key in ("lines", "speech_s", "core_s", "bytes")}
    for row in [*rows, {"voice": "all", **total}]:
        hours = f"{row['speech_s'] / 3600:>9.2f} {row['core_s'] / 3600:>8.3f}"
        print(f"{row['voice']:<28} {row['lines']:>8} {hours} {row['bytes'] / 1e9:>7.3f}")
    print(
        f"About {format_duration(total['core_s'] / workers)} with {workers} processes; FLAC takes about half the GB."
    )
