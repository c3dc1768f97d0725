"""What a model said after an opening: does the voice stay, are the words likely, do they repeat, did it come to an end?

GenPPL is the perplexity of the judge's transcript under a language model of text (Lakhotia et al. 2021). It depends on
sampling, length, recogniser, text model, and on which text is judged, so a result names all five:

continuation  the words of the continuation given those of the opening; no token of the opening is counted
whole         opening and continuation as one sound, nothing given: as SlamKit has it

An output without words has no perplexity and is left out, and one that repeats itself has a low one: read it beside the
shares of empty, silent, unended and looping outputs, and beside the same scores of the recordings. A judge that writes
no capitals and marks, as the one without download, makes every text less likely.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from sodakit.audio.files import resample
from sodakit.audio.levels import is_silent
from sodakit.audio.wave import Wave
from sodakit.errors import ConfigError, nearest
from sodakit.eval.cases import Recording, original_of
from sodakit.eval.generation import ContinueConfig
from sodakit.eval.judges import Judge, heard_texts, is_audible
from sodakit.eval.named import named
from sodakit.eval.normalisers import normalise
from sodakit.eval.opinion import WORST, OpinionJudge
from sodakit.eval.outputs import Output
from sodakit.eval.results import estimate, plain_estimate, provenance
from sodakit.eval.spoken_scores import (
    check_outputs,
    ends,
    failures,
    likeness,
    mean_estimate,
    opinion_items,
    opinion_scores,
    opinions,
    spoken_errors,
)
from sodakit.eval.text_model import Likelihood, TextModel
from sodakit.eval.voiceprints import SpeakerJudge

Judged = Literal["continuation", "whole"]

LOOP_TIMES = 3
LOOP_WORDS = 6
"""An output loops where it says a phrase this often in a row, and the run is this many words long."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A published way to measure continuations."""

    config: ContinueConfig
    judged: Judged
    """Which text GenPPL and auto-BLEU are of."""


PROTOCOLS: dict[str, Protocol] = {
    "soda": Protocol(config=ContinueConfig(), judged="continuation"),
    "slamkit": Protocol(
        config=ContinueConfig(temperature=0.8, top_p=1.0, top_k=25, max_new_tokens=150), judged="whole"
    ),
}
"""By name. SlamKit's 150 tokens are at least 6 s of its units, and 1.5 s of eight codebooks at 12.5 Hz: for the same
time give seconds. It also divides the scores of ids already said by 1.1, which we do not, hears with
whisper-large-v3-turbo and reads with Llama-3.2-1B."""


def protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"No protocol {name!r} of continuations.{nearest(name, PROTOCOLS, 'Protocols')}")
    return PROTOCOLS[name]


