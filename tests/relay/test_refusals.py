"""Laws of relay/refusals.py: a manager that refuses an agent's version is told once, and no status changes."""

import pytest

from shared.models import AgentRow
from tests.relay.lab import T0, Lab, cluster, key, row, told

REFUSED = [(1, "version_refused", "version_refused")]


@pytest.mark.parametrize("code", [1, 2])
def test_a_version_that_is_refused_is_told_once_and_changes_no_status(code: int) -> None:
    lab = cluster()
    lab.delta("w1", row(1, "active", T0 + 5, code=code, node="w1", added=0), now=T0 + 10)
    lab.beats(T0 + 15)
    [event] = lab.events
    assert told(lab) == REFUSED
    assert (event.previous, event.current, event.manager_node, event.timestamp) == ("Active", "Active", "w1", T0 + 10)


@pytest.mark.parametrize("code", [0, 3, 4, 5, None])
def test_no_other_code_is_a_refusal(code: int | None) -> None:
    lab = cluster()
    lab.delta("w1", row(1, "active", T0 + 5, code=code, node="w1", added=0), now=T0 + 10)
    assert lab.events == []


def test_an_agent_that_never_got_so_far_is_refused_all_the_same() -> None:
    lab = cluster()
    new = row(9, "never_connected", added=T0 + 8)
    lab.delta("m", new, now=T0 + 8, new_keys=[key(new)])
    lab.delta("w2", row(9, "never_connected", code=1, added=0), now=T0 + 10, new_keys=[key(new)])
    assert told(lab) == [(9, "registered", "registered"), (9, "version_refused", "version_refused")]
    assert lab.status(9) == "NeverConnected"


def test_who_was_refused_and_is_accepted_may_be_refused_again() -> None:
    lab = cluster()
    for begin in (T0 + 10, T0 + 100):
        lab.delta("w1", row(1, "active", begin, code=1, node="w1", added=0), now=begin)
        quiet(lab, begin + 15, begin + 20, "m", "w1", "w2", w1={1: begin})
        lab.delta("w1", row(1, "active", begin + 40, code=0, node="w1", added=0), now=begin + 40)
        assert not lab.fleet.agents[1].refused
    assert told(lab) == REFUSED * 2


def test_a_refusal_soon_after_another_is_told_when_the_agent_is_quiet() -> None:
    """Until then it may be the old code, which a first keepalive has carried on."""
    lab = cluster()
    lab.delta("w1", refused(T0 + 5, node="w1", added=0), now=T0 + 10)
    lab.delta("w1", row(1, "active", T0 + 40, code=0, node="w1", added=0), now=T0 + 40)
    lab.delta("w1", refused(T0 + 60, node="w1", added=0), now=T0 + 62)
    assert told(lab) == REFUSED
    quiet(lab, T0 + 75, T0 + 80, "m", "w1", "w2", w1={1: T0 + 60})
    assert told(lab) == REFUSED * 2


def test_what_a_manager_refused_before_the_agent_reported_elsewhere_is_old_news() -> None:
    lab = cluster()
    lab.delta("w2", row(1, "active", T0 - 60, code=1, node="w2", added=0), now=T0 + 20, quiet=((1, T0 - 60),))
    lab.beats(T0 + 25, {"w2": {1: T0 - 60}})
    assert lab.events == []


def test_a_refusal_of_whoever_had_the_id_before_is_not_this_agents() -> None:
    lab = cluster()
    lab.delta("w2", row(1, "never_connected", code=1, name="predecessor", added=0), now=T0 + 10)
    assert lab.events == []


def test_a_silent_agent_that_knocks_with_a_version_too_new_is_refused() -> None:
    """manager.c writes the code and leaves the status and both times as they were."""
    lab = cluster()
    lab.delta("w1", row(1, "disconnected", T0 + 5, code=4, dt=T0 + 905, node="w1", added=0), now=T0 + 905)
    lab.delta("w1", row(1, "disconnected", T0 + 5, code=1, dt=T0 + 905, node="w1", added=0), now=T0 + 940)
    assert told(lab) == [(1, "disconnected", "silent"), *REFUSED]
    assert lab.status(1) == "Disconnected"


def test_in_the_baseline_a_refusal_is_taken_down_and_not_told() -> None:
    lab = cluster()
    lab.delta("w1", row(1, "active", T0 + 5, code=1, node="w1", added=0), now=T0 + 10)
    again = type(lab)()
    again.fleet.adopt([lab.fleet.agents[2]])
    again.node("m", "master")
    again.full("m", [row(2, "active", T0 + 5, code=2, node="m")], T0 + 10)
    assert (again.events, again.fleet.agents[2].refused) == ([], True)


def test_a_stopped_agent_that_knocks_with_a_version_too_new_is_refused() -> None:
    """manager.c writes the code and leaves the status and both times as they were."""
    lab = cluster()
    lab.delta("w1", row(1, "disconnected", T0 + 5, code=3, dt=T0 + 10, node="w1", added=0), now=T0 + 10)
    lab.delta("w1", row(1, "disconnected", T0 + 5, code=1, dt=T0 + 10, node="w1", added=0), now=T0 + 40)
    assert told(lab) == [(1, "disconnected", "stopped"), *REFUSED]
    assert lab.status(1) == "Disconnected"


