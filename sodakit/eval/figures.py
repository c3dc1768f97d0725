"""Pictures for a page: matplotlib figures as SVG, curves that follow its light or dark colours, spectrograms as PNG.

Each comes with the sentence a person who cannot see it needs.
"""

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib import image, rc_context, ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sodakit.audio.wave import Wave
from sodakit.errors import ConfigError
from sodakit.files import digest

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 720, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 150, 14, 44
_MAX_POINTS = 300
_DASHES: tuple[Any, ...] = (
    "-", (0, (3.5, 2)), (0, (1, 2)), (0, (4.5, 2, 1, 2)), (0, (7, 2.5)), (0, (2, 1.5, 0.5, 1.5)),
)  # fmt: skip
"""Lines differ by dash as well as by colour; the page's style sheet holds as many colours."""
_HAIR, _SOFT, _INK = "#00000a", "#00000b", "#00000c"
_LINES = tuple(f"#00000{number}" for number in range(1, len(_DASHES) + 1))
_OF_THE_PAGE = {_HAIR: "--hair", _SOFT: "--soft", _INK: "--ink"} | {
    c: f"--s{n}" for n, c in enumerate(_LINES)
}
"""Which of the page's colours each stands for."""


def svg_text(figure: Figure, salt: str = "sodakit") -> str:
    """The figure as SVG, with text as text; its ids depend on `salt`."""
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": salt, "path.simplify": False}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def curves_svg(
    series: Mapping[str, Points],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool | None = None,
) -> str:
    """Lines over a common x axis as one `<svg>` element with title and description.

    Args:
        series: (x, y) points by name, in order of x; at most six. Points that are not finite are left out.
        log_y: logarithmic y axis; None takes one where values are positive and spread over a factor of five.
    Raises:
        ConfigError: no finite point, more than six lines, or values at or below zero on a logarithmic axis.
    """
    lines = {name: points for name, given in series.items() if (points := _finite(given))}
    if not 1 <= len(lines) <= len(_DASHES):
        raise ConfigError(
            f"{title!r} has {len(lines)} lines with values; a figure holds 1 to {len(_DASHES)}."
        )
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    if log_y is None:
        log_y = min(ys) > 0 and max(ys) / min(ys) > 5
    figure = Figure(figsize=(_WIDTH / 72, _HEIGHT / 72), dpi=72, facecolor="none")
    axes = _empty_axes(figure, limits(xs, log_x, title), limits(ys, log_y, title), log_x, log_y)
    axes.set_xlabel(x_label, color=_SOFT, size=12)
    axes.set_ylabel(y_label, color=_SOFT, size=12)
    for number, points in enumerate(lines.values()):
        axes.plot(
            *zip(*points, strict=True),
            color=_LINES[number],
            linestyle=_DASHES[number],
            linewidth=2,
            marker="o" if len(points) == 1 else "",
            clip_on=False,
            gid=f"series{number}",
        )
    _end_labels(figure, axes, lines)
    described = escape(describe_curves(series, title=title, x_label=x_label))
    return _inline(svg_text(figure, digest(title, described)), described, title)


def describe_curves(series: Mapping[str, Points], *, title: str, x_label: str) -> str:
    """The figure in words: where each line starts and ends."""
    said = [
        f"{name} goes from {points[0][1]:.3g} to {points[-1][1]:.3g}"
        for name, given in series.items()
        if (points := _finite(given))
    ]
    return f"{title}. Over {x_label}: {'; '.join(said)}."


