"""A world's history by agent, looked up by time."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

from .config import Fact

NEVER: Final = float("inf")


class Facts:
    """What truly happened, in order of time."""

    def __init__(self, history: Sequence[Fact]) -> None:
        self._facts: dict[int, list[Fact]] = {}
        for fact in history:
            self._facts.setdefault(fact.agent, []).append(fact)
        self._times = {number: [fact.at for fact in facts] for number, facts in self._facts.items()}

    def __iter__(self) -> Iterator[Fact]:
        return (fact for facts in self._facts.values() for fact in facts)

    def between(self, number: int, begin: float, end: float) -> Sequence[Fact]:
        """An agent's facts in [begin, end)."""
        times = self._times.get(number, [])
        return self._facts.get(number, [])[bisect_left(times, begin) : bisect_left(times, end)]

    def next(self, number: int, at: float, what: Sequence[str]) -> float:
        """When the first of these happened to an agent after `at`; NEVER where it did not."""
        facts = self._facts.get(number, [])
        place = bisect_right(self._times.get(number, []), at)
        return next((fact.at for fact in facts[place:] if fact.what in what), NEVER)
