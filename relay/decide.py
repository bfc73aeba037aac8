"""Decide what is true of each agent, whatever the nodes say. Pure: reads a fleet and an input, gives a Decision.

Why this is hard: every node of a Wazuh cluster has a row for every agent, and most of them are wrong by design. Only the
node that an agent reports to knows; the master's row is a late, re-stamped copy; a node that an agent has left says
"disconnected" half an hour later, with a fresh time; a restart of a manager says it of everybody at once.

A *claim* is a row that may speak (`relay.claims`). Its *contact* is when the agent was last heard of by that row.

Rules (numbers as in the README's table of rules)
 1. First-hand is a worker's row with a contact (nothing is synced downward); a master's row only where its node_name is
    the master's own, or where it knocked (Pending) later than all that the worker named there has said up to then; every
    row with a contact where there is no cluster or no node_name (5.0). The rest is a mirror.
 2. The newest contact owns the agent. Within `sync_jitter` a worker's row beats the master's, which is stamped with the
    master's clock when it is synced. Older claims never make an event, however fresh their disconnection_time. A stop on
    the master's row may be a worker's older word: `relay.races`.
 3. A mirror speaks only for a node that is not fresh, or that has told all up to then and knows less: the master's own
    remoted names itself in a row only with an agent's first keepalive. Code 5 in a mirror is never a claim: it is the
    master's own restart.
 4. status_code is the reason. A reset (5) and Pending wait for a grace and are events only if the agent does not return.
 5. Only the master registers and removes, and a removal needs its client.keys to agree. A worker's row counts only if its
    own client.keys holds the same id and name, and not before the agent was registered.
 6. A table that lost most of its agents at once is a broken source: `relay.doubts`.
 7. Order, repeats, gaps: `fleet.order` and `Node.proved`.
 8. The first view of a fleet is a baseline: it makes one batch summary and no event.
 9. What says "nothing came" fires only when every reachable node has told all it saw up to then.
10. A claim older than what was decided is superseded: counted, never an event: `relay.older`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from shared import models
from shared.models import AgentRow

from . import asides, baseline, calm, claims, events, ghosts, managers, older, races, registry, telling
from .claims import Claim, Voices
from .decided import Agent, Decision, Ghost, Hold, HoldKind, Manager, known_so
from .events import Event, Kind, ManagerEvent, Message, Status
from .fleet import MISSED, Fleet, Folded, Heard, Input, Node

STATUSES: Final[dict[models.ConnectionStatus, Status]] = {
    "active": "Active",
    "disconnected": "Disconnected",
    "pending": "Pending",
    "never_connected": "NeverConnected",
}


def decide(fleet: Fleet, given: Input, folded: Folded, prefix: str) -> Decision:
    """The decision on an input that `fleet.fold` has just taken in."""
    touched = sorted(folded.touched | _due(fleet, given.now, folded.told))
    if not fleet.settled:
        if not baseline.is_over(fleet, given.now):
            return _nothing(given, folded, settled=False)
        touched = sorted({number for table in fleet.tables.values() for number in table.rows} | fleet.agents.keys())
    met = calm.judge(fleet, touched)
    at_ease = {agent.id for agent in met}
    judged = [_judge(fleet, number, given.now, late=folded.late) for number in touched if number not in at_ease]
    return _decision(fleet, given, folded, judged, met, list(managers.judge(fleet, given, folded)), prefix)


# Judging one agent --------------------------------------------------------------------------------------------------


class Judged(NamedTuple):
    """What became of one agent: its new state (None: it is no agent any more) and the events on the way."""

    number: int
    agent: Agent | None
    events: tuple[Event, ...]
    superseded: bool = False
    older: bool = False  # what its owner says is older than what was decided
    ghost: Ghost | None = None


def _judge(fleet: Fleet, number: int, now: int, *, late: bool) -> Judged:
    known, made = fleet.agents.get(number), []
    entry, ghost = registry.registration(fleet, number), fleet.ghosts.get(number)
    if known is not None and registry.is_removed(fleet, known, entry):
        made.append(telling.event(fleet, known, "removed", "removed", "Unknown", registry.seen_until(fleet), late=late))
        ghost = ghosts.rises(fleet, known._replace(last_event_id=made[-1].event_id), now)
        known = None
    if known is None:
        if entry is None:
            haunt = asides.haunted(fleet, number, ghost, now, late=late)
            return Judged(number, None, (*made, *haunt.events), ghost=haunt.ghost)
        known = _registered(fleet, entry, ghost, made, late=late)
    elif entry is not None and known.date_add == 0:
        known = known._replace(date_add=entry[1].date_add)
    judged = _weigh(fleet, known, now, made, late=late)
    if ghost is None or ghost.name == known.name:
        return judged
    haunt = asides.haunted(fleet, number, ghost, now, late=late)
    return judged._replace(events=(*judged.events, *haunt.events), ghost=haunt.ghost)


def _weigh(fleet: Fleet, known: Agent, now: int, made: list[Event], *, late: bool) -> Judged:
    voices = claims.voices(fleet, known.id, (known.name, known.date_add))
    claim = claims.owner(voices.claims, fleet.policy.sync_jitter)
    judged = _hear(fleet, known, claim, voices, now, made, late=late)
    agent, more = asides.judge(fleet, judged.agent or known, None if judged.older else claim, voices.heard, now, late=late)
    if more or agent is not judged.agent:
        judged = judged._replace(agent=agent, events=(*judged.events, *more))
    if agent.hold is not None:
        return judged
    again_at = min(filter(None, (voices.again_at, _proves_life_at(fleet, judged, agent, claim, voices.claims))), default=None)
    if again_at is None:
        return judged
    return judged._replace(agent=agent._replace(hold=Hold("again", agent.since, again_at)))


def _proves_life_at(fleet: Fleet, judged: Judged, agent: Agent, claim: Claim | None, found: Sequence[Claim]) -> int | None:
    if judged.older and claim is not None and claim.alive:
        gone = older.gone_until(agent, claim, claims.decided_contact(fleet, agent) or 0) + claim.contact - claim.surely
        return claims.proves_life_at(found, gone, fleet.policy.sync_jitter)
    if agent.status != "Disconnected" and (claim is None or claim.alive):
        return claim.advances_at if claim is not None and claim.stamp and agent.overdue is not None else None
    gone = claim.contact if claim is not None and not claim.alive else 0
    return claims.proves_life_at(found, max(gone, claims.decided_contact(fleet, agent) or 0), fleet.policy.sync_jitter)


def _hear(fleet: Fleet, known: Agent, claim: Claim | None, voices: Voices, now: int, made: list[Event], *, late: bool) -> Judged:
    if claim is None:
        return Judged(known.id, _without_claim(known), tuple(made))
    if not fleet.settled and known.status == "Unknown":
        return Judged(known.id, _adopted(fleet, known, claim), tuple(made))
    race = races.judge(fleet, known, claim, voices, now)
    if race is not None and race.hold is not None:
        return Judged(known.id, known_so(known, hold=race.hold), tuple(made))
    if race is not None:
        claim = race.stop
    if older.is_older(fleet, known, claim):
        return _regressed(fleet, known, claim, voices, now, made, late=late)
    return _follow(fleet, known, claim, voices, now, made, late=late)


def _follow(fleet: Fleet, known: Agent, claim: Claim, voices: Voices, now: int, made: list[Event], *, late: bool) -> Judged:
    """Take the owner's word: at once, or after the grace where it may yet be taken back (rule 4)."""
    status = STATUSES[claim.row.status]
    if status == known.status:
        return Judged(known.id, _kept(fleet, known, claim), tuple(made))
    if status == "Disconnected" and claims.lives_elsewhere(voices.claims, claim):
        return Judged(known.id, known_so(known, hold=None), tuple(made))
    waits = hold_of(claim)
    if waits is not None:
        hold = _held(fleet, known, claim, waits, now)
        # A knock that is not named as quiet was not the last one.
        knocks = claim.alive and (not claim.frozen or claims.lives_elsewhere(voices.claims, claim))
        if knocks or claims.knocked_later(voices.heard, claim) or not _ripe(fleet, hold, claim, now):
            return Judged(known.id, known_so(known, hold=_rested(fleet, hold, now)), tuple(made))
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
    since = _moment(claim)
    if known.hold is not None and (known.hold.kind, known.hold.since) == (kind, since):
        return known.hold
    return Hold(kind, since, now + _grace(fleet, claim), began=now)


