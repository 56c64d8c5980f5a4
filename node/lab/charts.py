"""SVG charts, drawn by hand: axes, lines, areas, bands, lanes. No library, no script, no network.

    panel = Panel("throughput", "operations / s", x=(0, 6000), y=(0, 2500), height=150)
    panel.band(1000, 2000, "kill n2")
    panel.line(points, BLUE)
    panel.svg(top=40) -> the group, with its axes

Colours are Okabe and Ito's, which people who see red and green alike can tell apart; every line
is named where it is drawn or in a legend.

Proved by: tests/lab/test_report.py
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Final

__all__ = [
    "BLACK",
    "BLUE",
    "GREEN",
    "GREY",
    "ORANGE",
    "PALETTE",
    "PURPLE",
    "RED",
    "SKY",
    "WIDTH",
    "YELLOW",
    "Panel",
    "figure",
    "ticks",
]

BLACK, GREY = "#222222", "#999999"
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, YELLOW = "#56B4E9", "#CC79A7", "#F0E442"
PALETTE: Final = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK, YELLOW, GREY)

WIDTH: Final = 960
_LEFT, _RIGHT = 74, 20
PLOT: Final = WIDTH - _LEFT - _RIGHT
Points = Sequence[tuple[float, float]]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between the two: steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(place * step, 10) for place in range(first, last + 1)]


def label(value: float) -> str:
    """A number as short as it can be."""
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:g}"


class Panel:
    """One pair of axes; what is drawn first lies below.

    Args:
        x, y: ranges of the data.
        log_x, log_y: logarithmic; the range must be positive.
        lanes: names of rows instead of a y axis, from the top.
    """

    def __init__(
        self,
        title: str,
        unit: str,
        *,
        x: tuple[float, float],
        y: tuple[float, float] = (0, 1),
        height: int = 130,
        x_unit: str = "",
        log_x: bool = False,
        log_y: bool = False,
        lanes: Sequence[str] = (),
    ) -> None:
        self.title, self.unit, self.height, self.x_unit = title, unit, height, x_unit
        self._x, self._y = x, y
        self._log_x, self._log_y = log_x, log_y
        self._lanes = lanes
        self._parts: list[str] = []
        self._legend: list[tuple[str, str]] = []
        self._named: dict[int, float] = {}
        """Row of names of bands -> where its last one ends."""

    def px(self, value: float) -> float:
        """Pixels from the left edge of the picture."""
        return _LEFT + PLOT * _share(value, self._x, self._log_x)

    def py(self, value: float) -> float:
        """Pixels from the top of the panel."""
        return self.height * (1 - _share(value, self._y, self._log_y))

    def band(self, start: float, stop: float, name: str = "", colour: str = RED) -> None:
        """A shaded stretch, with its name at the top, or below names that are in its way.

        Where three are in its way it has none.
        """
        left, right = self.px(start), max(self.px(stop), self.px(start) + 1.5)
        self._parts.insert(
            0,
            f'<rect x="{left:.1f}" y="0" width="{right - left:.1f}" height="{self.height}" '
            f'fill="{colour}" opacity="0.14"/>',
        )
        if name:
            anchor = "end" if left > WIDTH - 130 else "start"
            place = right - 2 if anchor == "end" else left + 3
            width = 6.4 * len(name)
            begin = place - width if anchor == "end" else place
            row = next((row for row in range(3) if self._named.get(row, 0.0) <= begin), None)
            if row is not None:
                self._named[row] = begin + width + 4
                self.text(place, 11 + 12 * row, name, RED, anchor=anchor)

    def rule(self, at: float, name: str = "", colour: str = GREY, row: int = 0) -> None:
        """A dashed line from top to bottom."""
        x = self.px(at)
        self._add(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{self.height}" stroke="{colour}" '
            f'stroke-dasharray="4 3"/>'
        )
        if name:
            near_edge = x > WIDTH - _RIGHT - 6.5 * len(name)
            anchor, aside = ("end", -3) if near_edge else ("start", 3)
            self.text(x + aside, 11 + 13 * row, name, colour, anchor=anchor)

    def line(self, points: Points, colour: str, name: str = "", width: float = 1.5) -> None:
        """Straight from point to point."""
        if len(points) == 1:
            (x, y), shape = points[0], '<circle cx="{:.1f}" cy="{:.1f}" r="1.6" fill="{}"/>'
            self._add(shape.format(self.px(x), self.py(y), colour))
        elif points:
            path = " ".join(f"{self.px(x):.1f},{self.py(y):.1f}" for x, y in points)
            self._add(
                f'<polyline points="{path}" fill="none" stroke="{colour}" '
                f'stroke-width="{width}" stroke-linejoin="round"/>'
            )
        self._name(name, colour)

    def broken_line(self, points: Points, colour: str, name: str, gap: float) -> None:
        """A line that ends where nothing was seen for longer than `gap`."""
        part: list[tuple[float, float]] = []
        for point in points:
            if part and point[0] - part[-1][0] > gap:
                self.line(part, colour)
                part = []
            part.append(point)
        self.line(part, colour, name)
        self._name(name, colour)

    def steps(self, points: Points, colour: str, name: str = "", width: float = 1.5) -> None:
        """Level until the next point: distributions."""
        path = []
        for (x, y), (next_x, _) in zip(points, [*points[1:], points[-1]], strict=True):
            path += [(x, y), (next_x, y)]
        self.line(path, colour, name, width)

    def bars(
        self, rows: Iterable[tuple[float, float, float, float]], colour: str, name: str
    ) -> None:
        """(from, to, bottom, top) each."""
        for left, right, bottom, top in rows:
            if top > bottom:
                y = self.py(top)
                self._add(
                    f'<rect x="{self.px(left):.1f}" y="{y:.1f}" '
                    f'width="{max(self.px(right) - self.px(left) - 0.3, 0.3):.1f}" '
                    f'height="{max(self.py(bottom) - y, 0.8):.1f}" fill="{colour}"/>'
                )
        self._name(name, colour)

    def lane(self, row: int, start: float, stop: float, colour: str, text: str = "") -> None:
        """A block in a row."""
        each = self.height / len(self._lanes)
        left, width = self.px(start), max(self.px(stop) - self.px(start), 1.0)
        self._add(
            f'<rect x="{left:.1f}" y="{row * each + 3:.1f}" width="{width:.1f}" '
            f'height="{each - 6:.1f}" fill="{colour}" rx="2"/>'
        )
        if text and width > 6.2 * len(text) + 6:
            self.text(left + 4, row * each + each / 2 + 4, text, "#ffffff")

    def text(
        self, x: float, y: float, text: str, colour: str = BLACK, *, anchor: str = "start"
    ) -> None:
        """Words at a place in pixels."""
        self._add(
            f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}">'
            f"{html.escape(text)}</text>"
        )

    def legend(self, name: str, colour: str) -> None:
        """A name that no line carries."""
        self._name(name, colour)

    def _name(self, name: str, colour: str) -> None:
        if name and (name, colour) not in self._legend:
            self._legend.append((name, colour))

    def _add(self, part: str) -> None:
        self._parts.append(part)

    def svg(self, top: float, *, show_x: bool) -> str:
        """The panel as a group, `top` pixels down."""
        grid, axis = [], []
        for value in self._ticks(self._y, self._log_y) if not self._lanes else ():
            y = self.py(value)
            grid.append(f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            axis.append(_label(_LEFT - 6, y + 4, label(value), "end"))
        for row, name in enumerate(self._lanes):
            each = self.height / len(self._lanes)
            axis.append(_label(_LEFT - 8, row * each + each / 2 + 4, name, "end"))
        for value in self._ticks(self._x, self._log_x, 8):
            x = self.px(value)
            grid.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{self.height}"/>')
            if show_x:
                axis.append(_label(x, self.height + 15, label(value), "middle"))
        if show_x and self.x_unit:
            axis.append(_label(_LEFT + PLOT / 2, self.height + 31, self.x_unit, "middle"))
        legend, right = [], float(WIDTH - _RIGHT)
        for name, colour in reversed(self._legend):
            right -= 6.4 * len(name) + 22
            legend.append(
                f'<rect x="{right:.1f}" y="-14" width="10" height="10" fill="{colour}"/>'
                f"{_label(right + 14, -5, name, 'start')}"
            )
        unit = f' <tspan fill="{GREY}" font-weight="normal">{html.escape(self.unit)}</tspan>'
        return (
            f'<g transform="translate(0 {top:.1f})">'
            f'<text x="{_LEFT}" y="-5" font-weight="bold" fill="{BLACK}">'
            f"{html.escape(self.title)}{unit if self.unit else ''}</text>{''.join(legend)}"
            f'<g stroke="#e6e6e6">{"".join(grid)}</g>{"".join(self._parts)}'
            f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{self.height}" y2="{self.height}" '
            f'stroke="#777777"/>{"".join(axis)}</g>'
        )

    def _ticks(self, span: tuple[float, float], log: bool, count: int = 5) -> list[float]:
        if not log:
            return ticks(*span, count)
        low, high = (math.log10(each) for each in span)
        steps = (1, 2, 5) if high - low < 2.2 else (1,)
        found = [
            step * 10.0**power
            for power in range(math.floor(low), math.ceil(high) + 1)
            for step in steps
        ]
        return [each for each in found if span[0] <= each <= span[1]]


def _share(value: float, span: tuple[float, float], log: bool) -> float:
    low, high = span
    if log:
        value, low, high = (math.log10(max(each, 1e-9)) for each in (value, low, high))
    share = (value - low) / (high - low) if high > low else 0.0
    return min(max(share, 0.0), 1.0)


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="#555555" text-anchor="{anchor}">'
        f"{html.escape(text)}</text>"
    )


def figure(panels: Sequence[Panel], name: str, *, shared_x: bool = True) -> str:
    """Panels below each other as one picture; with `shared_x` only the last has numbers below."""
    top, groups = 26.0, []
    for place, panel in enumerate(panels):
        show_x = not shared_x or place == len(panels) - 1
        groups.append(panel.svg(top, show_x=show_x))
        top += panel.height + (66 if show_x else 32)
    return (
        f'<svg viewBox="0 0 {WIDTH} {top - 22:.0f}" role="img" aria-label="{html.escape(name)}" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="11.5">'
        f"<title>{html.escape(name)}</title>{''.join(groups)}</svg>"
    )
