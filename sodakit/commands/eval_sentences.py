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
    """

    texts: Path
    """A text file (one sentence a line), JSON lines with `text`, or a store: its validation and test sentences."""
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
        from sodakit.eval.spoken_cases import SpokenCasesConfig, read_sentences, write_spoken_cases
        from sodakit.voices.names import find_voices

        voices = find_voices(self.voices)
        config = SpokenCasesConfig(count=self.count, max_s=self.max_s, seed=self.seed)
        count = write_spoken_cases(read_sentences(self.texts), self.out, config, voices)
        say(
            f"{self.out}: {count} sentences by {len(voices)} voices. Next: sodakit eval asr --data {self.out}"
        )
