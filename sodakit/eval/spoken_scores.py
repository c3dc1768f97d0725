"""Scores of what a model wrote or said: word errors, likeness of the voice, length; every failure counted and named.

All of it is computed from outputs on disk, so another judge or normaliser costs no generation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sodakit.audio.files import read_wave
from sodakit.audio.wave import Wave
from sodakit.errors import AudioError, ConfigError
from sodakit.eval.cases import Recording, VoiceCase, original_of
from sodakit.eval.hub import named
from sodakit.eval.judges import Judge, WritingJudge, within_limit
from sodakit.eval.normalisers import normaliser
from sodakit.eval.opinion import WORST, OpinionJudge
from sodakit.eval.outputs import Output
from sodakit.eval.results import Estimate, estimate, plain_estimate, provenance, ratio_estimate
from sodakit.eval.voiceprints import SpeakerJudge, equal_error_rate, similarity
from sodakit.eval.words import ItemErrors, align

MIN_SOUND_S = 0.05
"""Shorter sounds are empty: no recogniser hears a word in them."""


@dataclass(frozen=True)
class WordRates:
    """Word errors of a set under one normaliser, in each of the ways that protocols average."""

    micro: Estimate
    """All errors over all reference words; failed outputs are all deletions."""
    macro: Estimate
    """The mean of the items' rates; failed outputs count 1 (seed-tts-eval leaves them out)."""
    macro_without_failures: Estimate | None
    """As seed-tts-eval has it: failed outputs are not there at all. Flatters a model that fails on what is hard."""
    items: tuple[ItemErrors, ...]

    def plain(self) -> dict[str, Any]:
        """JSON-ready, without the items."""
        kinds = ("substitution", "deletion", "insertion")
        counts = {k: sum(s.kind == k for item in self.items for s in item.steps) for k in kinds}
        skipped = self.macro_without_failures
        return {
            "wer_micro": plain_estimate(self.micro),
            "wer_macro": plain_estimate(self.macro),
            "wer_macro_without_failures": None if skipped is None else plain_estimate(skipped),
            "errors": counts,
            "reference_words": sum(item.reference_words for item in self.items),
        }


def word_rates(
    references: Sequence[str],
    heard: Sequence[str | None],
    clusters: Sequence[str],
    normaliser_name: str,
    failed: Sequence[bool] | None = None,
) -> WordRates:
    """Word errors with intervals over clusters (speakers, prompts).

    Args:
        heard: None for a failed output.
        failed: outputs that were never there; default: those heard as None.
    Raises:
        ConfigError: not one word among the references.
    """
    written = normaliser(normaliser_name)
    items = tuple(align(said, text or "", written) for said, text in zip(references, heard, strict=True))
    words = np.array([item.reference_words for item in items], np.float64)
    if not words.sum():
        raise ConfigError(f"{len(items)} references without a single word; a word error rate needs some.")
    errors = np.array([item.errors for item in items], np.float64)
    absent = np.array([text is None for text in heard] if failed is None else failed, bool)
    rates = np.array([item.rate for item in items])
    kept = np.flatnonzero(~absent)
    return WordRates(
        # Words heard where the reference has none are errors too; such an item weighs nothing else.
        micro=ratio_estimate(errors, words, clusters),
        macro=estimate(rates, clusters),
        macro_without_failures=estimate(rates[kept], [clusters[int(n)] for n in kept]) if len(kept) else None,
        items=items,
    )


def transcription_result(
    settings: Mapping[str, Any],
    cases: Sequence[Recording],
    outputs: Sequence[Output],
    normaliser_name: str,
) -> dict[str, Any]:
    """The JSON result of what a model wrote: word errors, failures, and every item."""
    check_outputs(cases, outputs)
    heard = [None if output.failed else output.text for output in outputs]
    clusters = [case.speaker or case.id for case in cases]
    rates = word_rates([case.text for case in cases], heard, clusters, normaliser_name)
    return {
        **settings,
        "normaliser": normaliser_name,
        "versions": provenance(),
        "num_cases": len(cases),
        "scores": rates.plain() | ends(outputs),
        "failures": failures(outputs),
        "items": [
            _item(case.id, cluster, output, errors)
            for case, cluster, output, errors in zip(cases, clusters, outputs, rates.items, strict=True)
        ],
    }


