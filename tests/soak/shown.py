"""Whether what happened reached the stream while it was news: from the rows that stand in RAW, never from the relay's rules.

A word on each Expected of the world's oracle, as `tests.truth.shown` gives it for looks in virtual time:

    must          a row of the agent's own manager showed it, and the stream had that row while it was news
    never_shown   no row in RAW shows it
    superseded    by the time it reached the stream, something newer of the agent had
    may           the facts alone leave it open

Times are Unix seconds. Rows hold times of their node's clock, which the world knows how to read.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from shared import models
from tests.soak.raw import Log, Span, Version
from tests.truth.shown import Wanted
from tests.world.config import Fact
from tests.world.facts import Facts
from tests.world.model import World
from tests.world.oracle import Expected

NEVER: Final = float("inf")
_ROUNDING: Final = 1.01  # seconds: rows hold whole ones
_HOUR: Final = 3600.0
_BRIEF: Final = 1.0  # seconds: the row follows client.keys by less
_ENDS: Final = ("stopped", "died", "moved", "lost", "refused", "removed", "registered")


@dataclass(frozen=True, slots=True)
class Terms:
    """What the question was, in seconds. `lag`: how much later than the grace the whole fleet has told all."""

    until: float
    grace: float
    lag: float
    world: World  # for its clocks alone
    master: str
    race: float  # how long a worker's sync may still overwrite what the master's own remoted wrote: its jitter and a keepalive
    quiet: float  # how long after its last contact an agent is named as quiet
    deaf: Mapping[str, Sequence[Span]] = field(default_factory=dict)  # when a node could not be heard, or its manager was away
    silent: Mapping[str, Sequence[Span]] = field(default_factory=dict)  # when it could not be heard


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
        over = since + self._terms.grace
        spans = [span for node in (wanted.node, self._terms.master) for span in self._terms.deaf.get(node, ())]
        later = [end + self._terms.grace for begin, end in spans if begin <= over and end >= wanted.at]
        return max([over, *later]) + self._terms.lag

    # By kind --------------------------------------------------------------------------------------------------------

    def _registrar(self, wanted: Expected) -> Wanted:
        """The master alone says who is registered; by a row of that name, or by none."""
        versions = self._from(self._terms.master, wanted.agent_id, wanted.at)
        registered = wanted.kind == "registered"
        over = self._facts.next(wanted.agent_id, wanted.at, ("removed",)) if registered else NEVER
        shown = (
            v for v in versions if v.look <= over + self._terms.lag and (v.row is not None and v.row.name == wanted.name) == registered
        )
        version = next(shown, None)
        found = Wanted(wanted, "never_shown") if version is None else self._heard(wanted, version)
        if registered and over < wanted.at + _BRIEF and found.word == "must":  # client.keys, which comes first, no longer names it
            found = replace(found, word="may")
        if registered:
            self._registered[wanted.agent_id, wanted.name] = found.seen
        return found

    def _connected(self, wanted: Expected) -> Wanted:
        end = self._facts.next(wanted.agent_id, wanted.at, ("connected", "removed", "registered"))
        found = next((v for v in self._from(wanted.node, wanted.agent_id, wanted.at) if v.look < end and _is(v, "active")), None)
        left = self._facts.next(wanted.agent_id, wanted.at, _ENDS)
        if self._raced(wanted, min(end, left)):
            return Wanted(wanted, "may")
        if found is None:  # the row said so before: that it is kept alive shows where it is no longer named as quiet
            found = self._kept_alive(wanted, min(end, left))
        if found is None:
            return Wanted(wanted, "never_shown")
        return self._weighed(wanted, found)

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
            return self._weighed(wanted, found)
        over = self._reset_is_over(wanted, found)
        if self._facts.next(wanted.agent_id, found.look, ("started", "removed")) <= over or over >= self._terms.until:
            return Wanted(wanted, "may")
        return replace(self._weighed(wanted, found), due=over)

    # What stands for and against ------------------------------------------------------------------------------------

    def _heard(self, wanted: Expected, version: Version) -> Wanted:
        due = version.sent + self._terms.grace + self._terms.lag
        return Wanted(wanted, "must" if version.sent < self._terms.until - 1 else "may", version.sent, due)

    def _weighed(self, wanted: Expected, version: Version) -> Wanted:
        """Nothing is told of an agent before its registration is known."""
        known_at = max(version.sent, self._registered.get((wanted.agent_id, wanted.name), 0.0))  # 0: at the baseline
        found = self._heard(wanted, replace(version, sent=known_at))
        if found.word == "must" and self._newer_was_known(wanted, version, known_at):
            return Wanted(wanted, "superseded", known_at)
        return found

    def _newer_was_known(self, wanted: Expected, version: Version, known_at: float) -> bool:
        """Whether a later contact was known, or that the agent is no longer there."""
        for node in self._nodes:
            for other in self._from(node, wanted.agent_id, wanted.at):
                if other is not version and other.sent <= known_at and self._is_newer(wanted, version, node, other):
                    return True
        return False

    def _is_newer(self, wanted: Expected, version: Version, node: str, other: Version) -> bool:
        if other.row is None:
            return other.look > version.look and node in (wanted.node, self._terms.master)
        contact = self._contact(node, other)
        # A stop within the second of what it ended is newer than that, though its time does not say so; and a silence since then is.
        ended = wanted.kind == "connected" and _is_end(other.row) and other.look > version.look
        return contact > wanted.at + (-_ROUNDING if ended else _ROUNDING)

    def _contact(self, node: str, version: Version) -> float:
        """When the agent was last heard of by a row; by the world's clock."""
        row = version.row
        if row is None:
            return 0.0
        seconds = row.disconnection_time if _is_stop(row) else row.last_keepalive
        return 0.0 if seconds is None else self._terms.world.nodes[node].world_time(seconds)

    def _raced(self, wanted: Expected, end: float) -> bool:
        """Whether it was written on the master just after the agent had been on a worker, whose sync may still overwrite it
        (wazuh/wazuh#24401), and was over before another keepalive could tell."""
        if wanted.node != self._terms.master or end - wanted.at > self._terms.race:
            return False
        since = wanted.at - self._terms.race
        return any(
            (fact.node != wanted.node and fact.what in ("started", "connected", "stopped"))
            or (fact.what == "moved" and fact.node == wanted.node)
            for fact in self._facts.between(wanted.agent_id, since, wanted.at)
        )

    def _was_elsewhere(self, wanted: Expected) -> bool:
        """Whether it was back before another manager, that it had left just before and that was heard, told that it is not there."""
        back = self._facts.next(wanted.agent_id, wanted.at, ("started", "removed"))
        for fact in self._facts.between(wanted.agent_id, wanted.at - _HOUR, wanted.at):
            for node in self._nodes if fact.what in ("moved", "lost") else ():
                if (node == fact.node) == (fact.what == "lost") and back <= self._left_until(node, fact.value, wanted.at):
                    return True
        return False

    def _left_until(self, node: str, contact: float, gone: float) -> float:
        """When it was known that an agent which a node last heard at `contact` is not there; 0 where the node was not heard at `gone`."""
        silences = self._terms.silent.get(node, ())
        if any(begin <= gone <= end for begin, end in silences):
            return 0.0
        silent = min((begin for begin, _ in silences if begin > gone), default=NEVER)
        quiets = self._log.quiets.get(node, [])
        first = bisect_left(quiets, contact + self._terms.quiet, key=lambda quiet: quiet[0])
        return min(silent, quiets[first][1] if first < len(quiets) else NEVER)

    def _reset_is_over(self, wanted: Expected, version: Version) -> float:
        """When a reset was surely held to its end, with its node heard all the while."""
        over = version.sent + self._terms.grace + self._terms.lag
        for begin, end in self._terms.deaf.get(wanted.node, ()):
            if begin < over and end > version.look:
                over = max(over, end + self._terms.grace + self._terms.lag)
        return over

    def _kept_alive(self, wanted: Expected, end: float) -> Version | None:
        """A version from before that stands while a look that told who is quiet came by."""
        versions = self._log.rows.get((wanted.node, wanted.agent_id), [])
        place = bisect_right(versions, wanted.at, key=lambda version: version.look)
        before = versions[place - 1] if place else None
        if before is None or not _is(before, "active"):
            return None
        over = min(end, versions[place].look if place < len(versions) else NEVER)
        quiets = self._log.quiets.get(wanted.node, [])
        first = bisect_left(quiets, wanted.at, key=lambda quiet: quiet[0])
        if first == len(quiets) or quiets[first][0] >= over:
            return None
        look, sent = quiets[first]
        return Version(look, before.row, sent)

    # Looking up -----------------------------------------------------------------------------------------------------

    def _from(self, node: str, number: int, at: float) -> Sequence[Version]:
        versions = self._log.rows.get((node, number), [])
        return versions[bisect_left(versions, at, key=lambda version: version.look) :]

    def _until_changed(self, node: str, number: int, version: Version) -> float:
        following = [
            other.look for other in self._from(node, number, version.look) if other is not version and not _is(other, "disconnected")
        ]
        return following[0] if following else NEVER


def _is(version: Version, status: str) -> bool:
    return version.row is not None and version.row.status == status


def _is_end(row: models.AgentRow) -> bool:
    return row.status == "disconnected" and row.code in (models.CODE_STOPPED, models.CODE_SILENT)


def _is_stop(row: models.AgentRow) -> bool:
    return row.status == "disconnected" and row.code == models.CODE_STOPPED
