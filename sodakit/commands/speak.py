"""`sodakit speak`: text to speech."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from sodakit.audio.files import read_wave, write_wave
from sodakit.audio.writing import check_sound_path
from sodakit.bounds import Positive
from sodakit.commands.options import SpeechOptions, ask_for_consent, read_options, refuse_unused, shown
from sodakit.errors import ConfigError
from sodakit.log import say

if TYPE_CHECKING:
    from sodakit.generate.speech_model import VoiceSample


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
    """A recording of the voice to use, or a voice's file (.json) that --keep-voice or the server wrote."""
    voice_text: str | None = None
    """What is said in that recording."""
    keep_voice: Path | None = None
    """Also keep the voice, its text and the note of consent in this file (.json), to be given as --voice."""
    max_s: Positive | None = None
    """Longest speech, in seconds; default: what the text takes."""


def main(argv: list[str]) -> None:
    """Speak what argv says."""
    options = read_options(Options, "speak", argv)
    check_sound_path(options.out)
    sampling, voice = options.sampling, _voice(options)
    model = options.speech_model()
    spoken = model.speak(options.text, voice=voice, sampling=sampling, max_s=options.max_s, seed=options.seed)
    write_wave(options.out, spoken.wave)
    say(f"{shown(options.out)}: {spoken.wave.duration_s:.2f} s")
    if voice is not None:
        ask_for_consent(voice.consent)
    for line in spoken.stopped:
        say(f"Cut off: {line}.")
    if spoken.unspoken:
        rest = spoken.unspoken if len(spoken.unspoken) <= 60 else f"{spoken.unspoken[:57]}..."
        say(
            f"Not spoken, --max-s {options.max_s:g} was over: {len(spoken.unspoken)} characters, from {rest!r}."
        )


def _voice(options: Options) -> "VoiceSample | None":
    """The voice to imitate, kept where that is asked for.

    Raises:
        ConfigError: options that say nothing, or not enough.
        AudioError: it cannot be read.
    """
    from sodakit.generate.speech_model import VoiceSample
    from sodakit.generate.voice_file import KeptVoice, read_voice, write_voice

    if options.voice is None:
        refuse_unused(options, ("voice_text", "consent", "keep_voice"), "without --voice")
        return None
    if options.voice.suffix == ".json":
        refuse_unused(options, ("voice_text",), "with a voice's file: it holds its text")
        sample = read_voice(options.voice).sample
        if options.consent is not None:
            sample = replace(sample, consent=options.consent)
    elif options.voice_text is None:
        raise ConfigError("--voice and --voice-text go together: a recording, and what is said in it.")
    else:
        sample = VoiceSample(read_wave(options.voice), options.voice_text, options.consent)
    if options.keep_voice is not None:
        write_voice(options.keep_voice, KeptVoice(options.keep_voice.stem, sample))
    return sample