def speech_result(
    settings: Mapping[str, Any],
    cases: Sequence[VoiceCase],
    outputs: Sequence[Output],
    judge: Judge,
    speakers: SpeakerJudge | None,
    normaliser_name: str,
    mos: OpinionJudge | None = None,
) -> dict[str, Any]:
    """The JSON result of what a model said: word errors, likeness and quality by judges, with the originals' beside."""
    check_outputs(cases, outputs)
    texts, clusters = [case.text for case in cases], [case.voice for case in cases]
    heard = heard_texts(judge, [output.wave for output in outputs])
    rates = word_rates(texts, heard, clusters, normaliser_name)
    originals = [original_of(case) for case in cases]
    scores = (
        rates.plain() | ends(outputs) | {"originals": _originals(judge, cases, originals, normaliser_name)}
    )
    alike: list[float | None] = [None] * len(cases)
    if speakers is not None:
        prompts = [_prompt(case) for case in cases]
        alike = likeness(speakers, [output.wave for output in outputs], prompts)
        scores["similarity"] = mean_estimate(alike, clusters, failed=0.0)
        scores["similarity_without_failures"] = mean_estimate(alike, clusters)
        scores["originals"] |= {"similarity": mean_estimate(likeness(speakers, originals, prompts), clusters)}
        scores["originals"] |= {"equal_error_rate": _own_error(speakers, cases, originals, prompts)}
    scores |= opinion_scores(mos, [output.wave for output in outputs], clusters, failed=WORST)
    scores["originals"] |= opinion_scores(mos, originals, clusters)
    return {
        **settings,
        "normaliser": normaliser_name,
        "judge": named(judge),
        "speaker_judge": None if speakers is None else named(speakers),
        "mos_judge": None if mos is None else named(mos),
        "versions": provenance(),
        "num_cases": len(cases),
        "scores": scores | {"duration_ratio": _length_ratio(outputs, originals, clusters)},
        "failures": failures(outputs),
        "items": [
            _item(case.id, cluster, output, errors)
            | ({} if speakers is None else {"similarity": value or 0.0})
            for case, cluster, output, errors, value in zip(
                cases, clusters, outputs, rates.items, alike, strict=True
            )
        ],
    }


# ------------------------------------------------------------------------------------------------- the parts


def check_outputs(cases: Sequence[Any], outputs: Sequence[Output]) -> None:
    """Refuse outputs of other cases.

    Raises:
        ConfigError: they are.
    """
    if [case.id for case in cases] != [output.id for output in outputs]:
        raise ConfigError(
            f"{len(outputs)} outputs for {len(cases)} cases, or others. Score with the list they were made from."
        )


def is_audible(wave: Wave | None) -> bool:
    """Whether there is a sound to listen to."""
    return wave is not None and wave.duration_s >= MIN_SOUND_S and bool(np.isfinite(wave.samples_S).all())


def heard_texts(judge: Judge, waves: Sequence[Wave | None]) -> list[str | None]:
    """What the judge hears in each sound; None where there is none.

    A normaliser may keep what others delete, so judges that write marks are asked for them.
    """
    there = within_limit(judge, [wave for wave in waves if wave is not None and is_audible(wave)])
    listen = judge.write if isinstance(judge, WritingJudge) else judge.transcribe
    texts = iter(listen(there) if there else [])
    return [next(texts) if is_audible(wave) else None for wave in waves]


def _originals(
    judge: Judge,
    cases: Sequence[VoiceCase],
    originals: Sequence[Wave | None],
    normaliser_name: str,
) -> dict[str, Any]:
    """The judge on people who say the same: what a perfect model would score."""
    there = [n for n, wave in enumerate(originals) if is_audible(wave)]
    if not there:
        return {"num_cases": 0, "wer_micro": None}
    heard = heard_texts(judge, [originals[n] for n in there])
    rates = word_rates(
        [cases[n].text for n in there], heard, [cases[n].voice for n in there], normaliser_name
    )
    return {"num_cases": len(there)} | rates.plain()


