"""An agent's connection to one manager, and what remoted writes for it (reference section 2).

startup -> pending; one notify later the first keepalive -> active by update-agent-data; the next one resets
disconnection_time and status_code by update-keepalive; from the third on a keepalive moves last_keepalive alone, and the
world computes it instead of playing it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from . import rows, syncing
from .rows import Changes
from .state import Agent, Node, Session

if TYPE_CHECKING:
    from .model import World

_VERSIONS: Final = {"4.2": "Wazuh v4.2.7", "4.5": "Wazuh v4.5.4", "4.14": "Wazuh v4.14.7", "5.0": "Wazuh v5.0.0"}


def reach(world: World, agent: Agent, delay: float, *, silent: bool = False) -> None:
    """Send a startup message after `delay`; whatever was planned before is void."""
    agent.attempt += 1
    if delay:
        world.schedule(world.now + delay, startup, world, agent, agent.attempt, silent)
    else:
        startup(world, agent, agent.attempt, silent)


def startup(world: World, agent: Agent, attempt: int, silent: bool) -> None:
    """The startup message arrives. `silent`: its pending is coalesced away by the next message (secure.c:896)."""
    if attempt != agent.attempt:
        return
    node = world.nodes[agent.node]
    if not node.up or node.keyring.get(agent.id) != agent.key:
        world.schedule(world.now + world.notify_period(node.schema), startup, world, agent, attempt, silent)
        return
    first = max(world.tick_of(world.now + world.notify_period(node.schema)), world.tick + 1)
    agent.session = Session(node.name, world.now, first, node.period, late=world.lateness(node), key=_jitter_key(world, agent))
    node.members[agent.id] = agent
    agent.heard_by = node.name
    world.fact(agent, "started", node.name)
    if not silent:
        kept = node.clock(world.now)
        pending: Changes = {"connection_status": "pending", "last_keepalive": kept, "disconnection_time": 0, "status_code": 0}
        world.put(node, agent.id, pending, rows.SYNCREQ_STATUS)
    world.at_tick(first, first_keepalive, world, agent, attempt)


def first_keepalive(world: World, agent: Agent, attempt: int) -> None:
    if attempt != agent.attempt or agent.session is None:
        return
    node, session = world.nodes[agent.session.node], agent.session
    session.accepted = True
    world.put(node, agent.id, heard(world, agent, node), rows.SYNCREQ)
    world.fact(agent, "connected", node.name)
    world.at_tick(session.first + session.period, second_keepalive, world, agent, attempt)


def second_keepalive(world: World, agent: Agent, attempt: int) -> None:
    if attempt != agent.attempt or agent.session is None:
        return
    node = world.nodes[agent.session.node]
    agent.session.steady = True
    world.put(node, agent.id, kept_alive(world, node), rows.SYNCREQ_KEEPALIVE)
    _join_slot(world, node, agent.session, agent.id)


def again(world: World, node: Node, agent: Agent) -> None:
    """The row of a connected agent appeared only now: its next keepalive is one that changes it."""
    session = agent.session
    if session is None or not session.accepted:
        return
    following = session.first + (max(0, world.tick - session.first) // session.period + 1) * session.period
    world.remember(agent)
    _leave_slot(node, session, agent.id)
    session.first, session.steady = following - session.period, False
    world.at_tick(following, second_keepalive, world, agent, agent.attempt)


def settle(world: World, agent: Agent, node: Node, first: int) -> None:
    """Connect an agent as if it had been since tick `first`, at least two keepalives ago."""
    late, key = world.lateness(node), _jitter_key(world, agent)
    agent.session = Session(node.name, world.now, first, node.period, accepted=True, steady=True, told=world.now, late=late, key=key)
    agent.alive, agent.node, agent.heard_by = True, node.name, node.name
    node.members[agent.id] = agent
    _join_slot(world, node, agent.session, agent.id)


def let_go(world: World, agent: Agent) -> float:
    """End what the agent has with its manager, if anything, and void what was planned for it; the time of its last contact.

    What plain keepalives moved is stored in the rows now, and a keepalive that no sync has carried yet keeps its mark.
    """
    agent.attempt += 1
    session = agent.session
    if session is None:
        return agent.contact
    node = world.nodes[session.node]
    world.remember(agent)
    _store(world, node, agent, session)
    _leave_slot(node, session, agent.id)
    del node.members[agent.id]
    agent.session = None
    last = session.last(world.tick)
    agent.contact = session.started if last is None else max(session.started, world.time_of(last))
    return agent.contact


def _jitter_key(world: World, agent: Agent) -> int:
    return agent.id << 40 | world.tick & (1 << 40) - 1


def lose_members(world: World, node: Node, failover: str | None) -> None:
    """Every agent of the node loses it, and comes back a little later: there, or at `failover`."""
    for agent in list(node.members.values()):
        world.fact(agent, "lost", node.name, let_go(world, agent))
        if agent.alive:
            agent.node = failover or node.name
            silent = world.random.random() < world.config.coalesced
            reach(world, agent, world.between(world.config.reconnect_delay), silent=silent)


def heard(world: World, agent: Agent, node: Node) -> Changes:
    """What update-agent-data writes. It resets neither disconnection_time nor status_code (wdb.c:176)."""
    return {
        "connection_status": "active",
        "last_keepalive": node.clock(world.now),
        "ip": agent.ip,
        "system": agent.system,
        "version": _VERSIONS[node.schema],
        "node_name": node.name,
    }


def kept_alive(world: World, node: Node) -> Changes:
    """What update-keepalive writes for an unchanged keepalive."""
    return {"last_keepalive": node.clock(world.now), "connection_status": "active", "disconnection_time": 0, "status_code": 0}


def _beat(world: World, node: Node, tick: int) -> None:
    """Plain keepalives of one tick: one Update for all of the node's agents that are due, by the mark they keep."""
    slot = node.slots[tick % node.period]
    if not slot:
        del node.slots[tick % node.period]
        return
    marked = [number for number in slot if number in node.marks] if node.marks else []
    plain = [number for number in slot if number not in node.marks] if marked else list(slot)
    kept = rows.columns(kept_alive(world, node), node.schema)
    left = rows.SYNCED if node is world.master else rows.SYNCREQ_KEEPALIVE
    world.journal.bulk(node.name, world.now, plain, kept | {"sync_status": left})
    world.journal.bulk(node.name, world.now, marked, kept)
    world.at_tick(tick + node.period, _beat, world, node, tick + node.period)


def _join_slot(world: World, node: Node, session: Session, number: int) -> None:
    if world.config.compute_keepalives:
        return
    residue = session.first % node.period
    if residue not in node.slots:
        node.slots[residue] = {}
        following = (session.last(world.tick) or session.first) + node.period
        world.at_tick(following, _beat, world, node, following)
    node.slots[residue][number] = None


def _leave_slot(node: Node, session: Session, number: int) -> None:
    node.slots.get(session.first % session.period, {}).pop(number, None)


def _store(world: World, node: Node, agent: Agent, session: Session) -> None:
    """Keep in the rows what was computed while the session lasted."""
    plain = session.plain(world.tick)
    row = node.rows.get(agent.id)
    if plain is None or row is None:
        return
    row.last_keepalive = node.clock(world.time_of(plain))
    if node is world.master:
        return
    mirror = world.master.rows.get(agent.id)
    if mirror is not None:
        mirror.last_keepalive = syncing.mirrored(world, mirror)
    if syncing.fresh(world, node, session):
        node.marks.setdefault(agent.id, rows.SYNCREQ_KEEPALIVE)