def _grace(fleet: Fleet, claim: Claim) -> int:
    return max(fleet.policy.reset_grace, MISSED * claim.node.period)


def _moment(claim: Claim) -> int:
    """When it became as the claim says, in Unix s by Wazuh's record: a row is not sent again for a later knock, `quiet` is."""
    if claim.row.status == "disconnected":
        return claim.row.disconnection_time
    return claim.seconds if claim.frozen else claim.row.last_keepalive or 0


def _ripe(fleet: Fleet, hold: Hold, claim: Claim, now: int) -> bool:
    """Rule 9: the grace is over on every reachable node, and the node that says so can still be heard."""
    return min(now, fleet.through()) >= hold.began + _grace(fleet, claim) and claim.node.fresh


def _rested(fleet: Fleet, hold: Hold, now: int) -> Hold:
    """A hold that is over and not believed is looked at again once in a while: what it waits for touches its agent anyway."""
    return replace(hold, until=now + fleet.policy.node_stale) if min(now, fleet.through()) >= hold.until else hold


def _regressed(fleet: Fleet, known: Agent, claim: Claim, voices: Voices, now: int, made: list[Event], *, late: bool) -> Judged:
    """An older claim is no event. But where the row that was decided on has gone back or was overwritten (SQLite's
    automatic rollback; #24401), the agent must show itself within the grace, or the claim stands."""
    status = STATUSES[claim.row.status]
    overwritten = known.witness in fleet.tables and known.id in fleet.tables[known.witness].rows
    still_there = any(other.node.node == known.witness and other is not claim for other in voices.claims)
    plain = status == known.status or claim.mirror or claim.alive or voices.again_at is not None
    if plain or still_there or not overwritten or not older.may_stand(fleet, known, claim):
        return Judged(known.id, known_so(known, hold=None), tuple(made), superseded=status != known.status, older=True)
    hold = _held(fleet, known, claim, "regressed", now)
    if not _ripe(fleet, hold, claim, now):
        return Judged(known.id, known_so(known, hold=_rested(fleet, hold, now)), tuple(made), older=True)
    return _changed(fleet, known, claim, made, late=late)


