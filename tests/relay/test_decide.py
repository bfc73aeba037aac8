"""Laws of deciding: what each rule of relay/decide.py promises, on timelines measured on real managers."""

import json

import pytest

from relay.fleet import Policy
from shared.models import AgentRow
from tests.relay.lab import T0, Lab, cluster, key, row, said, told

OWN = "m"  # a master's own node_name in its rows


def standalone(*rows: AgentRow) -> Lab:
    lab = Lab()
    lab.node("solo")
    lab.full("solo", rows, T0)
    return lab


# Rule 8 ---------------------------------------------------------------------------------------------------------------


def test_first_view_of_a_fleet_makes_one_batch_and_no_event() -> None:
    lab = Lab()
    lab.node("solo")
    decision = lab.full("solo", [row(1, "active", T0), row(2, "never_connected")], T0)
    assert decision.happened == ()
    [batch] = decision.messages
    assert batch.subject == "wazuh.security.agent_events"
    body = json.loads(batch.body)
    assert body["summary"] == {"total_agents": 2, "active_agents": 1, "disconnected_agents": 0, "changes_detected": 0}
    assert body["events"] == []


def test_baseline_waits_for_every_node_that_the_master_names() -> None:
    lab = Lab()
    lab.node("m", "master")
    lab.node("w1", "worker")
    assert not lab.full("m", [row(1, "active", T0, node="w1")], T0).settled
    assert lab.full("w1", [row(1, "active", T0, node="w1", added=0)], T0 + 1).settled


def test_baseline_waits_for_the_master() -> None:
    lab = Lab()
    lab.node("w1", "worker")
    assert not lab.full("w1", [row(1, "active", T0, added=0)], T0).settled


def test_baseline_ends_after_its_timeout_whoever_is_missing() -> None:
    lab = Lab(Policy(baseline_timeout=20_000))
    lab.node("m", "master")
    lab.full("m", [row(1, "active", T0, node="never-heard-of")], T0)
    assert not lab.beat("m", T0 + 19).settled
    assert lab.beat("m", T0 + 20).settled


def test_no_baseline_of_nothing() -> None:
    lab = Lab(Policy(baseline_timeout=1_000))
    lab.tick(T0)
    assert not lab.tick(T0 + 60).settled


def test_a_ledger_that_knows_what_was_published_makes_the_difference_an_event() -> None:
    lab = standalone(row(1, "active", T0))
    known = lab.fleet.agents[1]
    again = Lab()
    again.fleet.adopt([known])
    again.node("solo")
    decision = again.full("solo", [row(1, "disconnected", T0, code=3, dt=T0 + 9)], T0 + 10)
    assert said(decision) == [(1, "disconnected", "stopped")]


def test_an_agent_taken_over_from_the_stream_learns_its_date_add() -> None:
    lab = standalone(row(1, "active", T0))
    again = Lab()
    again.fleet.adopt([lab.fleet.agents[1]._replace(date_add=0)])
    again.node("solo")
    assert said(again.full("solo", [row(1, "active", T0)], T0 + 10)) == []
    assert again.fleet.agents[1].date_add == T0 - 1000


# Rule 4: reasons and holds --------------------------------------------------------------------------------------------


def test_first_contact_is_one_connected_event_and_pending_none() -> None:
    lab = standalone(row(1, "never_connected"))
    assert said(lab.delta("solo", row(1, "pending", T0 + 10), now=T0 + 10)) == []
    decision = lab.delta("solo", row(1, "active", T0 + 20), now=T0 + 20)
    assert said(decision) == [(1, "connected", "first_contact")]
    [event] = decision.happened
    assert (event.previous, event.current, event.timestamp) == ("NeverConnected", "Active", T0 + 20)


@pytest.mark.parametrize(("code", "reason"), [(3, "stopped"), (4, "silent")])
def test_stop_and_silence_are_events_at_once_with_their_reason_and_time(code: int, reason: str) -> None:
    lab = standalone(row(1, "active", T0))
    decision = lab.delta("solo", row(1, "disconnected", T0, code=code, dt=T0 + 7), now=T0 + 8)
    assert said(decision) == [(1, "disconnected", reason)]
    assert decision.happened[0].timestamp == T0 + 7
    assert decision.happened[0].previous == "Active"


def test_return_is_an_event() -> None:
    lab = standalone(row(1, "disconnected", T0 - 50, code=3, dt=T0 - 40))
    assert said(lab.delta("solo", row(1, "active", T0 + 5), now=T0 + 5)) == [(1, "connected", "returned")]


