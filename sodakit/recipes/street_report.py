"""The page of a demo run: what was heard, what was said, how well, how long it took."""

import platform
from pathlib import Path

import torch

from sodakit.audio.files import read_wave, resample
from sodakit.audio.wave import Wave
from sodakit.eval.report import Clip, Report, Score
from sodakit.files import read_json, read_json_lines
from sodakit.recipes.street import SetScores, Street, voice_line, voice_of
from sodakit.units import format_count, format_duration, spread

DISAGREE = (
    "Why two judges disagree: the one that was taught here knows the words and voices of these recordings and writes no other "
    "word, so it forgives what sounds nearly right; the other may write any word and has never heard these voices. What each "
    "makes of the originals is the floor of its column: compare a figure with the originals beside it, not with the other judge."
)
MOST_VOICES = 40
"""A table of more voices is not read."""
HEARD_SENTENCES = 6
"""Sentences of each set with sound on the page."""


def write_report(street: Street, title: str, subtitle: str, notes: list[str], hourly_cost: float) -> Path:
    """Write `report.html` into the demo's folder.

    Args:
        street: after `measure`.
        title: of the page.
        subtitle: what was trained on what.
        notes: paragraphs on how it was trained.
        hourly_cost: price of this machine in dollars an hour, for the cost column.
    """
    report = Report(title, subtitle)
    _headlines(report, street)
    _scores(report, street)
    for name, scores in street.scores.items():
        _listen(report, street, name, scores)
    _training(report, street, notes)
    for name, scores in street.scores.items():
        report.section(f"Transcripts, {name}", "What the model wrote down, against what was said.")
        report.transcripts(scores.transcription.items[:40])
    _stages(report, street, hourly_cost)
    _provenance(report, street)
    path = street.folder / "report.html"
    report.write(path)
    return path


def _headlines(report: Report, street: Street) -> None:
    for name, s in street.scores.items():
        report.headline(
            f"Transcription, {name}",
            f"{s.transcription.wer:.1%}",
            f"WER; a guess without listening {s.guess.wer:.0%}",
        )
        report.headline(
            f"Speech, {name}",
            f"{s.speaking.heard.wer:.1%}",
            f"WER by the judge; originals {s.speaking.heard_original.wer:.1%}",
        )
        if s.second:
            report.headline(
                f"Speech, {name}, second judge",
                f"{s.second.heard.wer:.1%}",
                f"WER by {s.second.judge}; originals {s.second.heard_original.wer:.1%}",
            )


def _scores(report: Report, street: Street) -> None:
    report.section(
        "Scores",
        "Sentences that were never trained on. Speech is written down by a judge that is not the model.",
    )
    rows = []
    for name, s in street.scores.items():
        speaking = s.speaking
        rows += [
            Score(f"Transcription, {name}", s.transcription, "exact transcripts"),
            Score(f"Always the commonest sentence, {name}", s.guess, "exact transcripts"),
            Score(f"Speech by the model, {name}", speaking.heard, speaking.judge, speaking.heard_original),
            Score(
                f"Codec copies of the originals, {name}",
                speaking.heard_codec,
                speaking.judge,
                speaking.heard_original,
            ),
        ]
        if second := s.second:
            few = f"{name}, {len(second.places)} of {len(s.cases)}"
            rows += [
                Score(f"Speech by the model, {few}", second.heard, second.judge, second.heard_original),
                Score(f"Codec copies, {few}", second.heard_codec, second.judge, second.heard_original),
            ]
    report.scores(rows)
    if any(s.second for s in street.scores.values()):
        report.text(DISAGREE)
    for name, s in street.scores.items():
        if s.voices:
            report.text(f"{name}: {voice_line(s.voices)}.")
    voices = [
        (f"{v}, {name}", f"{rate:.1%}")
        for name, s in street.scores.items()
        for v, rate in s.by_voice().items()
    ]
    if 1 < len(voices) <= MOST_VOICES:
        report.table(("Voice", "WER"), voices, "Transcription by voice")
    for name, s in street.scores.items():
        if s.speaking.num_unended:
            report.text(
                f"{s.speaking.num_unended} of {len(s.cases)} spoken sentences ({name}) ran into the length limit."
            )


