"""The baseline that needs no fine-tuning: the model's own transcript, a word-for-word table, speech in a default voice."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sodakit.audio.wave import Wave
from sodakit.eval.normalisers import normalise
from sodakit.eval.translated import PairCase
from sodakit.generate.speech_model import SpeechModel, Spoken
from sodakit.generate.translate import Translation

MODEL1_ROUNDS = 8


@dataclass(frozen=True)
class WordTable:
    """For each word of one language, the likeliest word of another."""

    words: dict[str, str]

    def translate(self, text: str) -> str:
        """Word for word, in the order of the source; an unknown word stays as it is."""
        return " ".join(self.words.get(word, word) for word in normalise(text).split())


def learn_table(pairs: Sequence[tuple[str, str]]) -> WordTable:
    """The table that parallel sentences teach: IBM model 1 (Brown et al. 1993), its likeliest entry for each word."""
    split = [(normalise(a).split(), normalise(b).split()) for a, b in pairs]
    table: dict[str, dict[str, float]] = defaultdict(dict)
    for source, target in split:
        for a in source:
            for b in target:
                table[a][b] = 1.0
    for _ in range(MODEL1_ROUNDS):
        counts: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for source, target in split:
            for b in target:
                total = sum(table[a][b] for a in source)
                for a in source:
                    counts[a][b] += table[a][b] / total
        for a, row in counts.items():
            whole = sum(row.values())
            table[a] = {b: count / whole for b, count in row.items()}
    return WordTable({a: max(sorted(row), key=row.__getitem__) for a, row in table.items()})


def cascade(
    model: SpeechModel,
    tables: dict[str, WordTable],
    cases: Sequence[PairCase],
    *,
    max_s: float = 8.0,
    seed: int = 0,
) -> list[Translation]:
    """What the model hears, word for word in the other language, spoken by the model in a voice of its choice.

    Args:
        model: one that transcribes the source language and speaks the target language.
        tables: by pair of languages, for example `es-en`.
    """
    heard = [h.text for h in model.transcribe_codes([case.codes_KF for case in cases])]
    texts = [tables[case.pair].translate(text) for case, text in zip(cases, heard, strict=True)]
    # A text without words cannot be spoken; the model would say anything. It is a speech without sound: not as in a task
    # that does not speak, which has no scores of speech.
    spec = model.codec.spec
    nothing = Spoken(
        Wave(np.zeros(0, np.float32), spec.sample_rate_hz),
        np.zeros((spec.num_codebooks, 0), np.uint16),
        False,
    )
    spoken = iter(model.speak_many([text for text in texts if text], max_s=max_s, seed=seed, as_drawn=True))
    made = []
    for case, source_text, text in zip(cases, heard, texts, strict=True):
        speech = next(spoken) if text else nothing
        made.append(
            Translation(case.source_language, source_text, case.target_language, text, speech, speech.ended)
        )
    return made
