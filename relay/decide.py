"""Decide what is true of each agent, whatever the nodes say. Pure: reads a fleet and an input, gives a Decision.

Why this is hard: every node of a Wazuh cluster has a row for every agent, and most of them are wrong by design. Only the
node that an agent reports to knows; the master's row is a late, re-stamped copy; a node that an agent has left says
"disconnected" half an hour later, with a fresh time; a restart of a manager says it of everybody at once.

A *claim* is a row that may speak (`relay.claims`). Its *contact* is when the agent was last heard of by that row.

Rules (numbers as in the README's table of rules)
 1. First-hand is a worker's row with a contact (nothing is synced downward); a master's row only where its node_name is
    the master's own; every row with a contact where there is no cluster or no node_name (5.0). The rest is a mirror.
 2. The newest contact owns the agent. Within `sync_jitter` a worker's row beats the master's, which is stamped with the
    master's clock when it is synced. Older claims never make an event, however fresh their disconnection_time.
 3. A mirror speaks only for a node that is not fresh, or that has told all up to then and knows less: the master's own
    remoted names itself in a row only with an agent's first keepalive. Code 5 in a mirror is never a claim: it is the
    master's own restart.
 4. status_code is the reason. A reset (5) and Pending wait for a grace and are events only if the agent does not return.
 5. Only the master registers and removes, and a removal needs its client.keys to agree. A worker's row counts only if its
    own client.keys holds the same id and name, and not before the agent was registered.
 7. Order, repeats, gaps: `fleet.order` and `Node.proved`.
 8. The first view of a fleet is a baseline: it makes one batch summary and no event.
 9. What says "nothing came" fires only when every reachable node has told all it saw up to then.
10. A claim older than what was decided is superseded: counted, never an event.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from shared import models
from shared.models import AgentRow

from . import claims, events
from .claims import Claim
from .events import Event, Kind, Message, Reason, Status
from .fleet import Agent, Fleet, Folded, Heard, Hold, HoldKind, Input, Node, Refusal, tells_absence

PERIODS_OF_GRACE: Final = 3
"""A reset is believed after three missed keepalives, as Kubernetes' node controller believes a node gone after four."""

STATUSES: Final[dict[models.ConnectionStatus, Status]] = {
    "active": "Active",
    "disconnected": "Disconnected",
    "pending": "Pending",
    "never_connected": "NeverConnected",
}


@dataclass(frozen=True, slots=True)
class Decision:
    """What one input leads to. The ledger takes it over in one transaction, then the fleet does (`Fleet.settle`)."""

    position: int
    now: int  # Unix ms, the stream's time
    agents: tuple[Agent, ...]  # as they are now
    removed: tuple[int, ...]
    happened: tuple[Event, ...]
    messages: tuple[Message, ...]  # in the order in which they are to be published
    superseded: int
    refused: Refusal | None
    settled: bool


def decide(fleet: Fleet, given: Input, folded: Folded, prefix: str) -> Decision:
    """The decision on an input that `fleet.fold` has just taken in."""
    touched = sorted(folded.touched | _due(fleet, given.now))
    if not fleet.settled:
        if not baseline_ends(fleet, given.now):
            return _nothing(given, folded, settled=False)
        touched = sorted({number for table in fleet.tables.values() for number in table.rows} | fleet.agents.keys())
    judged = [_judge(fleet, number, given.now, late=folded.late) for number in touched]
    return _decision(fleet, given, folded, judged, prefix)


# Rule 8: the baseline ----------------------------------------------------------------------------------------------


def baseline_ends(fleet: Fleet, now: int) -> bool:
    """When every node that the master's rows name has sent a full, or after the timeout if anything was heard at all."""
    if not fleet.nodes:
        return False
    if now - (fleet.began_at or now) >= fleet.policy.baseline_timeout:
        return True
    masters = [node for node in fleet.nodes.values() if node.node_type != "worker"]
    whole = {node.node_name for node in fleet.nodes.values() if node.whole}
    return bool(masters) and {master.node_name for master in masters} | _named(fleet, masters) <= whole


def _named(fleet: Fleet, masters: Iterable[Node]) -> set[str]:
    rows = (row for master in masters for row in fleet.tables[master.node].rows.values())
    return {row.node_name for row in rows if row.node_name is not None and row.node_name not in claims.NOBODY}


# Judging one agent --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of one agent: its new state (None: it is no agent any more) and the events on the way."""

    number: int
    agent: Agent | None
    events: tuple[Event, ...]
    superseded: bool = False


