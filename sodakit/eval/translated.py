"""Translations that a model has just made, scored in all the ways they fail, by pair of languages.

`translation.py` scores any system from a folder of sounds; this file also sees the model's texts, its unended outputs
and other people's voices, and compares two systems on the same sentences.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sodakit.audio.files import write_wave
from sodakit.audio.levels import silence_share
from sodakit.audio.wave import Wave
from sodakit.eval.corpus_scores import corpus_difference, corpus_score
from sodakit.eval.judges import Judge, heard_texts, is_audible
from sodakit.eval.normalisers import normalise
from sodakit.eval.results import Estimate, plain_estimate
from sodakit.eval.spoken_scores import mean_estimate
from sodakit.eval.voiceprints import SpeakerJudge
from sodakit.eval.words import word_errors
from sodakit.files import write_json_lines
from sodakit.generate.translate import Translation


@dataclass(frozen=True, kw_only=True)
class PairCase:
    """A recording to translate, held out."""

    id: str
    source_language: str
    target_language: str
    source_text: str
    reference: str
    """What the translation should say."""
    speaker: str
    source: Wave = field(repr=False)
    """As the model hears it: the codec's copy."""
    codes_KF: np.ndarray = field(repr=False)
    spoken_reference: Wave = field(repr=False)
    """The reference spoken, through the codec as well."""

    @property
    def pair(self) -> str:
        """For example `es-en`."""
        return f"{self.source_language}-{self.target_language}"


@dataclass(frozen=True)
class Heard:
    """One translation and everything measured on it alone."""

    case: PairCase
    made: Translation
    heard: str
    """By the judge, normalised; '' where there is no sound."""
    similarity: float | None
    """To the source's voice; None where there is no sound, or nobody measured."""
    similarity_to_others: float | None
    """Mean to the other speakers of the same language."""
    duration_ratio: float | None
    silence_share: float | None

    @property
    def failed(self) -> bool:
        """Whether there is no sound at all; where the task writes text alone, no text."""
        return not (self.made.text.strip() if self.made.spoken is None else _sounds(self.made))


def listen_to(
    cases: Sequence[PairCase],
    made: Sequence[Translation],
    judge: Judge,
    speakers: SpeakerJudge | None = None,
) -> list[Heard]:
    """Everything measured on each translation. Texts without sound (speech to text) are not listened to."""
    heard = [
        normalise(text or "")
        for text in heard_texts(judge, [None if m.spoken is None else m.spoken.wave for m in made])
    ]
    alike = _similarities(cases, made, speakers)
    return [
        Heard(
            case,
            m,
            text,
            *voices,
            _ratio(m.spoken.wave, case.source) if m.spoken is not None and _sounds(m) else None,
            silence_share(m.spoken.wave) if m.spoken is not None and _sounds(m) else None,
        )
        for case, m, text, voices in zip(cases, made, heard, alike, strict=True)
    ]


def scores_of(results: Sequence[Heard]) -> dict[str, Any]:
    """The scores of all cases under `all`, and of each pair of languages under its name; estimates with intervals.

    BLEU and chrF in points of 100. Outputs without sound count as empty translations in `asr_bleu`, `asr_chrf` and
    `wer`; voices, lengths and silence are means over those with sound.
    """
    pairs = sorted({r.case.pair for r in results})
    groups = {"all": list(results)} | {p: [r for r in results if r.case.pair == p] for p in pairs}
    return {name: _scores(group) for name, group in groups.items()}


def _scores(results: Sequence[Heard]) -> dict[str, Any]:
    references = [normalise(r.case.reference) for r in results]
    written = [normalise(r.made.text) for r in results]
    scores: dict[str, Any] = {
        "num_cases": len(results),
        "num_failed": sum(r.failed for r in results),
        "num_unended": sum(not r.made.ended for r in results),
        "text_bleu": plain_estimate(corpus_score("asr_bleu", written, references)),
        "text_chrf": plain_estimate(corpus_score("chrf", written, references)),
    }
    if any(r.made.spoken is not None for r in results):
        heard = [r.heard for r in results]
        errors = word_errors(references, heard)
        scores |= {
            "asr_bleu": plain_estimate(corpus_score("asr_bleu", heard, references)),
            "asr_chrf": plain_estimate(corpus_score("chrf", heard, references)),
            "wer": plain_estimate(errors.micro),
        }
        for name in ("similarity", "similarity_to_others", "duration_ratio", "silence_share"):
            scores[name] = mean_estimate([getattr(r, name) for r in results], [r.case.id for r in results])
        scores["similarity_gap"] = mean_estimate(
            [None if r.similarity is None or r.similarity_to_others is None
             else r.similarity - r.similarity_to_others for r in results],
            [r.case.id for r in results],
        )  # fmt: skip
    return scores


def bleu_difference(
    first: Sequence[Heard], second: Sequence[Heard], *, text: Callable[[Heard], str] = lambda r: r.heard
) -> Estimate:
    """Corpus BLEU of the first minus that of the second on the same cases; each draw resamples both alike.

    Raises:
        MissingExtra: sacrebleu is not installed.
    """
    if [r.case.id for r in first] != [r.case.id for r in second]:
        raise ValueError("The two systems translated different cases.")
    references = [normalise(r.case.reference) for r in first]
    own, other = ([normalise(text(r)) for r in results] for results in (first, second))
    return corpus_difference("asr_bleu", own, other, references).value


def write_outputs(results: Sequence[Heard], folder: Path) -> None:
    """The sounds, and `cases.jsonl` with what was said and heard, in the layout that `read_translation_cases` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, r in enumerate(results):
        row: dict[str, Any] = {
            "id": r.case.id,
            "pair": r.case.pair,
            "speaker": r.case.speaker,
            "source_text": r.case.source_text,
            "reference": r.case.reference,
            "model_heard": r.made.source_text,
            "model_wrote": r.made.text,
            "judge_heard": r.heard,
            "ended": r.made.ended,
            "similarity": r.similarity,
        }
        waves = {"source": r.case.source, "spoken_reference": r.case.spoken_reference}
        if r.made.spoken is not None and _sounds(r.made):
            waves["output"] = r.made.spoken.wave
        for name, wave in waves.items():
            write_wave(folder / f"{number:04d}_{name}.wav", wave)
            row[name] = f"{number:04d}_{name}.wav"
        rows.append(row)
    write_json_lines(folder / "cases.jsonl", rows)


def _sounds(made: Translation) -> bool:
    return made.spoken is not None and is_audible(made.spoken.wave)


def _ratio(made: Wave, source: Wave) -> float | None:
    return made.duration_s / source.duration_s if source.duration_s else None


def _similarities(
    cases: Sequence[PairCase], made: Sequence[Translation], speakers: SpeakerJudge | None
) -> list[tuple[float | None, float | None]]:
    if speakers is None or not any(_sounds(m) for m in made):
        return [(None, None)] * len(made)
    sources = speakers.embed([case.source for case in cases])
    found: list[tuple[float | None, float | None]] = []
    for number, (case, m) in enumerate(zip(cases, made, strict=True)):
        if m.spoken is None or not _sounds(m):
            found.append((None, None))
            continue
        alike = sources @ speakers.embed([m.spoken.wave])[0]
        others = [
            alike[n]
            for n, other in enumerate(cases)
            if other.speaker != case.speaker and other.source_language == case.source_language
        ]
        found.append((float(alike[number]), float(np.mean(others)) if others else None))
    return found
