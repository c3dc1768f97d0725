"""Scores of what a model wrote or said: word errors, likeness of the voice, length; every failure counted and named.

All of it is computed from outputs on disk, so another judge or normaliser costs no generation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from sodakit.audio.files import read_wave
from sodakit.audio.wave import Wave
from sodakit.errors import AudioError, ConfigError
from sodakit.eval.cases import Recording, VoiceCase, original_of
from sodakit.eval.judges import Judge, WritingJudge
from sodakit.eval.normalisers import normaliser
from sodakit.eval.outputs import Output
from sodakit.eval.results import Estimate, estimate, plain_estimate, provenance
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
    absent = np.array([text is None for text in heard] if failed is None else failed, bool)
    rates = np.array([item.rate for item in items])
    kept = np.flatnonzero(~absent)
    return WordRates(
        micro=estimate(rates, clusters, weights=np.maximum(words, 1)),
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
    _check(cases, outputs)
    heard = [None if output.failed else output.text for output in outputs]
    clusters = [case.speaker or case.id for case in cases]
    rates = word_rates([case.text for case in cases], heard, clusters, normaliser_name)
    return {
        **settings,
        "normaliser": normaliser_name,
        "versions": provenance(),
        "num_cases": len(cases),
        "scores": rates.plain() | _ends(outputs),
        "failures": _failures(outputs),
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
) -> dict[str, Any]:
    """The JSON result of what a model said: word errors and likeness by judges, with the judges' own errors beside."""
    _check(cases, outputs)
    texts, clusters = [case.text for case in cases], [case.voice for case in cases]
    heard = _heard(judge, [output.wave for output in outputs])
    rates = word_rates(texts, heard, clusters, normaliser_name)
    originals = [original_of(case) for case in cases]
    scores = (
        rates.plain() | _ends(outputs) | {"originals": _originals(judge, cases, originals, normaliser_name)}
    )
    alike: list[float | None] = [None] * len(cases)
    if speakers is not None:
        prompts = [_prompt(case) for case in cases]
        alike = _alike(speakers, [output.wave for output in outputs], prompts)
        scores["similarity"] = _mean(alike, clusters, failed=0.0)
        scores["similarity_without_failures"] = _mean(alike, clusters)
        scores["originals"] |= {"similarity": _mean(_alike(speakers, originals, prompts), clusters)}
        scores["originals"] |= {"equal_error_rate": _own_error(speakers, cases, originals, prompts)}
    return {
        **settings,
        "normaliser": normaliser_name,
        "judge": _named(judge),
        "speaker_judge": None if speakers is None else _named(speakers),
        "versions": provenance(),
        "num_cases": len(cases),
        "scores": scores | {"duration_ratio": _length_ratio(outputs, originals, clusters)},
        "failures": _failures(outputs),
        "items": [
            _item(case.id, cluster, output, errors) | ({} if value is None else {"similarity": value})
            for case, cluster, output, errors, value in zip(
                cases, clusters, outputs, rates.items, alike, strict=True
            )
        ],
    }


def continuation_result(
    settings: Mapping[str, Any],
    cases: Sequence[Recording],
    outputs: Sequence[Output],
    judge: Judge,
    speakers: SpeakerJudge,
) -> dict[str, Any]:
    """The JSON result of what a model said after an opening: does the voice stay, are there words, do they repeat?

    `auto_bleu` is the share of an output's word pairs that occur in it more than once (Lakhotia et al. 2021):
    low is varied. `words_per_s` of the outputs stands beside that of the recordings.
    """
    _check(cases, outputs)
    prompt_s = float(settings["settings"]["prompt_s"])
    clusters = [case.speaker or case.id for case in cases]
    originals = [original_of(case) for case in cases]
    openings = [None if w is None else w.cut(0, prompt_s) for w in originals]
    endings = [None if w is None else w.cut(prompt_s, w.duration_s) for w in originals]
    heard = _heard(judge, [output.wave for output in outputs])
    alike = _alike(speakers, [output.wave for output in outputs], openings)
    texts = _heard(judge, endings)
    paces = [_pace(text, output.wave) for text, output in zip(heard, outputs, strict=True)]
    scores = {
        "similarity": _mean(alike, clusters, failed=0.0),
        "auto_bleu": _mean([_auto_bleu(text) for text in heard], clusters),
        "words_per_s": _mean(paces, clusters, failed=0.0),
        "originals": {
            "similarity": _mean(_alike(speakers, endings, openings), clusters),
            "auto_bleu": _mean([_auto_bleu(text) for text in texts], clusters),
            "words_per_s": _mean([_pace(t, w) for t, w in zip(texts, endings, strict=True)], clusters),
        },
    }
    return {
        **settings,
        "judge": _named(judge),
        "speaker_judge": _named(speakers),
        "versions": provenance(),
        "num_cases": len(cases),
        "scores": scores | _ends(outputs),
        "failures": _failures(outputs),
        "items": [
            {"id": case.id, "cluster": cluster, "heard": text or "", "similarity": value or 0.0}
            for case, cluster, text, value in zip(cases, clusters, heard, alike, strict=True)
        ],
    }


