"""A recogniser without any download: beside the model if the demo left one, else trained on the built-in voices."""

from collections.abc import Sequence
from pathlib import Path

from sodakit.eval.judges import CtcJudge, train_judge
from sodakit.eval.normalisers import normalise
from sodakit.log import say
from sodakit.voices.catalogue import SEEN_VOICES
from sodakit.voices.engines import Synthesizer

VOICES_PER_TEXT = 4
FEWEST_CLIPS = 400
"""Fewer texts are spoken by more voices, or more often."""


def default_judge(
    texts: Sequence[str], path: Path, *, beside: Path | None = None, speakers: Sequence[str] = ()
) -> CtcJudge:
    """The judge in `path`, or in the folder around the model, or a new one, which is then kept in `path`.

    A new one hears the built-in voices say the very sentences it will have to recognise, because it writes only words
    it was taught; none in the voice that it will be asked about. It knows such voices well and people badly: read its
    numbers beside its own on the originals.

    Args:
        beside: a model's folder.
        speakers: who says each of the texts when it counts, where that may be a built-in voice.
    """
    around = [] if beside is None else [beside, beside.parent]
    for kept in (path, *(folder / "judge.safetensors" for folder in around)):
        if kept.is_file() and not (judge := CtcJudge.load(kept)).unknown_words(texts):
            return judge
    sentences = sorted({text for text in texts if normalise(text)})
    asked_about = set(zip(texts, speakers or [""] * len(texts), strict=True))
    rounds = max(1, -(-FEWEST_CLIPS // (VOICES_PER_TEXT * len(sentences))))
    asked = []
    for number, text in enumerate(sentences):
        turned = SEEN_VOICES[number % len(SEEN_VOICES) :] + SEEN_VOICES[: number % len(SEEN_VOICES)]
        others = [voice for voice in turned if (text, voice.name) not in asked_about]
        asked += [(text, voice) for voice in (others or turned)[: VOICES_PER_TEXT * rounds]]
    say(f"No judge named: training a small one on {len(asked)} sentences by the built-in voices.")
    with Synthesizer() as synthesizer:
        spoken = list(synthesizer.speak_many(asked))  # while it runs
    waves, said = [speech.wave for speech in spoken], [text for text, _ in asked]
    judge = train_judge(waves, said, max_steps=None)
    path.parent.mkdir(parents=True, exist_ok=True)
    judge.save(path)
    return judge
