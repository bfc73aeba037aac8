"""The charts over the size of the fleet, as one SVG with a panel each. Pure.

Both axes are logarithmic: fleets and times span three orders of magnitude. Drawn by hand: two panels of lines are less than a
plotting library is to install.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

from tests.bench.figures import Figure

PANEL: Final = (560, 360)  # width and height of a panel, in pixels
MARGIN: Final = (70, 20, 40, 50)  # left, right, top, bottom
COLOURS: Final = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#57606a", "#bf3989", "#0a3069")

Lines = Mapping[str, Sequence[tuple[float, float]]]
"""name of a line -> its points (x, y), both above 0."""


def charts(figures: Iterable[Figure]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """title -> line -> points, in the order in which they were measured; a floor is a line of its own."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for figure in figures:
        if figure.plot is None:
            continue
        title, line, size = figure.plot
        _add(found, title, line, size, figure.value.middle)
        if figure.floor:
            _add(found, title, f"{line}: {figure.beside}", size, sorted(figure.floor)[len(figure.floor) // 2])
    return found


def _add(found: dict[str, dict[str, list[tuple[float, float]]]], title: str, line: str, x: float, y: float) -> None:
    if y > 0:
        found.setdefault(title, {}).setdefault(line, []).append((x, y))


def svg(panels: Mapping[str, Lines]) -> str:
    """All panels, one below the other."""
    width, height = PANEL
    drawn = [
        f'<g transform="translate(0 {number * height})">{_panel(title, lines)}</g>' for number, (title, lines) in enumerate(panels.items())
    ]
    size = f'width="{width}" height="{height * len(drawn)}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">{"".join(drawn)}</svg>\n'


def _panel(title: str, lines: Lines) -> str:
    xs, ys = zip(*(point for points in lines.values() for point in points), strict=True)
    width, height = PANEL
    left, right, top, bottom = MARGIN
    across = Scale(min(xs), max(xs), left, width - right)
    up = Scale(min(ys), max(ys), height - bottom, top)
    parts = [f'<rect width="{width}" height="{height}" fill="white"/>', _text(left, 18, title, "start", bold=True)]
    parts += [_grid_x(across.at(x), x) for x in across.ticks()]
    parts += [_grid_y(up.at(y), y) for y in up.ticks()]
    for number, (name, points) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        parts.append(_line([(across.at(x), up.at(y)) for x, y in points], colour))
        parts.append(_text(width - right - 4, top + 12 + 14 * number, name, "end", colour))
    parts.append(_text((left + width - right) / 2, height - 12, "agents", "middle"))
    return "".join(parts)


class Scale:
    """A logarithmic axis from `least` to `most`, whole decades, on pixels `begin` to `end`."""

    def __init__(self, least: float, most: float, begin: float, end: float) -> None:
        self._low, self._high = math.floor(math.log10(least)), math.ceil(math.log10(most))
        if self._low == self._high:
            self._high += 1
        self._begin, self._end = begin, end

    def at(self, value: float) -> float:
        """The pixel of a value."""
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return round(self._begin + share * (self._end - self._begin), 1)

    def ticks(self) -> list[float]:
        """The decades."""
        return [10.0**power for power in range(self._low, self._high + 1)]


def _line(points: Sequence[tuple[float, float]], colour: str) -> str:
    path = " ".join(f"{x},{y}" for x, y in points)
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>{dots}'


def _grid_x(x: float, value: float) -> str:
    _, _, top, bottom = MARGIN
    height = PANEL[1]
    return f'<path d="M{x} {top}V{height - bottom}" stroke="#d0d7de"/>{_text(x, height - bottom + 15, _tick(value), "middle")}'


def _grid_y(y: float, value: float) -> str:
    left, right, _, _ = MARGIN
    return f'<path d="M{left} {y}H{PANEL[0] - right}" stroke="#d0d7de"/>{_text(left - 6, y + 4, _tick(value), "end")}'


def _tick(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#1f2328", *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{colour}"{weight}>{escape(text)}</text>'
