"""What is measured, as values: a figure of several rounds, beside its floor or peer of the same rounds, and its bar. Pure."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Spread:
    """The machine's noise: the least, the middle and the greatest of several rounds."""

    least: float
    middle: float
    most: float


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure must keep: `at most` or `at least` so much; of the value itself, or of its ratio to floor or peer."""

    sense: Literal["at most", "at least"]
    limit: float
    of: Literal["value", "ratio"] = "value"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured thing. `rounds` and `floor` in `unit`; where they are as many, round i of both was measured side by side."""

    part: str
    name: str
    unit: str
    rounds: tuple[float, ...]
    floor: tuple[float, ...] = ()
    beside: str = ""  # what the floor or the peer is
    bar: Bar | None = None
    note: str = ""
    plot: tuple[str, str, int] | None = None  # chart, line, size of the fleet

    @property
    def value(self) -> Spread:
        """Of our rounds."""
        return spread(self.rounds)

    @property
    def ratio(self) -> Spread | None:
        """Ours to the floor, round by round; None where there is no floor to divide by."""
        if not self.floor or not all(self.floor):
            return None
        paired = len(self.rounds) == len(self.floor)
        floors = self.floor if paired else (median(self.floor),) * len(self.rounds)
        return spread([ours / floor for ours, floor in zip(self.rounds, floors, strict=True)])

    @property
    def met(self) -> bool | None:
        """Whether the middle round keeps the bar; None where there is none."""
        judged = self.value if self.bar is None or self.bar.of == "value" else self.ratio
        if self.bar is None or judged is None:
            return None
        return judged.middle <= self.bar.limit if self.bar.sense == "at most" else judged.middle >= self.bar.limit


def spread(values: Sequence[float]) -> Spread:
    """Least, middle and greatest of one or more values."""
    return Spread(min(values), median(values), max(values))


def quantile(values: Sequence[float], share: float) -> float:
    """The value below or at which `share` (0 to 1) of one or more values are: the nearest rank, so that it was really measured."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def as_json(figure: Figure) -> dict[str, Any]:
    """A figure as the JSON line says it."""
    ratio = figure.ratio
    return {
        "part": figure.part,
        "name": figure.name,
        "unit": figure.unit,
        "value": asdict(figure.value),
        "rounds": list(figure.rounds),
        "beside": figure.beside,
        "floor": asdict(spread(figure.floor)) if figure.floor else None,
        "ratio": None if ratio is None else asdict(ratio),
        "bar": None if figure.bar is None else asdict(figure.bar),
        "met": figure.met,
        "note": figure.note,
    }
