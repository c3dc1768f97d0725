"""The pieces of a report: each writes its own markup, everything escaped."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Protocol

from sodakit.audio.files import data_uri
from sodakit.audio.wave import Wave
from sodakit.errors import ConfigError
from sodakit.eval.figures import Points, curves_svg, spectrogram_uri
from sodakit.eval.words import ItemErrors, Step, WordErrors


class Block(Protocol):
    """A piece of a section."""

    def html(self) -> str:
        """Its markup, everything escaped."""


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str

    def html(self) -> str:
        """One `<p>`."""
        return f"<p>{escape(self.text)}</p>"


@dataclass(frozen=True)
class Table:
    """Rows under column names; the first cell of a row is its heading. Numbers are aligned right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ConfigError(
                    f"{self.caption!r}: a row of {len(row)} cells under {len(self.columns)} columns."
                )

    def html(self) -> str:
        """A `<table>` with caption and scopes, in a box that scrolls where the page is narrow."""
        right = [all(_is_number(row[i]) for row in self.rows) for i in range(len(self.columns))]
        head = "".join(
            f'<th scope="col"{_number_class(number)}>{escape(column)}</th>'
            for column, number in zip(self.columns, right, strict=True)
        )
        body = "".join(f"<tr>{''.join(self._cells(row, right))}</tr>" for row in self.rows)
        return (
            f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(self.caption)}"><table>'
            f"<caption>{escape(self.caption)}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def _cells(self, row: Sequence[object], right: Sequence[bool]) -> list[str]:
        first, *rest = (escape(_cell(value)) for value in row)
        return [
            f'<th scope="row">{first}</th>',
            *(
                f"<td{_number_class(number)}>{value}</td>"
                for value, number in zip(rest, right[1:], strict=True)
            ),
        ]


@dataclass(frozen=True)
class Score:
    """A word error rate and what one must know to read it."""

    task: str
    """What was done, for example `Speaking: text to speech`."""
    errors: WordErrors
    judge: str
    """Who listened: a judge's name, or `exact transcripts` where nobody had to."""
    judge_on_originals: WordErrors | None = None
    """The same judge on the original recordings: what a perfect model would score."""

    def row(self) -> tuple[str, ...]:
        """Its cells under `SCORE_COLUMNS`."""
        low, high = self.errors.interval
        original = self.judge_on_originals
        return (
            self.task,
            f"{self.errors.wer:.1%}",
            f"{low:.1%} – {high:.1%}",
            f"{original.wer:.1%}" if original else "–",
            f"{self.errors.substitutions} / {self.errors.deletions} / {self.errors.insertions}",
            f"{self.errors.reference_words:,}",
            f"{self.errors.num_empty}",
            self.judge,
        )


SCORE_COLUMNS = (
    "Task", "WER", "95 % interval", "Originals", "Sub / del / ins", "Words", "Empty", "Judge",
)  # fmt: skip


@dataclass(frozen=True)
class Curves:
    """Lines over a common axis, at most six, with their numbers folded away beneath."""

    title: str
    series: Mapping[str, Points]
    x_label: str
    y_label: str
    log_x: bool = False
    log_y: bool | None = None

    def html(self) -> str:
        """A `<figure>` with an inline SVG."""
        svg = curves_svg(
            self.series,
            title=self.title,
            x_label=self.x_label,
            y_label=self.y_label,
            log_x=self.log_x,
            log_y=self.log_y,
        )
        rows = [
            (name, f"{points[0][1]:.4g}", f"{min(y for _, y in points):.4g}", f"{points[-1][1]:.4g}")
            for name, points in self.series.items()
            if points
        ]
        table = Table(("Line", "First", "Lowest", "Last"), rows, f"{self.title} ({self.y_label})")
        return (
            f"<figure><figcaption><b>{escape(self.title)}</b></figcaption>{svg}"
            f"<details><summary>The numbers</summary>{table.html()}</details></figure>"
        )


