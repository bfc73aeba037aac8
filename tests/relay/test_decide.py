"""Laws of deciding: what each rule of relay/decide.py promises, on timelines measured on real managers."""

import json
from dataclasses import replace

import pytest

from relay.decided import Decision
from relay.fleet import Heard, Policy
from shared import wire
from shared.models import AgentRow
from tests.relay.lab import T0, Lab, key, row, said

OWN = "m"  # a master's own node_name in its rows


def told(lab: Lab) -> list[tuple[int, str, str]]:
    return [(e.agent_id, e.kind, e.reason) for e in lab.events]


def standalone(*rows: AgentRow) -> Lab:
    lab = Lab()
    lab.node("solo")
    lab.full("solo", rows, T0)
    return lab


def cluster(policy: Policy | None = None) -> Lab:
    """A master m and workers w1, w2; agent 1 lives on w1, agent 2 on the master, agent 3 on w2; the master mirrors."""
    lab = Lab(policy)
    lab.node("m", "master")
    lab.node("w1", "worker")
    lab.node("w2", "worker")
    never = {n: row(n, "never_connected", added=0) for n in (1, 2, 3)}
    ka = T0 - 5
    lab.full("w1", [row(1, "active", ka, node="w1", added=0), never[2], never[3]], T0)
    lab.full("w2", [never[1], never[2], row(3, "active", ka, node="w2", added=0)], T0)
    lab.full("m", [row(1, "active", ka + 3, node="w1"), row(2, "active", ka, node=OWN), row(3, "active", ka + 4, node="w2")], T0)
    lab.beats(T0 + 5)
    assert lab.fleet.settled
    assert lab.events == []
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
    again.fleet.adopt([replace(lab.fleet.agents[1], date_add=0)])
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


# Rule 5: registration and removal -------------------------------------------------------------------------------------


def test_registration_is_the_masters_word_and_comes_with_its_key() -> None:
    lab = cluster()
    new = row(7, "never_connected", added=T0 + 9)
    assert said(lab.delta("w1", row(7, "never_connected", added=0), now=T0 + 9, new_keys=[key(new)])) == []
    assert said(lab.delta("m", new, now=T0 + 10)) == []
    decision = lab.delta("m", now=T0 + 11, new_keys=[key(new)])
    assert said(decision) == [(7, "registered", "registered")]
    assert (decision.happened[0].previous, decision.happened[0].current) == ("Unknown", "NeverConnected")


def test_removal_needs_row_and_key_gone() -> None:
    lab = cluster()
    assert said(lab.delta("m", now=T0 + 10, gone=[1])) == []
    decision = lab.delta("m", now=T0 + 11, gone_keys=[1])
    assert said(decision) == [(1, "removed", "removed")]
    assert (decision.happened[0].previous, decision.happened[0].current) == ("Active", "Unknown")
    assert 1 not in lab.fleet.agents


def test_removal_on_a_worker_alone_means_nothing() -> None:
    lab = cluster()
    lab.delta("w1", now=T0 + 10, gone=[1], gone_keys=[1])
    lab.beats(T0 + 20)
    assert lab.events == []
    assert lab.status(1) == "Active"


def test_a_removal_that_waited_in_a_spool_is_told_with_its_own_time() -> None:
    lab = cluster()
    gone = lab.speakers["m"].rows.pop(1)
    del lab.speakers["m"].keys[1]
    old = lab.speakers["m"].snapshot("delta", T0 + 10, gone=(gone.id,), keys_gone=(gone.id,))
    decision = spooled(lab, T0 + 3600, old)
    assert said(decision) == [(1, "removed", "removed")]
    assert (decision.happened[0].timestamp, decision.happened[0].late) == (T0 + 10, True)


