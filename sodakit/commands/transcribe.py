"""`sodakit transcribe`: speech to text."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from sodakit.audio.files import read_blocks
from sodakit.commands.options import ModelOptions, read_options, shown
from sodakit.errors import AudioError, ConfigError
from sodakit.log import say


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    """Print what is said in sound files of any length, a line each.

    A file that cannot be read is named, the others are transcribed, and the status is 2.

    Example: sodakit transcribe hello.wav
    """

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Sound files."""


def main(argv: list[str]) -> None:
    """Transcribe the files that argv names."""
    options = read_options(Options, "transcribe", argv)
    from sodakit.generate.long_form import transcribe

    if not options.files:
        raise ConfigError("No sound files. Name one or more.")
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
        text = shown(found.text)
        print(text if len(options.files) == 1 else f"{shown(file)}\t{text}", flush=True)
        for line in found.stopped:
            say(f"{shown(file)}: {line}.")
    if unread:
        names = ", ".join(shown(file) for file in unread[:5]) + (", …" if len(unread) > 5 else "")
        raise AudioError(f"{len(unread)} of {len(options.files)} files could not be transcribed: {names}")