def _judge(fleet: Fleet, number: int, now: int, *, late: bool) -> Judged:
    known, made = fleet.agents.get(number), []
    entry = registration(fleet, number)
    if known is not None and _is_removed(fleet, known, entry):
        made.append(_event(fleet, known, "removed", "removed", "Unknown", _seen_until(fleet), late=late))
        known = None
    if known is None:
        if entry is None:
            return Judged(number, None, tuple(made))
        known = _registered(fleet, entry, made, late=late)
    elif entry is not None and known.date_add == 0:
        known = replace(known, date_add=entry[1].date_add)
    return _weigh(fleet, known, now, made, late=late)


def _weigh(fleet: Fleet, known: Agent, now: int, made: list[Event], *, late: bool) -> Judged:
    voices = claims.voices(fleet, known.id, (known.name, known.date_add))
    claim = claims.owner(voices.claims, fleet.policy.sync_jitter)
    judged = _hear(fleet, known, claim, voices.claims, now, made, late=late)
    again_at = min(filter(None, (voices.again_at, claims.proves_life_at(voices.claims, claim))), default=None)
    if again_at is None or judged.agent is None or judged.agent.hold is not None:
        return judged
    return replace(judged, agent=replace(judged.agent, hold=Hold("again", now, again_at)))


def _hear(fleet: Fleet, known: Agent, claim: Claim | None, found: Sequence[Claim], now: int, made: list[Event], *, late: bool) -> Judged:
    if claim is None:
        return Judged(known.id, _without_claim(known), tuple(made))
    if not fleet.settled and known.status == "Unknown":
        return Judged(known.id, _adopted(fleet, known, claim), tuple(made))
    if _older(fleet, known, claim):
        return _regressed(fleet, known, claim, found, now, made, late=late)
    return _follow(fleet, known, claim, now, made, late=late)


def _follow(fleet: Fleet, known: Agent, claim: Claim, now: int, made: list[Event], *, late: bool) -> Judged:
    """Take the owner's word: at once, or after the grace where it may yet be taken back (rule 4)."""
    status = STATUSES[claim.row.status]
    if status == known.status:
        return Judged(known.id, _kept(fleet, known, claim), tuple(made))
    waits = hold_of(claim)
    if waits is not None:
        hold = _held(fleet, known, claim, waits, now)
        if not _ripe(fleet, hold, claim, now):
            return Judged(known.id, replace(known, hold=hold), tuple(made))
    return _changed(fleet, known, claim, made, late=late)


def hold_of(claim: Claim) -> HoldKind | None:
    """Rule 4: what waits for the grace. A schema before 4.6 does not say why, so any disconnection there may be a reset."""
    if claim.row.status == "pending":
        return "pending"
    if claim.row.status != "disconnected":
        return None
    if claim.row.code == models.CODE_RESET:
        return "reset"
    return "unexplained" if claim.row.code is None else None


def _held(fleet: Fleet, known: Agent, claim: Claim, kind: HoldKind, now: int) -> Hold:
    if known.hold is not None and known.hold.kind == kind:
        return known.hold
    return Hold(kind, now, now + max(fleet.policy.reset_grace, PERIODS_OF_GRACE * claim.node.period))


def _ripe(fleet: Fleet, hold: Hold, claim: Claim, now: int) -> bool:
    """Rule 9: the grace is over on every reachable node, and the node that says so can still be heard."""
    return now >= hold.until and fleet.through() >= hold.until and claim.node.fresh


def _older(fleet: Fleet, known: Agent, claim: Claim) -> bool:
    """Rules 2 and 10: whether a claim is older than what was decided. A mirror's contact is late by up to a sync."""
    if known.contact is None or known.witness is None or known.witness not in fleet.nodes:
        return False
    status = STATUSES[claim.row.status]
    decided = known.contact * 1000 + fleet.nodes[known.witness].offset
    if claim.mirror and claim.alive and status != known.status:
        return claim.contact < decided + fleet.policy.sync_jitter
    mirrored = claim.mirror or known.manager_node != known.witness
    return claim.contact < decided - (fleet.policy.sync_jitter if mirrored else claims.TIE)