def _listen(report: Report, street: Street, name: str, scores: SetScores) -> None:
    assert street.model is not None
    rate_hz = street.codec.spec.sample_rate_hz
    report.section(
        f"Hear it, {name}",
        "The recording, its copy through the codec, the model speaking in a voice of its own choice, and the model asked "
        "to speak in the recording's voice, of which it was given another sentence.",
    )
    numbers = spread(range(len(scores.cases)), HEARD_SENTENCES)
    cases = [scores.cases[number] for number in numbers]
    voices = [voice_of(c, scores.cases) for c in cases]
    cloned = street.model.speak_many([c.text for c in cases], voices=voices, max_s=8.0)
    for case, number, voice, clone in zip(cases, numbers, voices, cloned, strict=True):
        spoken = scores.speaking.spoken[number]
        clips = [
            Clip(f"Original ({case.speaker})", case.original, scores.speaking.heard_original.items[number]),
            Clip(
                "Codec",
                Wave(street.codec.decode(case.codes_KF), rate_hz),
                scores.speaking.heard_codec.items[number],
            ),
        ]
        if len(spoken.wave.samples_S):
            clips.append(Clip("Model", spoken.wave, scores.speaking.heard.items[number]))
        if voice is not None and len(clone.wave.samples_S):
            clips.append(Clip("Model, voice given", clone.wave))
        report.audio_row(case.text, clips)
    _continuation(report, street, scores)


def _continuation(report: Report, street: Street, scores: SetScores) -> None:
    assert street.model is not None
    case = max(scores.cases, key=lambda c: c.original.duration_s)
    begin = case.original.cut(0, case.original.duration_s / 2)
    continued = street.model.continue_speech(begin, max_s=6.0)
    if len(continued.wave.samples_S):
        clips = [
            Clip("Beginning", begin),
            Clip("Continued by the model", resample(continued.wave, begin.sample_rate_hz)),
        ]
        report.audio_row(f"Continuation: {case.text}", clips)


def _training(report: Report, street: Street, notes: list[str]) -> None:
    report.section("Training", " ".join(notes))
    rows = read_json_lines(street.run / "metrics.jsonl")
    # More acoustic curves than a figure can show well are averaged into one.
    names = sorted({key.split("/", 1)[1] for row in rows for key in row if key.startswith("loss/")})
    acoustic = [n for n in names if n.startswith("acoustic")]
    for title, prefix in (
        ("Training loss by kind of token", "loss/"),
        ("Validation loss by kind of token", "validation/loss/"),
    ):
        series: dict[str, list[tuple[float, float]]] = {}
        for name in ("text", "markers", "semantic"):
            series[name] = [(r["step"], r[prefix + name]) for r in rows if prefix + name in r]
        series["acoustic, mean"] = [
            (r["step"], sum(r[prefix + n] for n in acoustic) / len(acoustic))
            for r in rows
            if acoustic and all(prefix + n in r for n in acoustic)
        ]
        if any(series.values()):
            report.curves(
                title, {n: p for n, p in series.items() if p}, x_label="step", y_label="nats per token"
            )
    _samples(report, street)


def _samples(report: Report, street: Street) -> None:
    folders = sorted((street.run / "samples").glob("step_*"))
    rows = [(_step(f), row["text"], row["heard"]) for f in folders for row in read_json(f / "samples.json")]
    if not rows:
        return
    report.table(("Step", "Said", "Transcribed"), rows, "Validation sentences transcribed while training")
    spoken = [f / "speech_0.wav" for f in folders if (f / "speech_0.wav").exists()]
    if spoken:
        clips = [Clip(f"Step {_step(wav.parent)}", read_wave(wav)) for wav in spoken]
        report.audio_row(f"Spoken while training: {rows[0][1]}", clips)


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step_"))


def _stages(report: Report, street: Street, hourly_cost: float) -> None:
    report.section("Time and cost")
    seconds = street.stopwatch.seconds
    rows = [(n, format_duration(s), f"${s / 3600 * hourly_cost:.4f}") for n, s in seconds.items()]
    total_s = sum(seconds.values())
    rows.append(("All", format_duration(total_s), f"${total_s / 3600 * hourly_cost:.4f}"))
    report.table(("Stage", "Time", f"Cost at ${hourly_cost:.2f} an hour"), rows, "Stages")


def _provenance(report: Report, street: Street) -> None:
    config = read_json(street.run / "config.json")
    environment = read_json(street.run / "environment.json")
    last = read_json_lines(street.run / "metrics.jsonl")
    speeds = sorted(row["tokens_per_s"] for row in last if "tokens_per_s" in row)
    store = read_json(street.store / "store.json")
    report.provenance(
        {
            "Config digest": config["digest"],
            "Seed": config["train"]["seed"],
            "Codec": f"{street.codec.spec.name} {street.codec.spec.fingerprint}",
            "Judge": street.judge.name if street.judge else "",
            "Judge fingerprint": street.judge.fingerprint if street.judge else "",
            "Training data": f"{store['splits']['train']['hours']:.2f} hours, {store['splits']['train']['rows']} utterances",
            "Left out": f"{store['quarantined']} items, see store/quarantine.jsonl",
            "Training speed": f"{format_count(speeds[len(speeds) // 2])} tokens/s (median)" if speeds else "",
            "Threads": torch.get_num_threads(),
            "Machine": platform.machine(),
            **{f"Version of {name}": environment[name] for name in ("sodakit", "python", "torch", "numpy")},
        }
    )
