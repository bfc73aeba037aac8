"""What changes no status and is told all the same: a move, a silence, a refused version, an agent that should be gone. Pure.

In the baseline it is only taken down (rule 8). To add a kind: judge it in a room of its own, and tell it here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from . import claims, ghosts, moves, refusals, silence, telling
from .claims import Claim
from .decided import Agent, Ghost
from .events import Event, Kind, Reason
from .fleet import Fleet


class _Telling:
    """An agent, and what is told of it, each event following the one before."""

    def __init__(self, fleet: Fleet, agent: Agent, *, late: bool) -> None:
        self.agent = agent
        self.events: list[Event] = []
        self._fleet, self._late = fleet, late

    def tell(self, kind: Kind, reason: Reason, at: int, node: str, left: str | None = None) -> None:
        if not self._fleet.settled:
            return
        there = self.agent._replace(manager_node=node)
        event = telling.event(self._fleet, there, kind, reason, self.agent.status, at, late=self._late)
        self.events.append(event._replace(left=left))
        self.agent = self.agent._replace(last_event_id=event.event_id)


def judge(
    fleet: Fleet, agent: Agent, claim: Claim | None, heard: Sequence[Claim], now: int, *, late: bool
) -> tuple[Agent, tuple[Event, ...]]:
    """The agent after all of it, and the events. `claim`: its owner's, where that is news; `heard`: all rows that count."""
    told = _Telling(fleet, agent, late=late)
    if claim is not None:
        told.agent, move = moves.judge(fleet, agent, claim, now)
        if move is not None:
            told.tell("moved", "moved", move.at, move.node, agent.manager_node)
        told.agent, silent = silence.judge(fleet, told.agent, claim, heard, now)
        if silent is not None:
            told.tell(silent, "keepalive_overdue" if silent == "overdue" else "kept_alive", claim.seconds, claim.node.node)
    told.agent, refuser = refusals.judge(fleet, told.agent, claims.decided_contact(fleet, told.agent))
    if refuser is not None:
        told.tell("version_refused", "version_refused", refuser.as_of // 1000, refuser.node)
    return told.agent, tuple(told.events)


@dataclass(frozen=True, slots=True)
class Haunted:
    """What became of an id under which nobody is registered."""

    ghost: Ghost | None
    events: tuple[Event, ...]


def haunted(fleet: Fleet, number: int, ghost: Ghost | None, now: int, *, late: bool) -> Haunted:
    """Nobody is registered under this id (rule 5); somebody may be served all the same."""
    ghost = ghost or ghosts.walks(fleet, number, now)
    haunt = ghosts.Haunt(None) if ghost is None else ghosts.judge(fleet, ghost, now)
    if haunt.claim is None or haunt.ghost is None:
        return Haunted(haunt.ghost, ())
    told = _Telling(fleet, _unregistered(haunt.ghost, haunt.claim), late=late)
    told.tell("removed_but_connected", "removed_but_connected", haunt.claim.seconds, haunt.claim.node.node)
    return Haunted(replace(haunt.ghost, last_event_id=told.agent.last_event_id), tuple(told.events))


def _unregistered(ghost: Ghost, claim: Claim) -> Agent:
    """Whom a ghost's event tells of."""
    return Agent(
        id=ghost.id,
        name=ghost.name,
        date_add=ghost.date_add,
        status="Unknown",
        reason="removed",
        since=ghost.since // 1000,
        ip=telling.address(claim.row.ip),
        last_keepalive=claim.seconds,
        manager_node=claim.node.node,
        witness=claim.node.node,
        contact=claim.seconds,
        last_event_id=ghost.last_event_id,
        hold=None,
    )