def _prompt(case: VoiceCase) -> Wave | None:
    try:
        return None if case.prompt is None else read_wave(case.prompt)
    except AudioError:
        return None


def likeness(
    speakers: SpeakerJudge, waves: Sequence[Wave | None], others: Sequence[Wave | None]
) -> list[float | None]:
    """How alike two voices are, pair by pair; None where one of the two is missing."""
    both = [n for n, pair in enumerate(zip(waves, others, strict=True)) if all(map(is_audible, pair))]
    found: list[float | None] = [None] * len(waves)
    if both:
        rows = [speakers.embed([w for n in both if (w := side[n]) is not None]) for side in (waves, others)]
        for n, value in zip(both, similarity(*rows).tolist(), strict=True):
            found[n] = value
    return found


def _own_error(
    speakers: SpeakerJudge,
    cases: Sequence[VoiceCase],
    originals: Sequence[Wave | None],
    prompts: Sequence[Wave | None],
) -> float | None:
    """The speaker judge's equal error rate: is the original by whom the prompt is?"""
    both = [n for n in range(len(cases)) if is_audible(originals[n]) and is_audible(prompts[n])]
    if not both:
        return None
    # The list does not name speakers: a prompt's folder does where sets have one for each, else each prompt is one.
    in_folders = len({cases[n].speaker for n in both}) > 1
    names = [cases[n].speaker if in_folders else cases[n].voice for n in both]
    once = {cases[n].voice: n for n in both}.values()  # prompts recur, and would be compared with themselves
    waves = [
        w
        for side, members in ((originals, both), (prompts, once))
        for n in members
        if (w := side[n]) is not None
    ]
    return equal_error_rate(speakers.embed(waves), names + [names[both.index(n)] for n in once])


def opinion_scores(
    mos: OpinionJudge | None,
    waves: Sequence[Wave | None],
    clusters: Sequence[str],
    failed: float | None = None,
) -> dict[str, Any]:
    """The mean of each of the judge's columns; nothing without a judge. Failed outputs count `failed`, or are left out."""
    there = [wave for wave in waves if wave is not None and is_audible(wave)]
    if mos is None or not there:
        return {}
    rated = iter(mos.rate(there))
    rows = [next(rated) if is_audible(wave) else None for wave in waves]
    columns = next(row for row in rows if row is not None)
    return {
        name: mean_estimate([None if row is None else row[name] for row in rows], clusters, failed)
        for name in columns
    }


def mean_estimate(
    values: Sequence[float | None], clusters: Sequence[str], failed: float | None = None
) -> dict[str, Any] | None:
    """Mean with its interval; failed outputs count `failed`, or are left out."""
    filled = [failed if value is None else value for value in values]
    kept = [n for n, value in enumerate(filled) if value is not None]
    if not kept or all(value is None for value in values):
        return None
    return plain_estimate(estimate([float(filled[n] or 0.0) for n in kept], [clusters[n] for n in kept]))


def _length_ratio(
    outputs: Sequence[Output], originals: Sequence[Wave | None], clusters: Sequence[str]
) -> dict[str, Any] | None:
    ratios = [
        output.wave.duration_s / original.duration_s
        if output.wave is not None and original is not None and is_audible(original)
        else None
        for output, original in zip(outputs, originals, strict=True)
    ]
    return mean_estimate(ratios, clusters)


def ends(outputs: Sequence[Output]) -> dict[str, Any]:
    """How many closed by themselves, and how many failed."""
    return {
        "ended_fraction": sum(output.ended for output in outputs) / len(outputs),
        "num_failed": sum(output.failed for output in outputs),
    }


def failures(outputs: Sequence[Output]) -> list[dict[str, str]]:
    """Every output that failed, with why."""
    return [{"id": o.id, "problem": o.problem or "empty"} for o in outputs if o.failed]


def _item(name: str, cluster: str, output: Output, errors: ItemErrors) -> dict[str, Any]:
    return {
        "id": name,
        "cluster": cluster,
        "reference": errors.reference,
        "heard": errors.hypothesis,
        "errors": errors.errors,
        "words": errors.reference_words,
        "ended": output.ended,
    }
