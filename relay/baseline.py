"""When the first view of a fleet is whole: rule 8 of `relay.decide`. Pure."""

from collections.abc import Iterable

from .claims import NOBODY
from .fleet import Fleet, Node


def is_over(fleet: Fleet, now: int) -> bool:
    """When every node that the master's rows name has sent a full, or after the timeout if anything was heard at all."""
    if not fleet.nodes:
        return False
    if now - (fleet.began_at or now) >= fleet.policy.baseline_timeout:
        return True
    masters = [node for node in fleet.nodes.values() if node.node_type != "worker"]
    if any(_nameless(fleet, master) for master in masters):
        return False
    whole = {node.node_name for node in fleet.nodes.values() if node.whole}
    return bool(masters) and {master.node_name for master in masters} | _named(fleet, masters) <= whole


def _nameless(fleet: Fleet, master: Node) -> bool:
    """5.0: a cluster whose rows name no node, so that nobody can say for whom to wait."""
    return master.node_type == "master" and any(row.node_name is None for row in fleet.tables[master.node].rows.values())


def _named(fleet: Fleet, masters: Iterable[Node]) -> set[str]:
    rows = (row for master in masters for row in fleet.tables[master.node].rows.values())
    return {row.node_name for row in rows if row.node_name is not None and row.node_name not in NOBODY}
