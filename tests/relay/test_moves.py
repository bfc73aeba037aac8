"""Laws of relay/moves.py: two advances on the new manager and none on the old are a move, and nothing less is."""

import pytest

from relay import claims, moves
from relay.decided import Hold
from relay.fleet import Policy
from shared.models import AgentRow
from tests.relay.lab import T0, Lab, cluster, row, told

FIRST = T0 + 20  # agent 1 of w1 is met on w2


def on_w2(at: int, **changes: object) -> AgentRow:
    return row(1, "active", at, node="w2", added=0)._replace(**changes)  # type: ignore[arg-type]


def met_on_w2(policy: Policy | None = None) -> Lab:
    lab = cluster(policy)
    lab.delta("w2", on_w2(FIRST), now=FIRST)
    assert lab.fleet.agents[1].moving is not None
    return lab


def beats(lab: Lab, *moments: int, w1: dict[int, int] | None = None, w2: dict[int, int] | None = None) -> None:
    """Agent 1 keeps alive where it is not named."""
    for now in moments:
        lab.beats(now, {"w1": w1 or {}, "w2": w2 or {}})


def test_two_advances_on_the_new_manager_and_none_on_the_old_are_a_move_from_one_to_the_other() -> None:
    lab = met_on_w2()
    beats(lab, *range(FIRST + 5, FIRST + 30, 5), w1={1: T0 + 5})
    [event] = lab.events
    assert (event.kind, event.previous, event.current) == ("moved", "Active", "Active")
    assert (event.left, event.manager_node, event.timestamp) == ("w1", "w2", FIRST)
    assert (lab.fleet.agents[1].manager_node, lab.fleet.agents[1].moving, lab.fleet.agents[1].hold) == ("w2", None, None)


def test_a_single_contact_on_another_manager_is_no_move() -> None:
    lab = met_on_w2()
    beats(lab, *range(FIRST + 5, FIRST + 25, 5), w1={1: T0 + 5}, w2={1: FIRST})
    assert lab.events == []
    assert lab.fleet.agents[1].manager_node == "w1"


def test_a_knock_is_no_move_yet() -> None:
    lab = cluster()
    lab.delta("w2", on_w2(FIRST, status="pending"), now=FIRST)
    beats(lab, *range(FIRST + 5, FIRST + 40, 5), w1={1: T0 + 5})
    assert lab.events == []
    moving = lab.fleet.agents[1].moving
    assert moving is not None
    assert (moving.node, moving.at) == ("w2", FIRST)


def test_who_keeps_alive_on_both_stays_where_it_was() -> None:
    lab = met_on_w2()
    beats(lab, *range(FIRST + 5, FIRST + 300, 5))
    assert lab.events == []
    assert lab.fleet.agents[1].manager_node == "w1"


def test_who_went_on_at_the_old_manager_and_then_fell_silent_there_had_not_left_at_first() -> None:
    lab = met_on_w2()
    beats(lab, FIRST + 50, w1={1: FIRST + 10})
    assert lab.events == []
    moving = lab.fleet.agents[1].moving
    assert moving is not None
    assert moving.at > FIRST + 10
    beats(lab, *range(FIRST + 55, FIRST + 100, 5), w1={1: FIRST + 10})
    assert told(lab) == [(1, "moved", "moved")]


@pytest.mark.parametrize(
    "left",
    [
        row(1, "disconnected", T0 + 5, code=4, dt=FIRST, node="w1", added=0),
        row(1, "active", T0 + 5, name="somebody-else", node="w1", added=0),
        row(1, "never_connected", node="w1", added=0),
        None,
    ],
)
def test_an_old_manager_that_does_not_hold_it_for_alive_need_not_be_waited_for(left: AgentRow | None) -> None:
    lab = met_on_w2()
    lab.delta("w1", *([left] if left else []), now=FIRST + 1, gone=[] if left else [1])
    lab.delta("w2", on_w2(FIRST + 10, ip="10.9.9.9"), now=FIRST + 10)
    assert told(lab) == [(1, "moved", "moved")]


