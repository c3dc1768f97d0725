"""`sodakit speak`: text to speech."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sodakit.audio.files import read_wave, write_wave
from sodakit.audio.writing import check_sound_path
from sodakit.bounds import Positive
from sodakit.commands.options import SpeechOptions, read_options, shown
from sodakit.errors import ConfigError
from sodakit.log import say


@dataclass(frozen=True, kw_only=True)
class Options(SpeechOptions):
    """Speak a text of any length, in the voice of a recording if one is given.

    Example: sodakit speak "Please turn on the lamp." --voice ref.wav --voice-text "Open the door." --out lamp.wav
    """

    text: tyro.conf.Positional[str]
    """What to say. A long text is spoken sentence by sentence, in one voice."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("speech.wav")
    """Sound file to write (.wav or .flac)."""
    voice: Path | None = None
    """A recording of the voice to use."""
    voice_text: str | None = None
    """What is said in that recording."""
    max_s: Positive | None = None
    """Longest speech, in seconds; default: what the text takes."""


def main(argv: list[str]) -> None:
    """Speak what argv says."""
    options = read_options(Options, "speak", argv)
    from sodakit.generate.speech_model import VoiceSample

    if (options.voice is None) != (options.voice_text is None):
        raise ConfigError("--voice and --voice-text go together: a recording, and what is said in it.")
    check_sound_path(options.out)
    sampling, voice = options.sampling, None
    if options.voice is not None:
        voice = VoiceSample(read_wave(options.voice), options.voice_text or "")
    model = options.speech_model()
    spoken = model.speak(options.text, voice=voice, sampling=sampling, max_s=options.max_s, seed=options.seed)
    write_wave(options.out, spoken.wave)
    say(f"{shown(options.out)}: {spoken.wave.duration_s:.2f} s")
    for line in spoken.stopped:
        say(f"Cut off: {line}.")
    if spoken.unspoken:
        rest = spoken.unspoken if len(spoken.unspoken) <= 60 else f"{spoken.unspoken[:57]}..."
        say(
            f"Not spoken, --max-s {options.max_s:g} was over: {len(spoken.unspoken)} characters, from {rest!r}."
        )
