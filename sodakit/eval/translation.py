"""Speech-to-speech translation, scored from a folder of outputs: ASR-BLEU, chrF, the voice, and the length.

The recogniser's transcripts are what BLEU and chrF see, so its own score on the spoken references stands beside.
sacreBLEU computes both, lower-cased and without marks on both sides, as ASR-BLEU is (Jia et al. 2019).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sodakit.audio.files import read_wave
from sodakit.audio.wave import Wave
from sodakit.errors import AudioError, ConfigError
from sodakit.eval.corpus_scores import NAMES, CorpusMetric, Name, corpus_difference, corpus_score
from sodakit.eval.judges import Judge, heard_texts, is_audible
from sodakit.eval.normalisers import normaliser
from sodakit.eval.opinion import WORST, OpinionJudge
from sodakit.eval.results import Difference, check_comparable, plain_estimate, provenance
from sodakit.eval.spoken_scores import likeness, mean_estimate, opinion_items, opinion_scores, opinions
from sodakit.eval.voiceprints import SpeakerJudge
from sodakit.eval.words import word_errors
from sodakit.files import digest, not_a_file, read_json_lines


@dataclass(frozen=True, kw_only=True)
class TranslationCase:
    """One translated recording."""

    id: str
    reference: str
    """What should be said."""
    output: Path | None
    """What the model said; None or unreadable is a failure."""
    source: Path | None = None
    """The recording it translates."""
    spoken_reference: Path | None = None
    """The reference spoken, where there is such a recording."""


def read_translation_cases(path: Path | str) -> list[TranslationCase]:
    """The cases of a JSON-lines file: `id`, `reference`, `output`, and where known `source`, `spoken_reference`.

    Raises:
        ConfigError: no such file, a line that is no JSON object, a row without what is needed, or an id that stands twice.
    """
    path = Path(path)
    if why := not_a_file(path):
        raise ConfigError(f"{path} {why}. Needed: JSON lines with id, reference and output.")
    cases: dict[str, TranslationCase] = {}
    for number, row in enumerate(read_json_lines(path, ours=False), start=1):
        case = _case(path, number, row)
        if case.id in cases:
            raise ConfigError(f"{path}, row {number}, names {case.id} again; needed: an id for each row.")
        cases[case.id] = case
    return list(cases.values())


def _case(path: Path, number: int, row: Mapping[str, Any]) -> TranslationCase:
    texts = {name: row.get(name) for name in ("reference", "output", "source", "spoken_reference")}
    # A number is an id like any other.
    if row.get("id") in (None, "") or not str(row.get("reference") or "").strip():
        raise ConfigError(f"{path}, row {number}: needed are `id` and `reference`; it has {', '.join(row)}.")
    for name, value in texts.items():
        if not isinstance(value, str | None):
            raise ConfigError(f"{path}, row {number}: `{name}` is {value!r:.40}; needed: text.")
    files = {name: path.parent / value for name, value in texts.items() if value and name != "reference"}
    return TranslationCase(id=str(row["id"]), reference=row["reference"], **({"output": None} | files))


def translation_result(
    cases: Sequence[TranslationCase],
    judge: Judge,
    speakers: SpeakerJudge | None = None,
    *,
    normaliser_name: str = "sodakit",
    mos: OpinionJudge | None = None,
) -> dict[str, Any]:
    """The JSON result: ASR-BLEU and chrF in points of 100, similarity of voice to the source, and the length ratio.

    Failed outputs are empty translations. Intervals resample cases; a corpus score is computed anew for each draw.

    Raises:
        ConfigError: there are no cases.
        MissingExtra: sacrebleu is not installed.
    """
    if not cases:
        raise ConfigError("No translations to score; needed: at least one.")
    written = normaliser(normaliser_name)
    outputs = [_read(case.output) for case in cases]
    sources = [_read(case.source) for case in cases]
    spoken = [_read(case.spoken_reference) for case in cases]
    heard = [written(text or "") for text in heard_texts(judge, outputs)]
    references = [written(case.reference) for case in cases]
    scores: dict[str, Any] = {name: plain_estimate(corpus_score(name, heard, references)) for name in NAMES}
    clusters = [case.id for case in cases]
    # Both are normalised already. To the reference, not to all that would be right: a strict measure of a translation.
    errors = word_errors(references, heard, clusters, "none", [wave is None for wave in outputs])
    scores |= errors.plain()
    voices: list[float | None] = [None] * len(cases)
    if speakers is not None:
        alike = likeness(speakers, outputs, sources)
        # A failed output counts 0 in a paired test, as it does in `similarity`.
        voices = [None if source is None else v or 0.0 for v, source in zip(alike, sources, strict=True)]
        translated = [n for n, source in enumerate(sources) if source is not None]
        for name, failed in (("similarity", 0.0), ("similarity_without_failures", None)):
            kept = [alike[n] for n in translated]
            scores[name] = mean_estimate(kept, [clusters[n] for n in translated], failed=failed)
    ratios = [a.duration_s / b.duration_s if a and b else None for a, b in zip(outputs, sources, strict=True)]
    scores["duration_ratio"] = mean_estimate(ratios, clusters)
    rated = opinions(mos, outputs)
    scores |= opinion_scores(rated, clusters, failed=WORST)
    there = [n for n, wave in enumerate(spoken) if wave is not None]
    if there:
        own = [written(text or "") for text in heard_texts(judge, [spoken[n] for n in there])]
        asked = [references[n] for n in there]
        scores["originals"] = {name: plain_estimate(corpus_score(name, own, asked)) for name in NAMES}
        scores["originals"] |= word_errors(asked, own, [clusters[n] for n in there], "none").plain()
        scores["originals"] |= opinion_scores(opinions(mos, spoken), clusters)
    return {
        "task": "s2st",
        "data_digest": digest(*(part for case in cases for part in _given(case))),
        "outputs_digest": digest(*(_bytes(case.output) for case in cases)),
        "normaliser": normaliser_name,
        "judge": {"name": judge.name, "fingerprint": judge.fingerprint},
        "speaker_judge": speakers and {"name": speakers.name, "fingerprint": speakers.fingerprint},
        "mos_judge": mos and {"name": mos.name, "fingerprint": mos.fingerprint},
        "signatures": {name: CorpusMetric(name).signature for name in NAMES},
        "versions": provenance(),
        "num_cases": len(cases),
        "scores": scores,
        "failures": [
            {"id": case.id, "problem": "empty, missing or unreadable"}
            for case, wave in zip(cases, outputs, strict=True)
            if wave is None
        ],
        "items": [
            {"id": case.id, "cluster": case.id, "reference": reference, "heard": text, "similarity": voice}
            | {"errors": item.errors, "words": item.reference_words}
            | opinion
            for case, reference, text, voice, item, opinion in zip(
                cases, references, heard, voices, errors.items, opinion_items(rated), strict=True
            )
        ],
    }


def _given(case: TranslationCase) -> list[bytes | str]:
    return [case.id, case.reference, _bytes(case.source), _bytes(case.spoken_reference)]


def _bytes(path: Path | None) -> bytes:
    return path.read_bytes() if path is not None and not_a_file(path) is None else b""


def _read(path: Path | None) -> Wave | None:
    try:
        wave = None if path is None else read_wave(path)
    except AudioError:
        return None
    return wave if is_audible(wave) else None


def compare_translations(
    first: Mapping[str, Any], second: Mapping[str, Any], name: Name, *, seed: int = 0
) -> Difference:
    """The paired difference of two s2st results in `asr_bleu` or `chrf`, in points.

    Raises:
        ConfigError: other data or judges, or other cases.
    """
    check_comparable(first, second)
    cases = [[(item["id"], item["reference"]) for item in result["items"]] for result in (first, second)]
    if cases[0] != cases[1]:
        raise ConfigError("The two results are of other cases. Translate and score the same recordings.")
    own, other = ([item["heard"] for item in result["items"]] for result in (first, second))
    return corpus_difference(name, own, other, [reference for _, reference in cases[0]], seed)