def _regressed(fleet: Fleet, known: Agent, claim: Claim, found: Sequence[Claim], now: int, made: list[Event], *, late: bool) -> Judged:
    """An older claim is no event. But where the row that was decided on has gone back or was overwritten (SQLite's
    automatic rollback; #24401), the agent must show itself within the grace, or the claim stands."""
    status = STATUSES[claim.row.status]
    overwritten = known.witness in fleet.tables and known.id in fleet.tables[known.witness].rows
    still_there = any(other.node.node == known.witness and other is not claim for other in found)
    if status == known.status or not overwritten or still_there or claim.mirror:
        return Judged(known.id, replace(known, hold=None), tuple(made), superseded=status != known.status)
    hold = _held(fleet, known, claim, "regressed", now)
    if not _ripe(fleet, hold, claim, now):
        return Judged(known.id, replace(known, hold=hold), tuple(made))
    return _changed(fleet, known, claim, made, late=late)


def _without_claim(known: Agent) -> Agent:
    """Nobody was ever in contact with it: NeverConnected. Where somebody was, no row at all proves nothing."""
    if known.status != "Unknown":
        return replace(known, hold=None)
    return replace(known, status="NeverConnected", reason="registered", since=known.date_add)


# Rule 5: registration and removal -----------------------------------------------------------------------------------


def registration(fleet: Fleet, number: int) -> tuple[Node, AgentRow] | None:
    """The registrar's row of an agent, if it is registered: its row is there, and where client.keys can be read its key under
    the same name. (A worker that keeps an old name on a reused id syncs it onto the master's row: only the key is right then.)"""
    for node in fleet.registrars():
        row = fleet.tables[node.node].rows.get(number)
        if row is not None and (node.keys_state != "ok" or _key_name(fleet, node, number) == row.name):
            return node, row
    return None


def _key_name(fleet: Fleet, node: Node, number: int) -> str | None:
    entry = fleet.tables[node.node].keys.get(number)
    return None if entry is None or entry.removed else entry.name


def _is_removed(fleet: Fleet, known: Agent, entry: tuple[Node, AgentRow] | None) -> bool:
    """Removed is what row and key of every registrar say; or another agent stands under the id (rule 5)."""
    if entry is not None:
        row = entry[1]
        return row.name != known.name or (known.date_add not in (0, row.date_add) and row.date_add != 0)
    registrars = fleet.registrars()
    return bool(registrars) and all(
        tells_absence(node)
        and known.id not in fleet.tables[node.node].rows and _key_name(fleet, node, known.id) is None
        for node in registrars
    )  # fmt: skip


def _seen_until(fleet: Fleet) -> int:
    """Unix s up to which the registrars' tables tell: when a removal was seen, by no clock of ours."""
    return max(node.as_of for node in fleet.registrars()) // 1000


def _registered(fleet: Fleet, entry: tuple[Node, AgentRow], made: list[Event], *, late: bool) -> Agent:
    """A new agent, and the event that says so, once the baseline is over."""
    node, row = entry
    agent = Agent(
        id=row.id,
        name=row.name,
        date_add=row.date_add,
        status="Unknown",
        reason="registered",
        since=row.date_add,
        ip=_address(row.ip),
        last_keepalive=None,
        manager_node=node.node,
        witness=None,
        contact=None,
        last_event_id=made[-1].event_id if made else "",
        hold=None,
    )
    if not fleet.settled:
        return agent
    made.append(_event(fleet, agent, "registered", "registered", "NeverConnected", agent.date_add, late=late))
    return replace(agent, status="NeverConnected", last_event_id=made[-1].event_id)


# New states and their events ----------------------------------------------------------------------------------------


def _adopted(fleet: Fleet, known: Agent, claim: Claim) -> Agent:
    """The baseline's status: what the claim says, without an event."""
    row = claim.row
    moment = row.disconnection_time if row.status == "disconnected" else (row.last_keepalive or 0)
    return replace(_kept(fleet, known, claim), status=STATUSES[row.status], reason=reason_of(claim, known), since=moment)


def _kept(fleet: Fleet, known: Agent, claim: Claim) -> Agent:
    """The same status, on the newest claim's facts."""
    return replace(
        known,
        ip=_address(claim.row.ip) or known.ip,
        last_keepalive=_last_keepalive(claim),
        manager_node=_reports_to(fleet, claim),
        witness=claim.node.node,
        contact=claim.seconds,
        hold=None,
    )


def _changed(fleet: Fleet, known: Agent, claim: Claim, made: list[Event], *, late: bool) -> Judged:
    kept, status, row = _kept(fleet, known, claim), STATUSES[claim.row.status], claim.row
    kind: Kind = "connected" if status == "Active" else "pending" if status == "Pending" else "disconnected"
    moment = row.disconnection_time if kind == "disconnected" else row.last_keepalive
    event = _event(fleet, kept, kind, reason_of(claim, known), status, moment or claim.seconds, code=row.code, late=late)
    agent = replace(kept, status=status, reason=event.reason, since=event.timestamp, last_event_id=event.event_id)
    return Judged(known.id, agent, (*made, event))


