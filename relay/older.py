"""Whether a claim is older than what was decided of its agent: rules 2 and 10 of `relay.decide`. Pure.

An older claim is no event, however late it comes. What was first can be told by one clock exactly, by two within a second;
a master's copy is late by up to a sync, and may hold the worker's time or the master's own.
"""

from .claims import TIE, Claim, decided_contact
from .decided import Agent
from .fleet import Fleet


def is_older(fleet: Fleet, known: Agent, claim: Claim) -> bool:
    """Whether what a claim says was so before what was decided."""
    decided = decided_contact(fleet, known)
    if decided is None:
        return False
    if _is_repeated(known, claim):
        return True
    if claim.alive and known.status == "Disconnected":
        return not _is_back(fleet, known, claim, decided)
    if _may_be_before(fleet, known, claim):
        return claim.contact < decided + fleet.policy.sync_jitter
    copied = claim.mirror or known.mirrored or _is_nameless_copy(fleet, known)
    return claim.contact < decided - (fleet.policy.sync_jitter if copied else TIE)


def _is_repeated(known: Agent, claim: Claim) -> bool:
    """Whether this very disconnection was decided on, and the agent came back: a copy told of it first, or an old row is told late."""
    gone = claim.row.status == "disconnected" and claim.row.disconnection_time != 0
    return gone and known.status != "Disconnected" and claim.row.disconnection_time == known.went_at


def _is_back(fleet: Fleet, known: Agent, claim: Claim, decided: int) -> bool:
    """Whether a living row shows an agent after it was gone."""
    if known.mirrored and known.reason == "stopped" and claim.node.node == known.manager_node:
        return claim.surely > gone_until(known, claim, decided)
    if claim.frozen and known.mirrored and known.witness in fleet.nodes:
        # It is quiet since about the silence that the copy told of, by another clock.
        apart = abs(claim.node.offset - fleet.nodes[known.witness].offset)
        return claim.surely >= decided + fleet.policy.sync_jitter + apart
    if claim.mirror:
        return claim.surely >= decided + fleet.policy.sync_jitter and not claim.stamp
    if known.reason != "stopped":
        return claim.surely > decided  # who fell silent was last heard of in this very row
    # Who said goodbye may be back elsewhere within the second. A row that says so itself may be one of the last commit, which a
    # wazuh-db that was killed has gone back to: there the next keepalive tells.
    return claim.surely > decided if claim.node.node == known.witness else claim.surely >= decided - TIE


def gone_until(known: Agent, claim: Claim, decided: int) -> int:
    """The stream time (Unix ms) beyond which a contact of a living row is after the agent was said to be gone.

    A stop is copied as it was, by the clock of this very row's node; or it is the master's own word, by its own: after it by both.
    """
    if known.mirrored and known.reason == "stopped" and claim.node.node == known.manager_node:
        return max(decided, claim.node.at(known.contact or 0))
    return decided


def _may_be_before(fleet: Fleet, known: Agent, claim: Claim) -> bool:
    """Whether a copy has told of the agent elsewhere, and this claim of its end, or of old days, may be from before it went there:
    between a copy's stamp and another node's clock nobody can say what was first."""
    if not known.mirrored or claim.mirror or (claim.alive and claim.node.fresh):
        return False
    row = fleet.tables[known.witness].rows.get(known.id) if known.witness in fleet.tables else None
    return row is not None and row.node_name != claim.node.node_name


def _is_nameless_copy(fleet: Fleet, known: Agent) -> bool:
    """5.0: a master's row does not say whose it is, and may carry the master's own stamp."""
    row = fleet.tables[known.witness].rows.get(known.id) if known.witness is not None else None
    masters = {node.node for node in fleet.registrars() if node.node_type == "master"}
    return row is not None and row.node_name is None and known.witness in masters


def may_stand(fleet: Fleet, known: Agent, claim: Claim) -> bool:
    """Whether an older claim may be right after all: the same node takes its word back, or a sync overwrote what nodes that can be
    heard had said a moment ago. What was true hours ago, and elsewhere, never is."""
    if claim.node.node == known.witness:
        return True
    unheard = any(not fleet.nodes[name].fresh for name in (known.witness, known.manager_node) if name in fleet.nodes)
    return not unheard and claim.contact >= (decided_contact(fleet, known) or 0) - 2 * fleet.policy.sync_jitter
