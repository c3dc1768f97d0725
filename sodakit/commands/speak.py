"""`sodakit speak`: text to speech."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sodakit.audio.files import read_wave, write_wave
from sodakit.commands.options import read_options
from sodakit.errors import ConfigError
from sodakit.log import say


@dataclass(frozen=True)
class Options:
    """Speak a text, in the voice of a recording if one is given.

    Example: sodakit speak "Please turn on the lamp." --voice ref.wav --voice-text "Open the door." --out lamp.wav
    """

    text: tyro.conf.Positional[str]
    """What to say."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("speech.wav")
    """Sound file to write (.wav or .flac)."""
    model: Annotated[Path, tyro.conf.arg(aliases=["-m"])] = Path("runs/demo/model")
    """Checkpoint, or run folder: its best checkpoint where it kept one, else its newest."""
    voice: Path | None = None
    """A recording of the voice to use."""
    voice_text: str | None = None
    """What is said in that recording."""
    max_s: float = 15.0
    """Longest speech, in seconds."""
    temperature: float = 0.9
    """Variety; 0 for the most likely codes."""
    top_p: float = 0.8
    """Sample from the most likely codes with this share of the probability."""
    seed: int = 0
    """Another seed is another reading."""
    codec: str | None = None
    """Codec by name, hub id or folder; default: the one the model was trained with."""
    device: str | None = None
    """cpu, cuda, …"""


def main(argv: list[str]) -> None:
    """Speak what argv says."""
    options = read_options(Options, "speak", argv)
    from sodakit.generate.sampling import Sampling
    from sodakit.generate.speech_model import SpeechModel, VoiceSample

    if (options.voice is None) != (options.voice_text is None):
        raise ConfigError("--voice and --voice-text go together: a recording, and what is said in it.")
    voice = None
    if options.voice is not None:
        voice = VoiceSample(read_wave(options.voice), options.voice_text or "")
    model = SpeechModel.load(options.model, codec=options.codec, device=options.device)
    sampling = Sampling(temperature=options.temperature, top_p=options.top_p)
    spoken = model.speak(options.text, voice=voice, sampling=sampling, max_s=options.max_s, seed=options.seed)
    write_wave(options.out, spoken.wave)
    ending = "" if spoken.ended else f", cut off at the limit of {options.max_s} s"
    say(f"{options.out}: {spoken.wave.duration_s:.2f} s{ending}")
