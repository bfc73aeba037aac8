"""The table for people. Pure."""

from collections.abc import Sequence
from itertools import groupby

from tests.bench.figures import Bar, Figure, Spread

HEAD = ("figure", "unit", "min", "median", "max", "floor or peer", "ratio", "bar", "")
_LEFT = (0, 1, 5)  # columns of words


def lines(figures: Sequence[Figure]) -> list[str]:
    """The table, part by part, and below it what is to be said of single figures."""
    rows = [(part, [row(figure) for figure in of]) for part, of in groupby(figures, lambda figure: figure.part)]
    widths = [max(len(one[i]) for one in (HEAD, *(row for _, of in rows for row in of))) for i in range(len(HEAD))]
    table = [_line(HEAD, widths), "-" * (sum(widths) + 2 * len(widths) - 2)]
    for part, of in rows:
        table += [part, *(_line(one, widths) for one in of)]
    notes = [f"{figure.part}, {figure.name}: {figure.note}" for figure in figures if figure.note]
    return [*table, "", *notes] if notes else table


def row(figure: Figure) -> tuple[str, ...]:
    """A figure's cells."""
    value, ratio = figure.value, figure.ratio
    beside = f"{figure.beside} {number(_middle(figure))}" if figure.floor else ""
    return (
        f"  {figure.name}",
        figure.unit,
        *map(number, (value.least, value.middle, value.most)),
        beside,
        "" if ratio is None else f"{number(ratio.middle)} ({number(ratio.least)}-{number(ratio.most)})",
        "" if figure.bar is None else bar(figure.bar),
        {None: "", True: "met", False: "NOT MET"}[figure.met],
    )


def number(value: float) -> str:
    """Three digits that mean something."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def bar(of: Bar) -> str:
    """A bar in a few characters."""
    return f"{'<=' if of.sense == 'at most' else '>='} {number(of.limit)}{' x' if of.of == 'ratio' else ''}"


def _middle(figure: Figure) -> float:
    return Spread(min(figure.floor), sorted(figure.floor)[len(figure.floor) // 2], max(figure.floor)).middle


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) if i in _LEFT else cell.rjust(width) for i, (cell, width) in enumerate(zip(cells, widths, strict=True)))
    return "  ".join(padded).rstrip()