def spectrogram_uri(wave: Wave) -> str:
    """The sound's log-mel spectrogram up to 8 kHz as a PNG `data:` address: 100 pixels a second, 96 high."""
    hop, window = max(1, wave.sample_rate_hz // 100), wave.sample_rate_hz // 25
    padded_S = np.pad(wave.samples_S, (window // 2, window))
    frames_FS = np.lib.stride_tricks.sliding_window_view(padded_S, window)[
        : max(1, len(wave.samples_S)) : hop
    ]
    power_FH = np.abs(np.fft.rfft(frames_FS * np.hanning(window), 4 * window // 2)) ** 2
    top_hz = min(8000, wave.sample_rate_hz / 2)
    rows_hz = 700 * np.expm1(np.linspace(math.log1p(40 / 700), math.log1p(top_hz / 700), 96))
    bins = np.linspace(0, wave.sample_rate_hz / 2, power_FH.shape[1])
    decibels_HF = np.stack([np.interp(rows_hz, bins, 10 * np.log10(row + 1e-10)) for row in power_FH], axis=1)
    top = max(float(decibels_HF.max()), -30.0)
    buffer = io.BytesIO()
    image.imsave(buffer, decibels_HF, vmin=top - 65, vmax=top, cmap="magma", origin="lower", format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _finite(points: Points) -> list[tuple[float, float]]:
    """At most `_MAX_POINTS` points: means of neighbours, but the first and the last as they are."""
    kept = [(float(x), float(y)) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if len(kept) <= _MAX_POINTS:
        return kept
    groups = np.array_split(np.array(kept[1:-1]), _MAX_POINTS - 2)
    return [kept[0], *((float(x), float(y)) for x, y in (group.mean(axis=0) for group in groups)), kept[-1]]


def limits(values: Sequence[float], log: bool, title: str) -> tuple[float, float]:
    """Both ends of an axis that shows the values."""
    low, high = min(values), max(values)
    if log and low <= 0:
        raise ConfigError(
            f"{title!r} has the value {low:g} on a logarithmic axis. Use a linear one, or leave it out."
        )
    if low == high:
        low, high = (low / 2, high * 2) if log else (low - 0.5, high + 0.5)
    if log:
        return low, high
    # A loss or a rate starts at zero, where the distance to zero means something.
    margin = (high - low) * 0.04
    return (0.0 if 0 <= low < 0.35 * high else low - margin * (low != 0)), high


def ticks(low: float, high: float, log: bool = False) -> list[float]:
    """Round values to label, from low to high."""
    if log:
        # Within one decade powers of ten would leave an axis with one label or none.
        subs = (1.0,) if high / low > 1e4 else (1.0, 2.0, 5.0)
        found = ticker.LogLocator(10, subs).tick_values(low, high)
        inside = [float(v) for v in found if low * 0.999 <= v <= high * 1.001]
        if len(inside) >= 3:
            return inside
    found = ticker.MaxNLocator(6).tick_values(low, high)
    return [float(v) for v in found if low <= v <= high]


def _empty_axes(
    figure: Figure, x_ends: tuple[float, float], y_ends: tuple[float, float], log_x: bool, log_y: bool
) -> Axes:
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    axes = figure.add_axes((_LEFT / _WIDTH, _BOTTOM / _HEIGHT, width / _WIDTH, height / _HEIGHT))
    axes.patch.set_visible(False)
    axes.set_xscale("log" if log_x else "linear")
    axes.set_yscale("log" if log_y else "linear")
    for axis, ends, log in ((axes.xaxis, x_ends, log_x), (axes.yaxis, y_ends, log_y)):
        axis.set_ticks(ticks(*ends, log), [_short(value) for value in ticks(*ends, log)])
        axis.set_minor_locator(ticker.NullLocator())
        axis.set_tick_params(color=_SOFT, labelcolor=_SOFT, labelsize=12)
    axes.set_xlim(*x_ends)
    axes.set_ylim(*y_ends)
    axes.grid(axis="y", color=_HAIR, linewidth=1, clip_on=False)
    axes.tick_params(axis="y", length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_SOFT)
    return axes


def _end_labels(figure: Figure, axes: Axes, lines: Mapping[str, Points]) -> None:
    """Names at the ends of their lines, each with a piece of its dash, apart where lines end together."""
    gap_px, lowest_px, highest_px = 17.0, float(_BOTTOM), float(_HEIGHT - _TOP)
    ends = [
        (axes.transData.transform(points[-1])[1], n, name) for n, (name, points) in enumerate(lines.items())
    ]
    wanted = sorted(ends, reverse=True)
    placed: list[float] = []
    for y, _, _ in wanted:
        placed.append(min(y, placed[-1] - gap_px) if placed else min(y, highest_px))
    if placed[-1] < lowest_px:
        placed = [max(y, lowest_px + gap_px * (len(placed) - 1 - n)) for n, y in enumerate(placed)]
    left = _WIDTH - _RIGHT + 10
    for y, (_, n, name) in zip(placed, wanted, strict=True):
        figure.add_artist(
            Line2D(
                [left / _WIDTH, (left + 24) / _WIDTH],
                [y / _HEIGHT] * 2,
                color=_LINES[n],
                linestyle=_DASHES[n],
                linewidth=2,
            )
        )
        figure.text(
            (left + 30) / _WIDTH, y / _HEIGHT, name, color=_INK, size=12.5, va="center", gid=f"name{n}"
        )


def _inline(svg: str, described: str, title: str) -> str:
    """An `<svg>` element for a page: its colours and font are the page's, its words are said to who cannot see it."""
    body = svg[svg.index(">", svg.index("<svg")) + 1 :].replace("xlink:href", "href")
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r"(?<=: )#00000[1-6a-c]\b", lambda colour: f"var({_OF_THE_PAGE[colour[0]]})", body)
    body = re.sub(r"font-family: [^;\"]*", "font-family: system-ui, sans-serif", body)
    # Another figure of the page has groups of the same names.
    body = re.sub(r'<g id="((?:series|name)\d)">', r'<g class="\1">', body)
    body = re.sub(r' id="(?:figure|axes|patch|text|line2d|matplotlib|[xy]tick)[^"]*"', "", body)
    return (
        f'<svg class="curves" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{described}">'
        f"<title>{escape(title)}</title>{body.strip()}"
    )


def _short(value: float) -> str:
    """A tick's number: 8e-4, 0.05, 2, 1.5k, 20k, 3M."""
    if 0 < abs(value) < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    for limit, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{suffix}"
    return f"{value:.4g}"
