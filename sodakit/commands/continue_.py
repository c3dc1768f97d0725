"""`sodakit continue`: go on with speech."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from sodakit.audio.files import read_wave, resample, write_wave
from sodakit.audio.wave import Wave
from sodakit.commands.options import read_options
from sodakit.log import say


@dataclass(frozen=True)
class Options:
    """Write the recording followed by what the model says next.

    Example: sodakit continue hello.wav --prompt-s 3 --out more.wav
    """

    file: tyro.conf.Positional[Path]
    """Sound to go on with."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("continued.wav")
    """Sound file to write (.wav or .flac)."""
    model: Annotated[Path, tyro.conf.arg(aliases=["-m"])] = Path("runs/demo/model")
    """Checkpoint, or run folder: its best checkpoint where it kept one, else its newest."""
    prompt_s: float | None = None
    """Use only the first seconds of the file."""
    max_s: float = 10.0
    """Longest continuation, in seconds."""
    temperature: float = 1.0
    """Variety; 0 for the most likely codes."""
    top_p: float = 0.9
    """Sample from the most likely codes with this share of the probability."""
    seed: int = 0
    """Another seed is another continuation."""
    codec: str | None = None
    """Codec by name, hub id or folder; default: the one the model was trained with."""
    device: str | None = None
    """cpu, cuda, …"""


def main(argv: list[str]) -> None:
    """Continue the file that argv names."""
    options = read_options(Options, "continue", argv)
    from sodakit.generate.sampling import Sampling
    from sodakit.generate.speech_model import SpeechModel

    wave = read_wave(options.file)
    if options.prompt_s is not None:
        wave = wave.cut(0, options.prompt_s)
    model = SpeechModel.load(options.model, codec=options.codec, device=options.device)
    sampling = Sampling(temperature=options.temperature, top_p=options.top_p)
    spoken = model.continue_speech(wave, sampling=sampling, max_s=options.max_s, seed=options.seed)
    given = resample(wave, spoken.wave.sample_rate_hz)
    write_wave(
        options.out, Wave(np.concatenate([given.samples_S, spoken.wave.samples_S]), given.sample_rate_hz)
    )
    say(f"{options.out}: {given.duration_s:.2f} s given, {spoken.wave.duration_s:.2f} s continued")
