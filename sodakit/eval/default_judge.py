"""A recogniser without any download: beside the model if the demo left one, else trained on the built-in voices."""

from collections.abc import Sequence
from pathlib import Path

from sodakit.eval.judges import CtcJudge, train_judge
from sodakit.eval.normalisers import normalise
from sodakit.log import say
from sodakit.voices.catalogue import SEEN_VOICES
from sodakit.voices.espeak import Synthesizer

VOICES_PER_TEXT = 4
FEWEST_CLIPS = 400
"""Fewer texts are spoken by more voices, or more often."""


def default_judge(texts: Sequence[str], path: Path, *, beside: Path | None = None) -> CtcJudge:
    """The judge in `path`, or in the folder around the model, or a new one, which is then kept in `path`.

    A new one hears the built-in voices say the very sentences it will have to recognise, because it writes only words
    it was taught. It knows these voices well and people badly: read its numbers beside its own on the originals.
    """
    around = [] if beside is None else [beside, beside.parent]
    for kept in (path, *(folder / "judge.safetensors" for folder in around)):
        if kept.is_file() and not (judge := CtcJudge.load(kept)).unknown_words(texts):
            return judge
    sentences = sorted({text for text in texts if normalise(text)})
    rounds = max(1, -(-FEWEST_CLIPS // (VOICES_PER_TEXT * len(sentences))))
    asked = [
        (text, SEEN_VOICES[(number + turn) % len(SEEN_VOICES)])
        for number, text in enumerate(sentences)
        for turn in range(min(len(SEEN_VOICES), VOICES_PER_TEXT * rounds))
    ]
    say(f"No judge named: training a small one on {len(asked)} sentences by the built-in voices.")
    with Synthesizer() as synthesizer:
        spoken = list(synthesizer.speak_many(asked))  # while it runs
    judge = train_judge([speech.wave for speech in spoken], [text for text, _ in asked])
    path.parent.mkdir(parents=True, exist_ok=True)
    judge.save(path)
    return judge
