"""Who speaks in training: the seen voices, and as many random ones; never the unseen."""

import random
from collections.abc import Iterator, Sequence

from sodakit.voices.catalogue import SEEN_VOICES
from sodakit.voices.contract import Voice
from sodakit.voices.varied import random_voice


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
        yield random_voice(draw, f"random-{number}")
