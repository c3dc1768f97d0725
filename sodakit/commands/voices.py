"""`sodakit voices`: who can speak, and how each sounds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sodakit.commands.options import read_options, refuse_unused
from sodakit.log import say


@dataclass(frozen=True)
class Options:
    """List voices, and hear them: those built in, those of flite where it is installed, and any that are named.

    Names: anna (built in), seen, unseen, all, espeak:en-us+m3, flite:slt, piper:FOLDER, piper:FOLDER#SPEAKER,
    kokoro:FOLDER, kokoro:FOLDER#af, kokoro:FOLDER#0.6*af+0.4*bf (a mixture is a new voice).

    Example: sodakit voices espeak:es+f2 piper:models/joe --say "Good morning." --out heard
    """

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Voices; default: all that need no folder."""
    say: str | None = None
    """A text that each of them says."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder for the sounds, VOICE.wav each; needed with --say."""
    seed: int = 0
    """Of the noise that some engines draw."""


def main(argv: list[str]) -> None:
    """List, and speak where asked."""
    options = read_options(Options, "voices", argv)
    from sodakit.audio.files import write_wave
    from sodakit.errors import ConfigError
    from sodakit.voices.engines import Synthesizer
    from sodakit.voices.flite import installed_voices
    from sodakit.voices.names import find_voices

    if options.say is None:
        refuse_unused(options, ("out", "seed"), "without --say")
    elif options.out is None:
        raise ConfigError("--say needs --out FOLDER for the sounds.")
    has_flite = bool(installed_voices())
    voices = find_voices(options.names or ("all", *(("flite",) if has_flite else ())))
    width = max(len(voice.name) for voice in voices)
    for voice in voices:
        print(f"{voice.name:<{width}}  {voice.engine:<9}  {', '.join(voice.languages):<5}  {voice.licence}")
    if not options.names:
        say("More: espeak:LANGUAGE+VARIANT, piper:FOLDER, kokoro:FOLDER#STYLE; see --help.")
        if not has_flite:
            say("flite is not installed (apt install flite): four more English voices.")
    if options.say is not None and options.out is not None:
        with Synthesizer(options.seed) as synthesizer:
            for voice in voices:
                path = options.out / f"{voice.name}.wav"
                write_wave(path, synthesizer.speak(options.say, voice).wave)
                say(f"{path}")