def test_pending_past_the_grace_is_an_event() -> None:
    lab = standalone(row(1, "disconnected", T0 - 50, code=3, dt=T0 - 40))
    lab.delta("solo", row(1, "pending", T0 + 5), now=T0 + 5)
    assert lab.beats(T0 + 64) == []
    [event] = lab.beats(T0 + 66, {"solo": {1: T0 + 5}})
    assert (event.kind, event.reason, event.timestamp) == ("pending", "startup", T0 + 5)


def test_manager_restart_is_no_event_for_agents_that_return_and_one_for_each_that_does_not() -> None:
    lab = standalone(row(1, "active", T0), row(2, "active", T0))
    gone = [row(n, "disconnected", T0, code=5, dt=T0 + 10) for n in (1, 2)]
    assert said(lab.delta("solo", *gone, now=T0 + 10)) == []
    assert said(lab.delta("solo", row(1, "active", T0 + 20), now=T0 + 20)) == []
    assert lab.beats(T0 + 60) == []
    [event] = lab.beats(T0 + 71)
    assert (event.agent_id, event.kind, event.reason, event.timestamp) == (2, "disconnected", "manager_reset", T0 + 10)
    assert lab.beats(T0 + 200) == []


def test_a_reset_that_becomes_a_stop_is_an_event_at_once() -> None:
    lab = standalone(row(1, "active", T0))
    lab.delta("solo", row(1, "disconnected", T0, code=5, dt=T0 + 10), now=T0 + 10)
    assert said(lab.delta("solo", row(1, "disconnected", T0 + 12, code=3, dt=T0 + 14), now=T0 + 14)) == [(1, "disconnected", "stopped")]


def test_schema_without_status_code_waits_for_the_grace() -> None:
    lab = standalone(row(1, "active", T0, code=None))
    assert said(lab.delta("solo", row(1, "disconnected", T0, code=None, dt=T0 + 10), now=T0 + 10)) == []
    assert [e.reason for e in lab.beats(T0 + 71)] == ["unexplained"]


def test_grace_is_at_least_three_periods() -> None:
    lab = Lab(Policy(reset_grace=5_000))
    lab.node("solo")
    lab.full("solo", [row(1, "active", T0)], T0)
    lab.delta("solo", row(1, "disconnected", T0, code=5, dt=T0 + 1), now=T0 + 1)
    assert lab.beats(T0 + 30) == []
    assert len(lab.beats(T0 + 31)) == 1


# Rule 9 ---------------------------------------------------------------------------------------------------------------


def test_a_hold_fires_only_when_every_reachable_node_has_told_all_up_to_it() -> None:
    lab = cluster()
    lab.delta("w1", row(1, "disconnected", T0 + 5, code=5, dt=T0 + 10, node="w1", added=0), now=T0 + 10)
    for now in range(T0 + 15, T0 + 90, 15):
        lab.beat("w1", now, {}), lab.beat("m", now, {1: T0 - 2})
        lab.beat("w2", now, {}, as_of=(T0 + 40) * 1000)  # a file that was last committed then
    assert lab.events == []
    lab.beat("w2", T0 + 90, {})
    assert [e.reason for e in lab.events] == ["manager_reset"]


def test_a_hold_does_not_fire_while_its_node_cannot_be_heard() -> None:
    lab = cluster()
    lab.delta("w1", row(1, "disconnected", T0 + 5, code=5, dt=T0 + 10, node="w1", added=0), now=T0 + 10)
    for now in range(T0 + 15, T0 + 300, 15):
        lab.beat("m", now, {}), lab.beat("w2", now, {})
    assert lab.events == []


# Rules 1 and 2: moves -------------------------------------------------------------------------------------------------


def test_move_between_workers_makes_no_outage_when_the_old_node_sweeps_half_an_hour_later() -> None:
    lab = cluster()
    lab.delta("w2", row(1, "pending", T0 + 20, added=0), now=T0 + 20)
    lab.delta("w2", row(1, "active", T0 + 30, node="w2", added=0), now=T0 + 30)
    lab.delta("m", row(1, "active", T0 + 30, node="w2"), now=T0 + 34)
    for now in range(T0 + 35, T0 + 1800, 20):
        lab.beats(now, {"w1": {1: T0 + 4}})
    lab.delta("w1", row(1, "disconnected", T0 + 4, code=4, dt=T0 + 1800, node="w1", added=0), now=T0 + 1800)
    lab.beats(T0 + 1900, {"w1": {}})
    assert told(lab) == [(1, "moved", "moved")]
    assert (lab.status(1), lab.fleet.agents[1].manager_node) == ("Active", "w2")


