"""What is decided, put into events. Pure."""

from collections.abc import Sequence

from shared import models

from . import events
from .claims import Claim
from .decided import Agent
from .events import Event, Kind, Reason, Status
from .fleet import Fleet


def again(fleet: Fleet, happened: Sequence[Event]) -> tuple[Event, ...]:
    """The events of one input; a registration under a name that was just removed is a re-registration (rule 5)."""
    gone = {event.agent_name for event in happened if event.kind == "removed"} | {
        ghost.name for ghost in fleet.ghosts.values() if ghost.date_add
    }
    return tuple(
        event._replace(reason="reregistered") if event.kind == "registered" and event.agent_name in gone else event for event in happened
    )


def event(
    fleet: Fleet, agent: Agent, kind: Kind, reason: Reason, current: Status, timestamp: int, *, code: int | None = None, late: bool
) -> Event:
    """The event that changes an agent from its status to `current`."""
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


def address(ip: str | None) -> str | None:
    """An address as an event says it: Wazuh writes `any` where it knows none."""
    return None if ip == "any" else ip
