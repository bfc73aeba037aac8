"""What is decided, as values: of agents, of ids that should be gone, of managers. Pure.

The ledger keeps each of them as it is (`relay.stored`), so that a restart neither forgets nor repeats anything.
"""

from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple

from .events import Event, ManagerEvent, Message, Reason, Status

Refusal = Literal["repeat", "duplicate_collector"]
HoldKind = Literal["reset", "pending", "unexplained", "regressed", "raced", "again"]


@dataclass(frozen=True, slots=True)
class Hold:
    """A change that waits."""

    kind: HoldKind
    since: int  # Unix s by Wazuh's record: when what waits happened; the same thing waits only once
    until: int  # Unix ms by the stream's clock
    began: int = 0  # Unix ms by the stream's clock: when it was first seen


@dataclass(frozen=True, slots=True)
class Move:
    """An agent was met on another manager than its own; it has moved when it is proved to stay there (`relay.moves`)."""

    node: str
    since: int  # Unix ms by the stream's clock: the first contact there
    at: int  # the same in Unix s by Wazuh's record


class Agent(NamedTuple):
    """What is decided of one agent. A tuple, for there are a hundred thousand of them: made and compared at a fifth of the cost."""

    id: int
    name: str
    date_add: int
    status: Status
    reason: Reason
    since: int  # Unix s: when it became so
    ip: str | None
    last_keepalive: int | None  # Unix s by the witness's clock
    manager_node: str  # where it reports, by its last event
    witness: str | None  # the node whose row said so
    contact: int | None  # Unix s by the witness's clock: the newest contact that was decided on
    last_event_id: str
    hold: Hold | None
    mirrored: bool = False  # the witness's row was a copy
    moving: Move | None = None
    overdue: int | None = None  # Unix s: the last keepalive before the silence that was told
    refused: bool = False  # its manager refuses its version now
    refused_by: str | None = None  # the node whose row has said so ever since that was told
    refused_at: int | None = None  # Unix ms by the stream's clock: up to when that was known when it was last told
    went_at: int | None = None  # Unix s by Wazuh's record: its last disconnection that was decided on

    @property
    def identity(self) -> tuple[int, str, int]:
        """An id alone is no identity: Wazuh reuses ids (rule 5)."""
        return (self.id, self.name, self.date_add)


_SEEN: Final = Agent._fields.index("last_keepalive")
_CONTACT: Final = Agent._fields.index("contact")
_what_waits: Final = attrgetter("hold", "mirrored", "moving", "overdue", "refused", "refused_by")
_NOTHING: Final = (None, False, None, None, False, None)


def rests(agent: Agent) -> bool:
    """Whether it is Active where it reports, and nothing waits that a newer contact might end."""
    return agent.status == "Active" and agent.witness == agent.manager_node and _what_waits(agent) == _NOTHING


def met(agent: Agent, seconds: int) -> Agent:
    """The agent with a newer contact (Unix s by its witness's clock) that is a keepalive. At a third of the cost of `_replace`."""
    if agent.contact == seconds == agent.last_keepalive:
        return agent
    return tuple.__new__(Agent, (*agent[:_SEEN], seconds, *agent[_SEEN + 1 : _CONTACT], seconds, *agent[_CONTACT + 1 :]))


def known_so(agent: Agent, **facts: Any) -> Agent:
    """The agent with these facts; itself where they are so already, as they nearly always are."""
    for name, value in facts.items():
        if getattr(agent, name) != value:
            return agent._replace(**facts)
    return agent


@dataclass(frozen=True, slots=True)
class Ghost:
    """An id that is registered no more and may be served all the same, by a manager that does not know (`relay.ghosts`)."""

    id: int
    name: str
    date_add: int
    since: int  # Unix ms by the stream's clock: when it was seen to be gone
    until: int  # Unix ms by the stream's clock: when to look again
    last_event_id: str
    told: bool


@dataclass(frozen=True, slots=True)
class Manager:
    """What was told of a manager."""

    node: str
    reset_at: int = 0  # Unix s by its own record: when its remoted last reset its rows
    unreachable: bool = False
    clock_off: bool = False
    twin_at: int = 0  # Unix ms by the stream's clock: when a second collector was last refused; 0 never
    last_event_id: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What one input leads to. The ledger takes it over in one transaction, then the fleet does (`Fleet.settle`)."""

    position: int
    now: int  # Unix ms, the stream's time
    agents: tuple[Agent, ...]  # as they are now, but for those who were only met
    removed: tuple[int, ...]
    happened: tuple[Event, ...]
    messages: tuple[Message, ...]  # in the order in which they are to be published
    superseded: int
    refused: Refusal | None
    settled: bool
    ghosts: tuple[Ghost, ...] = ()  # as they are now
    laid: tuple[int, ...] = ()  # ghosts that are none any more
    managers: tuple[Manager, ...] = ()  # as they are now
    of_managers: tuple[ManagerEvent, ...] = ()
    met: tuple[Agent, ...] = ()  # as they are now: nothing but their last keepalive and contact is new
