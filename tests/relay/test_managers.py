"""Laws of relay/managers.py: what befalls a manager is told once, in a message of its own, and no agent's event."""

import json

from relay.decided import Decision
from relay.fleet import Heard
from shared import wire
from tests.relay.lab import T0, Lab, cluster, row, said, told_of_managers


def beats(lab: Lab, begin: int, end: int, *names: str) -> None:
    for now in range(begin, end + 1, 5):
        for name in names or tuple(lab.speakers):
            lab.beat(name, now, {})
        lab.tick(now)


def reset(lab: Lab, now: int, at: int, *numbers: int, node: str = "w1") -> Decision:
    rows = [row(n, "disconnected", at - 5, code=5, dt=at, node=node, added=0) for n in numbers]
    return lab.delta(node, *rows, now=now)


def details(lab: Lab) -> list[dict[str, object]]:
    return [dict(event.details) for event in lab.of_managers]


# A restart ------------------------------------------------------------------------------------------------------------


def test_a_restart_is_one_event_however_many_agents_it_reset() -> None:
    lab = Lab()
    lab.node("solo")
    lab.full("solo", [row(n, "active", T0) for n in range(1, 50)], T0)
    rows = [row(n, "disconnected", T0, code=5, dt=T0 + 10 + n % 3) for n in range(1, 50)]
    decision = lab.delta("solo", *rows, now=T0 + 12)
    assert said(decision) == []
    [event] = decision.of_managers
    assert (event.kind, event.node, event.timestamp, dict(event.details)) == ("manager_restarted", "solo", T0 + 10, {"agents_reset": 49})


def test_rows_of_one_restart_that_are_read_later_tell_no_other() -> None:
    lab = cluster()
    reset(lab, T0 + 10, T0 + 9, 1)
    reset(lab, T0 + 12, T0 + 11, 2, 3)
    assert told_of_managers(lab) == [("w1", "manager_restarted")]
    reset(lab, T0 + 30, T0 + 29, 1)
    assert told_of_managers(lab) == [("w1", "manager_restarted")] * 2


def test_two_restarts_that_one_snapshot_shows_are_two_events() -> None:
    lab = cluster()
    one, two = (row(n, "disconnected", T0, code=5, dt=T0 + 10 * n, node="w1", added=0) for n in (1, 2))
    lab.delta("w1", one, two, now=T0 + 25)
    assert [(e.kind, e.timestamp, e.details["agents_reset"]) for e in lab.of_managers] == [
        ("manager_restarted", T0 + 10, 1),
        ("manager_restarted", T0 + 20, 1),
    ]


def test_a_restart_that_was_there_before_the_baseline_is_known_and_not_told() -> None:
    lab = Lab()
    lab.node("solo")
    lab.full("solo", [row(1, "disconnected", T0 - 50, code=5, dt=T0 - 40), row(2, "active", T0)], T0)
    assert lab.fleet.managers["solo"].reset_at == T0 - 40
    lab.delta("solo", row(1, "disconnected", T0 - 50, code=5, dt=T0 - 40, ip="10.9.9.9"), now=T0 + 5)
    assert lab.of_managers == []


def test_other_disconnections_are_no_restart() -> None:
    lab = cluster()
    lab.delta("w1", row(1, "disconnected", T0, code=3, dt=T0 + 9, node="w1", added=0), now=T0 + 10)
    assert lab.of_managers == []


# Out of reach and back ------------------------------------------------------------------------------------------------


def test_a_manager_that_is_not_heard_is_told_once_and_once_more_when_it_is_back() -> None:
    lab = cluster()
    beats(lab, T0 + 10, T0 + 200, "m", "w2")
    assert told_of_managers(lab) == [("w1", "manager_unreachable")]
    beats(lab, T0 + 205, T0 + 300)
    assert told_of_managers(lab) == [("w1", "manager_unreachable"), ("w1", "manager_back")]
    gone, back = lab.of_managers
    assert (gone.timestamp, back.timestamp) == (T0 + 5, T0 + 205)
    assert gone.details == {"source_state": "ok", "reason": "nothing is heard of its collector"}


def test_a_collector_whose_source_is_dead_says_why_its_manager_is_out_of_reach() -> None:
    lab = cluster()
    for now in range(T0 + 10, T0 + 100, 5):
        lab.beat("m", now, {}), lab.beat("w2", now, {})
        lab.beat("w1", now, source_state="missing", source_error="no such socket")
    assert told_of_managers(lab) == [("w1", "manager_unreachable")]
    assert details(lab) == [{"source_state": "missing", "reason": "no such socket"}]


