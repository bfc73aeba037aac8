"""When each node could be heard, from what reached the stream: the terms on which something must be told.

Times are the world's, in seconds.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence

from tests.truth.lines import Arrival

NEVER = float("inf")
_FRESH = 25.0  # seconds: within this a node is surely fresh by the relay's terms (30), whatever the delay of its messages


class Hearing:
    """Answers about every node. `stale`: seconds after which the relay takes a node for unheard."""

    def __init__(self, arrivals: Mapping[str, Sequence[Arrival]], stale: float) -> None:
        self.stale = stale
        self._silences: dict[tuple[str, float], list[tuple[float, float]]] = {}
        self._live = {node: [one for one in said if one.readable and one.at - one.look <= stale] for node, said in arrivals.items()}
        self._told = {node: [one for one in said if one.readable and one.proved] for node, said in arrivals.items()}
        self._quiet = {node: [one for one in said if one.quiet] for node, said in self._told.items()}

    @property
    def nodes(self) -> list[str]:
        return list(self._live)

    def silences(self, node: str, longer: float) -> Sequence[tuple[float, float]]:
        """(when it was last read, when it was heard again) of each time that a node was unheard for longer than that."""
        if (node, longer) not in self._silences:
            self._silences[node, longer] = list(self._find_silences(node, longer))
        return self._silences[node, longer]

    def _find_silences(self, node: str, longer: float) -> Iterator[tuple[float, float]]:
        before: Arrival | None = None
        for one in self._live[node]:
            if before is not None and one.at - before.look > longer:
                yield before.look, one.at
            before = one
        if before is not None:
            yield before.look, NEVER

    def is_heard(self, node: str, begin: float, end: float) -> bool:
        """Whether it was surely fresh all the while."""
        said = self._live[node]
        first = bisect_right(said, begin, key=lambda one: one.at) - 1
        if first < 0 or begin - said[first].look > _FRESH:
            return False
        for place in range(first, len(said)):
            if said[place].look >= end:
                return True
            following = said[place + 1].at if place + 1 < len(said) else NEVER
            if min(following, end) - said[place].look > _FRESH:
                return False
        return False

    def as_of(self, node: str, at: float, *, quiet: bool = False) -> float:
        """Up to when the node's rows were known at `at`, or who is quiet."""
        told = (self._quiet if quiet else self._told)[node]
        place = bisect_right(told, at, key=lambda one: one.look) - 1
        return told[place].as_of if place >= 0 else 0.0

    def known_at(self, node: str, at: float, *, quiet: bool = False) -> float:
        """When the stream knew all that the node's rows held at `at`, or who was quiet then; NEVER if it never did."""
        told = (self._quiet if quiet else self._told)[node]
        place = bisect_left(told, at, key=lambda one: one.as_of)
        return told[place].at if place < len(told) else NEVER

    def all_known_at(self, at: float, *, quiet: bool = False) -> float:
        """When every node that could be heard had told all up to `at`: until then nobody can say that nothing came (rule 9)."""
        now = at
        while (later := max(self._waited_for(node, at, now, quiet=quiet) for node in self._live)) > now:
            now = later
        return now

    def _waited_for(self, node: str, at: float, now: float, *, quiet: bool) -> float:
        """The first time from `now` on at which a node is not waited for: it has told, or it is no longer fresh."""
        known, said = self.known_at(node, at, quiet=quiet), self._live[node]
        place = bisect_right(said, now, key=lambda one: one.at) - 1
        while known > now and place >= 0:
            gone = said[place].look + self.stale + 2.0
            following = said[place + 1].at if place + 1 < len(said) else NEVER
            if following > gone:
                return max(now, min(known, gone))
            if following >= known:
                return known
            place += 1
        return now
