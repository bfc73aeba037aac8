"""What EVENTS says, read back: of each agent, ghost and manager what was told of it last. Pure.

For a ledger that is made anew (`relay.catchup`): deciding RAW again gives what the nodes say, and only EVENTS knows what was
told of it. What was told stands over what deciding again found.

Rules
 * An agent's status, reason and since are those of the newest event that changed its status; last_event_id is the newest
   event's, of whatever kind; the manager it reports to, that of the newest change or move. An overdue keepalive and a
   refused version were told if nothing newer took them back: overdue_cleared, any change.
 * A refusal that ended is not told, nor is a clock that is right again: deciding again finds that, or the next judgement.
 * A removed agent is left as deciding again has it; a ghost of it, and every manager, is told of what it was told of.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, get_args

from . import events
from .decided import Agent, Ghost, Manager
from .events import Event, ManagerEvent, ManagerKind, Reason, Status

SUBJECTS: Final = tuple(sorted({tokens[0] for tokens in events.TOKENS.values()}))
"""The last tokens under which every event of an agent is found once."""

_KINDS: Final = frozenset(get_args(events.Kind))
_REASONS: Final = frozenset(get_args(events.Reason))
_STATUSES: Final = frozenset(get_args(events.Status))
_MANAGER_KINDS: Final = frozenset(get_args(events.ManagerKind))

_REPLACES: Final[Mapping[str, frozenset[str]]] = {
    kind: frozenset(("overdue", "overdue_cleared")) if kind in ("overdue", "overdue_cleared") else frozenset((kind,)) for kind in _KINDS
}
"""The kinds that say nothing any more once this one was told; a change of the status replaces all."""

_IMPLIED: Final[Mapping[Status, Reason]] = {
    "Active": "returned",
    "Disconnected": "unexplained",
    "Pending": "startup",
    "NeverConnected": "registered",
    "Unknown": "removed",
}
"""The reason for a status that no event is left to explain: EVENTS keeps a month, or the agent was so from the beginning."""

_ODD: Final = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


# Messages -----------------------------------------------------------------------------------------------------------


def changes_status(event: Event) -> bool:
    """Whether an event is of a kind that changes the status."""
    return "status" in events.TOKENS[event.kind]


def event_of(headers: Mapping[str, str], body: bytes) -> Event | None:
    """The event that a message of an agent tells; None where that is no event of this version."""
    try:
        fields = json.loads(body)
        event = Event(
            kind=headers[events.H_KIND],  # type: ignore[arg-type]
            reason=headers[events.H_REASON],  # type: ignore[arg-type]
            agent_id=int(fields["agent_id"]),
            agent_name=str(fields["agent_name"]),
            previous=fields["previous_status"],
            current=fields["current_status"],
            ip=fields["ip_address"],
            last_keepalive=None if fields["last_keepalive"] is None else _seconds(fields["last_keepalive"]),
            manager_node=str(fields["manager_node"]),
            timestamp=_seconds(fields["timestamp"]),
            event_id=str(fields["event_id"]),
            late=headers.get(events.H_LATE) == "true",
        )
    except _ODD:
        return None
    known = event.kind in _KINDS and event.reason in _REASONS and {event.previous, event.current} <= _STATUSES
    return event if known else None


def manager_event_of(body: bytes) -> ManagerEvent | None:
    """The event that a message of a manager tells; None where that is none of this version."""
    try:
        fields = json.loads(body)
        kind, details = fields["event_type"], dict(fields["details"])
        event = ManagerEvent(kind, str(fields["manager_node"]), _seconds(fields["timestamp"]), str(fields["event_id"]), details)
    except _ODD:
        return None
    return event if event.kind in _MANAGER_KINDS else None


def ends_its_input(headers: Mapping[str, str], body: bytes) -> bool:
    """Whether a message is the last that was decided from its input: the last batch, by the number of changes it tells."""
    if headers.get(events.H_KIND) != "batch":
        return False
    try:
        batch = json.loads(body)
        before = int(str(batch["batch_id"]).rpartition("_")[2]) * events.BATCH_EVENTS
        return bool(before + len(batch["events"]) == batch["summary"]["changes_detected"])
    except _ODD:
        return False


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


# What was told ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Told:
    """What was told last. To be given the events of EVENTS in their order."""

    agents: dict[int, tuple[Event, ...]] = field(default_factory=dict)  # a change of the status first, if there is one
    ghosts: dict[int, Event] = field(default_factory=dict)  # removed, or removed_but_connected
    managers: dict[str, dict[ManagerKind, ManagerEvent]] = field(default_factory=dict)  # the newest of each kind, in order

    def hear(self, event: Event) -> None:
        """An agent's next event, on whichever of its subjects."""
        if event.kind in ("removed", "removed_but_connected"):
            if event.kind == "removed":
                self.agents.pop(event.agent_id, None)
            self.ghosts[event.agent_id] = event
            return
        ghost = self.ghosts.get(event.agent_id)
        if ghost is not None and ghost.agent_name == event.agent_name:  # it is registered again
            del self.ghosts[event.agent_id]
        self.agents[event.agent_id] = (*(() if changes_status(event) else self._still(event)), event)

    def _still(self, event: Event) -> Iterator[Event]:
        """What an agent was told of before that stands beside this event."""
        before = self.agents.get(event.agent_id, ())
        return (told for told in before if told.agent_name == event.agent_name and told.kind not in _REPLACES[event.kind])

    def hear_manager(self, event: ManagerEvent) -> None:
        """A manager's next event."""
        told = self.managers.setdefault(event.node, {})
        told.pop(event.kind, None)
        told[event.kind] = event

    def without(self, event_ids: frozenset[str]) -> "Told":
        """Those whose newest event is none of these."""
        return Told(
            {number: told for number, told in self.agents.items() if told[-1].event_id not in event_ids},
            {number: told for number, told in self.ghosts.items() if told.event_id not in event_ids},
            {node: told for node, told in self.managers.items() if _newest(told).event_id not in event_ids},
        )

    def but(self, numbers: Collection[int]) -> "Told":
        """All but the agents and ghosts under these ids."""
        return Told(
            {number: told for number, told in self.agents.items() if number not in numbers},
            {number: told for number, told in self.ghosts.items() if number not in numbers},
            self.managers,
        )

    def only(self, numbers: Collection[int], nodes: Collection[str]) -> "Told":
        """Of the ids and managers only these."""
        return Told(
            {number: told for number, told in self.agents.items() if number in numbers},
            {number: told for number, told in self.ghosts.items() if number in numbers},
            {node: told for node, told in self.managers.items() if node in nodes},
        )


