"""`sodakit eval sentences`: held-out sentences in the built-in voices, to transcribe and to speak."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sodakit.bounds import Bounds, Positive
from sodakit.log import say


@dataclass(frozen=True, kw_only=True)
class Sentences:
    """Sentences in the built-in voices, as a folder that `eval asr` and `eval tts` read alike.

    Example: sodakit eval sentences --texts stores/mine --out bench/sentences
    Example: sodakit eval sentences --language es --out bench/sentences_es
    """

    texts: Path | None = None
    """A text file (one sentence a line), JSON lines with `text`, or a store: its validation and test sentences. Default:
    household sentences that are built in for en, es, de and fr."""
    language: str = "en"
    """ISO 639 code of the sentences. Of JSON lines and stores, those that name another language are left out."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for sounds, manifest.jsonl and meta.lst; an older one there is replaced."""
    voices: tuple[str, ...] = ("seen",)
    """Who speaks: seen (the ten that the shipped codec has heard), unseen (the four that nothing was trained on), all,
    or others: `sodakit voices` lists the names."""
    count: Annotated[int, Bounds(least=2)] = 120
    """Sentences."""
    max_s: Positive = 6.0
    """Leave out those that take longer to say."""
    seed: int = 0
    """Decides the order in which sentences are taken."""

    def run(self) -> None:
        from sodakit.eval.spoken_cases import (
            SpokenCasesConfig,
            household_sentences,
            read_sentences,
            write_spoken_cases,
        )
        from sodakit.voices.names import find_voices

        voices = [voice.in_language(self.language) for voice in find_voices(self.voices)]
        config = SpokenCasesConfig(count=self.count, max_s=self.max_s, seed=self.seed)
        if self.texts is None:
            sentences = household_sentences(self.language, self.count, self.seed)
        else:
            sentences = read_sentences(self.texts, self.language)
        count = write_spoken_cases(sentences, self.out, config, voices, self.language)
        next_step = f"sodakit eval asr --data {self.out} --language {self.language}"
        say(f"{self.out}: {count} sentences by {len(voices)} voices. Next: {next_step}")