def test_a_removal_that_proved_nothing_in_a_gap_is_told_when_the_gap_is_closed() -> None:
    lab = cluster()
    master = lab.speakers["m"]
    late = row(8, "never_connected")
    master.rows[8], master.keys[8] = late, key(late)
    master.seq += 1  # a delta that never arrived
    assert said(lab.delta("m", now=T0 + 10, gone=[1], gone_keys=[1])) == []
    assert not lab.fleet.nodes["m"].proved
    decision = lab.delta("m", late, now=T0 + 20, new_keys=[key(late)])
    assert sorted(said(decision)) == [(1, "removed", "removed"), (8, "registered", "registered")]


def test_removed_line_kept_in_client_keys_is_a_removal() -> None:
    lab = cluster()
    old = lab.speakers["m"].rows[1]
    decision = lab.delta("m", now=T0 + 10, gone=[1], new_keys=[key(old, removed=True)])
    assert said(decision) == [(1, "removed", "removed")]


def test_a_table_that_is_suddenly_empty_removes_nobody() -> None:
    lab = cluster()
    keys = [key(r) for r in lab.speakers["m"].rows.values()]
    assert said(lab.full("m", [], T0 + 10, keys=keys)) == []
    assert said(lab.full("m", [], T0 + 20, keys=[], keys_state="missing")) == []
    assert len(lab.fleet.agents) == 3


def test_a_reused_id_is_another_agent() -> None:
    lab = cluster()
    other = row(2, "never_connected", name="newcomer", added=T0 + 50)
    decision = lab.delta("m", other, now=T0 + 50, new_keys=[key(other)])
    assert said(decision) == [(2, "removed", "removed"), (2, "registered", "registered")]
    assert [e.agent_name for e in decision.happened] == ["agent-2", "newcomer"]
    assert decision.happened[1].previous == "Unknown"


def test_an_old_name_that_a_worker_synced_onto_a_reused_id_is_not_another_agent() -> None:
    lab = cluster()
    other = row(1, "never_connected", name="newcomer", added=T0 + 50)
    lab.delta("m", other, now=T0 + 50, new_keys=[key(other)])
    lab.delta("m", replace(other, name="agent-1"), now=T0 + 60)
    lab.delta("m", other, now=T0 + 70)
    assert [(e.kind, e.agent_name) for e in lab.events] == [("removed", "agent-1"), ("registered", "newcomer")]


def test_an_active_row_without_a_node_is_no_connection() -> None:
    """Within 9 s of a removal the old agent's keepalive is synced onto the reused id."""
    lab = cluster()
    other = row(1, "never_connected", name="newcomer", added=T0 + 50)
    lab.delta("m", other, now=T0 + 50, new_keys=[key(other)])
    lab.delta("m", replace(other, status="active", last_keepalive=T0 + 55), now=T0 + 55)
    assert lab.status(1) == "NeverConnected"
    assert lab.events[-1].kind == "registered"


def test_a_workers_row_under_an_old_name_does_not_speak_for_the_new_agent() -> None:
    lab = cluster()
    other = row(1, "never_connected", name="newcomer", added=T0 + 50)
    lab.delta("m", other, now=T0 + 50, new_keys=[key(other)])
    lab.beats(T0 + 60)
    assert lab.status(1) == "NeverConnected"
    lab.delta("w1", row(1, "active", T0 + 70, name="agent-1", node="w1", added=0), now=T0 + 70, new_keys=[key(other)])
    assert lab.status(1) == "Active"


def test_a_worker_whose_keys_cannot_be_read_speaks_for_the_name_in_its_row() -> None:
    lab = cluster()
    decision = lab.delta("w2", row(1, "active", T0 + 40, node="w2", added=0), now=T0 + 40, keys_state="denied")
    assert lab.fleet.agents[1].witness == "w2"
    assert said(decision) == []


def test_contact_before_the_registration_does_not_count() -> None:
    lab = Lab()
    lab.node("m", "master")
    lab.node("w1", "worker")
    lab.full("w1", [row(1, "active", T0 - 500, node="w1", added=0)], T0, quiet=((1, T0 - 500),))
    lab.full("m", [row(1, "never_connected", added=T0 - 10)], T0)
    assert lab.status(1) == "NeverConnected"


