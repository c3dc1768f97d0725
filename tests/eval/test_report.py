import base64
import io
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sodakit.audio.wave import Wave
from sodakit.errors import ConfigError
from sodakit.eval import report as report_module
from sodakit.eval.report import Clip, Report, Score, Table, Transcripts
from sodakit.eval.words import align, word_errors

VOID = {"meta", "img", "line", "polyline", "circle", "br", "link", "input"}


class Page(HTMLParser):
    """The elements of a page with their attributes; fails on tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def _wave(seconds: float = 0.5, seed: int = 0) -> Wave:
    samples = 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * 24_000))
    return Wave(samples.astype(np.float32), 24_000)


def _report() -> Report:
    said, heard = ["Open the <door> & go", "close it"], ["open door and go on", None]
    errors = word_errors(said, heard)
    losses = {
        "text": [(i, 9 * 0.99**i) for i in range(800)],
        "semantic": [(i, 7 * 0.999**i) for i in range(800)],
    }
    report = Report('A "small" <model>', "in 14 minutes").headline(
        "Speaking", f"{errors.wer:.1%}", "word errors"
    )
    report.section("Scores", "Who listened?").scores([Score("Speaking", errors, "CTC judge", errors)])
    report.section("Listen").audio_row(
        said[0],
        [Clip("Original", _wave()), Clip("Codec", _wave(0.4)), Clip("Model", _wave(0.25), errors.items[0])],
    )
    report.transcripts(errors.items)
    report.section("Loss").curves("Loss by kind", losses, x_label="step", y_label="nats")
    report.section("Cost").table(("Stage", "Time"), [("train", "10m"), ("speak", 3.25)], "Stages")
    return report.provenance({"seed": 0, "config": "8f00"})


@pytest.fixture(scope="module")
def html() -> str:
    return _report().html()


def test_the_page_nests_and_fetches_nothing(html: str) -> None:
    page = Page(html)
    for _, attributes in page.elements:
        for name in ("src", "href", "poster", "action", "srcset", "data"):
            assert name not in attributes or attributes[name].startswith(("data:", "#"))
    assert not re.search(r"https?://|//cdn|@import|url\(", html)
    assert "$" not in re.sub(r"<script>.*?</script>|base64,[^\"]*", "", html, flags=re.DOTALL)
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'")


def test_every_sound_decodes_to_what_was_given(html: str) -> None:
    players = Page(html).all("audio")
    assert [player["aria-label"].split(":")[0] for player in players] == ["Original", "Codec", "Model"]
    for player, seconds in zip(players, (0.5, 0.4, 0.25), strict=True):
        assert "controls" in player and player["preload"] == "metadata"
        encoded = player["src"].removeprefix("data:audio/flac;base64,")
        samples_S, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(encoded)), dtype="float32")
        assert rate_hz == 24_000
        np.testing.assert_allclose(samples_S, _wave(seconds).samples_S, atol=1e-4)


def test_whoever_cannot_see_or_point_gets_the_same(html: str) -> None:
    page = Page(html)
    assert all(len(image["alt"]) > 20 for image in page.all("img"))
    assert len(page.all("img")) == 3
    figure = next(svg for svg in page.all("svg"))
    assert figure["role"] == "img"
    assert "text goes from 9 to 0.00" in figure["aria-label"]
    assert all(header["scope"] in ("col", "row") for header in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {link["href"][1:] for link in page.all("a")} <= ids
    assert page.all("html")[0]["lang"] == "en"


def test_text_is_shown_and_never_run(html: str) -> None:
    evil = "<script>alert(1)</script>"
    report = (
        Report(evil, evil)
        .headline(evil, evil, evil)
        .section(evil, evil)
        .table((evil, "b"), [(evil, evil)], evil)
    )
    report.audio_row(evil + '"', [Clip(evil, _wave())]).transcripts([align(evil, evil + " x")])
    report.curves(evil, {evil: [(0, 1.0), (1, 2.0)]}, x_label=evil, y_label=evil).provenance({evil: evil})
    assert len(Page(report.html()).all("script")) == len(Page(html).all("script")) == 1


def test_errors_are_told_apart_without_colour() -> None:
    html = Transcripts([align("open the door now", "close the the door")]).html()
    assert '<del>open</del> <span class="hidden">heard </span><ins>close</ins>' in html
    assert re.search(r'<ins class="extra"><span class="hidden">never said: </span>the</ins>', html)
    assert re.search(r'<del class="missing"><span class="hidden">not heard: </span>now</del>', html)
    assert "3 of 4" in html
    assert all(word in html for word in ("boxed", "struck", "underlined"))
    styles = Report("x").html()
    for rule in (
        r"del\.missing \{[^}]*line-through",
        r"ins\.extra \{[^}]*underline",
        r"\.wrong \{[^}]*border:",
    ):
        assert re.search(rule, styles)


def test_the_score_table_names_judge_interval_and_originals(html: str) -> None:
    text = Page(html).text
    for needed in ("CTC judge", "95 % interval", "Originals", "71.4%", "1 / 3 / 1"):
        assert needed in text


def test_rows_beyond_the_size_limit_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a long list of clips makes a page no browser opens, or clips vanish in silence."""
    monkeypatch.setattr(report_module, "MAX_SOUND_BYTES", 150_000)
    report = Report("Many").section("Listen")
    for i in range(6):
        report.audio_row(f"sentence {i}", [Clip("Original", _wave(seed=i))])
    page = Page(report.html())
    shown = len(page.all("audio"))
    assert 0 < shown < 6
    assert f"{6 - shown} more left out" in page.text


def test_the_same_report_is_the_same_bytes(html: str, tmp_path: Path) -> None:
    _report().write(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == html


def test_mistakes_in_assembly_are_explained() -> None:
    with pytest.raises(ConfigError, match="outside a section"):
        Report("x").text("lost")
    with pytest.raises(ConfigError, match="a row of 1 cells under 2 columns"):
        Table(("a", "b"), [("1",)], "t")
