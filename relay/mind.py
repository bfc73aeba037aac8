"""Fleet and ledger together: one raw message in, one recorded decision out. All but `replays` runs in the thread of `Books`.

Rules
 * A decision is made once and recorded until the ledger has it; only then does the fleet take it over.
 * The first snapshot that is accepted names the relay's cluster.
 * While a ledger is rebuilt (`relay.catchup`) decisions are recorded muted, up to what EVENTS holds.
 * What deciding EVENTS' last input again came to stays where it is what was told; else what was told does.
"""

import gc
from dataclasses import dataclass, replace
from typing import Final

from shared import clock, memory, telemetry

from . import catchup, control, decide, ledger, published
from .admit import Admitted, Gate, Raw
from .chain import Head
from .decided import Decision
from .fleet import Fleet, Folded, Forgotten, Heard, Input, Policy, Ticked
from .stored import Kept

_OUTCOMES: Final[dict[type, str]] = {Ticked: "tick", Forgotten: "request"}


@dataclass(frozen=True, slots=True)
class Step:
    """What one input led to."""

    decision: Decision
    kept: Kept | None
    muted: bool
    given: Input
    took: tuple[float, float]  # when deciding began and ended, monotonic s
    outcome: str = ""  # what is counted of an input that is no snapshot
    traceparent: str = ""  # for the headers of its messages (`relay.traces`)


class Mind:
    """What the relay knows and how it makes up its mind."""

    def __init__(
        self,
        book: ledger.Ledger,
        policy: Policy,
        gate: Gate,
        prefix: str,
        replay: catchup.Replay | None,
        metrics: telemetry.Telemetry,
        watch: clock.Clock,
    ) -> None:
        self.fleet = restored(book, policy)
        self._ledger = book
        self._policy = policy
        self._gate = gate
        self._prefix = prefix
        self._replay = replay
        self._muted = self._before = replay is not None
        self._retold = frozenset[str]()  # ids of the events that the replay's last input came to
        self._anew = False  # every agent is to be judged with the next input
        self._metrics = metrics
        self._clock = watch

    @property
    def replays(self) -> bool:
        """Whether a ledger is being rebuilt; not again once that is over. Any thread may ask."""
        return self._replay is not None

    def admit(self, raw: Raw) -> Admitted:
        """What a message is. Raises Quarantine."""
        admitted = self._gate.admit(raw, self.fleet.cluster, self.fleet.alike)
        if admitted.request is not None:
            control.check(admitted.request, self.fleet.nodes)
        return admitted

    def decide(self, admitted: Admitted) -> Step | None:
        """The decision on what was admitted; None where more parts have to come."""
        given, kept, began = admitted.given, None, self._clock.monotonic()
        if given is None:
            return None
        if isinstance(given, Heard):
            s = given.snapshot
            self.fleet.cluster = self.fleet.cluster or s.cluster
            kept = Kept(s.node, given.position, given.now, given.sent_at, s.kind, admitted.payload)
        folded = self._wider(self.fleet.fold(given))
        decision = self._unpublished(decide.decide(self.fleet, given, folded, self._prefix))
        took = began, self._clock.monotonic()
        self._metrics.observe("wazuh_jetstream_relay_decide_seconds", took[1] - took[0])
        return Step(decision, kept, self._muted, given, took, _OUTCOMES.get(type(given), ""))

    def record(self, step: Step) -> None:
        """Take a decision over. Raises Unreachable: nothing is taken over yet, the same again is right."""
        began = self._clock.monotonic()
        self._ledger.record(step.decision, self.fleet, step.kept, muted=step.muted, traceparent=step.traceparent)
        self._metrics.observe("wazuh_jetstream_relay_record_seconds", self._clock.monotonic() - began)
        self.fleet.settle(step.decision)
        self._anew = False

    def forget(self) -> None:
        """Go back to what the ledger holds, after an input that was not recorded."""
        self.fleet = restored(self._ledger, self._policy)

    def head(self) -> Head | None:
        """How far the chain of events has come in EVENTS. Raises Unreachable."""
        return self._ledger.head()

    def cross(self, position: int) -> bool:
        """Do what is due before the message at a RAW position is decided (`relay.catchup`); True as the replay ends."""
        replay = self._replay
        if replay is None or position < replay.through:
            return False
        if self._before:
            self._adopt(replay, replay.before)
            self._before, self._muted = False, replay.whole
        if position == replay.through:
            return False
        self._adopt(replay, replay.after.without(self._retold))
        self._replay, self._muted, self._anew = None, False, True
        return True

    def _adopt(self, replay: catchup.Replay, told: published.Told) -> None:
        fleet, now = self.fleet, max(self.fleet.heard_at or 0, replay.ended_at * 1000)
        agents = published.agents(fleet.agents, told)
        registered = {**fleet.agents, **{agent.id: agent for agent in agents}}
        ghosts = published.ghosts(fleet.ghosts, told, registered, now, self._policy.reset_grace)
        managers = published.managers(fleet.managers, told, replay.ended_at)
        self._ledger.adopt_published(agents, ghosts, managers)
        fleet.adopt(agents)
        fleet.ghosts |= {ghost.id: ghost for ghost in ghosts}
        fleet.managers |= {manager.node: manager for manager in managers}

    def _wider(self, folded: Folded) -> Folded:
        if not self._anew:
            return folded
        rows = (number for table in self.fleet.tables.values() for number in table.rows)
        return replace(folded, touched=folded.touched.union(rows, self.fleet.agents))

    def _unpublished(self, decision: Decision) -> Decision:
        """Without what EVENTS holds already of this decision, where it is made again."""
        if self._replay is None or self._before:
            return decision
        self._retold = frozenset(one.event_id for told in (decision.happened, decision.of_managers) for one in told)
        return replace(decision, messages=tuple(m for m in decision.messages if m.message_id not in self._replay.sent))


def restored(book: ledger.Ledger, policy: Policy) -> Fleet:
    """The fleet that a ledger holds, with the cluster that its nodes are of."""
    gc.collect()
    gc.disable()  # hundreds of thousands of rows come and stay: no collection needs to walk them, now or later
    try:
        fleet = book.restore("", policy)
    finally:
        gc.freeze()
        gc.enable()
        memory.give_back()
    fleet.cluster = next((node.cluster for node in fleet.nodes.values()), "")
    return fleet