def continuation_result(
    settings: Mapping[str, Any],
    cases: Sequence[Recording],
    outputs: Sequence[Output],
    judge: Judge,
    speakers: SpeakerJudge,
    text_model: TextModel | None = None,
    judged: Judged = "continuation",
    mos: OpinionJudge | None = None,
) -> dict[str, Any]:
    """The JSON result; what the recordings themselves go on with is scored alike, under `originals`.

    Args:
        text_model: whose perplexity; None for no GenPPL.
        judged: which text its perplexity and the repetition are of.
        mos: who judges quality; None for no such columns.
    """
    check_outputs(cases, outputs)
    prompt_s = float(settings["settings"]["prompt_s"])
    clusters = [case.speaker or case.id for case in cases]
    originals = [original_of(case) for case in cases]
    openings = [None if w is None else w.cut(0, prompt_s) for w in originals]
    endings = [None if w is None else w.cut(prompt_s, w.duration_s) for w in originals]
    given = [""] * len(cases)
    if judged == "continuation" and text_model is not None:
        given = [text or "" for text in heard_texts(judge, openings)]
    made, own = (
        _words(judge, text_model, openings, sounds, given, judged)
        for sounds in ([output.wave for output in outputs], endings)
    )
    alike = likeness(speakers, [output.wave for output in outputs], openings)
    rated = opinions(mos, [output.wave for output in outputs])
    return {
        **settings,
        "judged": judged,
        "judge": named(judge),
        "speaker_judge": named(speakers),
        "mos_judge": None if mos is None else named(mos),
        "text_model": None if text_model is None else named(text_model) | {"precision": "float32"},
        "versions": provenance(),
        "num_cases": len(cases),
        "scores": {
            **_word_scores(made, clusters, failed_pace=0.0),
            "similarity": mean_estimate(alike, clusters, failed=0.0),
            "similarity_without_failures": mean_estimate(alike, clusters),
            **_shares(outputs, made, clusters),
            **opinion_scores(rated, clusters, failed=WORST),
            "originals": _word_scores(own, clusters)
            | {"similarity": mean_estimate(likeness(speakers, endings, openings), clusters)}
            | _judged_originals(judge, cases, originals, clusters)
            | opinion_scores(opinions(mos, endings), clusters),
            **ends(outputs),
        },
        "failures": failures(outputs),
        "items": [
            {
                "id": case.id,
                "cluster": cluster,
                "prompt": prompt,
                "heard": words.heard or "",
                "similarity": value or 0.0,
                "ended": output.ended,
                "auto_bleu": auto_bleu(words.heard),
                "gen_nll": words.nats_per_token,
                "tokens": 0 if words.likelihood is None else words.likelihood.tokens,
            }
            | opinion
            for case, cluster, prompt, words, value, output, opinion in zip(
                cases, clusters, given, made, alike, outputs, opinion_items(rated), strict=True
            )
        ],
    }


def _judged_originals(
    judge: Judge, cases: Sequence[Recording], originals: Sequence[Wave | None], clusters: Sequence[str]
) -> dict[str, Any]:
    """The judge's own word errors on the whole recordings."""
    there = [n for n, wave in enumerate(originals) if is_audible(wave)]
    if not there:
        return {}
    texts, sources = [cases[n].text for n in there], [clusters[n] for n in there]
    errors = spoken_errors(judge, texts, [originals[n] for n in there], sources)
    return {"wer_micro": plain_estimate(errors.micro)}


# ------------------------------------------------------------------------------------------------- words


@dataclass(frozen=True)
class Words:
    """What the judge heard in one sound, and how likely that is."""

    heard: str | None
    """None where there is no sound."""
    duration_s: float
    likelihood: Likelihood | None
    """None where nobody was asked, or no token is counted."""

    @property
    def nats_per_token(self) -> float | None:
        """The mean over its tokens."""
        return None if self.likelihood is None else self.likelihood.nats / self.likelihood.tokens

    @property
    def per_s(self) -> float | None:
        """Words in a second."""
        return None if self.heard is None else len(self.heard.split()) / self.duration_s


def _words(
    judge: Judge,
    text_model: TextModel | None,
    openings: Sequence[Wave | None],
    sounds: Sequence[Wave | None],
    given: Sequence[str],
    judged: Judged,
) -> list[Words]:
    """What is heard in each sound, or in it and its opening as one, and how likely that is after what is given."""
    waves = list(sounds)
    if judged == "whole":
        waves = [_joined(*pair) for pair in zip(openings, sounds, strict=True)]
    heard = heard_texts(judge, waves)
    found: list[Likelihood | None] = [None] * len(heard)
    if text_model is not None:
        scored = text_model.likelihoods(given, [text or "" for text in heard])
        found = [likelihood if likelihood.tokens else None for likelihood in scored]
    return [
        Words(text, 0.0 if wave is None else wave.duration_s, likelihood)
        for text, wave, likelihood in zip(heard, waves, found, strict=True)
    ]


def _joined(opening: Wave | None, sound: Wave | None) -> Wave | None:
    """One after the other, at the rate of the second; None where there is no second."""
    if opening is None or sound is None or not is_audible(sound):
        return None
    first = resample(opening, sound.sample_rate_hz)
    return Wave(np.concatenate([first.samples_S, sound.samples_S]), sound.sample_rate_hz)


