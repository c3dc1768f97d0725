"""Scores of what a model wrote or said: word errors, likeness of the voice, length; every failure counted and named.

All of it is computed from outputs on disk, so another judge or normaliser costs no generation.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sodakit.audio.files import read_wave
from sodakit.audio.wave import Wave
from sodakit.errors import AudioError, ConfigError
from sodakit.eval.cases import Recording, VoiceCase, original_of
from sodakit.eval.judges import Judge, heard_texts, is_audible
from sodakit.eval.named import named
from sodakit.eval.opinion import WORST, OpinionJudge
from sodakit.eval.outputs import Output
from sodakit.eval.results import estimate, plain_estimate, provenance
from sodakit.eval.voiceprints import SpeakerJudge, equal_error_rate, similarity
from sodakit.eval.words import ItemErrors, WordErrors, word_errors


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
    errors = word_errors([case.text for case in cases], heard, clusters, normaliser_name)
    return {
        **settings,
        "normaliser": normaliser_name,
        "versions": provenance(),
        "num_cases": len(cases),
        "scores": errors.plain() | ends(outputs),
        "failures": failures(outputs),
        "items": [
            _item(case.id, cluster, output, item)
            for case, cluster, output, item in zip(cases, clusters, outputs, errors.items, strict=True)
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
    errors = spoken_errors(judge, texts, [output.wave for output in outputs], clusters, normaliser_name)
    originals = [original_of(case) for case in cases]
    scores = (
        errors.plain() | ends(outputs) | {"originals": _originals(judge, cases, originals, normaliser_name)}
    )
    alike: list[float | None] = [None] * len(cases)
    if speakers is not None:
        prompts = [_prompt(case) for case in cases]
        alike = likeness(speakers, [output.wave for output in outputs], prompts)
        scores["similarity"] = mean_estimate(alike, clusters, failed=0.0)
        scores["similarity_without_failures"] = mean_estimate(alike, clusters)
        scores["originals"] |= {"similarity": mean_estimate(likeness(speakers, originals, prompts), clusters)}
        scores["originals"] |= {"equal_error_rate": _own_error(speakers, cases, originals, prompts)}
    rated = opinions(mos, [output.wave for output in outputs])
    scores |= opinion_scores(rated, clusters, failed=WORST)
    scores["originals"] |= opinion_scores(opinions(mos, originals), clusters)
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
            _item(case.id, cluster, output, item)
            | ({} if speakers is None else {"similarity": value or 0.0})
            | opinion
            for case, cluster, output, item, value, opinion in zip(
                cases, clusters, outputs, errors.items, alike, opinion_items(rated), strict=True
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


def spoken_errors(
    judge: Judge,
    texts: Sequence[str],
    waves: Sequence[Wave | None],
    clusters: Sequence[str] | None = None,
    normaliser_name: str = "sodakit",
) -> WordErrors:
    """Word errors of what the judge hears in each sound; a sound that is none is all deletions."""
    return word_errors(texts, heard_texts(judge, waves), clusters, normaliser_name)


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
    texts, clusters = [cases[n].text for n in there], [cases[n].voice for n in there]
    errors = spoken_errors(judge, texts, [originals[n] for n in there], clusters, normaliser_name)
    return {"num_cases": len(there)} | errors.plain()


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


Opinions = Sequence[Mapping[str, float] | None]
"""What a judge of quality says of each sound; None of what is none."""


def opinions(mos: OpinionJudge | None, waves: Sequence[Wave | None]) -> Opinions:
    """What the judge says of each sound; None of all without a judge."""
    there = [wave for wave in waves if is_audible(wave)]
    if mos is None or not there:
        return [None] * len(waves)
    rated = iter(mos.rate(there))
    return [next(rated) if is_audible(wave) else None for wave in waves]


def opinion_scores(rated: Opinions, clusters: Sequence[str], failed: float | None = None) -> dict[str, Any]:
    """The mean of each column; nothing without a judge. Failed outputs count `failed`, or are left out."""
    return {
        name: mean_estimate([None if row is None else row[name] for row in rated], clusters, failed)
        for name in _columns(rated)
    }


def opinion_items(rated: Opinions) -> list[dict[str, float]]:
    """The columns of each item; a failed output has the worst of the scale, as in the mean."""
    return [{name: WORST if row is None else row[name] for name in _columns(rated)} for row in rated]


def _columns(rated: Opinions) -> list[str]:
    return list(next((row for row in rated if row is not None), ()))


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
