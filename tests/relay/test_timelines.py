"""Timelines that `make truth` found, at their smallest: each failed on an earlier version of the rules."""

from relay.fleet import Heard
from shared.models import AgentRow
from tests.relay.lab import T0, Lab, row, said


def cluster(*workers: str) -> Lab:
    lab = Lab()
    lab.node("node01", "master")
    for name in workers:
        lab.node(name, "worker")
    return lab


def kinds(lab: Lab) -> list[tuple[int, str, str]]:
    return [(e.agent_id, e.kind, e.reason) for e in lab.events if e.previous != e.current]


def settle(lab: Lab, rows: dict[str, list[AgentRow]]) -> None:
    for name in lab.speakers:
        lab.full(name, rows.get(name, []), T0, quiet=())
    lab.waited()
    assert lab.fleet.settled


def active(at: int, node: str | None, *, added: int = T0 - 1000, code: int = 0, dt: int = 0) -> AgentRow:
    return row(1, "active", at, node=node, added=added, code=code, dt=dt)


def never() -> AgentRow:
    return row(1, "never_connected")


def test_the_baselines_timeout_counts_from_the_first_snapshot_not_from_the_relays_own_ticks() -> None:
    lab = cluster("worker1")
    lab.ticks(T0 - 100, T0)  # the relay was there first
    lab.full("worker1", [active(T0, "worker1", added=0)], T0)
    lab.full("node01", [active(T0, "worker1"), row(2, "active", T0, node="node01")], T0 + 1)
    assert kinds(lab) == []


def test_a_removal_that_waited_in_a_spool_is_told_once_the_master_is_fresh_again() -> None:
    lab = cluster("worker1")
    settle(lab, {"node01": [active(T0, "worker1")], "worker1": [active(T0, "worker1", added=0)]})
    for now in range(T0 + 5, T0 + 300, 5):
        lab.beat("worker1", now, {})
    drained = lab.speakers["node01"]
    drained.rows.pop(1), drained.keys.pop(1)
    old = drained.snapshot("delta", T0 + 60, gone=(1,), keys_gone=(1,))
    lab.position += 1
    lab.step(Heard(lab.position, (T0 + 300) * 1000, (T0 + 300) * 1000, old))
    for now in range(T0 + 301, T0 + 400, 5):
        lab.beats(now)
    assert kinds(lab) == [(1, "removed", "removed")]


def test_an_original_that_can_be_read_again_and_is_still_frozen_is_no_return() -> None:
    """A mirror's sweep was first, while the owner could not be heard."""
    lab = cluster("worker1")
    settle(lab, {"node01": [active(T0, "worker1")], "worker1": [active(T0, "worker1", added=0)]})
    lab.beats(T0 + 60, {"node01": {1: T0 + 8}, "worker1": {1: T0}})
    for now in range(T0 + 65, T0 + 1000, 10):
        lab.beat("node01", now, {1: T0 + 8})
    lab.delta("node01", row(1, "disconnected", T0 + 8, node="worker1", code=4, dt=T0 + 1000), now=T0 + 1000)
    assert kinds(lab) == [(1, "disconnected", "silent")]
    for now in range(T0 + 1010, T0 + 1200, 5):
        lab.beats(now, {"node01": {}, "worker1": {1: T0}})
    assert kinds(lab) == [(1, "disconnected", "silent")]


def test_a_table_that_is_not_proved_lends_its_quiet_list_no_contact() -> None:
    """The delta with the stop was given up by a full spool; the next beat must not bring the agent back."""
    lab = cluster("worker1")
    settle(lab, {"node01": [active(T0, "worker1")], "worker1": [active(T0, "worker1", added=0)]})
    lab.delta("worker1", row(1, "disconnected", T0, node="worker1", code=3, dt=T0 + 30, added=0), now=T0 + 30)
    assert kinds(lab) == [(1, "disconnected", "stopped")]
    master = lab.speakers["node01"]
    master.rows = {1: row(1, "disconnected", T0, node="worker1", code=3, dt=T0 + 30)}
    master.seq += 1  # the delta that was lost
    for now in range(T0 + 100, T0 + 160, 5):
        lab.beat("node01", now, {})  # worker1 cannot be heard, the mirror speaks: of an agent that lives no longer
    assert kinds(lab) == [(1, "disconnected", "stopped")]


