"""Listening and speaking, measured: generate once, score with a judge that is not the model."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sodakit.audio.wave import Wave
from sodakit.eval.judges import Judge, is_audible
from sodakit.eval.results import Estimate, estimate
from sodakit.eval.spoken_scores import likeness, spoken_errors
from sodakit.eval.voiceprints import SpeakerJudge, equal_error_rate
from sodakit.eval.words import WordErrors, normalise, word_errors
from sodakit.generate.defaults import SPEECH
from sodakit.generate.sampling import Sampling
from sodakit.generate.speech_model import SpeechModel, Spoken, VoiceSample
from sodakit.units import spread


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


@dataclass(frozen=True)
class SecondOpinion:
    """What another recogniser hears in some of the same sounds."""

    places: list[int]
    """Which of the cases."""
    heard: WordErrors
    heard_codec: WordErrors
    heard_original: WordErrors
    judge: str


@dataclass(frozen=True)
class VoiceScores:
    """How much a voice that was given is kept."""

    similarity: Estimate
    """Of the model's speech to the recording it was to imitate."""
    originals: Estimate
    """Of other recordings of the same speaker to it: what a perfect copy would have."""
    equal_error_rate: float | None
    """Of who compares, on the originals."""
    judge: str


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


def second_opinion(
    model: SpeechModel, cases: Sequence[Case], spoken: Sequence[Spoken], judge: Judge, most: int = 40
) -> SecondOpinion:
    """What another judge hears in at most `most` of the cases, spread over them: large ones take seconds a sentence."""
    places = spread(list(range(len(cases))), most)
    texts, rate_hz = [cases[n].text for n in places], model.codec.spec.sample_rate_hz
    copies = [Wave(model.codec.decode(cases[n].codes_KF), rate_hz) for n in places]
    return SecondOpinion(
        places,
        heard=spoken_errors(judge, texts, [spoken[n].wave for n in places]),
        heard_codec=spoken_errors(judge, texts, copies),
        heard_original=spoken_errors(judge, texts, [cases[n].original for n in places]),
        judge=judge.name,
    )


def score_voices(
    model: SpeechModel,
    cases: Sequence[Case],
    voices: Sequence[VoiceSample | None],
    judge: SpeakerJudge,
    *,
    most: int = 24,
    max_s: float = 8.0,
) -> VoiceScores | None:
    """How alike the model's speech is to the voices it is given, for at most `most` of the cases; None without voices."""
    places = spread([n for n, voice in enumerate(voices) if voice is not None], most)
    if not places:
        return None
    given = [voice for n in places if (voice := voices[n]) is not None]
    spoken = model.speak_many([cases[n].text for n in places], voices=given, max_s=max_s)
    prompts, originals = [voice.wave for voice in given], [cases[n].original for n in places]
    speakers = [cases[n].speaker or cases[n].id for n in places]
    alike = likeness(judge, [s.wave for s in spoken], prompts)
    own = likeness(judge, originals, prompts)
    heard = [(w, s) for w, s in zip(originals, speakers, strict=True) if is_audible(w)]
    return VoiceScores(
        # A failed output counts 0.
        estimate([value or 0.0 for value in alike], speakers),
        estimate([value or 0.0 for value in own], speakers),
        equal_error_rate(judge.embed([w for w, _ in heard]), [s for _, s in heard]) if heard else None,
        judge.name,
    )


def guess_errors(train_texts: Sequence[str], texts: Sequence[str]) -> WordErrors:
    """Word errors of always answering the commonest training transcript: what no listening at all achieves."""
    guess = Counter(normalise(t) for t in train_texts).most_common(1)[0][0]
    return word_errors(texts, [guess] * len(texts))