def _word_scores(
    words: Sequence[Words], clusters: Sequence[str], failed_pace: float | None = None
) -> dict[str, Any]:
    texts = [w.heard for w in words]
    return {
        "gen_ppl": perplexity([w.likelihood for w in words], clusters),
        "gen_ppl_macro": perplexity([w.likelihood for w in words], clusters, weighted=False),
        "auto_bleu": mean_estimate([auto_bleu(text) for text in texts], clusters),
        "auto_bleu_1_2": mean_estimate([auto_bleu_1_2(text) for text in texts], clusters),
        "words_per_s": mean_estimate([w.per_s for w in words], clusters, failed=failed_pace),
    }


def perplexity(
    found: Sequence[Likelihood | None], clusters: Sequence[str], *, weighted: bool = True
) -> dict[str, Any] | None:
    """exp of the mean negative log-probability, with its interval over clusters; None where nothing was counted.

    Args:
        weighted: all tokens weigh the same. Otherwise all texts do: SlamKit's mean of means.
    """
    kept = [(like, cluster) for like, cluster in zip(found, clusters, strict=True) if like and like.tokens]
    if not kept:
        return None
    nats = estimate(
        [like.nats / like.tokens for like, _ in kept],
        [cluster for _, cluster in kept],
        weights=[float(like.tokens) for like, _ in kept] if weighted else None,
    )
    # exp keeps order, so the quantiles of the mean are those of the perplexity.
    value, low, high = (math.exp(number) for number in (nats.value, nats.low, nats.high))
    return plain_estimate(replace(nats, value=value, low=low, high=high))


def auto_bleu(text: str | None) -> float | None:
    """The share of a text's word pairs that occur in it more than once, as SlamKit counts: low is varied.

    Of normalised words; None for a text without a pair.
    """
    return _repeated(normalise(text or "").split(), 2)


def auto_bleu_1_2(text: str | None) -> float | None:
    """The geometric mean over words and word pairs, as Lakhotia et al. 2021 have it: two pairs that share a word are
    not a repetition. None for a text without a pair."""
    words = normalise(text or "").split()
    shares = [_repeated(words, size, apart=size) for size in (1, 2)]
    return None if shares[1] is None else math.sqrt((shares[0] or 0.0) * shares[1])


def _repeated(words: Sequence[str], size: int, apart: int = 1) -> float | None:
    """The share of n-grams that begin again at least `apart` words before or after."""
    places: dict[tuple[str, ...], list[int]] = {}
    grams = [tuple(words[n : n + size]) for n in range(len(words) - size + 1)]
    for n, gram in enumerate(grams):
        places.setdefault(gram, []).append(n)
    again = sum(max(n - places[gram][0], places[gram][-1] - n) >= apart for n, gram in enumerate(grams))
    return again / len(grams) if grams else None


def is_looping(text: str | None) -> bool:
    """Whether a phrase is said over and over: `LOOP_TIMES` in a row, over `LOOP_WORDS` words or more."""
    words = normalise(text or "").split()
    for size in range(1, len(words) // LOOP_TIMES + 1):
        run = size  # words up to here that repeat with this period
        for n in range(size, len(words)):
            run = run + 1 if words[n] == words[n - size] else size
            if run >= max(LOOP_TIMES * size, LOOP_WORDS):
                return True
    return False


# ------------------------------------------------------------------------------------------------- shares


def _shares(
    outputs: Sequence[Output], words: Sequence[Words], clusters: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Of all outputs, those without a sound, those silent, cut off at the limit, and repeating themselves."""
    there = [output.problem is None and is_audible(output.wave) for output in outputs]
    kinds = {
        "empty": [not sound for sound in there],
        "silent": [
            sound and (o.wave is None or is_silent(o.wave)) for sound, o in zip(there, outputs, strict=True)
        ],
        "unended": [sound and not o.ended for sound, o in zip(there, outputs, strict=True)],
        "looping": [is_looping(w.heard) for w in words],
    }
    return {
        f"{kind}_fraction": plain_estimate(estimate(np.array(values, np.float64), clusters))
        for kind, values in kinds.items()
    }