def test_an_agent_that_stays_on_a_5_0_master_after_a_workers_stop_is_told_as_back() -> None:
    lab = cluster("worker1")
    settle(lab, {"node01": [active(T0, None)], "worker1": [active(T0, None, added=0)]})
    lab.delta("worker1", row(1, "disconnected", T0, node=None, code=3, dt=T0 + 100, added=0), now=T0 + 100, quiet=())
    lab.delta("node01", active(T0 + 121, None), now=T0 + 121)
    for now in range(T0 + 125, T0 + 400, 5):
        lab.beats(now)
    assert kinds(lab)[-1:] == [(1, "connected", "returned")]


def test_a_return_to_a_row_that_still_said_active_is_told_when_it_is_no_longer_quiet() -> None:
    """The agent was on worker1, moved to worker2, stopped there, and came back: worker1's row never changed but for the keepalive."""
    lab = cluster("worker1", "worker2")
    settle(lab, {
        "node01": [active(T0, "worker1")],
        "worker1": [active(T0, "worker1", added=0)],
        "worker2": [row(1, "never_connected", None, added=0)],
    })  # fmt: skip
    lab.delta("worker2", active(T0 + 60, "worker2", added=0), now=T0 + 60)
    lab.delta("node01", active(T0 + 60, "worker2"), now=T0 + 61)
    lab.beats(T0 + 70, {"worker1": {1: T0}})
    gone = row(1, "disconnected", T0 + 90, node="worker2", code=3, dt=T0 + 100, added=0)
    lab.delta("worker2", gone, now=T0 + 100)
    lab.delta("node01", row(1, "disconnected", T0 + 90, node="worker2", code=3, dt=T0 + 100), now=T0 + 101)
    lab.beats(T0 + 103, {"worker1": {1: T0}})
    lab.delta("node01", active(T0 + 104, "worker1"), now=T0 + 104)  # synced
    for now in range(T0 + 105, T0 + 300, 5):  # back since T0 + 104: named as quiet no more
        lab.beats(now)
    assert kinds(lab) == [(1, "disconnected", "stopped"), (1, "connected", "returned")]


def test_a_stop_that_is_read_late_does_not_beat_an_agent_that_is_back_elsewhere() -> None:
    """As before, and worker2 is read from its file, after the return: what is not quiet on worker1 may be newer than the stop."""
    lab = cluster("worker1", "worker2")
    settle(lab, {
        "node01": [active(T0, "worker1")],
        "worker1": [active(T0, "worker1", added=0)],
        "worker2": [row(1, "never_connected", None, added=0)],
    })  # fmt: skip
    lab.delta("worker2", active(T0 + 60, "worker2", added=0), now=T0 + 60)
    lab.delta("node01", active(T0 + 60, "worker2"), now=T0 + 61)
    lab.beats(T0 + 90, {"worker1": {1: T0}})
    lab.beats(T0 + 106)  # stopped on worker2 at 100 (not yet read), back on worker1 at 104: named as quiet no more
    lab.delta("worker2", row(1, "disconnected", T0 + 90, node="worker2", code=3, dt=T0 + 100, added=0), now=T0 + 108)
    for now in range(T0 + 110, T0 + 300, 5):
        lab.beats(now)
    assert kinds(lab) == []


def test_a_second_knock_is_held_for_a_whole_grace_of_its_own() -> None:
    lab = cluster("worker1", "worker2")
    settle(lab, {"node01": [active(T0, "node01")], "worker1": [never()], "worker2": [never()]})
    lab.delta("worker1", row(1, "pending", T0 + 100, added=0), now=T0 + 100)
    lab.beats(T0 + 120)
    # active on worker1 from 120 on: its file is read too late. It moved at 155 and knocks at worker2.
    lab.delta("worker2", row(1, "pending", T0 + 156, added=0), now=T0 + 156)
    lab.beats(T0 + 158)
    lab.beats(T0 + 165)
    lab.delta("worker2", active(T0 + 176, "worker2", added=0), now=T0 + 176)
    lab.beats(T0 + 178)
    assert kinds(lab) == []


