"""The page of a fine-tuning: the safety report epoch by epoch, and the latest translations to hear."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sodakit.eval.report import Clip, Report
from sodakit.eval.translated import Heard
from sodakit.units import format_count, spread

HEARD_CASES = 6
EPOCH_COLUMNS = (
    "Epoch", "BLEU", "95 % interval", "chrF", "WER", "Voice: to source", "to others", "Length ratio", "Silence",
    "Failed", "Unended", "Loss on base tasks",
)  # fmt: skip


def write_epochs_report(
    path: Path, title: str, rows: Sequence[dict[str, Any]], latest: Sequence[Heard]
) -> None:
    """Write the page.

    Args:
        path: of the page.
        title: what is learnt.
        rows: of `epochs.jsonl`.
        latest: the validation pairs as the last of these epochs translates them.
    """
    best = max(rows, key=lambda row: (row["score"], row["chrf"]))
    report = Report(title, f"{len(latest)} validation pairs after each epoch; the best epoch is kept.")
    report.headline(
        "Best epoch", f"{best['epoch']:.0f}", f"BLEU {best['score']:.1f}, step {format_count(best['step'])}"
    )
    report.section("Safety report", _listeners(rows[-1]))
    report.table(EPOCH_COLUMNS, [_cells(row) for row in rows], "After each epoch")
    if len(rows) > 1:
        for name in rows[0]["base"]:
            points = [(row["epoch"], row["base"][name]) for row in rows]
            report.curves(f"Base task: {name}", {name: points}, x_label="epoch", y_label="nats per token")
    report.section("Hear it", f"After epoch {rows[-1]['epoch']:.0f}.")
    for r in spread(latest, HEARD_CASES):
        clips = [
            Clip(f"Source ({r.case.speaker})", r.case.source),
            Clip("Reference", r.case.spoken_reference),
        ]
        if r.made.spoken is not None and len(r.made.spoken.wave.samples_S):
            clips.append(Clip(f"Model: {r.made.text}", r.made.spoken.wave))
        report.audio_row(f"{r.case.source_text} → {r.case.reference}", clips)
    report.write(path)


def _listeners(row: dict[str, Any]) -> str:
    voices = row.get("speaker_judge")
    heard = f"Heard by {row['judge']['name']}" if row.get("judge") else ""
    return heard + (f"; voices by {voices['name']}." if voices else "")


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    s = row["scores"]["all"]
    bleu = s.get("asr_bleu", s["text_bleu"])
    voices = ("similarity", "similarity_to_others", "duration_ratio", "silence_share")
    return (
        f"{row['epoch']:.0f}",
        f"{bleu['value']:.1f}",
        f"{bleu['low']:.1f} – {bleu['high']:.1f}",
        f"{row['chrf']:.1f}",
        f"{s['wer']['value']:.0%}" if "wer" in s else "–",
        *(f"{s[name]['value']:.2f}" if s.get(name) else "–" for name in voices),
        s["num_failed"],
        s["num_unended"],
        ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in row["base"].items()) or "–",
    )