def _without_claim(known: Agent) -> Agent:
    """Nobody was ever in contact with it: NeverConnected. Where somebody was, no row at all proves nothing."""
    if known.status != "Unknown":
        return known_so(known, hold=None)
    return known._replace(status="NeverConnected", reason="registered", since=known.date_add)


# Rule 5: registration and removal -----------------------------------------------------------------------------------


def _registered(fleet: Fleet, entry: tuple[Node, AgentRow], ghost: Ghost | None, made: list[Event], *, late: bool) -> Agent:
    """A new agent, and the event that says so, once the baseline is over. One that was here before follows on its removal."""
    node, row = entry
    agent = Agent(
        id=row.id,
        name=row.name,
        date_add=row.date_add,
        status="Unknown",
        reason="registered",
        since=row.date_add,
        ip=telling.address(row.ip),
        last_keepalive=None,
        manager_node=node.node,
        witness=None,
        contact=None,
        last_event_id=made[-1].event_id if made else ghost.last_event_id if ghost is not None else "",
        hold=None,
    )
    if not fleet.settled:
        return agent
    made.append(telling.event(fleet, agent, "registered", "registered", "NeverConnected", registry.registered_at(fleet, row), late=late))
    return agent._replace(status="NeverConnected", last_event_id=made[-1].event_id)


# New states and their events ----------------------------------------------------------------------------------------


def _adopted(fleet: Fleet, known: Agent, claim: Claim) -> Agent:
    """The baseline's status: what the claim says, without an event."""
    status, reason = STATUSES[claim.row.status], telling.reason_of(claim, known)
    kept = _kept(fleet, known, claim)
    return kept._replace(
        status=status,
        reason=reason,
        since=_moment(claim),
        manager_node=claims.reports_to(fleet, claim),
        went_at=_went_at(known, claim),
    )


