"""`sodakit transcribe`: speech to text."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sodakit.audio.files import read_wave
from sodakit.commands.options import read_options


@dataclass(frozen=True)
class Options:
    """Print what is said in sound files, a line each.

    Example: sodakit transcribe hello.wav --model runs/demo/model
    """

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Sound files."""
    model: Annotated[Path, tyro.conf.arg(aliases=["-m"])] = Path("runs/demo/model")
    """Checkpoint, or run folder: its best checkpoint where it kept one, else its newest."""
    codec: str | None = None
    """Codec by name, hub id or folder; default: the one the model was trained with."""
    device: str | None = None
    """cpu, cuda, …"""


def main(argv: list[str]) -> None:
    """Transcribe the files that argv names."""
    options = read_options(Options, "transcribe", argv)
    from sodakit.generate.speech_model import SpeechModel

    model = SpeechModel.load(options.model, codec=options.codec, device=options.device)
    for file in options.files:
        text = model.transcribe(read_wave(file))
        print(text if len(options.files) == 1 else f"{file}\t{text}", flush=True)
