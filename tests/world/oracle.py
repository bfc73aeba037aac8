"""What a watcher of the cluster should have said, told from the agents' own history alone.

    wanted = expected(world.history, until=…, grace=…, baseline_at=…)
    verdict = compare(wanted, bodies)        lost, duplicates, false, unverified; verdict.clean

It knows nothing of databases or of the watcher's rules, only what may be noticed when:
    stopped     at once;
    silent      T to 2T after the last contact, by the sweep of the manager the agent was on (T: the `sweeps` fact);
    reset       a manager that starts lets go of its agents: an outage of those that are not back after `grace`.
An outage that was over before it could be noticed is none; one that surely was noticed is certain; one in between *may* be
told (`certain` False), and if its end is told too, both are. A move, or a gap shorter than `grace` that was no goodbye, is
nothing. What is only due after `until`, or about the time of the baseline, is uncertain too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from .config import Fact
from .verdict import Expected, Kind, Status, Verdict, compare

__all__ = ["Expected", "Verdict", "compare", "expected"]

_FOREVER: Final = float("inf")
_ROUNDING: Final = 2.0  # seconds: clocks written as whole seconds, a sweep that waits for its turn
_COPIED: Final = 60.0  # seconds: where a manager is away, the master's sweep finds its copy, older by lost keepalives and a sync
_SLOW: Final = 0.5  # the share of the grace after which a knock that is not heard may be told as Pending
_EDGE: Final = 0.25  # the share of the grace on either side of it within which a return may count or not


@dataclass(frozen=True, slots=True)
class _Terms:
    """What the question was."""

    until: float
    grace: float
    baseline_at: float
    shown: float


@dataclass(slots=True)
class _Manager:
    """What is known of one manager: how long it waits, when it started anew, when it was away, how its clock was set."""

    period: float = _FOREVER
    starts: list[float] = field(default_factory=list)
    away: list[tuple[float, float]] = field(default_factory=list)
    clock: list[tuple[float, float]] = field(default_factory=lambda: [(0.0, 0.0)])  # (since when, seconds ahead)

    def put_on(self, contact: float) -> tuple[float, float]:
        """The seconds by which its clock was put on at the least and at the most from a contact until the sweep has found it:
        a contact looks so much older than it is."""
        before = [ahead for since, ahead in self.clock if since <= contact][-1]
        then = [ahead - before for since, ahead in self.clock if contact < since <= contact + 2 * self.period]
        return min([0.0, *then]), max([0.0, *then])


@dataclass(frozen=True, slots=True)
class _Window:
    """When an outage can be noticed at the earliest and at the latest, and why."""

    earliest: float
    latest: float
    reason: str
    leeway: float  # how long it must last after `latest` to be told for sure
    node: str = ""  # the manager that notices


@dataclass(slots=True)
class _Gap:
    """From the loss of a connection to the next accepted keepalive: what happened, and the knocks in between."""

    facts: list[Fact]
    active: bool  # it was connected before
    unseen: Status | None = None  # what it was before, where it was connected too shortly to be seen

    def returns(self, fact: Fact) -> Fact | None:
        """The first knock after `fact`."""
        return next((other for other in self.facts if other.what == "started" and other.at >= fact.at), None)

    def knocked_between(self, begin: float, end: float) -> bool:
        return any(other.what == "started" and begin < other.at <= end for other in self.facts)


def expected(history: Sequence[Fact], *, until: float, grace: float, baseline_at: float, shown: float = 1.0) -> list[Expected]:
    """What should be told about the facts after `baseline_at`, in order of time.

    `until`: what is noticeable by then must be told. `grace`: how long a manager's reset is held (s). `shown`: a state
    that lasts shorter (s) may go unseen. Agents already in their state at `baseline_at` give nothing for it.
    """
    terms = _Terms(until, grace, baseline_at, shown)
    managers = _managers(history)
    found = [one for life in _lives(history) for one in _Life(life, managers, terms).told()]
    kept = [one for one in found if one.at > baseline_at or one.kind == "disconnected"]
    return sorted(kept, key=lambda one: one.at)


def _managers(history: Sequence[Fact]) -> dict[str, _Manager]:
    managers: dict[str, _Manager] = {}
    for fact in history:
        manager = managers.setdefault(fact.node, _Manager())
        match fact.what:
            case "sweeps":
                manager.period = fact.value
            case "clock":
                manager.clock.append((fact.at, fact.value))
            case "restarted":
                manager.starts.append(fact.at)
            case "down":
                manager.away.append((fact.at, _FOREVER))
            case "up":
                manager.away[-1] = (manager.away[-1][0], fact.at)
                manager.starts.append(fact.at)
    return managers


def _lives(history: Sequence[Fact]) -> list[list[Fact]]:
    """The facts of each agent from one registration to its removal."""
    lives: list[list[Fact]] = []
    current: dict[int, list[Fact]] = {}
    for fact in history:
        if fact.what == "registered":
            lives.append([])
            current[fact.agent] = lives[-1]
        if fact.agent in current:
            current[fact.agent].append(fact)
    return lives


class _Life:
    """One agent from its registration on."""

    def __init__(self, facts: list[Fact], managers: dict[str, _Manager], terms: _Terms) -> None:
        self._facts = facts
        self._managers = managers
        self._terms = terms
        self._told: list[Expected] = []
        self._status: Status = "NeverConnected"
        self._else: Status | None = None  # the status where an uncertain outage was not told
        self._outages = 0

    def told(self) -> list[Expected]:
        gap = _Gap([], active=False)
        for place, fact in enumerate(self._facts):
            if fact.what == "connected":
                brief = self._brief(fact, self._facts[place + 1 : place + 2])
                before = self._close(gap, fact, brief=brief)
                gap = _Gap([], active=True, unseen=before if brief else None)
            elif fact.what == "registered":
                self._registered(fact)
            elif fact.what == "removed":
                self._removed(gap, fact)
                return self._told
            else:
                gap.facts.append(fact)
        self._open(gap, _FOREVER)
        return self._told

    def _registered(self, fact: Fact) -> None:
        removed = next((other.at for other in self._facts if other.what == "removed"), _FOREVER)
        seen = removed - fact.at >= self._terms.shown
        self._tell("registered", "Unknown", "NeverConnected", fact.at, certain=seen, node=fact.node)

    def _removed(self, gap: _Gap, fact: Fact) -> None:
        self._else = gap.unseen
        self._open(gap, fact.at)
        registered = self._facts[0].at
        seen = fact.at - registered >= self._terms.shown or registered <= self._terms.baseline_at
        self._tell("removed", self._status, "Unknown", fact.at, certain=seen, also=self._else, node=fact.node)

    def _brief(self, connected: Fact, following: Sequence[Fact]) -> bool:
        """Whether the connection was gone from its manager's table before it had to be seen there."""
        return any(fact.what in ("stopped", "removed", "lost") and fact.at < connected.at + self._terms.shown for fact in following)

    def _close(self, gap: _Gap, back: Fact, *, brief: bool) -> Status:
        """The agent is connected again, or for the first time; what it was before."""
        outage = self._open(gap, back.at)
        before = self._status
        if not gap.active:
            self._connected("NeverConnected", back, certain=not brief, outage=0)
        elif before == "Disconnected":
            self._connected("Disconnected", back, certain=not outage and not brief, outage=0 if brief else outage)
        elif any(fact.what == "started" and back.at - fact.at > self._terms.grace * _SLOW for fact in gap.facts):
            self._connected("Pending", back, certain=False, outage=0)
        return before

    def _connected(self, previous: Status, back: Fact, *, certain: bool, outage: int) -> None:
        knock = max((fact.at for fact in self._facts if fact.what == "started" and fact.at <= back.at), default=back.at)
        at_baseline = knock <= self._terms.baseline_at < back.at
        sure, pair = certain and not at_baseline, 0 if at_baseline else outage
        self._tell("connected", previous, "Active", back.at, certain=sure, outage=pair, node=back.node)
        self._status, self._else = "Active", None

    def _open(self, gap: _Gap, back_by: float) -> int:
        """Tell the outage of a gap that ended at `back_by`; the number of an outage that only may be told, else 0."""
        self._pending(gap, back_by)
        judged = [(fact, *self._judged(gap, fact, back_by)) for fact in gap.facts if fact.what != "started"]
        noticed = [(fact, window, how) for fact, window, how in judged if how != "none"]
        if not noticed:
            return 0
        told, window, how = next((one for one in noticed if one[2] == "certain"), noticed[0])
        # One that was never seen connected may be told as Pending or not at all.
        certain = how == "certain" and gap.active and gap.unseen is None
        self._outages += 1
        # After a goodbye that nobody had to see the agent is away all the same: its return is certain.
        outage = 0 if how == "certain" and gap.active and gap.unseen != "Active" else self._outages
        self._tell_outage(gap, window, min(other.earliest for _, other, _ in noticed), certain=certain, outage=outage)
        for fact, other, _ in noticed:
            if fact is not told and gap.knocked_between(0.0, fact.at):  # told again if the knock was told as Pending
                self._tell("disconnected", "Pending", "Disconnected", other.earliest, reason=other.reason, certain=False, node=other.node)
        return outage

    def _pending(self, gap: _Gap, back_by: float) -> None:
        """A knock that is not heard for long may be told as Pending: also of one that fell silent, which nothing writes down."""
        for place, fact in enumerate(gap.facts):
            written = (other.at for other in gap.facts[place + 1 :] if other.what in ("started", "stopped", "refused"))
            following = next(written, back_by)
            if fact.what == "started" and following - fact.at > self._terms.grace * _SLOW:
                self._tell("pending", self._status, "Pending", fact.at, certain=False, node=fact.node)

    def _tell_outage(self, gap: _Gap, window: _Window, earliest: float, *, certain: bool, outage: int) -> None:
        previous: Status = "Active" if gap.active else "NeverConnected"
        due = window.latest + window.leeway <= self._terms.until
        sure = certain and due and window.earliest > self._terms.baseline_at
        if window.latest > self._terms.baseline_at:
            when, why = window.earliest, window.reason
            self._tell("disconnected", previous, "Disconnected", when, reason=why, certain=sure, outage=outage, node=window.node)
            self._told[-1] = replace(self._told[-1], earliest=earliest)
        if gap.active:
            self._else = gap.unseen or (None if certain and due else "Active")
            self._status = "Disconnected"

    def _window(self, fact: Fact) -> _Window:
        if fact.what == "stopped":
            away = self._managers.get(fact.node, _Manager()).away
            back = next((end for begin, end in away if fact.at <= begin < fact.at + self._terms.shown), fact.at)
            return _Window(fact.at, back, "stopped", self._terms.shown, fact.node)
        node = fact.node if fact.what != "moved" else self._before(fact)
        manager = self._managers.get(node, _Manager())
        gone = any(begin <= fact.value + manager.period and end > fact.at for begin, end in manager.away)
        first_sweep = fact.value + manager.period - manager.put_on(fact.value)[1] - (_COPIED if gone else _ROUNDING)
        earliest = max(fact.value, first_sweep)  # nobody is silent before the last word
        silent = _Window(earliest, self._swept(manager, fact), "silent", self._terms.shown)
        first = min(silent, self._reset(manager, fact), key=lambda window: window.latest)
        return replace(first, earliest=min(silent.earliest, self._reset(manager, fact).earliest), node=node)

    def _reset(self, manager: _Manager, fact: Fact) -> _Window:
        """When a start of the manager is held long enough; surely only if it stays, so that somebody can tell."""
        edge, grace = self._terms.grace * _EDGE, self._terms.grace
        starts = [at for at in manager.starts if at >= fact.at]
        stays = [at for at in starts if not any(begin <= at + grace + edge and end > at for begin, end in manager.away)]
        earliest, latest = min(starts, default=_FOREVER), min(stays, default=_FOREVER)
        return _Window(earliest + grace - edge, latest + grace + edge, "manager_reset", 0.0)

    def _swept(self, manager: _Manager, fact: Fact) -> float:
        """By when the manager's sweep has noticed; never, where it was away meanwhile or its start may have been first."""
        latest = fact.value + 2 * manager.period - manager.put_on(fact.value)[0] + _ROUNDING
        away = any(begin <= latest and end >= fact.value for begin, end in manager.away)
        reset = any(fact.at <= at <= latest for at in manager.starts)
        return _FOREVER if away or reset else latest

    def _before(self, move: Fact) -> str:
        """The manager an agent was on when it moved."""
        return next((fact.node for fact in reversed(self._facts[: self._facts.index(move)]) if fact.what in ("started", "connected")), "")

    def _judged(self, gap: _Gap, fact: Fact, back_by: float) -> tuple[_Window, Literal["certain", "may", "none"]]:
        """When what happened could be noticed, and whether it was before the agent was back."""
        window, knock = self._window(fact), gap.returns(fact)
        back_from = min(back_by, knock.at if knock else _FOREVER)
        leeway = window.leeway
        if fact.what == "stopped" and knock is not None and knock.node != fact.node:
            leeway = max(leeway, self._terms.grace)  # the word of the other manager may be the first to arrive
        # A knock that nobody heard may never have been written, so what it ended may not show; a goodbye does after a while.
        seen = not gap.knocked_between(fact.at - self._terms.shown if fact.what == "stopped" else 0.0, fact.at)
        if seen and window.latest < _FOREVER and back_from >= window.latest + leeway:
            return window, "certain"
        return window, "none" if back_by < window.earliest else "may"

    def _tell(
        self,
        kind: Kind,
        previous: Status,
        current: Status,
        at: float,
        *,
        reason: str = "",
        certain: bool,
        outage: int = 0,
        also: Status | None = None,
        node: str = "",
    ) -> None:
        first = self._facts[0]
        # An outage's end that is not due yet need not be told, whether its beginning was or not.
        due = at <= self._terms.until
        pair = outage if due else 0
        self._told.append(Expected(first.agent, first.name, kind, previous, current, at, reason, certain and due, pair, also, node))