def test_a_living_copy_says_nothing_while_its_original_is_read() -> None:
    """The link to the master was cut when the agent died; joined again, the sync stamps the master's own time on it."""
    lab = cluster("worker1")
    settle(lab, {"node01": [active(T0, "worker1")], "worker1": [active(T0, "worker1", added=0)]})
    for now in range(T0 + 60, T0 + 400, 10):
        lab.beats(now, {"node01": {1: T0}, "worker1": {1: T0}})
    lab.delta("node01", row(1, "disconnected", T0, node="worker1", code=5, dt=T0 + 401), now=T0 + 401)
    lab.delta("node01", active(T0 + 404, "worker1"), now=T0 + 404)
    for now in range(T0 + 410, T0 + 950, 10):
        lab.beats(now, {"node01": {1: T0 + 404} if now > T0 + 420 else {}, "worker1": {1: T0}})
    lab.delta("worker1", row(1, "disconnected", T0, node="worker1", code=4, dt=T0 + 950, added=0), now=T0 + 950, quiet=())
    lab.beats(T0 + 955, {"node01": {1: T0 + 404}})
    assert kinds(lab) == [(1, "disconnected", "silent")]


def test_a_living_row_older_than_the_stop_that_was_decided_is_no_return() -> None:
    """The agent left worker1, knocked at the master and said goodbye there: worker1's row still says active, from before."""
    lab = cluster("worker1")
    settle(lab, {"node01": [active(T0, "worker1")], "worker1": [active(T0, "worker1", added=0)]})
    lab.beats(T0 + 20)
    lab.delta("node01", row(1, "pending", T0 + 26, node="worker1"), now=T0 + 26)
    lab.delta("node01", row(1, "disconnected", T0 + 26, node="worker1", code=3, dt=T0 + 29), now=T0 + 29)
    for now in range(T0 + 30, T0 + 50, 4):
        lab.beats(now, {"worker1": {1: T0 + 20}})
    assert kinds(lab) == [(1, "disconnected", "stopped")]
    lab.delta("node01", row(1, "pending", T0 + 51, node="worker1"), now=T0 + 51)
    lab.beats(T0 + 53, {"worker1": {1: T0 + 20}})
    assert kinds(lab) == [(1, "disconnected", "stopped")]


def test_an_agent_active_on_the_master_does_not_echo_a_workers_stop() -> None:
    """update-agent-data resets neither disconnection_time nor status_code: the sync of the worker's stop shows through."""
    lab = cluster("worker1")
    settle(lab, {"node01": [active(T0, "worker1")], "worker1": [active(T0, "worker1", added=0)]})
    lab.delta("worker1", row(1, "disconnected", T0, node="worker1", code=3, dt=T0 + 100, added=0), now=T0 + 100)
    decision = lab.delta("node01", active(T0 + 150, "node01", code=3, dt=T0 + 100), now=T0 + 150)
    assert said(decision) == [(1, "connected", "returned")]


def test_a_5_0_masters_stamped_copy_does_not_make_the_workers_sweep_old() -> None:
    lab = cluster("worker1")
    settle(lab, {"node01": [active(T0 + 9, None)], "worker1": [active(T0, None, added=0)]})
    for now in range(T0 + 60, T0 + 950, 10):
        lab.beats(now, {"node01": {1: T0 + 9}, "worker1": {1: T0}})
    lab.delta("worker1", row(1, "disconnected", T0, node=None, code=4, dt=T0 + 950, added=0), now=T0 + 950, quiet=())
    for now in range(T0 + 955, T0 + 1100, 5):
        lab.beats(now, {"node01": {1: T0 + 9}})
    assert kinds(lab) == [(1, "disconnected", "silent")]


def test_a_list_from_before_a_row_does_not_vouch_for_it() -> None:
    """wazuh-db was killed and the row is back as of its last commit: the last list could not name one that was disconnected."""
    lab = Lab()
    lab.node("solo")
    lab.full("solo", [row(1, "active", T0 - 5)], T0)
    for now in range(T0 + 20, T0 + 200, 10):
        lab.beats(now, {"solo": {1: T0 - 5}})
    lab.delta("solo", row(1, "disconnected", T0 - 5, code=4, dt=T0 + 200), now=T0 + 200)
    lab.beats(T0 + 205)
    lab.delta("solo", row(1, "active", T0 - 5), now=T0 + 206)
    lab.beats(T0 + 210, {"solo": {1: T0 - 5}})
    assert kinds(lab) == [(1, "disconnected", "silent")]


