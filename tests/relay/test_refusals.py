"""Laws of relay/refusals.py: a manager that refuses an agent's version is told once, and no status changes."""

import pytest

from tests.relay.lab import T0, cluster, key, row, told

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
    for begin in (T0 + 10, T0 + 30):
        lab.delta("w1", row(1, "active", begin, code=1, node="w1", added=0), now=begin)
        lab.delta("w1", row(1, "active", begin + 10, code=0, node="w1", added=0), now=begin + 10)
        assert not lab.fleet.agents[1].refused
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
