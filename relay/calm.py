"""Who is at ease: the short way to what `relay.decide` comes to of nearly every agent that a full snapshot tells of. Pure.

An agent is at ease where it is Active and nothing of it waits, its own node's row says so first-hand, and nobody says anything else:
every other row is blank, or a copy of that one. Then all that can come of judging it is its newer contact. A law in the tests holds
the short way and the long one together; a full snapshot of ten thousand agents is decided in a quarter of the time.
"""

from shared.models import AgentRow

from . import claims, registry, telling
from .claims import Claim
from .decided import Agent, known_so
from .fleet import Fleet, Node


def judge(fleet: Fleet, number: int) -> Agent | None:
    """The agent with its contact as it is now; None where it is not known to be at ease."""
    known = fleet.agents.get(number)
    claim = None if known is None or not _rests(known) else _own(fleet, known)
    if known is None or claim is None or number in fleet.ghosts or not _is_registered(fleet, known):
        return None
    if not all(node is claim.node or _is_silent(fleet, node, claim) for node in fleet.nodes.values()):
        return None
    return known_so(known, ip=telling.address(claim.row.ip) or known.ip, last_keepalive=claim.seconds, contact=claim.seconds)


def _rests(known: Agent) -> bool:
    """Whether nothing waits that a newer contact might end."""
    waits = known.hold or known.moving or known.refused or known.mirrored
    told = known.overdue, known.refused_by
    return known.status == "Active" and not waits and told == (None, None) and known.witness == known.manager_node


def _is_registered(fleet: Fleet, known: Agent) -> bool:
    entry = registry.registration(fleet, known.id)
    return entry is not None and known.date_add != 0 and not registry.is_removed(fleet, known, entry)


def _own(fleet: Fleet, known: Agent) -> Claim | None:
    """What its own node says, where that is that it lives, and no less than what was decided."""
    node = fleet.nodes.get(known.manager_node)
    row = None if node is None or not node.fresh else fleet.tables[node.node].rows.get(known.id)
    claim = None if node is None or row is None or not _is_plain(row) else claims.of(fleet, node, known.id)
    if claim is None or claim.mirror or claim.frozen or not claims.counts(fleet, claim, known.identity[1:]):
        return None
    return claim if claim.contact >= (claims.decided_contact(fleet, known) or 0) else None


def _is_plain(row: AgentRow) -> bool:
    """Active, and no code that says why (`relay.refusals`)."""
    return row.status == "active" and not row.code


def _is_silent(fleet: Fleet, node: Node, own: Claim) -> bool:
    """Whether another node has no row of the agent, a blank one, or the agent's own as it was copied (rule 3)."""
    row = fleet.tables[node.node].rows.get(own.row.id)
    if row is None or (row.status == "never_connected" and row.last_keepalive is None and not row.code):
        return True
    copy = claims.of(fleet, node, own.row.id)
    if copy is None or not copy.mirror or not _is_plain(row) or fleet.named(row.node_name) is not own.node:
        return False
    return not claims.knows_more(fleet, copy, own)
