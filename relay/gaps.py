"""Which numbers of a sequence were met, in an order that may be wrong: what is missing, and what was met before. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

At = TypeVar("At")


@dataclass(slots=True)
class _Gap(Generic[At]):
    first: int
    last: int
    at: At  # what was met behind it
    told: bool


class Gaps(Generic[At]):
    """Numbers from `first` to `end`, but for the gaps; None: none yet."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.end: int | None = None
        self._gaps: list[_Gap[At]] = []
        self._early: set[int] = set()  # met, and beyond the end

    def reach(self, number: int) -> None:
        """The next number, or the first of all."""
        if self.first is None:
            self.first = number
        while number + 1 in self._early:
            number += 1
            self._early.discard(number)
        self.end = number

    def note(self, number: int) -> None:
        """A number beyond the end, out of its turn."""
        self._early.add(number)

    def skip(self, number: int, at: At, *, told: bool) -> None:
        """A number beyond the end, and what is between is a gap; `told`: nobody has to be told of it."""
        first = (self.end or 0) + 1
        for early in (*sorted(one for one in self._early if one < number), number):
            if first < early:
                self._gaps.append(_Gap(first, early - 1, at, told))
            self._early.discard(early)
            first = early + 1
        self.reach(number)

    def met(self, number: int) -> bool:
        """Whether a number was met."""
        if self.first is None or self.end is None or not self.first <= number <= self.end:
            return number in self._early
        return self._of(number) is None

    def fill(self, number: int) -> None:
        """A number that was not met, from a gap or from before the first."""
        gap = self._of(number)
        if gap is not None:
            self._gaps.remove(gap)
            parts = ((gap.first, number - 1), (number + 1, gap.last))
            self._gaps += [_Gap(first, last, gap.at, gap.told) for first, last in parts if first <= last]
        elif self.first is not None and number == self.first - 1:
            self.first = number

    def missing(self) -> Iterator[tuple[int, int, At]]:
        """The gaps that nobody was told of: first, last, and what was met behind."""
        for gap in sorted((one for one in self._gaps if not one.told), key=lambda one: one.first):
            gap.told = True
            yield gap.first, gap.last, gap.at

    def _of(self, number: int) -> _Gap[At] | None:
        return next((gap for gap in self._gaps if gap.first <= number <= gap.last), None)