def test_move_with_shutdown_is_a_stop_and_a_return() -> None:
    lab = cluster()
    lab.delta("w1", row(1, "disconnected", T0 + 5, code=3, dt=T0 + 20, node="w1", added=0), now=T0 + 20)
    lab.delta("w2", row(1, "active", T0 + 24, node="w2", added=0), now=T0 + 24)
    assert [(e.kind, e.manager_node) for e in lab.events] == [("disconnected", "w1"), ("connected", "w2")]


def test_move_from_worker_to_master_and_a_late_sweep_make_no_event() -> None:
    lab = cluster()
    lab.delta("m", row(1, "pending", T0 + 50, node="w1"), now=T0 + 50)
    lab.delta("m", row(1, "active", T0 + 60, node=OWN), now=T0 + 60)
    for now in range(T0 + 65, T0 + 900, 20):
        lab.beats(now, {"w1": {1: T0 + 45}})
    lab.delta("w1", row(1, "disconnected", T0 + 45, code=4, dt=T0 + 900, node="w1", added=0), now=T0 + 900)
    assert told(lab) == [(1, "moved", "moved")]
    assert lab.fleet.agents[1].manager_node == "m"


def test_move_from_master_to_worker_makes_no_event_whatever_the_master_row_says_meanwhile() -> None:
    lab = cluster()
    lab.delta("w1", row(2, "pending", T0 + 20, added=0), now=T0 + 20)
    lab.delta("w1", row(2, "active", T0 + 30, node="w1", added=0), now=T0 + 30)
    lab.delta("m", row(2, "pending", T0 - 5, node=OWN), now=T0 + 33)  # a startup synced as a status
    lab.delta("m", row(2, "active", T0 + 30, node="w1"), now=T0 + 43)
    lab.beats(T0 + 120)
    assert told(lab) == [(2, "moved", "moved")]
    assert lab.fleet.agents[2].manager_node == "w1"


def test_two_contacts_within_one_second_are_no_outage() -> None:
    lab = cluster()
    lab.delta("w2", row(1, "active", T0 + 20, node="w2", added=0), now=T0 + 20)
    assert said(lab.delta("w1", row(1, "disconnected", T0 + 5, code=3, dt=T0 + 20, node="w1", added=0), now=T0 + 20)) == []


def test_an_older_stop_of_a_node_that_was_left_is_superseded_and_counted() -> None:
    lab = cluster()
    lab.delta("w2", row(1, "active", T0 + 40, node="w2", added=0), now=T0 + 40)
    decision = lab.delta("w1", row(1, "disconnected", T0 + 5, code=3, dt=T0 + 20, node="w1", added=0), now=T0 + 45)
    assert said(decision) == []
    assert lab.status(1) == "Active"


def test_clocks_apart_do_not_decide_who_is_right() -> None:
    lab = Lab()
    lab.node("m", "master")
    lab.node("w1", "worker", skew=30)
    lab.node("w2", "worker", skew=-30)
    lab.full("w1", [row(1, "active", T0 + 25, node="w1", added=0)], T0)
    lab.full("w2", [row(1, "never_connected", added=0)], T0)
    lab.full("m", [row(1, "active", T0, node="w1")], T0)
    lab.delta("w1", row(1, "disconnected", T0 + 25, code=3, dt=T0 + 50, node="w1", added=0), now=T0 + 20)
    lab.delta("w2", row(1, "active", T0, node="w2", added=0), now=T0 + 30)
    assert [e.kind for e in lab.events] == ["disconnected", "connected"]


# Rule 3: mirrors ------------------------------------------------------------------------------------------------------


def test_a_restart_of_the_master_says_nothing_of_agents_on_workers() -> None:
    lab = cluster()
    reset = [row(n, "disconnected", T0 + 5, code=5, dt=T0 + 20, node=f"w{(n + 1) // 2}") for n in (1, 3)]
    lab.delta("m", *reset, now=T0 + 20)
    for now in range(T0 + 25, T0 + 200, 10):
        lab.beats(now)
    assert lab.events == []


