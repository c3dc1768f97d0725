"""`sodakit transcribe`: speech to text."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from sodakit.audio.files import read_blocks, read_wave
from sodakit.commands.options import ModelOptions, read_options, refuse_unused, shown
from sodakit.errors import AudioError, ConfigError
from sodakit.log import say

if TYPE_CHECKING:
    from sodakit.align.contract import Aligner
    from sodakit.generate.long_form import Transcript


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    """Print what is said in sound files of any length, a line each.

    A file that cannot be read is named, the others are transcribed, and the status is 2.

    Example: sodakit transcribe hello.wav
    """

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Sound files."""
    words: bool = False
    """Print a line for each word, with when it begins and ends, in seconds."""
    aligner: str | None = None
    """Who finds the words: a CTC model of transformers by hub id or folder, a Whisper in CTranslate2 form, or a
    .safetensors of `sodakit align`. Default: they are spread over what is loud in each piece that the model heard, a guess."""


def main(argv: list[str]) -> None:
    """Transcribe the files that argv names."""
    options = read_options(Options, "transcribe", argv)
    from sodakit.generate.long_form import transcribe

    if not options.words:
        refuse_unused(options, ("aligner",), "without --words")
    if not options.files:
        raise ConfigError("No sound files. Name one or more.")
    aligner = _aligner(options)
    model = options.speech_model()
    unread = []
    for file in options.files:
        try:
            found = transcribe(model, read_blocks(file, model.codec.spec.sample_rate_hz))
        except AudioError as error:
            if len(options.files) == 1:
                raise
            say(str(error))
            unread.append(file)
            continue
        lines = _words(found, file, aligner) if aligner else [shown(found.text)]
        for line in lines:
            print(line if len(options.files) == 1 else f"{shown(file)}\t{line}", flush=True)
        for line in found.stopped:
            say(f"{shown(file)}: {line}.")
    if unread:
        names = ", ".join(shown(file) for file in unread[:5]) + (", …" if len(unread) > 5 else "")
        raise AudioError(f"{len(unread)} of {len(options.files)} files could not be transcribed: {names}")


def _aligner(options: Options) -> "Aligner | None":
    """Who finds the words; None where nobody asked for them."""
    from sodakit.align.named import named_aligner
    from sodakit.align.spread import SpreadAligner

    if not options.words:
        return None
    return SpreadAligner() if options.aligner is None else named_aligner(options.aligner)


def _words(found: "Transcript", file: Path, aligner: "Aligner") -> list[str]:
    """Start, end and word, a line each."""
    from sodakit.align.subtitles import words_of

    words = words_of(found.segments, read_wave(file), aligner)
    return [f"{w.start_s:.3f}\t{w.end_s:.3f}\t{shown(w.word)}" for w in words]
