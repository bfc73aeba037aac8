"""Who is at ease: the short way to what `relay.decide` comes to of nearly every agent that a full snapshot tells of. Pure.

An agent is at ease where it is Active and nothing of it waits, its own node's row says so first-hand, and nobody says anything else:
every other row is blank, or a copy of that one. Then all that can come of judging it is its newer contact. A law in the tests holds
the short way and the long one together; many are asked about at once, and so in a tenth of the time.
"""

from collections.abc import Iterator, Sequence

from shared.models import AgentRow

from . import claims, registry, telling
from .claims import Contact
from .decided import Agent, met, rests
from .fleet import Fleet, Node

_Met = tuple[Agent, Contact]


def judge(fleet: Fleet, numbers: Sequence[int]) -> list[Agent]:
    """Those who are known to be at ease, with their contacts as they are now. Many that ascend cost little."""
    at_home: dict[str, list[Agent]] = {}
    for known in map(fleet.agents.get, numbers):
        if known is not None and rests(known) and known.id not in fleet.ghosts:
            at_home.setdefault(known.manager_node, []).append(known)
    homes = ((fleet.nodes.get(name), many) for name, many in at_home.items())
    return [agent for home, many in homes if home is not None and home.fresh for agent in _at_ease(fleet, home, many)]


def _at_ease(fleet: Fleet, home: Node, many: Sequence[Agent]) -> Iterator[Agent]:
    found = _met_at(fleet, home, _registered(fleet, many))
    for node in fleet.nodes.values():
        if node is not home:
            found = _undisputed(fleet, node, home, found)
    return (met(known, contact[0]) for known, contact in found)


def _registered(fleet: Fleet, many: Sequence[Agent]) -> list[Agent]:
    """Those whom the first registrar holds as who they are (rule 5)."""
    registrar, ids = fleet.registrars()[0], [known.id for known in many]
    table = fleet.tables[registrar.node]
    held = zip(many, table.rows.of(ids), table.keys.of(ids), strict=True)
    return [
        known
        for known, row, key in held
        if row is not None and known.date_add and registry.is_held(registrar, row, key) and not registry.is_another(row, known)
    ]


def _met_at(fleet: Fleet, home: Node, many: Sequence[Agent]) -> list[_Met]:
    """Those of whom their own node says that they live, and no less than what was decided."""
    table, ids = fleet.tables[home.node], [known.id for known in many]
    rows, at = table.rows.of(ids), home.clock.stream_time
    said = zip(many, rows, table.keys.of(ids), claims.contacts(home, table, rows), strict=True)
    return [
        (known, contact)
        for known, row, key, contact in said
        if row is not None
        and contact is not None
        and (known.contact is None or contact[1] >= at(known.contact * 1000))
        and claims.first_hand(home, row)
        and claims.is_of(fleet, home, row, key, contact[1], (known.name, known.date_add))
        and (telling.address(row.ip) or known.ip) == known.ip
    ]


def _undisputed(fleet: Fleet, node: Node, home: Node, found: list[_Met]) -> list[_Met]:
    """Those of whom another node has no row, a blank one, or their own as it was copied (rule 3)."""
    rows = fleet.tables[node.node].rows.of([known.id for known, _ in found])
    said = [row for row in rows if row is not None and (row.status != "never_connected" or row.last_keepalive is not None or row.code)]
    if not said:  # as on nearly every worker
        return found
    others = _others(fleet, node, home, found, said)
    return [one for one in found if one[0].id not in others]


def _others(fleet: Fleet, node: Node, home: Node, found: Sequence[_Met], said: Sequence[AgentRow]) -> set[int]:
    """The ids whose rows are no copies of what their own node says."""
    if fleet.named(home.node_name) is not home:
        return {row.id for row in said}
    lag, own = claims.lag(fleet, node, home), {known.id: contact[1] for known, contact in found}

    def is_copy(row: AgentRow, copied: Contact | None) -> bool:
        named = row.node_name == home.node_name and not claims.first_hand(node, row)
        return named and copied is not None and copied[1] <= own[row.id] + lag

    copied = claims.contacts(node, fleet.tables[node.node], said)
    return {row.id for row, contact in zip(said, copied, strict=True) if not is_copy(row, contact)}
