"""Between the nodes: agent-info from worker to master every 10 s, client.keys from master to worker every 9 s.

Worker to master before 4.13: every marked row as a whole, with the worker's own last_keepalive. Since then
(endpointGetV1AgentsSync.hpp, endpointPostV1AgentsSync.hpp) by the mark of the worker's row: syncreq the whole row;
syncreq_keepalive the id alone, and the master stamps its own time; syncreq_status the status, its time and its code alone.
Afterwards the worker's whole table is synced. Sweeps and resets leave no mark.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from . import connecting, rows
from .config import OLD
from .rows import Changes, Row
from .state import Node, Session
from .writes import Keys

if TYPE_CHECKING:
    from .model import World

_PERIODS: Final = 5  # of a keepalive whose syncs are remembered: some keepalives in a row may be lost


def sync(world: World, worker: Node) -> None:
    """One round of agent-info, and the next one planned. Nothing moves while either side is down or the link is cut."""
    if worker.up and worker.linked and world.master.up:
        _carry(world, worker)
    world.schedule(world.now + world.config.sync_period, sync, world, worker)


def integrity(world: World, worker: Node) -> None:
    """One round of file integrity: the worker takes the master's client.keys, and modulesd follows it a little later."""
    if worker.up and worker.linked and world.master.up and worker.lines != world.master.lines:
        worker.copy_keys(world.master)
        world.journal.add(Keys(worker.name, world.now, worker.lines))
        for agent in [agent for agent in worker.members.values() if worker.keyring.get(agent.id) != agent.key]:
            connecting.let_go(world, agent)
        world.schedule(world.now + world.between(world.config.database_delay), follow_keys, world, worker)
    world.schedule(world.now + world.config.integrity_period, integrity, world, worker)


def follow_keys(world: World, node: Node) -> None:
    """modulesd wm_database: a row for every key, none without. A row that is there keeps its name, whatever the key says."""
    if not node.up:
        return
    world.delete(node, [number for number in node.rows if number not in node.keyring])
    if node is world.master:
        return
    for line in node.lines:
        if not line.removed and line.id not in node.rows:
            world.insert(node, Row(line.id, line.name, line.ip, line.key, date_add=0))


def mark(world: World, node: Node, number: int) -> str:
    """The row's sync_status, with the plain keepalives since the last sync."""
    if node is world.master or number in node.marks:
        return node.marks.get(number, rows.SYNCED)
    agent = node.members.get(number)
    session = agent.session if agent else None
    return rows.SYNCREQ_KEEPALIVE if session is not None and fresh(world, node, session) else rows.SYNCED


def mirrored(world: World, row: Row) -> int | None:
    """last_keepalive of a master's row: the time of the sync that carried the latest plain keepalive, else as it was written."""
    for worker in world.workers:
        agent = worker.members.get(row.id)
        if agent is not None and agent.session is not None and worker.syncs:
            plain = agent.session.plain(world.tick_of(worker.syncs[-1]))
            kept = 0.0 if plain is None else world.time_of(plain)
            carried = worker.synced_since(kept) if kept > agent.session.started else None
            if carried is not None and carried > agent.session.told:
                return worker.clock(kept) if worker.schema in OLD else world.master.clock(carried)
    return row.last_keepalive


def _carry(world: World, worker: Node) -> None:
    master, marks = world.master, dict(worker.marks)
    touched = _touched_by_keepalives(world, worker, marks)
    if worker.schema in OLD:
        _put_whole(world, worker, [*marks, *touched])
    else:
        _put_by_mark(world, worker, marks, touched)
    for agent in [master.members[number] for number in marks if number in master.members]:
        connecting.again(world, master, agent)  # what was synced onto its own agent's row, its next keepalive takes back
    world.journal.bulk(worker.name, world.now, [*marks, *touched], {"sync_status": rows.SYNCED})
    _done(world, worker, marks)


def _put_whole(world: World, worker: Node, numbers: Iterable[int]) -> None:
    for number in numbers:
        world.put(world.master, number, _whole(world, worker, worker.rows[number]), rows.SYNCED)
        for other in world.workers:  # what they synced before is overwritten
            agent = other.members.get(number)
            if other is not worker and agent is not None and agent.session is not None:
                agent.session.told = world.now
                if other.schema in OLD:
                    world.unclean.add(number)  # its next keepalive puts the whole row right


def _put_by_mark(world: World, worker: Node, marks: dict[int, str], touched: list[int]) -> None:
    """The endpoint's order: whole rows, then keepalives, then status (endpointPostV1AgentsSync.hpp)."""
    master = world.master
    _put_whole(world, worker, _marked(marks, rows.SYNCREQ))
    changed = [number for number in touched if number in world.unclean]
    for number in [*_marked(marks, rows.SYNCREQ_KEEPALIVE), *changed]:
        world.put(master, number, connecting.kept_alive(world, master), rows.SYNCED)
    unchanged = [number for number in touched if number not in set(changed) and number in master.rows]
    stamped = rows.columns(connecting.kept_alive(world, master), master.schema) | {"sync_status": rows.SYNCED}
    world.journal.bulk(master.name, world.now, unchanged, stamped)
    for number in _marked(marks, rows.SYNCREQ_STATUS):
        if number in master.members and number in master.rows:  # its keepalives came one by one: the last of them stays
            master.rows[number].last_keepalive = world.last_keepalive(master, master.rows[number])
        world.put(master, number, _status(worker.rows[number]), rows.SYNCED)


def _touched_by_keepalives(world: World, worker: Node, marks: dict[int, str]) -> list[int]:
    """Who sent a plain keepalive since the last sync and has no mark. Where keepalives are computed only those matter
    whose row on the master changes by it; the others' time is computed too."""
    computed = world.config.compute_keepalives
    seen = sorted(number for number in world.unclean if number in worker.members) if computed else list(worker.members)
    found = []
    for number in seen:
        session = worker.members[number].session
        if number not in marks and number in worker.rows and session is not None and fresh(world, worker, session):
            found.append(number)
    return found


def fresh(world: World, worker: Node, session: Session) -> bool:
    """A plain keepalive came that no sync has carried yet."""
    plain = session.plain(world.tick)
    if plain is None or world.time_of(plain) <= session.started:  # of a settled agent: before the world began
        return False
    return not (worker.syncs and world.time_of(plain) <= worker.syncs[-1])


def _done(world: World, worker: Node, marks: dict[int, str]) -> None:
    for number in marks:
        agent = worker.members.get(number)
        if agent is not None and agent.session is not None:
            agent.session.told = world.now
    worker.marks.clear()
    worker.syncs.append(world.now)
    kept = int(_PERIODS * world.time_of(worker.period) / world.config.sync_period) + 3
    del worker.syncs[:-kept]


def _marked(marks: dict[int, str], mark: str) -> list[int]:
    return [number for number, held in marks.items() if held == mark]


def _whole(world: World, worker: Node, row: Row) -> Changes:
    """A full row: the name too, and '' and 0 where the worker had nothing; what the master knows of the host stays."""
    known = world.master.rows.get(row.id)
    return {
        "name": row.name,
        "ip": row.ip or "",
        "system": row.system or (known.system if known else None),
        "version": row.version or "",
        "node_name": row.node_name,
        "last_keepalive": world.last_keepalive(worker, row) or 0,
        **_status(row),
    }


def _status(row: Row) -> Changes:
    return {"connection_status": row.connection_status, "disconnection_time": row.disconnection_time, "status_code": row.status_code}
