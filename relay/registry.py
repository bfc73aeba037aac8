"""Who is registered, and who was removed: rule 5 of `relay.decide`. Pure.

Only the master registers, names and removes, and its client.keys must agree with its table: the file is replaced as a whole,
the table may be empty, recreated or overwritten by a sync.
"""

from typing import Final

from shared.models import AgentRow, KeyEntry

from .decided import Agent
from .fleet import Fleet, Node, tells_absence


def registration(fleet: Fleet, number: int) -> tuple[Node, AgentRow] | None:
    """The registrar's row of an agent, if it is registered: its row is there, and where client.keys can be read its key under
    the same name. (A worker that keeps an old name on a reused id syncs it onto the master's row: only the key is right then.)"""
    for node in fleet.registrars():
        table = fleet.tables[node.node]
        row = table.rows.get(number)
        if row is not None and is_held(node, row, table.keys.get(number)):
            return node, row
    return None


def is_held(node: Node, row: AgentRow, key: KeyEntry | None) -> bool:
    """Whether a registrar's row stands for an agent that is registered: by its key, where client.keys can be read."""
    return node.keys_state != "ok" or (key is not None and not key.removed and key.name == row.name)


def is_another(row: AgentRow, known: Agent) -> bool:
    """Whether a registrar's row is of another agent under the same id."""
    return row.name != known.name or (known.date_add not in (0, row.date_add) and row.date_add != 0)


def is_removed(fleet: Fleet, known: Agent, entry: tuple[Node, AgentRow] | None) -> bool:
    """Removed is what row and key of every registrar say; or another agent stands under the id (rule 5)."""
    if entry is not None:
        return is_another(entry[1], known)
    return is_absent(fleet, known.id)


def is_absent(fleet: Fleet, number: int, name: str | None = None) -> bool:
    """Whether every registrar is known to hold neither a row nor a key of an id; with `name`, none of that name."""
    registrars = fleet.registrars()
    return bool(registrars) and all(tells_absence(node) and not _holds(fleet, node, number, name) for node in registrars)


def _holds(fleet: Fleet, node: Node, number: int, name: str | None) -> bool:
    row, key = fleet.tables[node.node].rows.get(number), fleet.tables[node.node].keys.get(number)
    held = {None if row is None else row.name, None if key is None or key.removed else key.name} - {None}
    return bool(held) if name is None else name in held


ANCIENT: Final = 86_400
"""Seconds: who was registered longer ago is not new but back, from a restored database: the fact is that it came back."""


def registered_at(fleet: Fleet, row: AgentRow) -> int:
    """Unix s of a registration by the registrar's record; when it was seen, where that is ancient: no two events are the same."""
    seen = seen_until(fleet)
    return row.date_add if row.date_add >= seen - ANCIENT else seen


def seen_until(fleet: Fleet) -> int:
    """Unix s up to which the registrars' tables tell: when a removal was seen, by no clock of ours."""
    return max(node.as_of for node in fleet.registrars()) // 1000
