"""When to look, when to speak, and how often agents keep alive. Pure: every time is an argument, in monotonic seconds.

Rules
 * A probe may take `budget` of the source's time: after one that cost c seconds the next waits c / budget, smoothed, but
   never less than FASTEST nor more than wazuh.poll_interval.
 * Something is said at each poll_interval at the latest, and the whole table every full_interval. A plan that was missed
   is not made up for: what matters is the newest state.
 * The keepalive rhythm is learnt from the agents themselves: Wazuh does not keep it anywhere, it differs between
   versions, and remoted of 5.0 writes only once a minute what agents send every ten seconds.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

FASTEST: Final = 0.036  # seconds between two probes: 26 a second take less than a hundredth of a core (`make bench`)
SMOOTHING: Final = 1 / 16  # share of the newest cost: one slow answer must not blind us for long

SAMPLE_SIZE: Final = 32  # agents whose keepalives are followed
DIFFERENCES: Final = 64  # the latest differences that count: about two periods of a full sample
ENOUGH: Final = 8  # differences before anything is said
AGES: Final = 64  # the latest ages that count
MANY: Final = 24  # agents whose ages are known before they say anything: fewer may all keep alive just before each look
HIGH_QUANTILE: Final = 0.95  # of the ages: one in twenty keepalives may be lost
LOW_QUANTILE: Final = 0.25  # a look that comes too late sees two periods as one; the lower quarter is rarely such a one
SHORTEST_PERIOD: Final = 1  # seconds
LONGEST_PERIOD: Final = 3600


class Pace:
    """How long to wait between two probes. `budget` is a share, `longest` seconds."""

    def __init__(self, budget: float, longest: float) -> None:
        self._budget = budget
        self._longest = longest
        self._cost: float | None = None
        self.wait = min(FASTEST, longest)
        """Seconds until the next probe."""

    def spent(self, cost: float) -> None:
        """A probe kept the source busy for `cost` seconds."""
        self._cost = cost if self._cost is None else self._cost + SMOOTHING * (cost - self._cost)
        self.wait = min(max(self._cost / self._budget, FASTEST), self._longest)


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be said now even without news."""

    beat: bool
    full: bool


class Plan:
    """The times at which something must be said. The first look is due at once, with a full."""

    def __init__(self, now: float, poll_interval: float, full_interval: float) -> None:
        self._poll_interval = poll_interval
        self._full_interval = full_interval
        self._beat_at = now
        self._full_at = now
        self._back_at = now

    def due(self, now: float) -> Due:
        """What is due."""
        return Due(beat=now >= self._beat_at, full=now >= self._full_at)

    def said(self, now: float, due: Due) -> None:
        """This was said."""
        if due.beat:
            self._beat_at = _next(self._beat_at, self._poll_interval, now)
        if due.full:
            self._full_at = _next(self._full_at, self._full_interval, now)

    def rest(self, now: float, longest: float) -> float:
        """Seconds until the next look: `longest`, or until a beat is due. A full waits for the look after its time."""
        seconds = max(0.0, min(longest, self._beat_at - now))
        self._back_at = now + seconds
        return seconds

    def late(self, now: float) -> float:
        """Seconds by which this look is behind the plan that `rest` made."""
        return max(0.0, now - self._back_at)


def _next(planned: float, interval: float, now: float) -> float:
    """One interval after the plan, so that nothing drifts; after `now` where that was missed as well."""
    following = planned + interval
    return following if following > now else now + interval


class Rhythm:
    """Learns the time between two keepalives of an agent, from a sample of active ones.

    Who looks more rarely than agents keep alive (a file is written once a minute) sees a multiple of the period. How old the
    keepalives of agents are that go on living then says which: nobody's is older than one period.
    """

    def __init__(self, known: int = 0) -> None:
        """`known`: the period (ms) that was learnt by whoever looked before; it counts until another is learnt."""
        self._known = known
        self._last: dict[int, int | None] = {}
        self._differences: deque[int] = deque(maxlen=DIFFERENCES)
        self._age: dict[int, int] = {}
        self._ages: deque[tuple[int, int]] = deque(maxlen=AGES)
        self._looked_at = self._between = 0

    @property
    def sample(self) -> tuple[int, ...]:
        """The ids to ask for."""
        return tuple(self._last)

    @property
    def period(self) -> int:
        """Milliseconds; 0 while nobody has learnt it."""
        if len(self._differences) < ENOUGH:
            return self._known
        ordered = sorted(self._differences)
        seen = max(SHORTEST_PERIOD, ordered[int(len(ordered) * LOW_QUANTILE)])
        return 1000 * seen // self._multiple(seen)

    def _multiple(self, seen: int) -> int:
        """How many periods are in what was seen as one."""
        if self._between < seen or len({number for number, _ in self._ages}) < MANY:
            return 1
        oldest = sorted(age for _, age in self._ages)[int(len(self._ages) * HIGH_QUANTILE)]
        return max(1, seen // max(oldest, SHORTEST_PERIOD))

    def choose(self, active: Iterable[tuple[int, int]]) -> None:
        """Follow up to SAMPLE_SIZE of these agents (id, last_keepalive): those already followed, then the last heard.

        A worker's table has a row for every agent of the cluster, and most of them never move there.
        """
        followed: dict[int, int] = {}
        others = heapq.nlargest(SAMPLE_SIZE, self._unfollowed(active, followed))
        newest = max([*followed.values(), *(at for at, _ in others)], default=0)
        kept = {number: self._last[number] for number, at in followed.items() if newest - at <= LONGEST_PERIOD}
        self._age = {number: age for number, age in self._age.items() if number in kept}
        self._last = dict(itertools.islice(itertools.chain(kept.items(), ((n, None) for _, n in others)), SAMPLE_SIZE))

    def _unfollowed(self, active: Iterable[tuple[int, int]], followed: dict[int, int]) -> Iterator[tuple[int, int]]:
        for number, at in active:
            if number in self._last:
                followed[number] = at
            else:
                yield at, number

    def note(self, keepalives: Iterable[tuple[int, int]], now: int) -> None:
        """Take in (id, last_keepalive) as they were at `now`, in Unix seconds; agents that are not followed are ignored."""
        self._between, self._looked_at = now - self._looked_at, now
        for number, at in keepalives:
            if number in self._last:
                before = self._last[number]
                self._last[number] = at
                if before is not None and SHORTEST_PERIOD <= at - before <= LONGEST_PERIOD:
                    self._differences.append(at - before)
                    self._ages.append((number, self._age.get(number, 0)))  # it was alive then
                self._age[number] = max(0, now - at)