# The order of things --------------------------------------------------------------------------------------------------


def test_a_repeat_and_a_lower_boot_change_nothing() -> None:
    lab = standalone(row(1, "active", T0))
    speaker = lab.speakers["solo"]
    speaker.seq -= 1
    again = lab.delta("solo", row(1, "disconnected", T0, code=3, dt=T0 + 1), now=T0 + 1)
    assert (again.refused, said(again)) == ("repeat", [])
    speaker.boot, speaker.seq = 0, 100
    other = lab.delta("solo", row(1, "disconnected", T0, code=3, dt=T0 + 1), now=T0 + 1)
    assert (other.refused, said(other)) == ("duplicate_collector", [])


def test_each_event_begins_where_the_one_before_ended_and_names_it_in_its_id() -> None:
    lab = standalone(row(1, "active", T0))
    for n in range(1, 6):
        lab.delta("solo", row(1, "disconnected", T0, code=3, dt=T0 + 10 * n), now=T0 + 10 * n)
        lab.delta("solo", row(1, "active", T0 + 10 * n + 5), now=T0 + 10 * n + 5)
    for one, two in zip(lab.events, lab.events[1:], strict=False):
        assert two.previous == one.current
    assert len({e.event_id for e in lab.events}) == 10


def test_replaying_the_same_inputs_gives_the_same_messages() -> None:
    lab = cluster()
    lab.delta("w1", row(1, "disconnected", T0 + 5, code=3, dt=T0 + 20, node="w1", added=0), now=T0 + 20)
    lab.delta("w2", row(1, "active", T0 + 24, node="w2", added=0), now=T0 + 24)
    lab.beats(T0 + 200)
    again = Lab()
    messages = [again.step(given).messages for given in lab.log]
    assert again.events == lab.events
    assert messages[-1] == ()


def test_what_waited_in_a_spool_is_an_event_with_its_own_time_and_marked_late() -> None:
    lab = standalone(row(1, "active", T0))
    old = lab.speakers["solo"].snapshot("delta", T0 + 10, rows=(row(1, "disconnected", T0, code=3, dt=T0 + 10),))
    decision = spooled(lab, T0 + 3600, old)
    assert said(decision) == [(1, "disconnected", "stopped")]
    assert decision.happened[0].late
    assert decision.happened[0].timestamp == T0 + 10


def spooled(lab: Lab, now: int, snapshot: wire.Snapshot) -> Decision:
    """Hear at `now` what was taken long before and sent now."""
    lab.position += 1
    return lab.step(Heard(lab.position, now * 1000, now * 1000, snapshot))


def test_a_node_that_is_heard_again_after_the_mirror_spoke_does_not_bring_old_news() -> None:
    lab = cluster()
    for now in range(T0 + 10, T0 + 400, 10):
        lab.beat("m", now, {}), lab.beat("w2", now, {})
    stale = row(1, "disconnected", T0 + 5, code=3, dt=T0 + 60, node="w1", added=0)
    lab.speakers["w1"].rows[1] = stale
    decision = spooled(lab, T0 + 400, lab.speakers["w1"].snapshot("delta", T0 + 61, rows=(stale,)))
    assert said(decision) == []
    assert lab.status(1) == "Active"


def test_a_long_absence_of_nats_loses_no_change_that_spools_kept() -> None:
    lab = cluster()
    back = T0 + 600
    lab.beat("m", back, {})  # the master is heard first; its mirror says that agent 1 is Active, as it is again
    for kind, now in (("disconnected", 100), ("active", 200)):
        ka = T0 + now if kind == "active" else T0 + 95
        said_then = row(1, kind, ka, code=3 * (kind != "active"), dt=T0 + now, node="w1", added=0)  # type: ignore[arg-type]
        lab.speakers["w1"].rows[1] = said_then
        spooled(lab, back + 1, lab.speakers["w1"].snapshot("delta", T0 + now, rows=(said_then,)))
    assert [(e.kind, e.timestamp, e.late) for e in lab.events] == [
        ("disconnected", T0 + 100, True),
        ("connected", T0 + 200, True),
    ]