def test_a_master_whose_row_has_become_a_copy_has_lost_the_agent() -> None:
    lab = cluster()
    lab.delta("w1", row(2, "active", FIRST, node="w1", added=0), now=FIRST)
    lab.delta("m", row(2, "active", FIRST, node="w1"), now=FIRST + 1)
    lab.delta("w1", row(2, "active", FIRST + 10, node="w1", added=0, ip="10.9.9.9"), now=FIRST + 10)
    assert [(e.kind, e.left, e.manager_node) for e in lab.events] == [("moved", "m", "w1")]


def test_an_old_manager_that_nobody_can_ask_is_waited_for_a_grace() -> None:
    lab = cluster()
    for now in range(T0 + 10, T0 + 60, 5):
        lab.beat("m", now, {}), lab.beat("w2", now, {})
    assert not lab.fleet.nodes["w1"].fresh
    lab.delta("w2", on_w2(T0 + 60), now=T0 + 60)
    for now in range(T0 + 65, T0 + 120, 5):
        lab.beat("m", now, {}), lab.beat("w2", now, {})
    assert lab.events == []
    lab.beat("m", T0 + 120, {}), lab.beat("w2", T0 + 120, {})
    assert told(lab) == [(1, "moved", "moved")]


def test_a_manager_that_no_collector_ever_spoke_for_cannot_keep_an_agent() -> None:
    lab = Lab(Policy(baseline_timeout=5_000))
    lab.node("m", "master")
    lab.node("w1", "worker")
    lab.full("m", [row(1, "active", T0, node="nowhere")], T0)
    lab.full("w1", [row(1, "never_connected", added=0)], T0)
    lab.beats(T0 + 5)
    assert lab.fleet.agents[1].manager_node == "nowhere"
    lab.delta("w1", row(1, "active", FIRST, node="w1", added=0), now=FIRST)
    beats(lab, *range(FIRST + 5, FIRST + 60, 5))
    assert [(e.kind, e.left, e.manager_node) for e in lab.events] == [("moved", "nowhere", "w1")]


def test_a_move_back_before_it_was_proved_is_none() -> None:
    lab = met_on_w2()
    lab.delta("w1", row(1, "active", FIRST + 8, node="w1", added=0, ip="10.9.9.9"), now=FIRST + 8)
    assert lab.fleet.agents[1].moving is None
    beats(lab, *range(FIRST + 10, FIRST + 30, 5), w2={1: FIRST})
    assert lab.events == []


def test_a_stop_on_the_new_manager_ends_the_move() -> None:
    lab = met_on_w2()
    lab.delta("w2", on_w2(FIRST + 2, status="disconnected", code=3, disconnection_time=FIRST + 4), now=FIRST + 4)
    assert told(lab) == [(1, "disconnected", "stopped")]
    assert lab.fleet.agents[1].moving is None


def test_a_move_does_not_wake_an_agent_later_than_what_it_waits_for() -> None:
    lab = met_on_w2()
    known = lab.fleet.agents[1]
    claim = claims.of(lab.fleet, lab.fleet.nodes["w2"], 1)
    for hold in (Hold("reset", FIRST, (FIRST + 1) * 1000), Hold("again", FIRST, (FIRST + 1) * 1000)):
        agent, moved = moves.judge(lab.fleet, known._replace(hold=hold), claim, FIRST * 1000)
        assert (agent.hold, moved) == (hold, None)
    later = Hold("again", FIRST, (FIRST + 9_000) * 1000)
    agent, _ = moves.judge(lab.fleet, known._replace(hold=later), claim, FIRST * 1000)
    assert agent.hold is not None
    assert agent.hold.until < later.until


def test_a_copy_that_names_another_manager_begins_no_move() -> None:
    """Neither worker can be heard, and the master's row says w2: by a sync that may be older than the agent's return to w1."""
    lab = cluster()
    for now in range(T0 + 10, T0 + 60, 5):
        lab.beat("m", now, {})
    lab.delta("m", row(1, "active", T0 + 60, node="w2"), now=T0 + 60)
    for now in range(T0 + 65, T0 + 130, 5):
        lab.beat("m", now, {})
    assert lab.fleet.agents[1].moving is None
