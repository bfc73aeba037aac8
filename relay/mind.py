"""Fleet and ledger together: one raw message in, one recorded decision out. Every method runs in the thread of `Books`.

Rules
 * A decision is made once and recorded until the ledger has it; only then does the fleet take it over.
 * The first snapshot that is accepted names the relay's cluster.
 * While a ledger is rebuilt (`relay.catchup`) decisions are recorded muted, up to what EVENTS holds.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from shared import clock, telemetry

from . import catchup, decide, ledger
from .admit import Admitted, Gate, Raw
from .decided import Agent, Decision
from .fleet import Fleet, Folded, Heard, Policy
from .stored import Kept


@dataclass(frozen=True, slots=True)
class Step:
    """What one input led to."""

    decision: Decision
    kept: Kept | None
    muted: bool


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
        self._muted = replay is not None
        self._anew = False  # every agent is to be judged with the next input
        self._metrics = metrics
        self._clock = watch

    def admit(self, raw: Raw) -> Admitted:
        """What a message is. Raises Quarantine."""
        return self._gate.admit(raw, self.fleet.cluster)

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
        self._metrics.observe("wazuh_jetstream_relay_decide_seconds", self._clock.monotonic() - began)
        return Step(decision, kept, self._muted)

    def record(self, step: Step) -> None:
        """Take a decision over. Raises Unreachable: nothing is taken over yet, the same again is right."""
        began = self._clock.monotonic()
        self._ledger.record(step.decision, self.fleet, step.kept, muted=step.muted)
        self._metrics.observe("wazuh_jetstream_relay_record_seconds", self._clock.monotonic() - began)
        self.fleet.settle(step.decision)
        self._anew = False

    def forget(self) -> None:
        """Go back to what the ledger holds, after an input that was not recorded."""
        self.fleet = restored(self._ledger, self._policy)

    def cross(self, position: int) -> bool:
        """Do what is due before the message at a RAW position is decided (`relay.catchup`); True as the replay ends."""
        replay = self._replay
        if replay is None or position < replay.through:
            return False
        if self._muted:
            self._adopt(catchup.taken_over(self.fleet.agents, replay.before))
            self._muted = False
        if position == replay.through:
            return False
        self._adopt(catchup.taken_over(self.fleet.agents, replay.at))
        self._replay, self._anew = None, True
        return True

    def _adopt(self, agents: Iterable[Agent]) -> None:
        adopted = list(agents)
        self._ledger.adopt_published(adopted)
        self.fleet.adopt(adopted)

    def _wider(self, folded: Folded) -> Folded:
        if not self._anew:
            return folded
        rows = (number for table in self.fleet.tables.values() for number in table.rows)
        return replace(folded, touched=folded.touched.union(rows, self.fleet.agents))

    def _unpublished(self, decision: Decision) -> Decision:
        """Without what EVENTS holds already of this decision, where it is made again."""
        if self._replay is None or self._muted or not self._replay.sent:
            return decision
        return replace(decision, messages=tuple(m for m in decision.messages if m.message_id not in self._replay.sent))


def restored(book: ledger.Ledger, policy: Policy) -> Fleet:
    """The fleet that a ledger holds, with the cluster that its nodes are of."""
    fleet = book.restore("", policy)
    fleet.cluster = next((node.cluster for node in fleet.nodes.values()), "")
    return fleet