# ------------------------------------------------------------------------------------------------- the parts


def _check(cases: Sequence[Any], outputs: Sequence[Output]) -> None:
    if [case.id for case in cases] != [output.id for output in outputs]:
        raise ConfigError(
            f"{len(outputs)} outputs for {len(cases)} cases, or others. Score with the list they were made from."
        )


def _audible(wave: Wave | None) -> bool:
    return wave is not None and wave.duration_s >= MIN_SOUND_S and bool(np.isfinite(wave.samples_S).all())


def _heard(judge: Judge, waves: Sequence[Wave | None]) -> list[str | None]:
    """What the judge hears in each sound; None where there is none.

    Of a sound longer than Whisper hears at once, its first 30 s count, as in seed-tts-eval.
    """
    there = [wave for wave in waves if wave is not None and _audible(wave)]
    texts = iter(_listen(judge, there) if there else [])
    return [next(texts) if _audible(wave) else None for wave in waves]


def _listen(judge: Judge, waves: Sequence[Wave]) -> list[str]:
    if not isinstance(judge, WritingJudge):
        return judge.transcribe(waves)
    # A normaliser may keep what others delete, so judges that write marks are asked for them.
    longest_s = judge.limit_s or float("inf")
    return judge.write([wave if wave.duration_s <= longest_s else wave.cut(0, longest_s) for wave in waves])


def _originals(
    judge: Judge,
    cases: Sequence[VoiceCase],
    originals: Sequence[Wave | None],
    normaliser_name: str,
) -> dict[str, Any]:
    """The judge on people who say the same: what a perfect model would score."""
    there = [n for n, wave in enumerate(originals) if _audible(wave)]
    if not there:
        return {"num_cases": 0, "wer_micro": None}
    heard = _heard(judge, [originals[n] for n in there])
    rates = word_rates(
        [cases[n].text for n in there], heard, [cases[n].voice for n in there], normaliser_name
    )
    return {"num_cases": len(there)} | rates.plain()


def _prompt(case: VoiceCase) -> Wave | None:
    try:
        return None if case.prompt is None else read_wave(case.prompt)
    except AudioError:
        return None


def _alike(
    speakers: SpeakerJudge, waves: Sequence[Wave | None], others: Sequence[Wave | None]
) -> list[float | None]:
    both = [n for n, pair in enumerate(zip(waves, others, strict=True)) if all(map(_audible, pair))]
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
    both = [n for n in range(len(cases)) if _audible(originals[n]) and _audible(prompts[n])]
    waves = [w for side in (originals, prompts) for n in both if (w := side[n]) is not None]
    # The list does not name speakers; a prompt's folder does where sets have one folder for each.
    names = [str(p.parent) if (p := cases[n].prompt) else "" for n in both] * 2
    return equal_error_rate(speakers.embed(waves), names) if both else None


def _mean(
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
        if output.wave is not None and original is not None and _audible(original)
        else None
        for output, original in zip(outputs, originals, strict=True)
    ]
    return _mean(ratios, clusters)


def _pace(text: str | None, wave: Wave | None) -> float | None:
    return None if text is None or wave is None else len(text.split()) / wave.duration_s


def _auto_bleu(text: str | None) -> float | None:
    words = (text or "").split()
    pairs = list(pairwise(words))
    return None if not pairs else sum(pairs.count(pair) > 1 for pair in pairs) / len(pairs)


def _ends(outputs: Sequence[Output]) -> dict[str, Any]:
    return {
        "ended_fraction": sum(output.ended for output in outputs) / len(outputs),
        "num_failed": sum(output.failed for output in outputs),
    }


def _failures(outputs: Sequence[Output]) -> list[dict[str, str]]:
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


def _named(judge: Judge | SpeakerJudge) -> dict[str, str]:
    return {"name": judge.name, "fingerprint": judge.fingerprint}