# 5.0: no node_name, agents behind a balancer --------------------------------------------------------------------------


def balanced() -> Lab:
    lab = Lab()
    lab.node("m", "master")
    lab.node("w1", "worker")
    lab.full("w1", [row(1, "active", T0 - 3, node=None, added=0)], T0)
    lab.full("m", [row(1, "active", T0 - 1, node=None)], T0)
    lab.waited()
    lab.beats(T0 + 5)
    assert lab.events == []
    return lab


def test_5_0_a_workers_stop_beats_the_masters_later_stamp_of_the_same_session() -> None:
    lab = balanced()
    lab.delta("w1", row(1, "disconnected", T0 + 7, code=3, dt=T0 + 10, node=None, added=0), now=T0 + 10)
    lab.beat("m", T0 + 12, {})
    assert [e.reason for e in lab.events] == ["stopped"]
    assert lab.status(1) == "Disconnected"


def test_5_0_an_agent_that_goes_on_at_the_master_is_no_outage() -> None:
    lab = balanced()
    for now in range(T0 + 10, T0 + 900, 20):
        lab.beats(now, {"w1": {1: T0 + 7}})
    lab.delta("w1", row(1, "disconnected", T0 + 7, code=4, dt=T0 + 900, node=None, added=0), now=T0 + 900)
    assert told(lab) == [(1, "moved", "moved")]
    assert lab.fleet.agents[1].manager_node == "m"


# Batches --------------------------------------------------------------------------------------------------------------


def test_a_batch_holds_the_events_of_one_input_after_their_single_messages() -> None:
    lab = standalone(row(1, "active", T0), row(2, "active", T0))
    gone = [row(n, "disconnected", T0, code=3, dt=T0 + 10) for n in (1, 2)]
    decision = lab.delta("solo", *gone, now=T0 + 10)
    assert [m.subject for m in decision.messages] == [
        "wazuh.agent.001.status",
        "wazuh.agent.001.disconnected",
        "wazuh.agent.002.status",
        "wazuh.agent.002.disconnected",
        "wazuh.security.agent_events",
    ]
    batch = json.loads(decision.messages[-1].body)
    assert [e["agent_id"] for e in batch["events"]] == ["001", "002"]
    assert batch["summary"] == {"total_agents": 2, "active_agents": 0, "disconnected_agents": 2, "changes_detected": 2}
    assert batch["manager_node"] == "solo"


@pytest.mark.parametrize(("nodes", "named"), [(("w1", "w1"), "w1"), (("w1", "w2"), "lab")])
def test_a_batch_made_by_a_tick_is_its_events_nodes_or_the_clusters(nodes: tuple[str, str], named: str) -> None:
    lab = cluster()
    for number, node in zip((1, 3), nodes, strict=True):
        lab.delta(node, row(number, "active", T0 + 10, node=node, added=0), now=T0 + 10)
        lab.delta(node, row(number, "disconnected", T0 + 10, code=5, dt=T0 + 20, node=node, added=0), now=T0 + 20)
    left = {"m": {1: T0 - 2, 3: T0 - 1}, "w2": {3: T0 - 5} if "w2" not in nodes else {}}
    lab.beats(T0 + 45, left)
    lab.beats(T0 + 70, left)
    lab.fleet.nodes = {name: replace(node, as_of=(T0 + 81) * 1000) for name, node in lab.fleet.nodes.items()}
    decision = lab.tick(T0 + 81)
    assert len(decision.happened) == 2
    assert json.loads(decision.messages[-1].body)["manager_node"] == named


def test_an_id_that_is_registered_nowhere_is_no_agent() -> None:
    lab = cluster()
    ghost = row(9, "active", T0 + 9, node="w1", added=0)
    assert said(lab.delta("w1", ghost, now=T0 + 10, new_keys=[key(ghost)])) == []
    assert 9 not in lab.fleet.agents