def test_the_masters_sweep_says_nothing_while_the_worker_is_heard() -> None:
    lab = cluster()
    lab.delta("m", row(1, "disconnected", T0 - 2, code=4, dt=T0 + 900, node="w1"), now=T0 + 10)
    lab.beats(T0 + 20)
    assert lab.events == []


def test_the_mirror_speaks_while_the_owners_node_is_not_heard() -> None:
    lab = cluster()
    for now in range(T0 + 10, T0 + 60, 10):
        lab.beat("m", now, {}), lab.beat("w2", now, {})
    assert said(lab.delta("m", row(1, "disconnected", T0 + 55, code=3, dt=T0 + 58, node="w1"), now=T0 + 60)) == [
        (1, "disconnected", "stopped")
    ]
    assert lab.events[0].manager_node == "w1"


def test_the_masters_own_word_counts_before_it_names_itself() -> None:
    """An agent comes from w1 to the master and is stopped before its first keepalive there: the row still says w1."""
    lab = cluster()
    for now in range(T0 + 10, T0 + 40, 10):
        lab.beats(now, {"w1": {1: T0 - 5}})
    lab.delta("m", row(1, "pending", T0 + 41, node="w1"), now=T0 + 41)
    gone = lab.delta("m", row(1, "disconnected", T0 + 41, code=3, dt=T0 + 45, node="w1"), now=T0 + 45)
    assert said(gone) == [(1, "disconnected", "stopped")]


def test_a_knock_at_the_master_outlasts_the_masters_silence() -> None:
    """An agent leaves w1 and knocks at the master, which cannot be heard from then on: the sweep of w1 is older than the knock."""
    lab = cluster()
    lab.delta("m", row(1, "pending", T0 + 12, node="w1"), now=T0 + 12)
    for now in range(T0 + 20, T0 + 900, 10):
        for name in ("w1", "w2"):
            lab.beat(name, now, {1: T0 + 5} if name == "w1" else {})
    swept = lab.delta("w1", row(1, "disconnected", T0 + 5, code=4, dt=T0 + 900, node="w1", added=0), now=T0 + 900)
    assert said(swept) == []
    lab.delta("m", row(1, "active", T0 + 895, node=OWN), now=T0 + 905)
    assert told(lab) in ([], [(1, "moved", "moved")])


def test_a_workers_knock_that_was_synced_is_no_knock_at_the_master() -> None:
    """A sync of a status carries no time: the row keeps the stamp of the sync before, which the worker's own knock is after."""
    lab = cluster()
    lab.delta("w1", row(1, "pending", T0 + 12, node="w1", added=0), now=T0 + 12)
    lab.delta("m", row(1, "pending", T0 + 9, node="w1"), now=T0 + 16)
    lab.beat("m", T0 + 21, {})
    gone = lab.delta("w1", row(1, "disconnected", T0 + 12, code=3, dt=T0 + 20, node="w1", added=0), now=T0 + 22)
    assert said(gone) == [(1, "disconnected", "stopped")]


def test_the_worker_that_comes_back_says_the_same_once() -> None:
    lab = cluster()
    for now in range(T0 + 10, T0 + 60, 10):
        lab.beat("m", now, {}), lab.beat("w2", now, {})
    lab.delta("m", row(1, "disconnected", T0 + 55, code=3, dt=T0 + 58, node="w1"), now=T0 + 60)
    lab.delta("w1", row(1, "disconnected", T0 + 55, code=3, dt=T0 + 58, node="w1", added=0), now=T0 + 90)
    lab.beats(T0 + 95)
    assert [e.kind for e in lab.events] == ["disconnected"]


def test_a_mirror_stamped_by_a_late_sync_does_not_bring_a_stopped_agent_back() -> None:
    lab = cluster()
    lab.delta("w1", row(1, "disconnected", T0 + 15, code=3, dt=T0 + 20, node="w1", added=0), now=T0 + 20)
    lab.delta("m", row(1, "active", T0 + 25, node="w1"), now=T0 + 25)  # synced before the stop, stamped after it
    for now in range(T0 + 30, T0 + 70, 10):
        lab.beat("m", now, {1: T0 + 25}), lab.beat("w2", now, {})
    assert [e.kind for e in lab.events] == ["disconnected"]


def test_a_row_without_a_node_speaks_only_where_nobody_else_does() -> None:
    lab = cluster()
    lab.delta("m", row(4, "pending", T0 + 20), now=T0 + 20, new_keys=[key(row(4, "pending"))])
    assert [(e.kind, e.current) for e in lab.events] == [("registered", "NeverConnected")]
    lab.delta("m", row(4, "active", T0 + 30, node=OWN), now=T0 + 30)
    assert lab.events[-1].kind == "connected"


