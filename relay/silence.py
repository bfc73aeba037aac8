"""Silence before Wazuh sees it: who missed three keepalives, long before the sweep of 15 to 30 minutes. Pure.

An overdue keepalive is no status and alters none. It is told once a silence, and is over when the agent keeps alive again
(overdue_cleared) or when Wazuh says more (any change of the status).

Rules
 * Only the owner's node tells, while it is fresh, its rhythm is learnt and its table was proved up to then; a copy is stamped by others.
 * Rule 9: every reachable node has told all up to the deadline, and none of them may have the agent.
"""

from collections.abc import Sequence
from dataclasses import replace
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
        return replace(agent, overdue=None, last_keepalive=claim.seconds), "overdue_cleared"
    if claim.contact < (claims.decided_contact(fleet, agent) or 0) - claims.TIE or not _is_overdue(fleet, claim, heard, now):
        return agent, None
    return replace(agent, overdue=claim.seconds, last_keepalive=claim.seconds), "overdue"


def _is_overdue(fleet: Fleet, claim: Claim, heard: Sequence[Claim], now: int) -> bool:
    node = claim.node
    if not claim.frozen or claim.mirror or not (node.fresh and node.period):
        return False
    newer = any(_is_there(other, claim, fleet.policy.sync_jitter) for other in heard)
    told = min(fleet.through(), now, node.quiet_at + node.offset)  # an older list says nothing of what came after it
    return not newer and told >= claim.contact + patience(node) and not claims.lives_elsewhere(heard, claim)


def _is_there(other: Claim, silent: Claim, sync_jitter: int) -> bool:
    """Whether a row shows that the agent was elsewhere after it fell silent: a knock, whose time no sync carries; or what no sync
    explains, so that the master's own remoted wrote it. A stamp shows nothing."""
    if not other.alive or other is silent:
        return False
    if other.row.status == "pending":
        return other.contact > silent.contact + claims.TIE
    return other.contact > silent.contact + sync_jitter and not other.stamp