def test_a_row_that_is_back_as_of_a_second_before_the_stop_is_no_return() -> None:
    """wazuh-db was killed before it committed the stop."""
    lab = Lab()
    lab.node("solo")
    lab.full("solo", [row(1, "active", T0 + 9)], T0 + 9)
    lab.delta("solo", row(1, "disconnected", T0 + 9, code=3, dt=T0 + 10), now=T0 + 10)
    lab.delta("solo", row(1, "active", T0 + 9), now=T0 + 12)
    assert kinds(lab) == [(1, "disconnected", "stopped")]


def test_a_row_that_went_back_stands_once_the_agent_had_its_grace_to_show_itself() -> None:
    """SQLite rolled the open transaction back (a full disk): up to a minute of statuses is gone, and it was never so."""
    lab = Lab()
    lab.node("solo")
    lab.full("solo", [row(1, "disconnected", T0 - 50, code=3, dt=T0 - 40)], T0)
    lab.delta("solo", row(1, "active", T0 + 10), now=T0 + 10)
    lab.delta("solo", row(1, "disconnected", T0 - 50, code=3, dt=T0 - 40), now=T0 + 20)
    assert kinds(lab) == [(1, "connected", "returned")]
    for now in range(T0 + 25, T0 + 100, 5):
        lab.beats(now)
    assert kinds(lab) == [(1, "connected", "returned"), (1, "disconnected", "stopped")]


def test_a_stop_that_a_copy_told_of_is_not_told_again_when_its_own_worker_is_heard_again() -> None:
    """The agent stops on worker1, comes back on worker2; neither can be heard, and the master's copy tells of both."""
    lab = cluster("worker1", "worker2")
    settle(lab, {"node01": [active(T0, "worker1")], "worker1": [active(T0, "worker1", added=0)], "worker2": [never()]})
    for now in range(T0 + 5, T0 + 61, 5):
        lab.beat("node01", now, {})
    lab.delta("node01", row(1, "disconnected", T0 + 55, code=3, dt=T0 + 62, node="worker1"), now=T0 + 65)
    lab.delta("node01", active(T0 + 66, "worker2"), now=T0 + 70)
    for now in range(T0 + 75, T0 + 130, 5):
        lab.beat("node01", now, {})
    assert kinds(lab) == [(1, "disconnected", "stopped"), (1, "connected", "returned")]
    for now in range(T0 + 130, T0 + 200, 5):
        lab.tick(now)
    lab.delta("worker1", row(1, "disconnected", T0 + 55, code=3, dt=T0 + 62, node="worker1", added=0), now=T0 + 200)
    lab.ticks(T0 + 205, T0 + 400)
    assert len(lab.events) == 2


def test_a_spool_that_drains_old_rows_moves_nobody_whom_a_copy_has_met_elsewhere_since() -> None:
    """node01's clock is 25 s behind worker1's: what it copies seems older than what worker1 says of before."""
    lab = cluster("worker1", "worker2")
    lab.speakers["worker1"].skew = 25
    lab.full("worker1", [active(T0 + 25, "worker1", added=0)], T0, quiet=())
    lab.full("worker2", [never()], T0, quiet=())
    lab.full("node01", [active(T0, "worker1")], T0, quiet=())
    for now in range(T0 + 5, T0 + 60, 5):
        lab.beat("node01", now, {})
    lab.delta("node01", active(T0 + 62, "worker2"), now=T0 + 62)
    for now in range(T0 + 65, T0 + 140, 5):
        lab.beat("node01", now, {})
    told = len(lab.events)
    spooled = [lab.speakers["worker1"].snapshot("beat", at, quiet=()) for at in range(T0 + 5, T0 + 60, 5)]
    for drained in spooled:
        lab.position += 1
        sent_at = (T0 + 140 + 25) * 1000
        lab.step(Heard(lab.position, (T0 + 140) * 1000, sent_at, drained))
    assert lab.events[told:] == []
    assert lab.fleet.agents[1].manager_node != "worker1" or all(event.kind != "moved" for event in lab.events)


