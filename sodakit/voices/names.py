"""Voices by name, the way a command line and a settings file write them.

anna                              one of the built-in fourteen
seen, unseen, all                 the ten that may be trained on, the four held out, both
varied                            ninety random ones of espeak-ng, to train on beside the ten
espeak:en-us+m3                   any language and variant of espeak-ng
flite:slt, flite                  one voice of the program flite; all its usable ones
piper:FOLDER, piper:FOLDER#SPEAKER
kokoro:FOLDER                     every style in the folder, a voice each
kokoro:FOLDER#af                  one style
kokoro:FOLDER#0.6*af+0.4*bf       a mixture: a new voice
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sodakit.errors import ConfigError, nearest
from sodakit.voices.catalogue import SEEN_VOICES, UNSEEN_VOICES, voice
from sodakit.voices.contract import Voice
from sodakit.voices.espeak import EspeakVoice
from sodakit.voices.flite import USABLE, FliteEngine, FliteVoice, installed_voices
from sodakit.voices.kokoro import KokoroVoice, check_folder, style_names, style_vectors
from sodakit.voices.piper import PiperVoice
from sodakit.voices.varied import VARIED_VOICES

GROUPS: dict[str, tuple[Voice, ...]] = {
    "seen": SEEN_VOICES,
    "unseen": UNSEEN_VOICES,
    "all": (*SEEN_VOICES, *UNSEEN_VOICES),
    "varied": VARIED_VOICES,
}


def find_voices(names: Sequence[str]) -> tuple[Voice, ...]:
    """The voices of these names, in order; a group is several.

    Raises:
        ConfigError: a name that nobody has, a folder without what its engine needs, or one voice twice.
    """
    found = tuple(voice for name in names for voice in _find(name))
    twice = [name for name, count in Counter(voice.name for voice in found).items() if count > 1]
    if twice:
        raise ConfigError(f"The voice {twice[0]} is named twice. Name each once; groups overlap.")
    return found


def held_apart(seen: Sequence[Voice], unseen: Sequence[Voice]) -> None:
    """Raise where a voice that must be new is trained on.

    Raises:
        ConfigError: one is.
    """
    both = {voice.name for voice in seen} & {voice.name for voice in unseen}
    if both:
        raise ConfigError(
            f"{', '.join(sorted(both))}: trained on and held out. Name other voices for one of the two."
        )


def _find(name: str) -> Sequence[Voice]:
    engine, _, rest = name.partition(":")
    if name in GROUPS:
        return GROUPS[name]
    if engine == "flite":
        return _flite(rest)
    if not rest:
        return (voice(name),)
    if engine == "espeak":
        language, _, variant = rest.partition("+")
        # A file and a speaker are called so: the name must be one.
        plain = re.sub(r"[^\w+.-]", "_", rest)
        return (EspeakVoice(name=f"espeak-{plain}", language=language, variant=variant),)
    folder, _, part = rest.partition("#")
    if engine == "piper":
        piper = PiperVoice(Path(folder), part)
        piper.speaker_number  # noqa: B018 - a wrong folder or speaker is said now, not at the first text
        return (piper,)
    if engine == "kokoro":
        check_folder(Path(folder))
        styles = [_mixture(part, name)] if part else [((style, 1.0),) for style in style_names(Path(folder))]
        for mixture in styles:
            style_vectors(Path(folder), mixture)
        return [KokoroVoice(Path(folder), mixture) for mixture in styles]
    raise ConfigError(
        f"{name!r}: no engine {engine!r}.{nearest(engine, ('espeak', 'flite', 'piper', 'kokoro'), 'Engines')}"
    )


def _flite(name: str) -> Sequence[Voice]:
    FliteEngine()
    known = installed_voices()
    if not name:
        return [FliteVoice(own) for own in USABLE if own in known]
    if name not in known and not Path(name).is_file():
        raise ConfigError(f"flite has no voice {name!r}.{nearest(name, known, 'Voices')}")
    return (FliteVoice(name),)


def _mixture(text: str, name: str) -> tuple[tuple[str, float], ...]:
    parts = []
    for part in text.split("+"):
        weight, star, style = part.rpartition("*")
        try:
            parts.append((style, float(weight) if star else 1.0))
        except ValueError as error:
            raise ConfigError(f"{name!r}: {weight!r} is no weight. Write 0.6*af+0.4*bf.") from error
    total = sum(weight for _, weight in parts)
    if not math.isfinite(total) or abs(total - 1) > 1e-3 or min(weight for _, weight in parts) < 0:
        raise ConfigError(f"{name!r}: weights sum to {total:g}; needed: positive weights that sum to 1.")
    return tuple(parts)
