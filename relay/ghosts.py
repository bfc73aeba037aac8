"""Agents that were removed and are served all the same: by a manager that is cut off and does not know. Rule 5. Pure.

A worker hears of a removal within seconds (client.keys is synced every 9 s). What it still keeps alive a whole grace after
the removal was seen is connected with a key that should open nothing any more: worth knowing, and no status.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from . import claims, registry
from .claims import Claim
from .decided import Agent, Ghost
from .fleet import Fleet


@dataclass(frozen=True, slots=True)
class Haunt:
    """What became of a ghost (None: it is none any more), and the row that shows it alive, where that is to be told."""

    ghost: Ghost | None
    claim: Claim | None = None


def rises(fleet: Fleet, removed: Agent, now: int) -> Ghost:
    """The ghost of an agent that is removed now."""
    return Ghost(removed.id, removed.name, removed.date_add, now, now + fleet.policy.reset_grace, removed.last_event_id, told=False)


def walks(fleet: Fleet, number: int, now: int) -> Ghost | None:
    """A ghost nobody saw rise: a worker keeps an id alive that no master has."""
    if not registry.is_absent(fleet, number):
        return None
    name = next((claim.row.name for claim in _alive(fleet, number)), None)
    return None if name is None else Ghost(number, name, 0, now, now + fleet.policy.reset_grace, "", told=False)


def judge(fleet: Fleet, ghost: Ghost, now: int) -> Haunt:
    """To be asked when a row of it changed, and once `until` has passed on every reachable node (rule 9)."""
    passed = min(now, fleet.through())
    if passed < ghost.until:
        return Haunt(ghost)
    again = replace(ghost, until=passed + fleet.policy.reset_grace)
    alive = [claim for claim in _alive(fleet, ghost.id) if claim.row.name == ghost.name]
    if not alive and _may_be_served(fleet, ghost):
        return Haunt(again)
    if not alive:
        return Haunt(None)
    if not (registry.is_absent(fleet, ghost.id, ghost.name) and all(node.fresh for node in fleet.registrars())):
        return Haunt(again)
    proof = next((claim for claim in alive if claim.contact > ghost.since + fleet.policy.sync_jitter), None)
    if ghost.told or proof is None:
        return Haunt(again)
    return Haunt(replace(again, told=True), proof)


def _may_be_served(fleet: Fleet, ghost: Ghost) -> bool:
    """Whether a worker that cannot be heard had not let go of it."""
    unheard = (node for node in fleet.nodes.values() if node.node_type == "worker" and not node.fresh)
    rows = (fleet.tables[node.node].rows.get(ghost.id) for node in unheard)
    return any(row is not None and row.name == ghost.name and row.status in ("active", "pending") for row in rows)


def _alive(fleet: Fleet, number: int) -> Iterator[Claim]:
    for node in fleet.nodes.values():
        claim = claims.of(fleet, node, number) if node.node_type == "worker" and node.fresh else None
        if claim is not None and claim.alive and not claim.frozen:
            yield claim
