"""Whose version a manager refuses: status_code 1 or 2 on a row whose status stays as it was (manager.c:397). Pure.

Wazuh keeps no time of it. It is told once, until the agent is accepted again or reports elsewhere.
"""

from dataclasses import replace
from typing import Final

from shared import models

from . import claims
from .decided import Agent
from .fleet import Fleet, Node

REFUSED: Final = (models.CODE_INVALID_VERSION, models.CODE_VERSION_UNREADABLE)


def judge(fleet: Fleet, agent: Agent, decided: int | None) -> tuple[Agent, Node | None]:
    """The agent, and the node that refuses it where that is new. `decided`: its newest contact, Unix ms by the stream's clock."""
    node = next((node for node in fleet.nodes.values() if _refuses(fleet, node, agent, decided)), None)
    if agent.refused == (node is not None):
        return agent, None
    return replace(agent, refused=node is not None), node


def _refuses(fleet: Fleet, node: Node, agent: Agent, decided: int | None) -> bool:
    row = fleet.tables[node.node].rows.get(agent.id)
    if row is None or row.code not in REFUSED or row.name != agent.name:
        return False
    claim = claims.of(fleet, node, agent.id)  # none: it never got so far
    gone = node.at(row.disconnection_time) if row.status == "disconnected" else 0
    return max(gone, 0 if claim is None else claim.contact) >= (decided or 0) - claims.TIE