# What nobody can say once more ----------------------------------------------------------------------------------------


def quiet(lab: Lab, begin: int, end: int, *heard: str, **silences: dict[int, int]) -> None:
    for now in range(begin, end + 1, 5):
        for name in heard:
            lab.beat(name, now, silences.get(name, {}))
        lab.tick(now)


def refused(keepalive: int, **more: object) -> AgentRow:
    return row(1, "active", keepalive, code=1, **more)  # type: ignore[arg-type]


def test_a_worker_that_is_heard_again_says_nothing_new_of_a_refusal_that_its_copy_told() -> None:
    lab = cluster()
    quiet(lab, T0 + 10, T0 + 40, "m", "w2")
    lab.delta("m", refused(T0 + 40, node="w1"), now=T0 + 42)
    quiet(lab, T0 + 45, T0 + 60, "m", "w2", m={1: T0 + 40})
    assert told(lab) == REFUSED
    lab.delta("m", row(1, "pending", T0 + 38, node="w1"), now=T0 + 65)
    lab.delta("w1", refused(T0 + 35, node="w1", added=0), now=T0 + 70)
    lab.beats(T0 + 75)
    assert told(lab) == REFUSED


def test_a_copy_says_nothing_of_refusals_while_the_worker_that_it_names_is_heard() -> None:
    """The sync of another worker may have written the code there, on an agent that has moved on meanwhile."""
    lab = cluster()
    lab.delta("m", refused(T0 + 8, node="w1"), now=T0 + 10)
    lab.beats(T0 + 15)
    assert lab.events == []


def test_a_refusal_that_a_worker_still_tells_of_is_no_refusal_of_the_masters() -> None:
    """The agent was refused by w1 and has come to the master; w1's link was cut, and its sync writes the code there now."""
    lab = cluster()
    lab.delta("w1", refused(T0 + 5, node="w1", added=0), now=T0 + 10)
    lab.delta("m", row(1, "active", T0 + 30, node="m"), now=T0 + 30)
    quiet(lab, T0 + 35, T0 + 100, "m", "w1", "w2", w1={1: T0 + 5})
    before = told(lab)
    lab.delta("m", refused(T0 + 98, node="m"), now=T0 + 101)
    quiet(lab, T0 + 105, T0 + 200, "m", "w1", "w2", w1={1: T0 + 5})
    assert told(lab) == before


def test_the_masters_own_refusal_counts_beside_a_workers_once_the_agent_is_quiet() -> None:
    lab = cluster()
    lab.delta("w1", refused(T0 + 5, node="w1", added=0), now=T0 + 10)
    lab.delta("m", row(1, "active", T0 + 30, node="m"), now=T0 + 30)
    quiet(lab, T0 + 35, T0 + 100, "m", "w1", "w2", w1={1: T0 + 5})
    lab.delta("m", refused(T0 + 98, node="m"), now=T0 + 101)
    quiet(lab, T0 + 115, T0 + 120, "m", "w1", "w2", w1={1: T0 + 5}, m={1: T0 + 98})
    assert told(lab).count(REFUSED[0]) == 2
    assert lab.events[-1].manager_node == "m"


def test_a_first_keepalive_leaves_the_code_and_is_no_new_refusal() -> None:
    """It was on w2 meanwhile; its pending on w1 was coalesced away, and update-agent-data does not reset status_code (wdb.c:176)."""
    lab = cluster()
    lab.delta("w1", refused(T0 + 5, node="w1", added=0), now=T0 + 10)
    lab.delta("w2", row(1, "active", T0 + 40, node="w2", added=0), now=T0 + 40)
    quiet(lab, T0 + 45, T0 + 100, "m", "w1", "w2", w1={1: T0 + 5})
    assert not lab.fleet.agents[1].refused
    lab.delta("w1", refused(T0 + 105, node="w1", added=0), now=T0 + 105)
    lab.beats(T0 + 110)
    assert told(lab).count(REFUSED[0]) == 1


def test_the_masters_own_refusal_counts_though_a_late_sync_has_put_a_workers_name_on_its_row() -> None:
    """wazuh/wazuh#24401; what the worker knows of the agent is much older."""
    lab = cluster()
    lab.delta("w1", row(1, "disconnected", T0 + 5, code=4, dt=T0 + 905, node="w1", added=0), now=T0 + 905)
    lab.delta("m", row(1, "active", T0 + 1000, node="w1"), now=T0 + 1000)
    quiet(lab, T0 + 1005, T0 + 1100, "m", "w1", "w2")
    lab.delta("m", refused(T0 + 1098, node="w1"), now=T0 + 1101)
    quiet(lab, T0 + 1105, T0 + 1130, "m", "w1", "w2", m={1: T0 + 1098})
    assert told(lab).count(REFUSED[0]) == 1


def test_who_was_never_let_in_is_told_of_once_whatever_manager_it_knocks_at() -> None:
    lab = cluster()
    new = row(9, "never_connected", added=T0 + 8)
    lab.delta("m", new, now=T0 + 8, new_keys=[key(new)])
    for name, now in (("w2", T0 + 10), ("w1", T0 + 60)):
        lab.delta(name, row(9, "never_connected", code=1, added=0), now=now, new_keys=[key(new)])
    assert [event.manager_node for event in lab.events if event.kind == "version_refused"] == ["w2"]
