"""Whether what happened was shown: from the rows that looks saw, never from the rules that judge them.

A word on each Expected of the world's oracle:

    must          a source of the agent's own manager made it visible, and the stream heard of it while it was news
    never_shown   no source made it visible, or what it said of it never reached the stream
    superseded    by the time it reached the stream, something newer of the agent had
    may           the facts alone leave it open

Times are the world's, in seconds.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

from shared import models
from shared.models import AgentRow
from tests.truth.alike import kept_alive_only
from tests.truth.collectors import NEVER, Log, Sent, Version
from tests.truth.contacts import Stay
from tests.truth.dues import JITTER, Dues
from tests.world.config import Fact
from tests.world.facts import Facts
from tests.world.model import World
from tests.world.oracle import Expected

Word = Literal["must", "never_shown", "superseded", "may"]

_ROUNDING = 1.01  # seconds: rows hold whole ones
_HOUR = 3600.0
_MINUTES = 120.0
_JUST = 1e-3  # seconds: before the removal, as it is told
_ENDS = ("stopped", "died", "moved", "lost", "refused", "removed", "registered")


@dataclass(frozen=True, slots=True)
class Terms:
    """What the question was, in seconds. `lag`: how much later than the grace the whole fleet has told all."""

    until: float
    grace: float
    lag: float
    world: World  # for its clocks alone
    master: str
    dues: Dues
    deaf: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)  # when a node could not be heard
    wrong: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)  # when a node's clock was further off than the jitter


@dataclass(frozen=True, slots=True)
class Wanted:
    """One event that the oracle expects, and what was shown of it; `seen`: when the stream knew, `due`: by when it is told.
    `light`: when it came to light by its own manager's row, `copied`: or by the master's copy; 0 where it happened."""

    expected: Expected
    word: Word
    seen: float = NEVER
    due: float = NEVER
    light: float = 0.0
    copied: float = 0.0


class Shown:
    """Answers for one history."""

    def __init__(self, log: Log, history: Sequence[Fact], terms: Terms) -> None:
        self._log, self._terms = log, terms
        self._facts = Facts(history)
        self._nodes = sorted({node for node, _ in log.rows})
        self.excused: list[Wanted] = []
        self._registered: dict[tuple[int, str], float] = {}  # when the stream knew of a registration

    def weigh(self, wanted: Expected) -> Wanted:
        """To be asked in order of time."""
        match wanted.kind:
            case "connected":
                found = self._connected(wanted)
            case "disconnected":
                found = self._disconnected(wanted)
            case "registered" | "removed":
                found = self._registrar(wanted)
            case _:
                found = Wanted(wanted, "may")
        return found if found.due < NEVER else replace(found, due=self._latest(wanted))

    def _latest(self, wanted: Expected) -> float:
        """By when what need not be told can be: until all that could be heard of it was, and the grace is over."""
        since = wanted.at
        if wanted.kind in ("disconnected", "pending"):
            since = max(since, self._facts.next(wanted.agent_id, wanted.at, ("connected", "removed", "registered")))
        due = since + self._terms.grace + self._terms.lag
        for begin, end in sorted(span for spans in self._terms.deaf.values() for span in spans):
            if begin <= due and end >= wanted.at:
                due = max(due, end + self._terms.grace + self._terms.lag)
        return due

    # By kind --------------------------------------------------------------------------------------------------------

    def _registrar(self, wanted: Expected) -> Wanted:
        """The master alone says who is registered; by a row of that name while client.keys has it, or by none."""
        versions = self._from(self._terms.master, wanted.agent_id, wanted.at)
        registered = wanted.kind == "registered"
        over = self._facts.next(wanted.agent_id, wanted.at, ("removed",)) if registered else NEVER
        shown = (v for v in versions if v.look < over and (v.row is not None and v.row.name == wanted.name) == registered)
        version = next(shown, None)
        found = (
            Wanted(wanted, "never_shown") if version is None else self._heard(wanted, version, self._terms.dues.registered(version.sent.at))
        )
        if registered:
            self._registered[wanted.agent_id, wanted.name] = found.seen
        return found

    def _connected(self, wanted: Expected) -> Wanted:
        end = self._facts.next(wanted.agent_id, wanted.at, ("connected", "removed", "registered"))
        versions = self._log.rows.get((wanted.node, wanted.agent_id), [])
        place = bisect_left(versions, wanted.at, key=lambda version: version.look)
        sent = (v for before, v in pairwise([None, *versions][place:]) if not _kept_alive_only(before, v))
        found = next((v for v in sent if v is not None and v.look < end and _is(v, "active")), None)
        left = self._facts.next(wanted.agent_id, wanted.at, _ENDS)
        if self._raced(wanted, min(end, left)):
            return Wanted(wanted, "may")
        if found is None:  # the row said so before: that it is kept alive shows where it is no longer named as quiet
            found = self._kept_alive(wanted, min(end, left))
        if found is None:
            return Wanted(wanted, "never_shown")
        return self._weighed(wanted, found, self._terms.dues.connected(wanted.node, found.sent.at))

    def _disconnected(self, wanted: Expected) -> Wanted:
        end = self._facts.next(wanted.agent_id, wanted.at, ("connected", "removed", "registered"))
        versions = self._from(wanted.node, wanted.agent_id, wanted.at - 1)
        found = next((v for v in versions if v.look < end and _is(v, "disconnected")), None)
        if found is None:
            return Wanted(wanted, "never_shown" if wanted.certain else "may")
        if self._raced(wanted, self._until_changed(wanted.node, wanted.agent_id, found)):
            knock = replace(wanted, kind="pending", previous="Active", current="Pending", reason="raced", certain=False)
            self.excused.append(Wanted(knock, "may", due=self._latest(knock)))  # an older knock elsewhere may be all that is left to see
            return Wanted(wanted, "may")
        if not wanted.certain or self._was_elsewhere(wanted):
            return Wanted(wanted, "may")
        if found.row is None or found.row.code not in (models.CODE_RESET, None):  # before 4.6 any may be a reset
            return self._weighed(wanted, found, self._terms.dues.gone(found.look, found.sent.at))
        over = self._terms.dues.reset(wanted.node, found.sent.at)
        if self._facts.next(wanted.agent_id, found.look, ("started", "removed")) <= over or over >= self._terms.until:
            return Wanted(wanted, "may")
        return self._weighed(wanted, found, over)

    # What stands for and against ------------------------------------------------------------------------------------

    def _heard(self, wanted: Expected, version: Version, due: float) -> Wanted:
        if version.sent.at == NEVER:
            return Wanted(wanted, "never_shown")
        return Wanted(wanted, "must" if due < self._terms.until else "may", version.sent.at, due)

    def _weighed(self, wanted: Expected, version: Version, due: float) -> Wanted:
        """Nothing is told of an agent before its registration is known."""
        known_at = max(version.sent.at, self._registered.get((wanted.agent_id, wanted.name), 0.0))  # 0: at the baseline
        found = self._heard(wanted, replace(version, sent=Sent(known_at)), max(due, self._terms.dues.registered(known_at)))
        removed = self._facts.next(wanted.agent_id, wanted.at, ("removed",))
        if found.word == "must" and (removed <= known_at or self._newer_was_known(wanted, version, known_at)):
            return Wanted(wanted, "superseded", known_at)
        return replace(found, word="may") if found.word == "must" and self._is_mistimed(wanted, found.due) else found

    def _is_mistimed(self, wanted: Expected, due: float) -> bool:
        """Whether it was over before it had to be told, and a manager that the agent was with just before had a clock too far off
        for anybody to say what was first."""
        if self._facts.next(wanted.agent_id, wanted.at, (*_ENDS, "connected")) > due:
            return False
        nodes = {fact.node for fact in self._facts.between(wanted.agent_id, wanted.at - _MINUTES, wanted.at + _JUST)}
        spans = [span for node in nodes for span in self._terms.wrong.get(node, ())]
        return any(begin <= wanted.at <= end + _MINUTES for begin, end in spans)

    def _newer_was_known(self, wanted: Expected, version: Version, known_at: float) -> bool:
        """Whether a later contact was known, or that the agent is no longer there."""
        for node in self._nodes:
            for other in self._from(node, wanted.agent_id, wanted.at):
                if other is not version and other.sent.at <= known_at:
                    gone = other.row is None and other.look > version.look and node in (wanted.node, self._terms.master)
                    if gone or self._contact(node, other) > wanted.at + _ROUNDING:
                        return True
        return False

    def _contact(self, node: str, version: Version) -> float:
        """When the agent was last heard of by a row; by the world's clock."""
        row = version.row
        if row is None:
            return 0.0
        if row.status == "disconnected" and row.code == models.CODE_STOPPED:
            return self._terms.world.nodes[self._whose(node, row)].world_time(row.disconnection_time)
        return 0.0 if row.last_keepalive is None else self._terms.world.nodes[node].world_time(row.last_keepalive)

    def _whose(self, node: str, row: AgentRow) -> str:
        """By whose clock a stop was written: a copy's by the worker's that shows the same."""
        versions = self._log.rows.get((row.node_name or "", row.id), [])
        same = any(one.row is not None and one.row.disconnection_time == row.disconnection_time for one in versions)
        return row.node_name if same and row.node_name is not None else node

    def _raced(self, wanted: Expected, end: float) -> bool:
        """Whether it was written on the master within a sync's jitter of a contact with a worker, whose sync may still overwrite it
        (wazuh/wazuh#24401), and was over before anybody could tell: by one more keepalive, or by the silence of that worker."""
        if wanted.node != self._terms.master:
            return False
        since = wanted.at - JITTER
        recent = [
            fact.at
            for fact in self._facts.between(wanted.agent_id, since, wanted.at)
            if (fact.node != wanted.node and fact.what in ("started", "connected", "stopped"))
            or (fact.what == "moved" and fact.node == wanted.node)
        ]
        return bool(recent) and end <= self._terms.dues.quiet_is_known(max(recent)) + JITTER

    def _was_elsewhere(self, wanted: Expected) -> bool:
        """Whether it was back before another manager, that it had left just before, could tell that it is not there."""
        back = self._facts.next(wanted.agent_id, wanted.at, ("started", "removed"))
        left = (fact.value for fact in self._facts.between(wanted.agent_id, wanted.at - _HOUR, wanted.at) if fact.what in ("moved", "lost"))
        return any(back <= self._terms.dues.quiet_is_known(contact) for contact in left)

    def served_after_removal(self, stays: Iterable[Stay]) -> Iterator[Wanted]:
        """A worker that did not know yet let an agent in after its removal; until the master's table tells, it has come."""
        removed = {(fact.agent, fact.name): fact.at for fact in self._facts if fact.what == "removed"}
        for stay in stays:
            at = removed.get(stay.agent, NEVER)
            if at < stay.first < stay.end:
                number, name = stay.agent
                back = Expected(number, name, "connected", "NeverConnected", "Active", at - _JUST, "removed", certain=False, node=stay.node)
                yield Wanted(back, "may", due=self._latest(back))

    def _kept_alive(self, wanted: Expected, end: float) -> Version | None:
        """A version from before that stands while a look came by that told who is quiet, and would have named it for the silence before."""
        versions = self._log.rows.get((wanted.node, wanted.agent_id), [])
        place = bisect_right(versions, wanted.at, key=lambda version: version.look)
        before = versions[place - 1] if place else None
        if before is None or not _is(before, "active"):
            return None
        changed = (version.look for version in versions[place:] if not _kept_alive_only(before, version))
        over = min(end, next(changed, NEVER))
        quiets = self._log.quiets.get(wanted.node, [])
        first = bisect_left(quiets, wanted.at + self._terms.dues.quiet(wanted.node), key=lambda quiet: quiet[0])
        told = next((quiet for quiet in quiets[first:] if quiet[1].at < NEVER or quiet[0] >= over), None)
        return None if told is None or told[0] >= over else Version(told[0], before.row, told[1])

    # Looking up -----------------------------------------------------------------------------------------------------

    def _from(self, node: str, number: int, at: float) -> Sequence[Version]:
        versions = self._log.rows.get((node, number), [])
        return versions[bisect_left(versions, at, key=lambda version: version.look) :]

    def _until_changed(self, node: str, number: int, version: Version) -> float:
        following = [
            other.look for other in self._from(node, number, version.look) if other is not version and not _is(other, "disconnected")
        ]
        return following[0] if following else NEVER


def _kept_alive_only(before: Version | None, version: Version | None) -> bool:
    rows = (None if before is None else before.row, None if version is None else version.row)
    return rows[0] is not None and rows[1] is not None and kept_alive_only(rows[0], rows[1])


def _is(version: Version, status: str) -> bool:
    return version.row is not None and version.row.status == status
