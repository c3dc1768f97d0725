"""Speech made on the spot: sentences spoken by synthetic voices, as items with the sound in memory."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from sodakit.prepare.recording import Item
from sodakit.voices.contract import Speech, Voice
from sodakit.voices.engines import Synthesizer

SYNTHESIZERS = 2
"""Processes that speak at once; the sound is the same for any number."""


@dataclass(frozen=True)
class Reading:
    """Sentences read by one voice in one sitting: they become one recording, so one document."""

    voice: Voice
    sentences: tuple[str, ...]
    split: str
    language: str = "en"
    """ISO 639 code of the sentences."""


def speak_readings(readings: Sequence[Reading]) -> Iterator[Item]:
    """The items of each reading, in order; `fields["split"]` names the split.

    Raises:
        MissingExtra: what a voice's engine needs is not installed.
    """
    spoken = speak_lines(
        [(sentence, reading.voice) for reading in readings for sentence in reading.sentences]
    )
    for number, reading in enumerate(readings):
        recording = f"{reading.split}-{number:05d}-{reading.voice.name}"
        for place, sentence in enumerate(reading.sentences):
            yield Item(
                id=f"{recording}-{place}",
                recording=recording,
                wave=next(spoken).wave,
                text=sentence,
                speaker=reading.voice.name,
                language=reading.language,
                source=reading.voice.engine,
                licence=reading.voice.licence,
                fields={"split": reading.split},
            )


def speak_lines(lines: list[tuple[str, Voice]]) -> Iterator[Speech]:
    """Each text in its voice, in order, by several processes."""
    with ExitStack() as stack:
        yield from _in_turns([stack.enter_context(Synthesizer()) for _ in range(SYNTHESIZERS)], lines)


def _in_turns(synthesizers: list[Synthesizer], lines: list[tuple[str, Voice]]) -> Iterator[Speech]:
    # While one answer is read, the other processes speak theirs.
    count = len(synthesizers)
    streams = [s.speak_many(lines[place::count]) for place, s in enumerate(synthesizers)]
    for number in range(len(lines)):
        yield next(streams[number % count])
