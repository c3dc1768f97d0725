"""Parallel sentences spoken by one voice in both languages: pairs for voice-preserving translation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sodakit.prepare.recording import Item
from sodakit.prepare.sources.voices import speak_lines
from sodakit.voices.contract import Voice
from sodakit.voices.parallel import ParallelText


@dataclass(frozen=True)
class Dialogue:
    """A sentence, the voice that says it in both languages, and the split it belongs to."""

    text: ParallelText
    voice: Voice
    source: str
    target: str
    split: str


def speak_pairs(dialogues: Sequence[Dialogue]) -> Iterator[Item]:
    """Two items for each dialogue, the source first; `fields["split"]` names the split.

    Raises:
        MissingExtra: what a voice's engine needs is not installed.
        ConfigError: a voice does not speak one of the languages.
    """
    lines = [
        (d.text.texts[lang], d.voice.in_language(lang)) for d in dialogues for lang in (d.source, d.target)
    ]
    spoken = speak_lines(lines)
    for number, dialogue in enumerate(dialogues):
        recording = f"{dialogue.split}-{number:05d}-{dialogue.source}-{dialogue.target}-{dialogue.voice.name}"
        for side, language in (("source", dialogue.source), ("target", dialogue.target)):
            yield Item(
                id=f"{recording}/{side}",
                recording=recording,
                wave=next(spoken).wave,
                text=dialogue.text.texts[language],
                speaker=dialogue.voice.name,
                language=language,
                source=dialogue.voice.engine,
                licence=dialogue.voice.licence,
                fields={"split": dialogue.split},
            )