def reason_of(claim: Claim, known: Agent) -> Reason:
    """Rule 4: why, in a word; for a consumer's rules and for the header `Wazuh-Reason`."""
    if claim.row.status == "active":
        return "first_contact" if known.status in ("NeverConnected", "Unknown") else "returned"
    if claim.row.status == "pending":
        return "startup"
    match claim.row.code:
        case models.CODE_STOPPED:
            return "stopped"
        case models.CODE_SILENT:
            return "silent"
        case models.CODE_RESET:
            return "manager_reset"
        case _:
            return "unexplained"


def _event(
    fleet: Fleet, agent: Agent, kind: Kind, reason: Reason, current: Status, timestamp: int, *, code: int | None = None, late: bool
) -> Event:
    change = (agent.status, current)
    return Event(
        kind=kind,
        reason=reason,
        agent_id=agent.id,
        agent_name=agent.name,
        previous=agent.status,
        current=current,
        ip=agent.ip,
        last_keepalive=agent.last_keepalive,
        manager_node=agent.manager_node,
        timestamp=timestamp,
        event_id=events.event_id(fleet.cluster, agent.identity, kind, change, timestamp, code, agent.last_event_id),
        late=late,
    )


def _last_keepalive(claim: Claim) -> int | None:
    return claim.seconds if claim.alive else claim.row.last_keepalive


def _address(ip: str | None) -> str | None:
    return None if ip == "any" else ip


def _reports_to(fleet: Fleet, claim: Claim) -> str:
    """The display name of the node that the agent reports to."""
    if not claim.mirror or claim.row.node_name is None or claim.row.node_name in claims.NOBODY:
        return claim.node.node
    named = fleet.named(claim.row.node_name)
    return claim.row.node_name if named is None else named.node


# The whole decision -------------------------------------------------------------------------------------------------


def _due(fleet: Fleet, now: int) -> set[int]:
    through = min(now, fleet.through())
    held = ((number, fleet.agents[number].hold) for number in fleet.holding)
    return {number for number, hold in held if hold is not None and hold.until <= through}


def _nothing(given: Input, folded: Folded, *, settled: bool) -> Decision:
    return Decision(given.position, given.now, (), (), (), (), 0, folded.refused, settled)


def _decision(fleet: Fleet, given: Input, folded: Folded, judged: Sequence[Judged], prefix: str) -> Decision:
    changed = tuple(j.agent for j in judged if j.agent is not None and j.agent != fleet.agents.get(j.number))
    removed = tuple(j.number for j in judged if j.agent is None and j.number in fleet.agents)
    happened = tuple(event for j in judged for event in j.events)
    summary = _summary(fleet, changed, removed, len(happened))
    return Decision(
        position=given.position,
        now=given.now,
        agents=changed,
        removed=removed,
        happened=happened,
        messages=_messages(fleet, given, happened, summary, prefix),
        superseded=sum(j.superseded for j in judged),
        refused=folded.refused,
        settled=True,
    )


def _messages(fleet: Fleet, given: Input, happened: Sequence[Event], summary: events.Summary, prefix: str) -> tuple[Message, ...]:
    if not happened and fleet.settled:
        return ()
    single = [message for event in happened for message in events.messages(prefix, fleet.cluster, event)]
    node = _batch_node(fleet, given, happened)
    return (*single, *events.batches(prefix, fleet.cluster, node, given.position, given.now, happened, summary))


def _batch_node(fleet: Fleet, given: Input, happened: Sequence[Event]) -> str:
    """Whose batch it is: the input's node, or for a tick the one node that all its events are of, else the cluster."""
    if isinstance(given, Heard):
        return given.snapshot.node
    nodes = {event.manager_node for event in happened}
    return nodes.pop() if len(nodes) == 1 else fleet.cluster


def _summary(fleet: Fleet, changed: Iterable[Agent], removed: Iterable[int], changes: int) -> events.Summary:
    counts = fleet.counts.copy()
    for number in removed:
        counts[fleet.agents[number].status] -= 1
    for agent in changed:
        before = fleet.agents.get(agent.id)
        if before is not None:
            counts[before.status] -= 1
        counts[agent.status] += 1
    return events.Summary(sum(counts.values()), counts["Active"], counts["Disconnected"], changes)
