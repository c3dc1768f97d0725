"""The page of a translation experiment: what was said, in whose voice, how well against what, and what it cost."""

from pathlib import Path
from typing import Any

from sodakit.eval.report import Clip, Report
from sodakit.eval.translated import Heard
from sodakit.files import read_json_lines
from sodakit.recipes.s2st_demo import CASCADE, FINETUNED, Experiment
from sodakit.units import format_duration

HEARD_CASES = 8
SYSTEM_COLUMNS = (
    "System", "Pair", "ASR-BLEU", "95 % interval", "chrF", "Text BLEU", "WER", "Voice: to source", "to others",
    "Length ratio", "Silence", "Failed", "Unended",
)  # fmt: skip


def write_s2st_report(experiment: Experiment, scores: dict[str, Any]) -> Path:
    """Write `report.html` into the experiment's folder."""
    config = experiment.config
    report = Report(
        "Speech to speech, in the same voice",
        f"{', '.join(config.sources)} to {config.target}; synthetic voices, unseen sentences",
    )
    _headlines(report, scores)
    report.section(
        "Scores",
        "Test sentences are in neither training set. The judge writes down the speech; BLEU and chrF see its words. "
        f"On the spoken references the judge itself reaches {scores['judge_on_spoken_references']['value']:.1f} BLEU.",
    )
    report.table(SYSTEM_COLUMNS, _system_rows(scores), "Systems by pair of languages")
    rows = [
        (n, f"{d['value']:+.1f}", f"{d['low']:+.1f} to {d['high']:+.1f}")
        for n, d in scores["differences"].items()
    ]
    report.table(
        ("Difference in ASR-BLEU", "Points", "95 % interval"), rows, "Paired over the test sentences"
    )
    _forgetting(report, scores)
    _epochs(report, experiment)
    report.section("Hear it", "Source, reference, and every system. Under each: what the model wrote.")
    for number in range(
        0, len(experiment.results[CASCADE]), max(1, len(experiment.results[CASCADE]) // HEARD_CASES)
    ):
        _row(report, {name: results[number] for name, results in experiment.results.items()})
    times = [(name, format_duration(seconds)) for name, seconds in scores["seconds"].items()]
    report.section("Time").table(("Stage", "Time"), times, "Stages")
    report.provenance(
        {
            "Judge": scores["judge"],
            "Judge of voices": scores["speaker_judge"],
            "Codec": f"{experiment.codec.spec.name} {experiment.codec.spec.fingerprint}",
            "Seed": config.seed,
        }
    )
    path = experiment.folder / "report.html"
    report.write(path)
    return path


def _headlines(report: Report, scores: dict[str, Any]) -> None:
    best, other = scores["systems"]["pretrained"]["all"], scores["differences"]["pretrained − scratch"]
    report.headline("ASR-BLEU", f"{best['asr_bleu']['value']:.1f}", f"{other['value']:+.1f} against scratch")
    gap = best.get("similarity_gap")
    if gap:
        report.headline(
            "Voice kept",
            f"{gap['value']:+.2f}",
            f"to the source, over other voices ({gap['low']:+.2f} to {gap['high']:+.2f})",
        )


def _system_rows(scores: dict[str, Any]) -> list[tuple[object, ...]]:
    return [
        (name, pair, *_cells(s)) for name, pairs in scores["systems"].items() for pair, s in pairs.items()
    ]


def _cells(s: dict[str, Any]) -> tuple[object, ...]:
    bleu = s["asr_bleu"]
    return (
        f"{bleu['value']:.1f}",
        f"{bleu['low']:.1f} – {bleu['high']:.1f}",
        f"{s['asr_chrf']['value']:.1f}",
        f"{s['text_bleu']['value']:.1f}",
        f"{s['wer']['value']:.1%}",
        *(
            _value(s[name])
            for name in ("similarity", "similarity_to_others", "duration_ratio", "silence_share")
        ),
        s["num_failed"],
        s["num_unended"],
    )


def _value(estimate: dict[str, Any] | None) -> str:
    return (
        "–"
        if estimate is None
        else f"{estimate['value']:.2f} ({estimate['low']:.2f} – {estimate['high']:.2f})"
    )


def _forgetting(report: Report, scores: dict[str, Any]) -> None:
    report.section(
        "What fine-tuning cost",
        "Word errors on held-out sentences of the pretraining data, before and after.",
    )
    rows = [
        (name, language, _errors(s["transcription"]), _errors(s["speaking"]), s["unended"], _errors(s["judge_on_originals"]))
        for name, languages in scores["base"].items()
        for language, s in languages.items()
    ]  # fmt: skip
    columns = (
        "Model",
        "Language",
        "Transcription, WER",
        "Speech, WER by the judge",
        "Unended",
        "Judge on originals",
    )
    report.table(columns, rows, "Listening and speaking")


def _errors(e: dict[str, Any]) -> str:
    return f"{e['wer']:.1%} ({e['low']:.1%} – {e['high']:.1%})"


def _epochs(report: Report, experiment: Experiment) -> None:
    report.section("Epoch by epoch", "On validation pairs. The epoch with the best score is kept.")
    rows = []
    for name in FINETUNED:
        for row in read_json_lines(experiment.finetuned(name) / "epochs.jsonl"):
            s = row["scores"]["all"]
            base = ", ".join(f"{n.replace('_', ' ')} {v:.3f}" for n, v in row["base"].items())
            rows.append((name, f"{row['epoch']:.0f}", f"{row['score']:.1f}", f"{row['chrf']:.1f}", f"{s['wer']['value']:.0%}",
                         _value(s["similarity"]), s["num_unended"], base))  # fmt: skip
    columns = ("Fine-tuning", "Epoch", "ASR-BLEU", "chrF", "WER", "Voice", "Unended", "Loss on base tasks")
    report.table(columns, rows, "Safety report")


def _row(report: Report, results: dict[str, Heard]) -> None:
    case = next(iter(results.values())).case
    clips = [
        Clip(f"Source, {case.source_language} ({case.speaker})", case.source),
        Clip("Reference", case.spoken_reference),
    ]
    for name, r in results.items():
        if r.made.spoken is not None and len(r.made.spoken.wave.samples_S):
            clips.append(Clip(f"{name}: {r.made.text}", r.made.spoken.wave))
    report.audio_row(f"{case.source_text} → {case.reference}", clips)
