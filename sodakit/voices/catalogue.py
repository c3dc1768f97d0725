"""The voices of the built-in synthesiser: those to train on, and those nothing may train on."""

from sodakit.errors import ConfigError, nearest
from sodakit.voices.espeak import EspeakVoice

SEEN_VOICES: tuple[EspeakVoice, ...] = (
    EspeakVoice(name="anna", language="en-us", variant="f2", pitch=55, speed_wpm=165),
    EspeakVoice(name="bella", language="en-gb-x-rp", variant="Annie", pitch=60, speed_wpm=160),
    EspeakVoice(name="carol", language="en-us", variant="linda", pitch=48, speed_wpm=180),
    EspeakVoice(name="dora", language="en", variant="grandma", pitch=42, speed_wpm=150),
    EspeakVoice(name="emma", language="en-gb-scotland", variant="f5", pitch=52, speed_wpm=170),
    EspeakVoice(name="frank", language="en-us", variant="m3", pitch=42, speed_wpm=160),
    EspeakVoice(name="george", language="en", variant="m7", pitch=50, speed_wpm=170),
    EspeakVoice(name="henry", language="en-us", variant="Mike", pitch=30, speed_wpm=185),
    EspeakVoice(name="ivan", language="en-gb-x-gbclan", variant="boris", pitch=55, speed_wpm=155),
    EspeakVoice(name="jack", language="en-us", variant="ed", pitch=60, speed_wpm=175),
)
"""Ten clearly different voices, five female and five male. The shipped codec has heard them."""

UNSEEN_VOICES: tuple[EspeakVoice, ...] = (
    EspeakVoice(name="kate", language="en-us", variant="f4", pitch=62, speed_wpm=170),
    EspeakVoice(name="liam", language="en-gb-x-rp", variant="m4", pitch=52, speed_wpm=165),
    EspeakVoice(name="maria", language="en-us", variant="Alicia", pitch=40, speed_wpm=175),
    EspeakVoice(name="nick", language="en", variant="Gene2", pitch=45, speed_wpm=160),
)
"""Held out everywhere: no codec and no model is trained on these variants."""


def voice(name: str) -> EspeakVoice:
    """The voice of that name.

    Raises:
        ConfigError: no such voice.
    """
    for known in (*SEEN_VOICES, *UNSEEN_VOICES):
        if known.name == name:
            return known
    names = [known.name for known in (*SEEN_VOICES, *UNSEEN_VOICES)]
    raise ConfigError(f"No voice {name!r}.{nearest(name, names, 'Voices')}")
