import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import image

from sodakit.audio.wave import Wave
from sodakit.errors import ConfigError
from sodakit.eval.figures import curves_svg, describe_curves, spectrogram_uri, ticks


def _svg(series: dict, **settings) -> ElementTree.Element:
    return ElementTree.fromstring(
        curves_svg(series, title="Loss", x_label="step", y_label="nats", **settings)
    )


def _lines(svg: ElementTree.Element) -> list[ElementTree.Element]:
    return [g for g in svg.iter("g") if g.attrib.get("class", "").startswith("series")]


def _points(svg: ElementTree.Element, index: int = 0) -> np.ndarray:
    path = _lines(svg)[index].find("path")
    assert path is not None
    return np.array(re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", path.attrib["d"]), float)


def test_a_line_goes_where_its_numbers_say() -> None:
    points = _points(_svg({"a": [(0, 0.0), (5, 1.0), (10, 4.0)]}))
    assert points[1, 0] - points[0, 0] == pytest.approx(points[2, 0] - points[1, 0], abs=0.2)
    assert (points[0, 1] - points[1, 1]) * 4 == pytest.approx(points[0, 1] - points[2, 1], abs=0.5)


def test_a_wide_spread_takes_a_logarithmic_axis_where_ratios_are_distances() -> None:
    points = _points(_svg({"a": [(0, 100.0), (1, 10.0), (2, 1.0)]}))
    assert points[1, 1] - points[0, 1] == pytest.approx(points[2, 1] - points[1, 1], abs=0.2)


@pytest.mark.parametrize(
    ("low", "high", "log"),
    [(0, 1.3, False), (2.1, 2.4, False), (0.9, 11, True), (3, 3e7, True), (2.0, 2.6, True)],
)
def test_an_axis_has_a_handful_of_ticks_inside(low: float, high: float, log: bool) -> None:
    found = ticks(low, high, log)
    assert 3 <= len(found) <= 10
    assert found == sorted(found)
    assert low * 0.999 <= found[0] and found[-1] <= high * 1.001


def test_long_series_are_thinned_and_keep_their_ends_and_mean() -> None:
    noisy = [(i, 5 + np.sin(i / 900) + (-1) ** i) for i in range(20_000)]
    svg = _svg({"a": noisy})
    points = _points(svg)
    assert len(points) <= 300
    assert len(ElementTree.tostring(svg)) < 25_000
    assert np.abs(np.diff(points[2:-2, 1])).max() < 20  # the alternation is averaged away


def test_lines_that_end_together_have_names_apart_and_differ_by_dash() -> None:
    svg = _svg({name: [(0, 2.0), (1, 1.0 + 0.001 * i)] for i, name in enumerate("abcdef")})
    names = [g.find("text") for g in svg.iter("g") if g.attrib.get("class", "").startswith("name")]
    heights = sorted(float(text.attrib["y"]) for text in names if text is not None)
    assert len(heights) == 6 and min(np.diff(heights)) >= 15
    styles = [path.attrib["style"] for line in _lines(svg) if (path := line.find("path")) is not None]
    assert len({re.sub(r"stroke: [^;]*", "", style) for style in styles}) == 6
    assert all(0 <= y <= 320 for y in heights)


def test_numbers_that_are_none_are_left_out_and_the_rest_is_said_in_words() -> None:
    series = {"a": [(0, float("nan")), (1, 3.0), (2, 2.0)], "empty": []}
    assert describe_curves(series, title="Loss", x_label="step") == "Loss. Over step: a goes from 3 to 2."
    assert len(_lines(_svg(series))) == 1
    single = _lines(_svg({"single": [(4, 2.0)]}))[0]
    assert single.find(".//use") is not None, "one value is a dot"


def test_impossible_figures_are_explained() -> None:
    with pytest.raises(ConfigError, match="0 lines with values"):
        _svg({"a": []})
    with pytest.raises(ConfigError, match="7 lines"):
        _svg({name: [(0, 1.0)] for name in "abcdefg"})
    with pytest.raises(ConfigError, match="logarithmic axis"):
        _svg({"a": [(0, 0.0), (1, 1.0)]}, log_y=True)


def test_colours_come_from_the_page_so_that_dark_mode_works() -> None:
    svg = curves_svg({"a": [(0, 1.0), (1, 2.0)]}, title="t", x_label="x", y_label="y")
    assert not re.search(r": ?#[0-9a-fA-F]{3,6}\b|rgb\(|black|white", svg)
    assert all(f"var({name})" in svg for name in ("--s0", "--hair", "--soft", "--ink"))


def test_two_figures_of_a_page_share_no_id() -> None:
    one, two = (
        re.findall(
            r' id="([^"]+)"', curves_svg({"a": [(0, 1.0), (1, 2.0)]}, title=t, x_label="x", y_label="y")
        )
        for t in ("t", "u")
    )
    assert one and not {*one} & {*two}


@pytest.mark.parametrize("rate_hz", [8_000, 24_000])
def test_a_spectrogram_shows_a_tone_as_a_line_at_its_height(rate_hz: int) -> None:
    time_S = np.arange(rate_hz) / rate_hz
    wave = Wave(0.3 * np.sin(2 * np.pi * 1000 * time_S).astype(np.float32), rate_hz)
    uri = spectrogram_uri(wave)
    pixels = image.imread(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))
    assert pixels.shape[:2] == (96, 100)
    top_hz = min(8000, rate_hz / 2)
    mel = np.log1p(np.array([40, 1000, top_hz]) / 700)
    expected_row = 95 * (1 - (mel[1] - mel[0]) / (mel[2] - mel[0]))
    assert abs(pixels[:, 50, :3].sum(-1).argmax() - expected_row) <= 2


def test_silence_and_a_single_sample_have_a_spectrogram() -> None:
    for samples in (0, 1, 24_000):
        assert spectrogram_uri(Wave(np.zeros(samples, np.float32), 24_000)).startswith("data:image/png")
