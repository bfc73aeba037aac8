"""Compares what was told with what should have been: per agent, in order.

A body whose previous and current status are equal (moved, overdue, …) tells of no change and is passed over. Two bodies
with one event_id are one event and a duplicate. A body fits an Expected of the same agent, name and current status if its
previous status is the expected one, or the one that was told last of this agent (where an uncertain event came between).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Status = Literal["Active", "Disconnected", "NeverConnected", "Pending", "Unknown"]
Kind = Literal["registered", "connected", "disconnected", "pending", "removed"]
Body = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Expected:
    """One event that must (`certain`) or may be told. `at`: the earliest world time it can be about.

    `outage` joins the uncertain beginning and end of one outage: if the beginning is told the end must be; 0 where it has no
    pair. `also` is another previous status that would be true too. `node`: the manager whose table shows it first.
    `earliest`: when it may be told already, where that is before `at` (an outage of which an earlier word may be told).
    """

    agent_id: int
    name: str
    kind: Kind
    previous: Status
    current: Status
    at: float
    reason: str = ""
    certain: bool = True
    outage: int = 0
    also: Status | None = None
    node: str = ""
    earliest: float = float("inf")


@dataclass(frozen=True, slots=True)
class Verdict:
    """lost: certain, and never told. duplicates: told again. false: told, and never true. unverified: told, and possibly true."""

    lost: tuple[Expected, ...] = ()
    duplicates: tuple[Body, ...] = ()
    false: tuple[Body, ...] = ()
    unverified: tuple[Body, ...] = ()
    matched: int = 0

    @property
    def clean(self) -> bool:
        return not (self.lost or self.duplicates or self.false)


def compare(expected: Iterable[Expected], events: Iterable[Body]) -> Verdict:
    """`events`: published bodies with at least agent_id, agent_name, previous_status, current_status, event_id, in order."""
    bodies, duplicates = _once(events)
    wanted: dict[int, list[Expected]] = {}
    for one in expected:
        wanted.setdefault(one.agent_id, []).append(one)
    told: dict[int, list[Body]] = {}
    for body in bodies:
        told.setdefault(int(str(body["agent_id"])), []).append(body)
    parts = [_one_agent(wanted.get(number, []), told.get(number, [])) for number in sorted({*wanted, *told})]
    return Verdict(
        lost=tuple(one for part in parts for one in part.lost),
        duplicates=tuple(duplicates),
        false=tuple(body for part in parts for body in part.false),
        unverified=tuple(body for part in parts for body in part.unverified),
        matched=sum(part.matched for part in parts),
    )


def _once(events: Iterable[Body]) -> tuple[list[Body], list[Body]]:
    """Bodies that tell of a change, each event once; and the repetitions."""
    seen: set[object] = set()
    first: list[Body] = []
    again: list[Body] = []
    for body in events:
        (again if body["event_id"] in seen else first).append(body)
        seen.add(body["event_id"])
    return [body for body in first if body["previous_status"] != body["current_status"]], again


def _one_agent(wanted: Sequence[Expected], told: Sequence[Body]) -> Verdict:
    alignment = _Alignment(wanted, told)
    pairs, lost = alignment.walk()
    bodies = {body for _, body in pairs}
    return Verdict(
        lost=tuple(wanted[place] for place in lost),
        false=tuple(body for place, body in enumerate(told) if place not in bodies),
        unverified=tuple(told[body] for expected, body in pairs if not wanted[expected].certain),
        matched=len(pairs),
    )


class _Alignment:
    """The pairing in order that leaves the fewest events that had to be told, and the fewest bodies, alone.

    A state is (place in `wanted`, place in `told`, whether the uncertain beginning of the current outage was told).
    """

    def __init__(self, wanted: Sequence[Expected], told: Sequence[Body]) -> None:
        self._wanted = wanted
        self._fits = [[_fits(one, body, told[place - 1] if place else None) for place, body in enumerate(told)] for one in wanted]
        rows, columns = len(wanted), len(told)
        self._cost = [[[0.0, 0.0] for _ in range(columns + 1)] for _ in range(rows + 1)]
        for row in range(rows, -1, -1):
            for column in range(columns, -1, -1):
                for begun in (False, True):
                    options = [cost for cost, *_ in self._options(row, column, begun)]
                    self._cost[row][column][begun] = min(options, default=0.0)

    def walk(self) -> tuple[list[tuple[int, int]], list[int]]:
        """The pairs, and the places in `wanted` of what is lost."""
        pairs: list[tuple[int, int]] = []
        lost: list[int] = []
        row, column, begun = 0, 0, False
        while options := self._options(row, column, begun):
            _, to_row, to_column, to_begun = min(options, key=lambda option: option[0])  # the first of equals: a pair
            if to_row > row and to_column > column:
                pairs.append((row, column))
            elif to_row > row and self._missed(row, begun):
                lost.append(row)
            row, column, begun = to_row, to_column, to_begun
        return pairs, lost

    def _options(self, row: int, column: int, begun: bool) -> list[tuple[float, int, int, bool]]:
        """Pair both, leave the expected one out, leave the body out: the cost of each and the state after it."""
        found: list[tuple[float, int, int, bool]] = []
        below, beside = row < len(self._wanted), column < len(self._cost[0]) - 1
        if below and beside and self._fits[row][column]:
            after = self._after(row, begun, told=True)
            found.append((self._cost[row + 1][column + 1][after], row + 1, column + 1, after))
        if below:
            after = self._after(row, begun, told=False)
            found.append((self._cost[row + 1][column][after] + self._missed(row, begun), row + 1, column, after))
        if beside:
            found.append((self._cost[row][column + 1][begun] + 1.0, row, column + 1, begun))
        return found

    def _missed(self, row: int, begun: bool) -> bool:
        """Whether leaving it out is a loss."""
        one = self._wanted[row]
        return one.certain or (one.kind == "connected" and one.outage > 0 and begun)

    def _after(self, row: int, begun: bool, *, told: bool) -> bool:
        one = self._wanted[row]
        if one.kind == "disconnected" and one.outage:
            return told
        return begun and one.kind != "connected"


def _fits(one: Expected, body: Body, before: Body | None) -> bool:
    previous = body["previous_status"]
    # An uncertain event that is the first of its agent may follow on what the baseline showed.
    chained = not one.certain if before is None else previous == before["current_status"]
    same = body["current_status"] == one.current and body["agent_name"] == one.name
    return same and (previous in (one.previous, one.also) or chained)
