"""Silence before Wazuh sees it: who missed three keepalives, long before the sweep of 15 to 30 minutes. Pure.

An overdue keepalive is no status and alters none. It is told once a silence, and is over when the agent keeps alive again
(overdue_cleared) or when Wazuh says more (any change of the status).

Rules
 * Only the owner's node tells, while it is fresh, its rhythm is learnt and its table was proved up to then; a copy is stamped by others.
 * Rule 9: every reachable node has told all up to the deadline, and none of them may have the agent.
"""

from collections.abc import Sequence
from typing import Literal

from . import claims
from .claims import Claim
from .decided import Agent, known_so
from .fleet import Fleet, patience

_WAITING = ("reset", "pending", "unexplained", "regressed", "raced")


def judge(
    fleet: Fleet, agent: Agent, claim: Claim | None, heard: Sequence[Claim], now: int
) -> tuple[Agent, Literal["overdue", "overdue_cleared"] | None]:
    """The agent, and what is to be told of its keepalives. `claim`: its owner's, `heard`: all rows that count."""
    if agent.status != "Active":
        return known_so(agent, overdue=None), None
    if claim is None or not claim.alive or (agent.hold is not None and agent.hold.kind in _WAITING):
        return agent, None
    if agent.overdue is not None:
        if claim.frozen or claim.stamp or claim.seconds <= agent.overdue:
            return agent, None
        return agent._replace(overdue=None, last_keepalive=claim.seconds), "overdue_cleared"
    if claim.contact < (claims.decided_contact(fleet, agent) or 0) - claims.TIE or not _is_overdue(fleet, claim, heard, now):
        return agent, None
    return agent._replace(overdue=claim.seconds, last_keepalive=claim.seconds), "overdue"


def _is_overdue(fleet: Fleet, claim: Claim, heard: Sequence[Claim], now: int) -> bool:
    node = claim.node
    if not claim.frozen or claim.mirror or not (node.fresh and node.period):
        return False
    told = min(fleet.through(), now, node.quiet_through)  # an older list says nothing of what came after it
    if told < claim.contact + patience(node) or claims.lives_elsewhere(heard, claim):
        return False
    return not any(_is_there(fleet, other, claim, told) for other in heard)


def _is_there(fleet: Fleet, other: Claim, silent: Claim, told: int) -> bool:
    """Whether a row shows that the agent was elsewhere after it fell silent: a knock, whose time no sync carries; a copy that names
    another manager, which cannot be heard; or what no sync explains, so that the master's own remoted wrote it. A stamp shows
    nothing else, nor does who is as silent there."""
    if not other.alive or other is silent or (other.frozen and told >= other.contact + patience(other.node)):
        return False
    if other.row.status == "pending" or _is_unheard(fleet, claims.reports_to(fleet, other)):
        return other.contact > silent.contact + claims.TIE
    return other.contact > silent.contact + fleet.policy.sync_jitter and not other.stamp


def _is_unheard(fleet: Fleet, name: str) -> bool:
    return name in fleet.nodes and not fleet.nodes[name].fresh
