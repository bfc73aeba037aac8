"""Whose version a manager refuses: status_code 1 or 2 on a row whose status stays as it was (manager.c:397). Pure.

Rules
 * Wazuh keeps no time of it. It is told once, until the agent is accepted again: by a contact after what was told, on a row that
   did not say so all the while; within SWEPT once it is named as quiet. (A first keepalive leaves the code where it was,
   wdb.c:176; the next one takes it away.)
 * On the master's row it may be a worker's word, synced onto whatever stands there by then, as late as the link allows. So a copy
   speaks only for a node that cannot be heard, nowhere while a worker's own row says it, and once the agent is named as quiet:
   who is accepted keeps alive, and the next keepalive takes the code away. So does the master's row of an agent of its own.
"""

from typing import Final

from shared import models

from . import claims
from .claims import Claim
from .decided import Agent, known_so
from .fleet import Fleet, Node

REFUSED: Final = (models.CODE_INVALID_VERSION, models.CODE_VERSION_UNREADABLE)

SWEPT: Final = 1_800_000
"""ms, twice Wazuh's agents_disconnection_time: the code of a refused agent that stays away is the sweep's by then."""


def judge(fleet: Fleet, agent: Agent, decided: int | None) -> tuple[Agent, Node | None]:
    """The agent, and the node that refuses it where that is new. `decided`: its newest contact, Unix ms by the stream's clock."""
    refusers = [node for node in fleet.nodes.values() if _refuses(fleet, node, agent, decided)]
    agent = known_so(agent, refused=bool(refusers), refused_by=agent.refused_by if _still_says_so(fleet, agent) else None)
    news = next((node for node in refusers if _is_news(fleet, node, agent)), None)
    if news is None:
        return agent, None
    return agent._replace(refused_by=news.node, refused_at=news.as_of), news


def _still_says_so(fleet: Fleet, agent: Agent) -> bool:
    row = fleet.tables[agent.refused_by].rows.get(agent.id) if agent.refused_by in fleet.tables else None
    return row is not None and row.code in REFUSED and row.name == agent.name


def _refuses(fleet: Fleet, node: Node, agent: Agent, decided: int | None) -> bool:
    row = fleet.tables[node.node].rows.get(agent.id)
    if row is None or row.code not in REFUSED or row.name != agent.name:
        return False
    claim = claims.of(fleet, node, agent.id)  # none: it never got so far
    if _is_echo(fleet, node, agent, claim):
        return False
    gone = node.at(row.disconnection_time) if row.status == "disconnected" else 0
    return max(gone, 0 if claim is None else claim.contact) >= (decided or 0) - claims.TIE


def _is_echo(fleet: Fleet, node: Node, agent: Agent, claim: Claim | None) -> bool:
    """Whether a master's row may only repeat what a worker's says."""
    if node.node_type == "worker":
        return False
    if claim is not None and claim.mirror and not claim.frozen:
        return True  # a whole row may have carried an old code (wdb.c:176)
    original = fleet.named(claim.row.node_name) if claim is not None and claim.mirror else None
    if claim is not None and original is not None and original.fresh:
        return not _outlives(fleet, claim, original)
    if claim is not None and claim.frozen and not claim.mirror:
        return False
    rows = (fleet.tables[other.node].rows.get(agent.id) for other in fleet.nodes.values() if other.node_type == "worker")
    return any(row is not None and row.code in REFUSED for row in rows)


def _outlives(fleet: Fleet, claim: Claim, original: Node) -> bool:
    """Whether the master's own remoted wrote it, though a late sync has put a worker's name on its row (#24401)."""
    said = claims.of(fleet, original, claim.row.id)
    return said is None or claim.contact > said.contact + fleet.policy.sync_jitter


def _is_news(fleet: Fleet, node: Node, agent: Agent) -> bool:
    if agent.refused_at is None:
        return True
    if node.node == agent.refused_by:
        return False
    claim = claims.of(fleet, node, agent.id)
    if claim is None or (not claim.frozen and claim.contact < agent.refused_at + SWEPT):
        return False  # a first keepalive may have carried the old code
    # A copy's contact is stamped when it is synced, and by another clock.
    return claim.contact > agent.refused_at + (fleet.policy.sync_jitter if claim.mirror else 0)
