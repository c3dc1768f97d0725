"""Parallel sentences spoken by one synthetic voice in both languages: pairs for voice-preserving translation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sodakit.prepare.recording import Item
from sodakit.prepare.sources.voices import SOURCE, speak_lines
from sodakit.voices.espeak import Voice
from sodakit.voices.parallel import ESPEAK, ParallelText


@dataclass(frozen=True)
class Dialogue:
    """A sentence, the voice that says it in both languages, and the split it belongs to."""

    text: ParallelText
    voice: Voice
    source: str
    target: str
    split: str


def in_language(voice: Voice, language: str) -> Voice:
    """The same voice speaking another language: espeak-ng's variants keep their timbre across languages."""
    # An English voice keeps its own accent.
    if language == "en" and voice.language.startswith("en"):
        return voice
    return replace(voice, language=ESPEAK.get(language, language))


def speak_pairs(dialogues: Sequence[Dialogue]) -> Iterator[Item]:
    """Two items for each dialogue, the source first; `fields["split"]` names the split.

    Raises:
        MissingExtra: the package that brings espeak-ng is not installed.
    """
    lines = [
        (d.text.texts[lang], in_language(d.voice, lang)) for d in dialogues for lang in (d.source, d.target)
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
                source=SOURCE,
                licence="synthetic",
                fields={"split": dialogue.split},
            )