def test_a_manager_that_was_out_of_reach_when_the_baseline_ended_is_told() -> None:
    lab = Lab()
    lab.node("m", "master")
    lab.node("w1", "worker")
    lab.full("w1", [row(1, "active", T0, node="w1", added=0)], T0)
    for now in range(T0 + 5, T0 + 60, 5):
        lab.tick(now)
    decision = lab.full("m", [row(1, "active", T0, node="w1")], T0 + 60)
    assert decision.settled
    assert told_of_managers(lab) == [("w1", "manager_unreachable")]


# Clocks ---------------------------------------------------------------------------------------------------------------


def test_a_clock_is_off_by_more_than_the_jitter_allowed_and_told_once() -> None:
    lab = Lab()
    lab.node("solo", skew=30)
    lab.full("solo", [row(1, "active", T0)], T0)
    beats(lab, T0 + 5, T0 + 60)
    assert lab.of_managers == []
    lab.speakers["solo"].skew = 31
    beats(lab, T0 + 65, T0 + 200)
    assert told_of_managers(lab) == [("solo", "clock_off")]
    assert details(lab) == [{"behind_seconds": -31.0}]


def test_a_late_delivery_is_no_wrong_clock() -> None:
    lab = cluster()
    lab.hear(lab.speakers["w1"].snapshot("beat", T0 + 10, quiet=()), T0 + 60)
    assert lab.of_managers == []


def test_a_clock_that_was_put_right_and_is_off_again_is_told_again() -> None:
    lab = Lab()
    lab.node("solo", skew=-100)
    lab.full("solo", [row(1, "active", T0)], T0)
    assert details(lab) == [{"behind_seconds": 100.0}]
    lab.speakers["solo"].skew = 0
    beats(lab, T0 + 5, T0 + 20)
    assert not lab.fleet.managers["solo"].clock_off
    lab.speakers["solo"].skew = 100
    beats(lab, T0 + 25, T0 + 100)
    assert told_of_managers(lab) == [("solo", "clock_off")] * 2


# A second collector ---------------------------------------------------------------------------------------------------


def older(lab: Lab, now: int) -> Decision:
    """The collector of a lower boot says something."""
    speaker = lab.speakers["w1"]
    snapshot = wire_of(lab, now)
    speaker.seq -= 1
    lab.position += 1
    return lab.step(Heard(lab.position, now * 1000, now * 1000, snapshot))


def wire_of(lab: Lab, now: int) -> wire.Snapshot:
    return lab.speakers["w1"].snapshot("beat", now, quiet=(), boot=0)


def test_a_second_collector_is_told_once_while_it_goes_on_and_again_when_it_comes_back() -> None:
    lab = cluster()
    for now in range(T0 + 10, T0 + 1000, 60):
        older(lab, now)
    assert told_of_managers(lab) == [("w1", "duplicate_collector"), *unreachable(lab)]
    older(lab, T0 + 970 + 600)
    assert [told for told in told_of_managers(lab) if told[1] == "duplicate_collector"] == [("w1", "duplicate_collector")] * 2
    assert lab.of_managers[0].details == {"boot": 0, "newest_boot": 1}


def unreachable(lab: Lab) -> list[tuple[str, str]]:
    return [told for told in told_of_managers(lab) if told[1] == "manager_unreachable"]


def test_a_repeat_is_no_second_collector() -> None:
    lab = cluster()
    lab.speakers["w1"].seq -= 1
    assert lab.beat("w1", T0 + 10).refused == "repeat"
    assert lab.of_managers == []


# The messages ---------------------------------------------------------------------------------------------------------


def test_events_of_managers_have_a_subject_and_ids_of_their_own_and_come_before_those_of_agents() -> None:
    lab = cluster()
    rows = [row(1, "disconnected", T0, code=5, dt=T0 + 9, node="w1", added=0), row(3, "active", T0 + 9, node="w1", added=0)]
    decision = lab.delta("w1", *rows, now=T0 + 10)
    assert [message.subject for message in decision.messages] == ["wazuh.security.manager_events"]
    body = json.loads(decision.messages[0].body)
    assert (body["event_type"], body["manager_node"], body["details"]) == ("manager_restarted", "w1", {"agents_reset": 1})
    assert body["event_id"] == decision.messages[0].message_id == decision.of_managers[0].event_id
    assert lab.fleet.managers["w1"].last_event_id == body["event_id"]
