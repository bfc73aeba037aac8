"""Holds what was told against what was wanted, agent by agent and in order.

An event fits an expected one of the same agent, name and current status, not before it happened nor after it was due. What must be told and
was not is *missed*, unless the status that was told last is the one that it would have said: then there was nothing to tell.
What was told and fits nothing is *false*, and so is one whose previous status is not the one told before.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tests.truth.shown import Wanted

_NEARER = 1e-9  # cost of a second between the two of a pair: of equal pairings the one that is nearest in time
_UNTOLD = 1e-4  # cost of one that need not be told and was not: what was told is rather this than what merely may be told
_EARLY = 2.0  # seconds: rows hold whole ones, and the oracle's earliest is an estimate by as much

Status = Literal["Active", "Disconnected", "NeverConnected", "Pending", "Unknown"]


@dataclass(frozen=True, slots=True)
class Said:
    """One change that was told, by whomever. `at`: the world's time, in seconds."""

    agent_id: int
    name: str
    previous: str
    current: str
    at: float
    event_id: str = ""
    node: str = ""
    reason: str = ""
    about: float = 0.0  # the fact's time by Wazuh's record, 0 unknown


@dataclass(slots=True)
class Verdict:
    """What became of all that was wanted and told."""

    pairs: list[tuple[Wanted, Said]] = field(default_factory=list)
    missed: list[Wanted] = field(default_factory=list)
    false: list[Said] = field(default_factory=list)
    untold: list[Wanted] = field(default_factory=list)  # that could not be told: never shown, or superseded
    must: int = 0

    def count(self, word: str) -> int:
        return sum(wanted.word == word for wanted in self.untold)


def judge(wanted: Iterable[Wanted], said: Iterable[Said], initial: Mapping[int, str]) -> Verdict:
    """`initial`: the status of agents that were there at the baseline; all others are Unknown."""
    wants: dict[int, list[Wanted]] = {}
    for one in wanted:
        wants.setdefault(one.expected.agent_id, []).append(one)
    tells: dict[int, list[Said]] = {}
    for told in said:
        tells.setdefault(told.agent_id, []).append(told)
    verdict = Verdict()
    for number in sorted({*wants, *tells}):
        status = initial.get(number, "Unknown")
        for some, lines in _apart(wants.get(number, []), tells.get(number, [])):
            orders = (_Agent(sorted(some, key=key), lines, status) for key in _ORDERS)
            min(orders, key=lambda agent: agent.cost).into(verdict)
            status = lines[-1].current if lines else status
    return verdict


def _apart(wanted: Sequence[Wanted], said: Sequence[Said]) -> Iterator[tuple[list[Wanted], list[Said]]]:
    """What can have to do with one another, in order of time: nothing of one part fits anything of the next."""
    items: list[tuple[float, float, Wanted | Said]] = [(_from(one), one.due, one) for one in wanted]
    items += [(one.at, one.at, one) for one in said]
    some: list[Wanted] = []
    told: list[Said] = []
    over = float("-inf")
    for begin, end, one in sorted(items, key=lambda item: item[0]):
        if begin > over and (some or told):
            yield some, told
            some, told = [], []
        over = max(over, end)
        if isinstance(one, Said):
            told.append(one)
        else:
            some.append(one)
    yield some, told


_ORDERS: tuple[Callable[[Wanted], float], ...] = (
    lambda wanted: wanted.expected.at,
    lambda wanted: wanted.light or wanted.expected.at,
    lambda wanted: wanted.copied or wanted.light or wanted.expected.at,
)
"""What is told is told in the order in which it came to light: as it happened, as the managers' own rows told, or their copies."""


def _from(wanted: Wanted) -> float:
    """From when on it may be told."""
    return min(wanted.expected.at, wanted.expected.earliest) - _EARLY


class _Agent:
    """The pairing in order that leaves the least alone. A state is (place in wanted, place in said): the status that was
    told last is that of the place before."""

    def __init__(self, wanted: Sequence[Wanted], said: Sequence[Said], initial: str) -> None:
        self._wanted, self._said = wanted, said
        self._status = [initial, *(told.current for told in said)]
        rows, columns = len(wanted), len(said)
        self._cost = [[0.0] * (columns + 1) for _ in range(rows + 1)]
        for row in range(rows, -1, -1):
            for column in range(columns, -1, -1):
                self._cost[row][column] = min((option[0] for option in self._options(row, column)), default=0.0)

    @property
    def cost(self) -> float:
        """How much is left alone."""
        return self._cost[0][0]

    def into(self, verdict: Verdict) -> None:
        row = column = 0
        matched: list[Said] = []
        while options := self._options(row, column):
            _, to_row, to_column = min(options, key=lambda option: option[0])  # the first of equals: a pair
            if to_row > row and to_column > column:
                verdict.pairs.append((self._wanted[row], self._said[column]))
                matched.append(self._said[column])
                verdict.must += self._wanted[row].word == "must"
            elif to_row > row:
                self._left_out(row, column, verdict)
            else:
                verdict.false.append(self._said[column])
            row, column = to_row, to_column
        broken = [told for told, before in zip(self._said, self._status, strict=False) if told.previous != before]
        verdict.false += [told for told in broken if told.event_id and told in matched]

    def _left_out(self, row: int, column: int, verdict: Verdict) -> None:
        wanted = self._wanted[row]
        if self._is_missed(row, column):
            verdict.missed.append(wanted)
            verdict.must += 1
        elif self._status[column] != wanted.expected.current and wanted.word != "may":
            verdict.untold.append(wanted)

    def _options(self, row: int, column: int) -> list[tuple[float, int, int]]:
        found = []
        below, beside = row < len(self._wanted), column < len(self._said)
        if below and beside and self._fits(row, column):
            apart = abs(self._said[column].at - self._wanted[row].expected.at) * _NEARER
            found.append((self._cost[row + 1][column + 1] + apart, row + 1, column + 1))
        if below:
            untold = self._wanted[row].word in ("never_shown", "superseded") and self._status[column] != self._wanted[row].expected.current
            found.append((self._cost[row + 1][column] + self._is_missed(row, column) + untold * _UNTOLD, row + 1, column))
        if beside:
            found.append((self._cost[row][column + 1] + 1.0, row, column + 1))
        return found

    def _is_missed(self, row: int, column: int) -> bool:
        return self._wanted[row].word == "must" and self._status[column] != self._wanted[row].expected.current

    def _fits(self, row: int, column: int) -> bool:
        expected, told = self._wanted[row].expected, self._said[column]
        same = expected.current == told.current and expected.name == told.name
        return same and _from(self._wanted[row]) <= told.at <= self._wanted[row].due
