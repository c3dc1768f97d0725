"""Listening and speaking, measured: generate once, score with a judge that is not the model."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sodakit.audio.wave import Wave
from sodakit.eval.judges import Judge
from sodakit.eval.spoken_scores import spoken_errors
from sodakit.eval.words import WordErrors, normalise, word_errors
from sodakit.generate.defaults import SPEECH
from sodakit.generate.sampling import Sampling
from sodakit.generate.speech_model import SpeechModel, Spoken, VoiceSample


@dataclass(frozen=True)
class Case:
    """One recording with its transcript, held out."""

    id: str
    text: str
    speaker: str
    original: Wave = field(repr=False)
    codes_KF: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class SpeakingScores:
    """How well the model's speech is understood, and by whom."""

    spoken: list[Spoken]
    heard: WordErrors
    """The judge on the model's speech."""
    heard_codec: WordErrors
    """The judge on the originals after codec encoding and decoding: what the codec alone costs."""
    heard_original: WordErrors
    """The judge on the originals: what the judge itself costs."""
    judge: str

    @property
    def num_unended(self) -> int:
        """Outputs that ran into the length limit."""
        return sum(not s.ended for s in self.spoken)


def score_transcription(model: SpeechModel, cases: Sequence[Case]) -> WordErrors:
    """Word errors of the model's own transcripts, most likely token at each step."""
    heard = model.transcribe_codes([c.codes_KF for c in cases])
    clusters = [c.speaker or c.id for c in cases]
    return word_errors([c.text for c in cases], [h.text for h in heard], clusters)


def score_speaking(
    model: SpeechModel,
    cases: Sequence[Case],
    judge: Judge,
    *,
    voices: Sequence[VoiceSample | None] | None = None,
    sampling: Sampling = SPEECH,
    max_s: float = 8.0,
    seed: int = 0,
) -> SpeakingScores:
    """Speak every case's text and have the judge write down the speech, the codec's copy and the original."""
    texts = [c.text for c in cases]
    spoken = model.speak_many(texts, voices=voices, sampling=sampling, max_s=max_s, seed=seed, as_drawn=True)
    rate_hz = model.codec.spec.sample_rate_hz
    copies = [Wave(model.codec.decode(c.codes_KF), rate_hz) for c in cases]
    return SpeakingScores(
        spoken=spoken,
        heard=spoken_errors(judge, texts, [s.wave for s in spoken]),
        heard_codec=spoken_errors(judge, texts, copies),
        heard_original=spoken_errors(judge, texts, [c.original for c in cases]),
        judge=judge.name,
    )


def guess_errors(train_texts: Sequence[str], texts: Sequence[str]) -> WordErrors:
    """Word errors of always answering the commonest training transcript: what no listening at all achieves."""
    guess = Counter(normalise(t) for t in train_texts).most_common(1)[0][0]
    return word_errors(texts, [guess] * len(texts))
