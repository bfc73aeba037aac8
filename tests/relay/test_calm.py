"""Who is at ease, and who is not. That the short way comes to what the long one does is a law of every laboratory (`lab.Lab.step`)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from relay import calm
from relay.decided import Agent, Ghost, Hold, Move, met
from tests.relay.lab import T0, Lab, cluster, row

NOW = T0 + 8
KEEPALIVE = T0 + 6


@pytest.fixture
def lab() -> Lab:
    """All three agents of a cluster have kept alive once more: agent 1 on w1, 2 on the master, 3 on w2."""
    lab = cluster()
    never = {n: row(n, "never_connected", added=0) for n in (1, 2, 3)}
    lab.full("w1", [row(1, "active", KEEPALIVE, node="w1", added=0), never[2], never[3]], NOW)
    lab.full("w2", [never[1], never[2], row(3, "active", KEEPALIVE, node="w2", added=0)], NOW)
    lab.full("m", [row(1, "active", KEEPALIVE + 3, node="w1"), row(2, "active", KEEPALIVE, node="m"), row(3, "active", T0, node="w2")], NOW)
    return lab


def test_who_keeps_alive_on_one_manager_is_at_ease_with_the_newest_contact(lab: Lab) -> None:
    for number, node in ((1, "w1"), (2, "m"), (3, "w2")):
        (agent,) = calm.judge(lab.fleet, [number])
        assert (agent.contact, agent.last_keepalive, agent.witness) == (KEEPALIVE, KEEPALIVE, node)
        assert agent == lab.fleet.agents[number], "the snapshot that said so was decided so"


def test_nobody_is_at_ease_who_is_not_known(lab: Lab) -> None:
    assert not calm.judge(lab.fleet, [4])


@pytest.mark.parametrize(
    "facts",
    [
        {"status": "Disconnected"},
        {"hold": Hold("again", T0, NOW * 1000)},
        {"moving": Move("w2", NOW * 1000, NOW)},
        {"refused": True},
        {"refused_by": "w1"},
        {"mirrored": True},
        {"overdue": T0},
        {"witness": "m"},
        {"witness": "w9", "manager_node": "w9"},
        {"date_add": 0},
        {"name": "another"},
        {"contact": NOW},
    ],
    ids=str,
)
def test_nobody_is_at_ease_of_whom_something_waits(lab: Lab, facts: dict[str, Any]) -> None:
    """Or of whom something else was decided than its node says."""
    lab.fleet.agents[1] = lab.fleet.agents[1]._replace(**facts)
    assert not calm.judge(lab.fleet, [1])


def _ghost(lab: Lab) -> None:
    lab.fleet.ghosts[1] = Ghost(1, "agent-1", T0, NOW * 1000, NOW * 1000, "", told=False)


def _unheard(lab: Lab) -> None:
    lab.fleet.nodes["w1"] = replace(lab.fleet.nodes["w1"], fresh=False)


def _no_key(lab: Lab) -> None:
    del lab.fleet.tables["w1"].keys[1]


def _unregistered(lab: Lab) -> None:
    del lab.fleet.tables["m"].keys[1]


def _quiet(lab: Lab) -> None:
    lab.fleet.tables["w1"].quiet = {1: KEEPALIVE}


def _says(node: str, **facts: Any) -> Callable[[Lab], None]:
    def change(lab: Lab) -> None:
        rows = lab.fleet.tables[node].rows
        rows[1] = rows[1]._replace(**facts)

    change.__name__ = f"{node} says {facts}"
    return change


@pytest.mark.parametrize(
    "change",
    [
        _ghost,
        _unheard,
        _no_key,
        _unregistered,
        _quiet,
        _says("w1", status="pending"),
        _says("w1", code=1),
        _says("w1", last_keepalive=None),
        _says("w2", code=1),
        _says("w2", status="active", last_keepalive=T0 - 900),
        _says("w2", last_keepalive=T0 - 900),
        _says("m", node_name="w2"),
        _says("m", node_name="m"),
        _says("m", code=2),
        _says("m", status="pending"),
        _says("m", last_keepalive=None),
        _says("m", last_keepalive=KEEPALIVE + 60),
    ],
    ids=lambda change: change.__name__,
)
def test_nobody_is_at_ease_of_whom_anybody_says_anything_else(lab: Lab, change: Callable[[Lab], None]) -> None:
    change(lab)
    assert not calm.judge(lab.fleet, [1])


def test_a_node_that_does_not_know_the_agent_says_nothing(lab: Lab) -> None:
    del lab.fleet.tables["w2"].rows[1]
    assert calm.judge(lab.fleet, [1])


def test_a_master_of_its_own_agents_alone_is_heard_like_any_node(lab: Lab) -> None:
    _says("m", last_keepalive=KEEPALIVE + 60)(lab)
    assert calm.judge(lab.fleet, [2])


@pytest.mark.parametrize("field", Agent._fields)
def test_who_was_only_met_has_another_contact_and_is_else_the_same(lab: Lab, field: str) -> None:
    before = lab.fleet.agents[1]
    after = met(before, NOW)
    assert getattr(after, field) == (NOW if field in ("last_keepalive", "contact") else getattr(before, field))
    assert met(after, NOW) is after


def test_who_was_only_met_is_apart_in_a_decision(lab: Lab) -> None:
    """The ledger writes no more of it than that."""
    later = [row(1, "active", KEEPALIVE + 10, node="w1", added=0), *(row(n, "never_connected", added=0) for n in (2, 3))]
    decision = lab.full("w1", later, NOW + 10)
    assert (decision.agents, [agent.contact for agent in decision.met]) == ((), [KEEPALIVE + 10])


def test_nobody_is_at_ease_on_a_node_whose_name_another_has_too(lab: Lab) -> None:
    """Nobody can tell whose copies are on the master."""
    lab.fleet.nodes["w2"] = replace(lab.fleet.nodes["w2"], node_name="w1")
    assert not calm.judge(lab.fleet, [3])
