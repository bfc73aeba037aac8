"""Whether an agent has moved to another manager without an outage: the second half of rule 4 of `relay.decide`. Pure.

Two advances on the new manager and none on the old: agents of 5.0 behind a balancer keep alive on both in turn, and a sync
may stamp a single fresh time on a row that is dead.
"""

from typing import Final, Literal

from shared import models

from . import claims
from .claims import Claim
from .decided import Agent, Hold, Move, known_so
from .fleet import MISSED, Fleet, Node

PROOF: Final = 2 * claims.TIE  # ms: Wazuh writes whole seconds, on both sides of a comparison


def judge(fleet: Fleet, agent: Agent, claim: Claim | None, now: int) -> tuple[Agent, Move | None]:
    """The agent with what is known of a move, and the move once it is proved. `claim`: its owner's."""
    place = None if claim is None or not claim.alive else claims.reports_to(fleet, claim)
    if claim is None or place is None or agent.status != "Active" or place == agent.manager_node:
        return known_so(agent, moving=None), None
    if claim.mirror:  # the node that a copy names is late, or of an older sync
        return agent, None
    move = agent.moving if agent.moving is not None and agent.moving.node == place else Move(place, claim.contact, claim.seconds)
    agent = known_so(agent, moving=move)
    if claim.row.status != "active" or claim.frozen:
        return agent, None
    left = _left(fleet, agent, move, now)
    if left == "there":
        return agent._replace(moving=None), None
    ripe_at = claim.node.offset + _seen_by(move, claim.node) if claim.contact <= move.since + claims.TIE else 0
    ripe_at = max(ripe_at, 0 if left == "left" else left)
    if ripe_at:
        return _again(agent, ripe_at), None
    return agent._replace(moving=None, manager_node=place), move


def _again(agent: Agent, at: int) -> Agent:
    if agent.hold is not None and (agent.hold.kind != "again" or agent.hold.until <= at):
        return agent
    return agent._replace(hold=Hold("again", agent.since, at))


def _seen_by(move: Move, node: Node) -> int:
    """When a list of who is quiet tells whether there was a contact after the first, without the node's offset."""
    return move.since - node.offset + models.quiet_after(node.period) + PROOF


def _left(fleet: Fleet, agent: Agent, move: Move, now: int) -> Literal["left", "there"] | int:
    """Whether the old manager has lost it; or the stream time (Unix ms) at which that can be known."""
    old = fleet.nodes.get(agent.manager_node)
    if old is None:
        return "left"
    if not old.fresh:  # nobody can ask it: whoever stays on the new one for so long has moved
        waited = move.since + max(fleet.policy.reset_grace, MISSED * (old.period or models.UNKNOWN_PERIOD))
        return "left" if now >= waited else waited
    here = claims.of(fleet, old, agent.id)
    copied = here is not None and (here.mirror or (old.node_type == "master" and here.row.node_name is None))
    if here is None or copied or not here.alive or here.row.name != agent.name:
        return "left"
    if here.frozen:
        return "left" if here.contact <= move.since + claims.TIE else "there"
    known_at = old.offset + _seen_by(move, old)
    return "there" if old.quiet_through >= known_at else known_at