def _kept(fleet: Fleet, known: Agent, claim: Claim) -> Agent:
    """The same status, on the newest claim's facts. Who lives on another manager than before may have moved (`relay.moves`)."""
    stays = claim.alive and known.status in ("Active", "Pending")
    if stays and claim.stamp and claims.reports_to(fleet, claim) in (known.witness, known.manager_node):
        return known_so(known, hold=None)  # of a stay that is known a stamp tells nothing
    return known_so(
        known,
        ip=telling.address(claim.row.ip) or known.ip,
        last_keepalive=_last_keepalive(claim),
        manager_node=known.manager_node if stays else claims.reports_to(fleet, claim),
        witness=claim.node.node,
        contact=claim.seconds,
        hold=None,
        mirrored=claim.mirror,
    )


def _changed(fleet: Fleet, known: Agent, claim: Claim, made: list[Event], *, late: bool) -> Judged:
    kept = _kept(fleet, known, claim)._replace(
        manager_node=claims.reports_to(fleet, claim), moving=None, overdue=None, went_at=_went_at(known, claim),
    )  # fmt: skip
    status, row = STATUSES[claim.row.status], claim.row
    kind: Kind = "connected" if status == "Active" else "pending" if status == "Pending" else "disconnected"
    event = telling.event(
        fleet, kept, kind, telling.reason_of(claim, known), status, _moment(claim) or claim.seconds, code=row.code, late=late
    )
    agent = kept._replace(status=status, reason=event.reason, since=event.timestamp, last_event_id=event.event_id)
    return Judged(known.id, agent, (*made, event))


def _went_at(known: Agent, claim: Claim) -> int | None:
    return claim.row.disconnection_time if claim.row.status == "disconnected" else known.went_at


def _last_keepalive(claim: Claim) -> int | None:
    return claim.seconds if claim.alive else claim.row.last_keepalive


# The whole decision -------------------------------------------------------------------------------------------------


def _due(fleet: Fleet, now: int, told: Sequence[tuple[int, int]]) -> set[int]:
    """Whose hold is over on every reachable node, and who is to be looked at again because a node has told more."""
    through = min(now, fleet.through())
    waiting = set[int]()
    for number in fleet.holding:
        hold = fleet.agents[number].hold
        if hold is not None and hold.kind == "again":
            over = any(before < hold.until <= after for before, after in told)
        else:
            over = hold is not None and hold.until <= through
        if over:
            waiting.add(number)
    return waiting | {ghost.id for ghost in fleet.ghosts.values() if ghost.until <= through}


def _nothing(given: Input, folded: Folded, *, settled: bool) -> Decision:
    return Decision(given.position, given.now, (), (), (), (), 0, folded.refused, settled)


def _decision(
    fleet: Fleet,
    given: Input,
    folded: Folded,
    judged: Sequence[Judged],
    met: Sequence[Agent],
    of_managers: Sequence[tuple[Manager, tuple[ManagerEvent, ...]]],
    prefix: str,
) -> Decision:
    agents = tuple(j.agent for j in judged if j.agent is not None and j.agent != fleet.agents.get(j.number))
    removed = tuple(j.number for j in judged if j.agent is None and j.number in fleet.agents)
    happened = telling.again(fleet, [event for j in judged for event in j.events])
    said = tuple(event for _, told in of_managers for event in told)
    return Decision(
        position=given.position,
        now=given.now,
        agents=agents,
        removed=removed,
        happened=happened,
        messages=(
            *(events.manager_message(prefix, fleet.cluster, event) for event in said),
            *_messages(fleet, given, happened, agents, removed, prefix),
        ),
        superseded=sum(j.superseded for j in judged),
        refused=folded.refused,
        settled=True,
        ghosts=tuple(j.ghost for j in judged if j.ghost is not None and j.ghost != fleet.ghosts.get(j.number)),
        laid=tuple(j.number for j in judged if j.ghost is None and j.number in fleet.ghosts),
        managers=tuple(manager for manager, _ in of_managers),
        of_managers=said,
        met=tuple(agent for agent in met if agent is not fleet.agents[agent.id]),
    )


def _messages(
    fleet: Fleet, given: Input, happened: Sequence[Event], changed: Iterable[Agent], removed: Iterable[int], prefix: str
) -> tuple[Message, ...]:
    if not happened and fleet.settled:
        return ()
    summary = _summary(fleet, changed, removed, len(happened))
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
