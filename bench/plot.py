"""Curves as SVG text, on a background of their own, so that they can be read on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from bench.figures import Report

WIDTH, HEIGHT = 420, 270
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 40, 46
KEY_STEP = 16
COLOURS = ("#0969da", "#cf222e", "#8250df")
STYLE = """
  .ground { fill: #ffffff } text { fill: #1f2328; font: 12px sans-serif } .title { font-weight: bold }
  .grid { stroke: #d1d9e0; stroke-width: 1 } .curve { fill: none; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117 } text { fill: #e6edf3 } .grid { stroke: #3d444d }
    .curve, .dot { filter: brightness(1.5) }
  }"""


@dataclass(frozen=True, slots=True)
class Curve:
    """One line: (x, y) in rising x, both above 0."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over a common x, both axes logarithmic: a straight line at 45 degrees grows with x."""

    title: str
    x: str
    """What x counts."""
    y: str
    """What y is, with its unit."""
    curves: tuple[Curve, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """Charts side by side in one file."""

    name: str
    """Of the file, without its ending."""
    title: str
    charts: tuple[Chart, ...]
    text: str = ""
    """What a reader should see in it."""


@dataclass(frozen=True, slots=True)
class DrawnReport(Report):
    """A report with pictures."""

    pictures: tuple[Picture, ...] = ()


def svg(picture: Picture) -> str:
    """The file's text."""
    width = WIDTH * len(picture.charts)
    panels = "".join(
        f'<g transform="translate({WIDTH * place} 0)">{_panel(chart)}</g>\n'
        for place, chart in enumerate(picture.charts)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" '
        f'role="img" aria-label="{escape(picture.title)}">\n<style>{STYLE}\n</style>\n'
        f'<rect class="ground" width="{width}" height="{HEIGHT}" rx="6"/>\n{panels}</svg>\n'
    )


def _panel(chart: Chart) -> str:
    xs = sorted({x for curve in chart.curves for x, _ in curve.points})
    low, high = _decades([y for curve in chart.curves for _, y in curve.points])
    across = _scale(xs[0], xs[-1], LEFT, WIDTH - RIGHT)
    up = _scale(low, high, HEIGHT - BOTTOM, TOP)
    parts = [_text(chart.title, WIDTH / 2, 20, "middle", "title")]
    parts += [_x_mark(across(x), _short(x)) for x in xs]
    parts += [_y_mark(up(y), _short(y)) for y in _steps(low, high)]
    parts.append(_text(chart.x, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "middle"))
    parts.append(_text(chart.y, 8, TOP - 10, "start"))
    for place, curve in enumerate(chart.curves):
        parts += _curve(curve, COLOURS[place % len(COLOURS)], across, up)
        parts += _key(curve.name, COLOURS[place % len(COLOURS)], TOP + 8 + KEY_STEP * place)
    return "\n".join(parts)


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """The 1, 2, 5 steps around all values, with space above them for the names of the curves."""
    steps = [base * 10.0**power for power in range(-4, 10) for base in (1, 2, 5)]
    low = max((step for step in steps if step <= min(values)), default=steps[0])
    high = min((step for step in steps if step >= 2 * max(values)), default=steps[-1])
    return low, high


def _steps(low: float, high: float) -> list[float]:
    """The values of the grid lines, few enough to be distinguished."""
    fine = [base * 10.0**power for power in range(-4, 10) for base in (1, 2, 5)]
    found = [step for step in fine if low * 0.999 <= step <= high * 1.001]
    return found if len(found) <= 8 else [step for step in found if math.isclose(math.log10(step) % 1, 0, abs_tol=1e-6)]


def _scale(low: float, high: float, begin: float, end: float) -> Callable[[float], float]:
    span = math.log(high / low) or 1.0
    return lambda value: begin + (end - begin) * math.log(value / low) / span


def _curve(curve: Curve, colour: str, across: Callable[[float], float], up: Callable[[float], float]) -> list[str]:
    places = [(across(x), up(y)) for x, y in curve.points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = [f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
    return [f'<polyline class="curve" stroke="{colour}" points="{line}"/>', *dots]


def _key(name: str, colour: str, y: float) -> list[str]:
    x = LEFT + 8
    return [
        f'<line class="curve" stroke="{colour}" x1="{x}" y1="{y}" x2="{x + 18}" y2="{y}"/>',
        _text(name, x + 24, y + 4, "start"),
    ]


def _x_mark(x: float, label: str) -> str:
    line = f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}"/>'
    return line + _text(label, x, HEIGHT - BOTTOM + 16, "middle")


def _y_mark(y: float, label: str) -> str:
    line = f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'
    return line + _text(label, LEFT - 6, y + 4, "end")


def _text(text: str, x: float, y: float, anchor: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _short(value: float) -> str:
    if value >= 1_000_000:
        return f"{value / 1_000_000:g}M"
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
