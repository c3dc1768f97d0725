"""Who speaks in training: the seen voices, and as many random ones; never the unseen."""

import random
from collections.abc import Iterator, Sequence

from sodakit.voices.catalogue import SEEN_VOICES, UNSEEN_VOICES
from sodakit.voices.contract import Voice
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


def speakers(seed: int, named: Sequence[Voice] = (), seen_fraction: float = 0.4) -> Iterator[Voice]:
    """An endless draw of voices: `seen_fraction` of them SEEN_VOICES, the others random; of the named alone where some are."""
    draw = random.Random(seed)
    number = 0
    while named:
        yield draw.choice(named)
    while True:
        number += 1
        if draw.random() < seen_fraction:
            yield draw.choice(SEEN_VOICES)
            continue
        yield EspeakVoice(
            name=f"random-{number}",
            language=draw.choice(LANGUAGES),
            variant=draw.choice(VARIANTS),
            pitch=draw.randint(20, 80),
            pitch_range=draw.randint(20, 80),
            speed_wpm=draw.randint(130, 220),
        )
