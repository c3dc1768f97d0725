"""Recordings whose phones are known: their words found in time by whoever writes them down."""

from collections.abc import Sequence

from sodakit.align.named import aligner_of
from sodakit.eval.copies import SoundSet
from sodakit.eval.phones import Labelled, recorded_phones


def label_sets(sets: Sequence[SoundSet], language: str | None = None) -> tuple[list[Labelled], str]:
    """The recordings of all sets whose words were found, with their phones, and who found them.

    Sets without transcripts, or with a judge that tells no times, give none.

    Args:
        language: ISO 639 code of what is said; None: English.
    """
    found: list[Labelled] = []
    names = []
    for sounds in sets:
        aligner = aligner_of(sounds.judge)
        if aligner is None:
            continue
        texts = [recording.text or "" for recording in sounds.recordings]
        waves = [recording.wave for recording in sounds.recordings]
        words = aligner.align(waves, texts, [language or "en"] * len(texts))
        labelled = recorded_phones(sounds.recordings, words, language or "en")
        found += labelled
        names += [aligner.name] if labelled else []
    return found, ", ".join(dict.fromkeys(names))
