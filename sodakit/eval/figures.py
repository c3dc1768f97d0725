"""Pictures for a report: curves as SVG that follows the page's light or dark colours, spectrograms as PNG.

Each comes with the sentence a person who cannot see it needs.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from matplotlib import image, ticker

from sodakit.audio.wave import Wave
from sodakit.errors import ConfigError

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 720, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 150, 14, 44
_MAX_POINTS = 300
_DASHES = ("none", "7 4", "2 4", "9 4 2 4", "14 5", "4 3 1 3")
"""Lines differ by dash as well as by colour; the page's style sheet holds as many colours."""


@dataclass(frozen=True)
class Axis:
    """Data to pixels, along one side of the plot."""

    low: float
    high: float
    start_px: float
    end_px: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Where `value` lies, in pixels."""
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start_px + (value - low) / (high - low) * (self.end_px - self.start_px)

    @property
    def ticks(self) -> list[float]:
        """Round values to label, from low to high."""
        if self.log:
            # Within one decade powers of ten would leave an axis with one label or none.
            subs = (1.0,) if self.high / self.low > 1e4 else (1.0, 2.0, 5.0)
            found = ticker.LogLocator(10, subs).tick_values(self.low, self.high)
            inside = [float(v) for v in found if self.low * 0.999 <= v <= self.high * 1.001]
            if len(inside) >= 3:
                return inside
        found = ticker.MaxNLocator(6).tick_values(self.low, self.high)
        return [float(v) for v in found if self.low <= v <= self.high]


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
    x_axis = _axis(xs, _LEFT, _WIDTH - _RIGHT, log_x, title)
    y_axis = _axis(ys, _HEIGHT - _BOTTOM, _TOP, log_y, title)
    body = [*_grid(x_axis, y_axis), *_axis_names(x_label, y_label)]
    body += [_line(points, i, x_axis, y_axis) for i, points in enumerate(lines.values())]
    body += _end_labels(lines, y_axis)
    return (
        f'<svg class="curves" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(describe_curves(series, title=title, x_label=x_label))}">'
        f"<title>{escape(title)}</title>{''.join(body)}</svg>"
    )


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


def _axis(values: Sequence[float], start_px: float, end_px: float, log: bool, title: str) -> Axis:
    low, high = min(values), max(values)
    if log and low <= 0:
        raise ConfigError(
            f"{title!r} has the value {low:g} on a logarithmic axis. Use a linear one, or leave it out."
        )
    if low == high:
        low, high = (low / 2, high * 2) if log else (low - 0.5, high + 0.5)
    if log:
        return Axis(low, high, start_px, end_px, log=True)
    # A loss or a rate starts at zero, where the distance to zero means something.
    margin = (high - low) * 0.04
    return Axis(0.0 if 0 <= low < 0.35 * high else low - margin * (low != 0), high, start_px, end_px)


def _grid(x_axis: Axis, y_axis: Axis) -> list[str]:
    parts = []
    for value in y_axis.ticks:
        y = y_axis(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}</text>'
        )
    baseline = _HEIGHT - _BOTTOM
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{baseline}" y2="{baseline}"/>')
    for value in x_axis.ticks:
        x = x_axis(value)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{baseline}" y2="{baseline + 4}"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{baseline + 18}" text-anchor="middle">{_short(value)}</text>'
        )
    return parts


def _axis_names(x_label: str, y_label: str) -> list[str]:
    middle_x, middle_y = (_LEFT + _WIDTH - _RIGHT) / 2, (_TOP + _HEIGHT - _BOTTOM) / 2
    return [
        f'<text class="label" x="{middle_x}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>',
        f'<text class="label" transform="translate(13 {middle_y}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>",
    ]


def _line(points: Points, index: int, x_axis: Axis, y_axis: Axis) -> str:
    if len(points) == 1:
        x, y = points[0]
        return f'<circle class="dot s{index}" cx="{x_axis(x):.1f}" cy="{y_axis(y):.1f}" r="4"/>'
    path = " ".join(f"{x_axis(x):.1f},{y_axis(y):.1f}" for x, y in points)
    return f'<polyline class="line s{index}" stroke-dasharray="{_DASHES[index]}" points="{path}"/>'


def _end_labels(lines: Mapping[str, Points], y_axis: Axis) -> list[str]:
    """Names at the ends of their lines, each with a piece of its dash, apart where lines end together."""
    gap_px = 17.0
    wanted = sorted((y_axis(points[-1][1]), i, name) for i, (name, points) in enumerate(lines.items()))
    placed: list[float] = []
    for y, _, _ in wanted:
        placed.append(max(y, placed[-1] + gap_px) if placed else max(y, float(_TOP)))
    overflow = placed[-1] - (_HEIGHT - _BOTTOM)
    if overflow > 0:
        placed = [min(y, _HEIGHT - _BOTTOM - gap_px * (len(placed) - 1 - n)) for n, y in enumerate(placed)]
    left, parts = _WIDTH - _RIGHT + 10, []
    for y, (_, i, name) in zip(placed, wanted, strict=True):
        parts.append(
            f'<line class="line s{i}" stroke-dasharray="{_DASHES[i]}" x1="{left}" x2="{left + 24}" '
            f'y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="name" x="{left + 30}" y="{y + 4:.1f}">{escape(name)}</text>'
        )
    return parts


def _short(value: float) -> str:
    """A tick's number: 8e-4, 0.05, 2, 1.5k, 20k, 3M."""
    if 0 < abs(value) < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    for limit, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{suffix}"
    return f"{value:.4g}"
