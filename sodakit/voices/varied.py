"""Random voices of espeak-ng: any accent, variant, pitch and speed, and never a variant of the unseen voices."""

import random

from sodakit.voices.catalogue import UNSEEN_VOICES
from sodakit.voices.espeak import EspeakVoice

LANGUAGES = (
    "en-us",
    "en",
    "en-gb-x-rp",
    "en-gb-scotland",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
    "en-us-nyc",
)

VARIANTS = tuple(
    [
        "f1",
        "f2",
        "f3",
        "f5",
        "m1",
        "m2",
        "m3",
        "m5",
        "m6",
        "m7",
        "m8",
        "Annie",
        "Andrea",
        "linda",
        "steph",
        "steph2",
        "belinda",
        "grandma",
        "aunty",
        "anika",
        "Alex",
        "Andy",
        "Lee",
        "Mario",
        "Michael",
        "Mike",
        "adam",
        "boris",
        "david",
        "ed",
        "edward",
        "edward2",
        "ian",
        "iven",
        "john",
        "max",
        "michel",
        "paul",
        "quincy",
        "rob",
        "robert",
        "shelby",
        "travis",
        "victor",
        "zac",
        "Reed",
        "Storm",
        "klatt",
        "klatt4",
        "grandpa",
        "Hugo",
        "announcer",
        "Denis",
        "benjamin",
        "Marco",
        "Diogo",
        "Henrique",
        "antonio",
        "gustave",
        "jacky",
        "kaukovalta",
        "marcelo",
        "miguel",
        "norbert",
        "pablo",
        "pedro",
        "sandro",
    ]
)
"""espeak-ng variants that speak, rather than whisper, croak or beep; without those of the unseen voices."""

assert not {voice.variant for voice in UNSEEN_VOICES} & set(VARIANTS), "an unseen voice is in training"


def random_voice(draw: random.Random, name: str) -> EspeakVoice:
    """A voice drawn at random."""
    return EspeakVoice(
        name=name,
        language=draw.choice(LANGUAGES),
        variant=draw.choice(VARIANTS),
        pitch=draw.randint(20, 80),
        pitch_range=draw.randint(20, 80),
        speed_wpm=draw.randint(130, 220),
    )


def _ninety() -> tuple[EspeakVoice, ...]:
    draw = random.Random(0)
    return tuple(random_voice(draw, f"varied-{number:02d}") for number in range(90))


VARIED_VOICES = _ninety()
"""Ninety of them, always the same: who learns from few voices listens badly to others."""
