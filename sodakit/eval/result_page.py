"""Results as one HTML page: every score with its interval, and the sound of the worst and of typical items."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sodakit.eval.expected import Check
from sodakit.eval.heard import Sources
from sodakit.eval.outputs import Output, read_outputs
from sodakit.eval.report import Clip, Facts, Report
from sodakit.eval.results import estimates
from sodakit.eval.words import ItemErrors, align

HEARD = 4
"""Items with sound of each kind: the worst, and those around the median."""
HEARD_OF_A_PART = 1
"""The same of each part, where a benchmark has several."""
NO_SOURCES = Sources()
_NO_FACTS = {
    "scores", "items", "questions", "failures", "nll", "kinds", "utterances", "shards", "recordings",
}  # fmt: skip
"""What of a result is no setting, fingerprint or version."""
_TITLES = {
    "asr": "Transcription",
    "tts": "Speech",
    "continuation": "Continuation",
    "s2st": "Speech translation",
    "nll": "Likelihood",
    "text": "Text benchmarks",
}


def result_page(
    results: Sequence[Mapping[str, Any]],
    outputs: Sequence[Path | None],
    title: str,
    checks: Sequence[Check] = (),
    sources: Sources = NO_SOURCES,
) -> Report:
    """The page of some results.

    Args:
        outputs: of each, the folder with what the model wrote or said, where there is one.
        checks: published scores beside ours.
        sources: recordings that were transcribed and pairs that were compared, to be heard.
    """
    report = Report(title, f"{len(results)} results")
    for result, folder in zip(results, outputs, strict=True):
        name = result["task"]
        report.section(_TITLES.get(name, name))
        report.table(("Score", "Value", "95 % interval", "Items"), _rows(result), _caption(result))
        if result.get("failures"):
            failed = [(failure["id"], failure["problem"]) for failure in result["failures"]]
            report.table(("Item", "Problem"), failed, "Outputs that failed; each counts as an error")
        if folder is not None and "items" in result:
            _items(report, result, read_outputs(folder), sources)
        if "questions" in result and sources.pairs:
            _pairs(report, result, sources)
    if checks:
        rows = [
            (
                c.column,
                c.published,
                c.ours,
                f"{c.low:.3g} – {c.high:.3g}",
                c.tolerance,
                "yes" if c.agrees else "no",
            )
            for c in checks
        ]
        columns = ("Score", "Published", "Ours", "95 % interval", "Tolerance", "Agrees")
        report.section("Published scores").table(columns, rows, "The same model as its authors scored it")
    for result in results:
        report.section(f"Provenance: {result['task']}").add(Facts(_facts(result)))
    return report


def _rows(result: Mapping[str, Any]) -> list[tuple[object, ...]]:
    if result["task"] == "text":
        return [
            (f"{task}: {metric}", f"{value:.1%}", f"± {1.96 * values.get(f'{metric}_stderr', 0):.1%}", "–")
            for task, values in result["scores"].items()
            for metric, value in values.items()
            if not metric.endswith("_stderr")
        ]
    show = _points if result["task"] == "s2st" or "nll" in result else _percent
    return [
        (
            name,
            show(name, value["value"]),
            f"{show(name, value['low'])} – {show(name, value['high'])}",
            value["num_items"],
        )
        for name, value in estimates(result).items()
    ]


def _percent(name: str, value: float) -> str:
    if "ppl" in name:
        return f"{value:,.1f}"
    alone = any(word in name for word in ("similarity", "ratio", "per_s"))
    return f"{value:.3f}" if alone else f"{value:.1%}"


def _points(name: str, value: float) -> str:
    return f"{value:.2f}"


def _caption(result: Mapping[str, Any]) -> str:
    judge = result.get("judge")
    heard_by = f"; heard by {judge['name']}, whose own errors are the lines originals/…" if judge else ""
    speaker = result.get("speaker_judge")
    own = (result.get("scores") or {}).get("originals", {}).get("equal_error_rate") if speaker else None
    voices = f"; voices by {speaker['name']}" if speaker else ""
    voices += f" (equal error rate on the originals {own:.0%})" if own is not None else ""
    normaliser = f"; normaliser {result['normaliser']}" if "normaliser" in result else ""
    return f"{_TITLES.get(result['task'], result['task'])}{normaliser}{heard_by}{voices}{_read_by(result)}"


def _read_by(result: Mapping[str, Any]) -> str:
    """Who found the words of continuations likely, and which words."""
    if "judged" not in result:
        return ""
    model = result["text_model"]
    what = (
        "continuation given the opening" if result["judged"] == "continuation" else "opening and continuation"
    )
    return f"; words of {what}, GenPPL by {model['name']}" if model else "; no text model named, so no GenPPL"


def _items(report: Report, result: Mapping[str, Any], outputs: Sequence[Output], sources: Sources) -> None:
    """The worst items and some around the median, with the sound of what was said or transcribed, and all transcripts."""
    by_id = {output.id: output for output in outputs}
    if result["task"] == "continuation":
        _continuations(report, result["items"], by_id)
        return
    scored = [item for item in result["items"] if "words" in item]
    order = sorted(scored, key=lambda item: (-item["errors"] / max(1, item["words"]), item["id"]))
    # asr, asr_4shot: the outputs are texts, and what is heard is the recording.
    transcribed = result["task"].startswith("asr")
    audible = [
        item
        for item in order
        if (item["id"] in sources.recordings if transcribed else len(_samples(by_id.get(item["id"]))))
    ]
    for kind, items in _worst_and_typical(audible, "Worst").items():
        for item in items:
            wave = sources.recording(item["id"]) if transcribed else by_id[item["id"]].wave
            if wave is not None:
                report.audio_row(item["reference"], [Clip(f"{kind}: {item['id']}", wave, _errors(item))])
    if scored:
        report.text("Transcripts, the worst first.")
        report.transcripts([_errors(item) for item in order[:40]])


def _pairs(report: Report, result: Mapping[str, Any], sources: Sources) -> None:
    """Of each part the pairs that the model gets most wrong and some around the median, to be heard."""
    policy = "sodakit" if "sodakit" in result["scores"] else next(iter(result["scores"]))
    parts: dict[str, list[tuple[float, Mapping[str, Any]]]] = {}
    for question in result["questions"]:
        margin = question.get("margins", {}).get(policy)
        if margin is not None:
            parts.setdefault(question["part"], []).append((margin, question))
    heard = HEARD if len(parts) == 1 else HEARD_OF_A_PART
    for part, members in sorted(parts.items()):
        order = [question for _, question in sorted(members, key=lambda m: (m[0], m[1]["id"]))]
        for kind, questions in _worst_and_typical(order, "Most wrong", heard).items():
            for question in questions:
                waves = sources.pair(question)
                if waves is None:
                    continue
                margin = question["margins"][policy]
                names = ("Right", *(["Wrong"] * (len(waves) - 1)))
                what = " ".join(word for word in (part, question["id"], question["voice"]) if word)
                report.audio_row(
                    f"{kind}: {what}; the right one scores {margin:+.3f} over the wrong one ({policy})",
                    [Clip(name, wave) for name, wave in zip(names, waves, strict=True)],
                )


def _continuations(report: Report, items: Sequence[Mapping[str, Any]], outputs: Mapping[str, Output]) -> None:
    """The least likely continuations and some around the median, or the most repetitive where nobody read them."""
    scored = "gen_nll" if any(item["gen_nll"] is not None for item in items) else "auto_bleu"
    there = [item for item in items if item[scored] is not None and len(_samples(outputs.get(item["id"])))]
    order = sorted(there, key=lambda item: (-item[scored], item["id"]))
    worst = "Least likely" if scored == "gen_nll" else "Most repetitive"
    for kind, members in _worst_and_typical(order, worst).items():
        for item in members:
            wave = outputs[item["id"]].wave
            assert wave is not None, "it has samples"
            said = " → ".join(text for text in (item["prompt"], item["heard"]) if text)
            report.audio_row(said or item["id"], [Clip(f"{kind}: {item['id']}", wave)])


def _worst_and_typical(
    order: Sequence[Mapping[str, Any]], worst: str, heard: int = HEARD
) -> dict[str, Sequence[Mapping[str, Any]]]:
    """The first of the items, which come the worst first, and some around the middle."""
    first = max(heard, len(order) // 2 - heard // 2)
    return {worst: order[:heard], "Typical": order[first : first + heard]}


def _samples(output: Output | None) -> np.ndarray:
    empty = np.zeros(0, np.float32)
    return empty if output is None or output.wave is None else output.wave.samples_S


def _errors(item: Mapping[str, Any]) -> ItemErrors:
    # The texts of a result are normalised already: nothing more is taken off them.
    return align(item["reference"], item["heard"], str)


def _facts(result: Mapping[str, Any]) -> dict[str, object]:
    """Everything flat in a result: fingerprints, settings, versions."""
    facts: dict[str, object] = {}
    for name, value in result.items():
        if name in _NO_FACTS:
            continue
        facts |= {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
    return facts