@dataclass(frozen=True)
class Clip:
    """A sound to hear."""

    label: str
    """Whose it is: `Original`, `Codec`, `Model`."""
    wave: Wave = field(repr=False)
    heard: ItemErrors | None = None
    """What the judge heard, shown beneath with its errors marked."""


@dataclass(frozen=True)
class AudioRow:
    """Sounds of one sentence side by side, on one time scale."""

    sentence: str
    clips: Sequence[Clip]

    def html(self) -> str:
        """A heading and a `<figure>` with spectrogram and player for each clip."""
        longest_s = max((clip.wave.duration_s for clip in self.clips), default=0.0)
        figures = "".join(self._figure(clip, clip.wave.duration_s / longest_s) for clip in self.clips)
        return f'<div class="row"><h3>{escape(self.sentence)}</h3><div class="clips">{figures}</div></div>'

    def _figure(self, clip: Clip, fraction: float) -> str:
        what = escape(f"{clip.label}: {self.sentence}")
        heard = f'<p class="heard">Heard: {_marked(clip.heard)}</p>' if clip.heard else ""
        return (
            f"<figure><figcaption><b>{escape(clip.label)}</b>"
            f"<span>{clip.wave.duration_s:.1f} s</span></figcaption>"
            f'<div class="strip"><img style="width:{100 * fraction:.1f}%" alt="Spectrogram. {what}" '
            f'src="{spectrogram_uri(clip.wave)}"></div>'
            f'<audio controls preload="metadata" aria-label="{what}" src="{data_uri(clip.wave)}"></audio>'
            f"{heard}</figure>"
        )


@dataclass(frozen=True)
class Transcripts:
    """What was heard, with errors marked by box, strike and underline as well as by colour."""

    items: Sequence[ItemErrors]

    def html(self) -> str:
        """A legend and a list; the errors of an item are counted beside it."""
        lines = "".join(
            f"<li><span>{_marked(item)}</span>"
            f'<span class="rate">{item.errors} of {item.reference_words}</span></li>'
            for item in self.items
        )
        return f'{_LEGEND}<ul class="said">{lines}</ul>'


@dataclass(frozen=True)
class Facts:
    """Names and values: versions, seeds, digests."""

    facts: Mapping[str, object]

    def html(self) -> str:
        """A `<dl>`."""
        pairs = "".join(
            f"<dt>{escape(name)}</dt><dd>{escape(_cell(value))}</dd>" for name, value in self.facts.items()
        )
        return f'<dl class="facts">{pairs}</dl>'


_LEGEND = (
    '<ul class="legend"><li><span class="wrong"><del>said</del> <ins>heard</ins></span> '
    "boxed: another word</li>"
    '<li><del class="missing">said</del> struck: not heard</li>'
    '<li><ins class="extra">heard</ins> underlined: never said</li></ul>'
)


def _marked(item: ItemErrors) -> str:
    return " ".join(_mark(step) for step in item.steps) or '<span class="soft">(no words)</span>'


def _mark(step: Step) -> str:
    """A word of a transcript. The hidden words are for people who listen to the page."""
    said, heard = escape(step.reference), escape(step.hypothesis)
    if step.kind == "substitution":
        return (
            f'<span class="wrong"><span class="hidden">instead of </span><del>{said}</del> '
            f'<span class="hidden">heard </span><ins>{heard}</ins></span>'
        )
    if step.kind == "deletion":
        return f'<del class="missing"><span class="hidden">not heard: </span>{said}</del>'
    if step.kind == "insertion":
        return f'<ins class="extra"><span class="hidden">never said: </span>{heard}</ins>'
    return said


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _is_number(value: object) -> bool:
    """Whether a cell reads as a quantity, alone or with a short unit: 12, '3.1%', '1m15s', '20 MiB', '–'."""
    text = _cell(value).strip()
    return bool(re.match(r"[-–$<]?\d|[-–]$", text)) and not re.search("[a-zA-Z]{4}", text)


def _number_class(number: bool) -> str:
    return ' class="number"' if number else ""