def test_a_stamp_on_the_copy_of_a_dead_agent_does_not_hide_its_own_workers_sweep() -> None:
    lab = cluster("worker1")
    settle(lab, {"node01": [active(T0, "worker1")], "worker1": [active(T0, "worker1", added=0)]})
    for now in range(T0 + 5, T0 + 100, 5):  # dead since T0 + 10; the master's remoted is restarted, a sync stamps its row
        if now == T0 + 60:
            lab.delta("node01", active(T0 + 60, "worker1"), now=now)
        lab.beat("node01", now, {1: T0 + 12} if now < T0 + 60 else {} if now < T0 + 75 else {1: T0 + 60})
        lab.beat("worker1", now, {1: T0 + 10} if now >= T0 + 30 else {})
    for now in range(T0 + 100, T0 + 150, 5):  # for a moment worker1 cannot be heard
        lab.beat("node01", now, {1: T0 + 60})
    lab.delta("worker1", row(1, "disconnected", T0 + 10, code=4, dt=T0 + 910, node="worker1", added=0), now=T0 + 911, quiet=())
    assert kinds(lab) == [(1, "disconnected", "silent")]


def test_the_masters_own_stop_is_not_taken_back_by_an_older_keepalive_of_the_worker_whose_name_stands_on_its_row() -> None:
    """worker1's clock is 45 s ahead: its record of before is a greater number than the stop's."""
    lab = cluster("worker1")
    lab.speakers["worker1"].skew = 45
    lab.full("worker1", [row(1, "disconnected", T0 - 500, code=4, dt=T0 - 100, node="worker1", added=0)], T0, quiet=())
    lab.full("node01", [active(T0, "node01")], T0, quiet=())
    lab.waited()
    for now in range(T0 + 5, T0 + 60, 5):
        lab.beats(now)
    lab.delta("node01", row(1, "pending", T0 + 62, node="worker1"), now=T0 + 62)
    lab.delta("node01", row(1, "disconnected", T0 + 62, code=3, dt=T0 + 68, node="worker1"), now=T0 + 69)
    lab.delta("worker1", row(1, "active", T0 + 60 + 45, node="worker1", added=0), now=T0 + 71)
    lab.delta("node01", row(1, "pending", T0 + 62, node="worker1"), now=T0 + 75)
    assert kinds(lab) == [(1, "disconnected", "stopped")]


def test_a_stop_that_was_still_to_come_when_its_row_was_read_is_a_workers_and_holds_nothing() -> None:
    """worker1's clock is 30 s ahead of the master's: its goodbye, synced onto the master's row, lies in the master's future."""
    lab = cluster("worker1")
    lab.speakers["worker1"].skew = 30
    lab.full("worker1", [active(T0 + 30, "worker1", added=0)], T0, quiet=())
    lab.full("node01", [active(T0, "worker1")], T0, quiet=())
    lab.waited()
    for now in range(T0 + 5, T0 + 40, 5):
        lab.beats(now)
    lab.delta("worker1", row(1, "disconnected", T0 + 65, code=3, dt=T0 + 71, node="worker1", added=0), now=T0 + 41)
    lab.delta("worker1", row(1, "pending", T0 + 73, node="worker1", added=0), now=T0 + 43)
    lab.delta("node01", row(1, "disconnected", T0 + 35, code=3, dt=T0 + 71, node="worker1"), now=T0 + 44)
    lab.delta("worker1", active(T0 + 83, "worker1", added=0), now=T0 + 53)
    assert kinds(lab) == [(1, "disconnected", "stopped"), (1, "connected", "returned")]


def test_a_stamp_does_not_silence_the_drained_row_that_proves_it() -> None:
    """worker1 cannot be heard; the master's copy shows the agent back by one stamp, and worker1's spool says it first-hand."""
    lab = cluster("worker1")
    gone = row(1, "disconnected", T0 - 40, code=3, dt=T0 - 30, node="worker1", added=0)
    settle(lab, {"node01": [row(1, "disconnected", T0 - 40, code=3, dt=T0 - 30, node="worker1")], "worker1": [gone]})
    for now in range(T0 + 5, T0 + 50, 5):
        lab.beat("node01", now, {})
    lab.delta("node01", active(T0 + 48, "worker1"), now=T0 + 50)
    worker = lab.speakers["worker1"]
    worker.rows[1] = active(T0 + 48, "worker1", added=0)
    drained = worker.snapshot("delta", T0 + 49, rows=(worker.rows[1],))
    lab.position += 1
    lab.step(Heard(lab.position, (T0 + 90) * 1000, (T0 + 90) * 1000, drained))
    assert kinds(lab) == [(1, "connected", "returned")]
