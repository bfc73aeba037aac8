"""Laws of deciding, the second half: who is registered, the order of things, 5.0, batches."""

import json
from dataclasses import replace

import pytest

from relay.decided import Decision
from relay.fleet import Heard
from shared import wire
from shared.models import AgentRow
from tests.relay.lab import T0, Lab, cluster, key, row, said, told

OWN = "m"  # a master's own node_name in its rows


def standalone(*rows: AgentRow) -> Lab:
    lab = Lab()
    lab.node("solo")
    lab.full("solo", rows, T0)
    return lab


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
    lab.delta("m", other._replace(name="agent-1"), now=T0 + 60)
    lab.delta("m", other, now=T0 + 70)
    assert [(e.kind, e.agent_name) for e in lab.events] == [("removed", "agent-1"), ("registered", "newcomer")]


def test_an_active_row_without_a_node_is_no_connection() -> None:
    """Within 9 s of a removal the old agent's keepalive is synced onto the reused id."""
    lab = cluster()
    other = row(1, "never_connected", name="newcomer", added=T0 + 50)
    lab.delta("m", other, now=T0 + 50, new_keys=[key(other)])
    lab.delta("m", other._replace(status="active", last_keepalive=T0 + 55), now=T0 + 55)
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
