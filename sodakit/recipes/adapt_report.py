"""The page of an adaptation: before and after, to be heard; the safety report epoch by epoch."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sodakit.eval.report import Clip, Report
from sodakit.units import spread

if TYPE_CHECKING:
    from sodakit.recipes.adapt import Heard, Said

HEARD_CASES = 6
EPOCH_COLUMNS = (
    "Epoch", "Held-out loss", "Word errors, heard", "Word errors, said", "Likeness of the voice", "Unended",
    "Loss on what it knew",
)  # fmt: skip


def write_adapt_report(
    path: Path, title: str, rows: Sequence[dict[str, Any]], heard: "Heard | None" = None
) -> None:
    """Write the page.

    Args:
        path: of the page.
        title: what was adapted.
        rows: of `epochs.jsonl`; the first is the model as it was.
        heard: the test recordings before and after; None while it trains.
    """
    best = max(rows, key=lambda row: row["score"])
    chosen = f"Epoch {best['epoch']:.0f} of {rows[-1]['epoch']:.0f} is the best on held-out recordings"
    report = Report(title, f"{chosen}; epoch 0 is the model before.")
    if heard is not None:
        _before_and_after(report, heard)
    report.section(
        "Safety report",
        "After each epoch, on recordings that are not trained on. The best epoch has the lowest loss on them: of the text "
        "after its sound and of the semantic codes after their text. The last column is the loss on held-out recordings of "
        "what the model was trained on before: where it rises, the model forgets.",
    )
    report.table(EPOCH_COLUMNS, [_cells(row) for row in rows], "After each epoch")
    if len(rows) > 1:
        series = {name: [(r["epoch"], r["losses"][name]) for r in rows] for name in rows[0]["losses"]}
        series |= {f"before: {n}": [(r["epoch"], r["base"][n]) for r in rows] for n in rows[0]["base"]}
        report.curves("Held-out losses", series, x_label="epoch", y_label="nats per token")
    report.write(path)


def _before_and_after(report: Report, heard: "Heard") -> None:
    before, after = heard.before, heard.after
    report.headline(
        "Heard", _percent(after.plain()["heard_wer"]), f"word errors; before {before.heard.wer:.1%}"
    )
    given = [("before", before.given or before.free), ("after", after.given or after.free)]
    plain = {when: said.plain() for when, said in given}
    for label, name, shown in (("Said", "wer", _percent), ("Voice", "similarity", _number)):
        if plain["after"][name] and plain["before"][name]:
            report.headline(label, shown(plain["after"][name]), f"before {shown(plain['before'][name])}")
    judge = heard.ears.judge
    report.section(
        "Before and after",
        f"{len(heard.cases)} recordings that were neither trained on nor chosen by. "
        + (f"What is said is written down by {judge.name}; " if judge else "Nobody wrote down what is said; ")
        + f"voices are compared with the original of the same sentence by {heard.ears.speakers.name}.",
    )
    columns = ("", "Word errors, heard", "Word errors, said", "Likeness of the voice", "Unended")
    table = []
    for when, made in (("Before", before), ("After", after)):
        for what, said in (("voice given", made.given), ("voice of its choice", made.free)):
            if said is not None:
                row = said.plain()
                table.append(
                    (f"{when}, {what}", _interval(made.plain()["heard_wer"]), _interval(row["wer"]),
                     _interval(row["similarity"], ".3f"), row["num_unended"])
                )  # fmt: skip
    report.table(columns, table, "With 95 % intervals")
    for number in spread(range(len(heard.cases)), HEARD_CASES):
        case = heard.cases[number]
        clips = [
            Clip(f"Original ({case.speaker or 'speaker'})", case.original),
            Clip("Codec", heard.copies[number]),
        ]
        clips += _clip(heard, number, "Before, voice given", before.given)
        clips += _clip(heard, number, "After, voice given", after.given)
        clips += _clip(heard, number, "After, voice of its choice", after.free)
        report.audio_row(case.text, clips)
    report.section("Transcripts after", "What the adapted model wrote down, against what was said.")
    report.transcripts(after.heard.items[:40])


def _clip(heard: "Heard", number: int, label: str, said: "Said | None") -> list[Clip]:
    if said is None or not len(said.spoken[number].wave.samples_S):
        return []
    return [Clip(label, said.spoken[number].wave, heard.errors(number, said))]


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    scores = row["scores"]
    said = scores["given"] or scores["free"]
    return (
        f"{row['epoch']:.0f}",
        f"{-row['score']:.3f}",
        _percent(scores["heard_wer"]),
        _percent(said["wer"]),
        _number(said["similarity"]),
        said["num_unended"],
        ", ".join(f"{name} {value:.3f}" for name, value in row["base"].items()) or "–",
    )


def _percent(value: dict[str, Any] | None) -> str:
    return f"{value['value']:.1%}" if value else "–"


def _number(value: dict[str, Any] | None) -> str:
    return f"{value['value']:.2f}" if value else "–"


def _interval(value: dict[str, Any] | None, form: str = ".1%") -> str:
    return f"{value['value']:{form}} ({value['low']:{form}} – {value['high']:{form}})" if value else "–"
