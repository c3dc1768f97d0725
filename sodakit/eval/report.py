"""One HTML page that holds everything it shows: sounds, pictures, transcripts and numbers, read from a disk.

report = Report("A small talking model", "Trained in 14 minutes on two cores")
losses = {"text": [(0, 9.1), (400, 1.2)]}
report.section("Loss").curves("Validation loss", losses, x_label="step", y_label="nats per token")
report.section("Listen").audio_row("Open the door tonight.", [Clip("Original", wave), Clip("Model", other)])
report.write("report.html")
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template

import sodakit
from sodakit.errors import ConfigError
from sodakit.eval.figures import Points
from sodakit.eval.report_blocks import (
    SCORE_COLUMNS,
    AudioRow,
    Block,
    Clip,
    Curves,
    Facts,
    Score,
    Table,
    Text,
    Transcripts,
)
from sodakit.eval.words import ItemErrors
from sodakit.files import write_text

__all__ = ["AudioRow", "Clip", "Facts", "Report", "Score", "Table", "Transcripts"]
"""The page, and the blocks that callers make themselves."""

MAX_SOUND_BYTES = 11_000_000
"""What the sounds and spectrograms of one page may take; rows beyond it are counted, not shown."""


@dataclass
class Section:
    """A heading and what stands under it."""

    heading: str
    blocks: list[Block] = field(default_factory=list)


@dataclass
class Report:
    """A page in the making. Blocks go under the latest section; methods return the report, so calls chain."""

    title: str
    subtitle: str = ""
    sections: list[Section] = field(default_factory=list)
    headlines: list[tuple[str, str, str]] = field(default_factory=list)

    def headline(self, label: str, value: str, detail: str = "") -> "Report":
        """A large number at the top of the page."""
        self.headlines.append((label, value, detail))
        return self

    def section(self, heading: str, text: str = "") -> "Report":
        """Start a section."""
        self.sections.append(Section(heading))
        return self.text(text) if text else self

    def add(self, block: Block) -> "Report":
        """Put any block under the latest section."""
        if not self.sections:
            raise ConfigError(
                f"{type(block).__name__} outside a section. Call report.section(heading) first."
            )
        self.sections[-1].blocks.append(block)
        return self

    def text(self, text: str) -> "Report":
        """A paragraph."""
        return self.add(Text(text))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], caption: str) -> "Report":
        """A table; the first cell of each row is its heading."""
        return self.add(Table(columns, rows, caption))

    def scores(self, scores: Sequence[Score], caption: str = "Word error rates") -> "Report":
        """A table of word error rates with intervals and judges."""
        return self.table(SCORE_COLUMNS, [score.row() for score in scores], caption)

    def curves(
        self,
        title: str,
        series: Mapping[str, Points],
        *,
        x_label: str,
        y_label: str,
        log_x: bool = False,
        log_y: bool | None = None,
    ) -> "Report":
        """Lines over a common axis; `log_y=None` chooses."""
        return self.add(Curves(title, series, x_label, y_label, log_x, log_y))

    def audio_row(self, sentence: str, clips: Sequence[Clip]) -> "Report":
        """Sounds of one sentence side by side."""
        return self.add(AudioRow(sentence, clips))

    def transcripts(self, items: Sequence[ItemErrors]) -> "Report":
        """What was heard, errors marked."""
        return self.add(Transcripts(items))

    def provenance(self, facts: Mapping[str, object]) -> "Report":
        """Versions, seeds, digests, under a heading of their own."""
        return self.section("Provenance").add(Facts(facts))

    def html(self) -> str:
        """The page. Audio rows stop at `MAX_SOUND_BYTES`; the page says how many were left out."""
        template = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
        return template.substitute(
            title=escape(self.title),
            subtitle=escape(self.subtitle),
            headline=self._headline(),
            contents=self._contents(),
            body=self._body(),
            version=escape(sodakit.__version__),
        )

    def write(self, path: Path | str) -> None:
        """Write the page, atomically."""
        write_text(path, self.html())

    def _headline(self) -> str:
        cards = "".join(
            f'<div><dt>{escape(label)}</dt><dd class="value">{escape(value)}</dd>'
            + (f'<dd class="detail">{escape(detail)}</dd>' if detail else "")
            + "</div>"
            for label, value, detail in self.headlines
        )
        return f'<dl class="headline">{cards}</dl>' if cards else ""

    def _contents(self) -> str:
        if len(self.sections) < 2:
            return ""
        links = "".join(
            f'<li><a href="#s{i}">{escape(s.heading)}</a></li>' for i, s in enumerate(self.sections)
        )
        return f'<nav aria-label="Contents"><ul>{links}</ul></nav>'

    def _body(self) -> str:
        sound_bytes, parts = 0, []
        for i, section in enumerate(self.sections):
            left_out = 0
            inner = []
            for block in section.blocks:
                html = block.html()
                if isinstance(block, AudioRow):
                    if sound_bytes + len(html) > MAX_SOUND_BYTES:
                        left_out += 1
                        continue
                    sound_bytes += len(html)
                inner.append(html)
            if left_out:
                inner.append(f'<p class="soft">{left_out} more left out, to keep this page small.</p>')
            parts.append(
                f'<section aria-labelledby="s{i}"><h2 id="s{i}">{escape(section.heading)}</h2>'
                f"{''.join(inner)}</section>"
            )
        return "\n".join(parts)