def _newest(told: Mapping[ManagerKind, ManagerEvent]) -> ManagerEvent:
    return list(told.values())[-1]


# Taking it over -----------------------------------------------------------------------------------------------------


def agents(known: Mapping[int, Agent], told: Told) -> list[Agent]:
    """The agents as they were told of; `known`: as deciding again found them."""
    return [_agent(known.get(number), heard) for number, heard in told.agents.items()]


def _agent(known: Agent | None, told: Sequence[Event]) -> Agent:
    agent = known if known is not None and known.name == told[0].agent_name else _unheard_of(told[0])
    for event in told:
        agent = _after(agent, event)
    return agent


def _unheard_of(event: Event) -> Agent:
    """What an event does not tell is left open: `decide` fills in date_add, witness and contact when it meets the agent."""
    return Agent(
        id=event.agent_id,
        name=event.agent_name,
        date_add=0,
        status=event.current,
        reason=_IMPLIED[event.current],
        since=event.timestamp,
        ip=event.ip,
        last_keepalive=event.last_keepalive,
        manager_node=event.manager_node,
        witness=None,
        contact=None,
        last_event_id="",
        hold=None,
    )


def _after(agent: Agent, event: Event) -> Agent:
    agent = agent._replace(last_event_id=event.event_id)
    if changes_status(event):
        went_at = event.timestamp if event.current == "Disconnected" else agent.went_at
        changed = agent._replace(status=event.current, reason=event.reason, since=event.timestamp, went_at=went_at)
        return changed._replace(manager_node=event.manager_node, overdue=None)
    if agent.status != event.current:
        agent = agent._replace(status=event.current, reason=_IMPLIED[event.current], since=event.timestamp)
    match event.kind:
        case "moved":
            return agent._replace(manager_node=event.manager_node)
        case "overdue":
            return agent._replace(overdue=event.timestamp)
        case "overdue_cleared":
            return agent._replace(overdue=None)
        case _:  # version_refused
            return agent._replace(refused=True, refused_by=event.manager_node, refused_at=event.timestamp * 1000)


def ghosts(known: Mapping[int, Ghost], told: Told, registered: Mapping[int, Agent], now: int, grace: int) -> list[Ghost]:
    """The ghosts as they were told of. `registered`: the agents there are; `now` (Unix ms by the stream's clock) and `grace`
    (ms) say when one that deciding again did not find is looked for."""
    found = []
    for number, event in told.ghosts.items():
        ghost, connected = known.get(number), event.kind == "removed_but_connected"
        if ghost is not None and ghost.name == event.agent_name:
            last = event.event_id if connected or ghost.last_event_id else ""
            found.append(replace(ghost, last_event_id=last, told=connected))
        elif connected and (number not in registered or registered[number].name != event.agent_name):
            found.append(Ghost(number, event.agent_name, 0, now, now + grace, event.event_id, told=True))
    return found


def managers(known: Mapping[str, Manager], told: Told, ended_at: int) -> list[Manager]:
    """The managers as they were told of. Of one that deciding again did not meet, every restart before `ended_at` (Unix s by
    the stream's clock, when EVENTS ends) was told, or was there before anybody looked."""
    return [_manager(known.get(node), node, heard, ended_at) for node, heard in told.managers.items()]


def _manager(known: Manager | None, node: str, told: Mapping[ManagerKind, ManagerEvent], ended_at: int) -> Manager:
    manager = known or Manager(node, reset_at=ended_at)
    for kind, event in told.items():
        manager = replace(manager, last_event_id=event.event_id)
        match kind:
            case "manager_restarted":
                manager = replace(manager, reset_at=max(manager.reset_at, event.timestamp))
            case "manager_unreachable" | "manager_back":
                manager = replace(manager, unreachable=kind == "manager_unreachable")
            case "duplicate_collector":
                manager = replace(manager, twin_at=max(manager.twin_at, event.timestamp * 1000))
            case _:  # clock_off
                manager = replace(manager, clock_off=known is None or known.clock_off)
    return manager