# #24401: a worker's queued stop reaches the master after the agent came to the master ------------------------------


def test_24401_the_echo_of_a_stop_does_not_end_the_session_on_the_master() -> None:
    lab = cluster()
    lab.delta("w1", row(1, "disconnected", T0 + 5, code=3, dt=T0 + 20, node="w1", added=0), now=T0 + 20)
    lab.delta("m", row(1, "active", T0 + 23, node=OWN), now=T0 + 23)
    assert [e.kind for e in lab.events] == ["disconnected", "connected"]
    lab.delta("m", row(1, "disconnected", T0 + 23, code=3, dt=T0 + 20, node=OWN), now=T0 + 30)
    lab.delta("m", row(1, "active", T0 + 33, node=OWN), now=T0 + 33)
    lab.beats(T0 + 200)
    assert [e.kind for e in lab.events] == ["disconnected", "connected"]


def test_24401_the_echo_stands_if_the_agent_does_not_show_itself_within_the_grace() -> None:
    lab = cluster()
    lab.delta("w1", row(1, "disconnected", T0 + 5, code=3, dt=T0 + 20, node="w1", added=0), now=T0 + 20)
    lab.delta("m", row(1, "active", T0 + 23, node=OWN), now=T0 + 23)
    lab.delta("m", row(1, "disconnected", T0 + 23, code=3, dt=T0 + 20, node=OWN), now=T0 + 30)
    for now in range(T0 + 40, T0 + 100, 10):
        lab.beats(now)
    assert [e.kind for e in lab.events] == ["disconnected", "connected", "disconnected"]
    assert lab.status(1) == "Disconnected"


def test_24401_a_knock_is_not_told_where_the_agent_knocked_at_the_master_later() -> None:
    """What the master's remoted wrote of it was overwritten by a worker's older stop, but for the time of the knock."""
    lab = cluster()
    lab.delta("w1", row(1, "disconnected", T0 + 5, code=3, dt=T0 + 20, node="w1", added=0), now=T0 + 20)
    lab.delta("w2", row(1, "pending", T0 + 22, node="w2", added=0), now=T0 + 22)
    lab.delta("m", row(1, "disconnected", T0 + 27, code=3, dt=T0 + 20, node="w1"), now=T0 + 30)
    for now in range(T0 + 40, T0 + 200, 10):
        lab.beats(now, {"w2": {1: T0 + 22}})
    assert [e.kind for e in lab.events] == ["disconnected"]


def test_a_row_of_the_last_commit_brings_nobody_back_who_said_goodbye_in_its_second() -> None:
    """wazuh-db was killed within its transaction. Who is there after all keeps alive: is not named as quiet."""
    lab = cluster()
    lab.delta("w1", row(1, "disconnected", T0 + 20, code=3, dt=T0 + 20, node="w1", added=0), now=T0 + 20)
    assert said(lab.delta("w1", row(1, "active", T0 + 20, node="w1", added=0), now=T0 + 22)) == []
    lab.beats(T0 + 40, {"w1": {1: T0 + 20}})
    assert told(lab) == [(1, "disconnected", "stopped")]
    lab.beats(T0 + 60)
    assert told(lab) == [(1, "disconnected", "stopped"), (1, "connected", "returned")]


def test_a_return_is_told_once_it_is_after_the_stop_by_both_clocks() -> None:
    """The master's own stop, told under a worker's name, is later by the master's clock than by that worker's."""
    lab = cluster()
    lab.speakers["m"].skew, lab.speakers["w1"].skew = 15, -15
    for now in range(T0 + 10, T0 + 200, 10):  # until both clocks are believed
        lab.beats(now)
    begun = T0 + 200
    lab.delta("m", row(1, "disconnected", begun + 14, code=3, dt=begun + 16, node="w1"), now=begun + 1)
    for now in range(begun + 10, begun + 50, 10):
        lab.beats(now, {"w1": {1: T0 + 150}})
    assert told(lab) == [(1, "disconnected", "stopped")]
    lab.delta("w1", row(1, "active", begun + 15, node="w1", added=0), now=begun + 51)
    for now in range(begun + 60, begun + 130, 10):
        lab.beats(now)
    assert told(lab) == [(1, "disconnected", "stopped"), (1, "connected", "returned")]
