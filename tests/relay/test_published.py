"""Laws of reading what was told, and of taking it over."""

import json
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import events, published, seal
from relay.decided import Agent, Ghost, Hold, Manager, Move
from relay.events import Event, ManagerEvent, ManagerKind
from relay.published import Told, ends_its_input, event_of, manager_event_of
from shared import sealing
from tests.relay.test_seal import BATCH, EVENT

SIGNER = sealing.MessageSigner(sealing.Key(b"r" * 32))
MOMENTS = st.integers(0, 253402300799)
EVENTS = st.builds(
    Event,
    kind=st.sampled_from(get_args(events.Kind)),
    reason=st.sampled_from(get_args(events.Reason)),
    agent_id=st.integers(1, 2**40),
    agent_name=st.text(),
    previous=st.sampled_from(get_args(events.Status)),
    current=st.sampled_from(get_args(events.Status)),
    ip=st.none() | st.text(),
    last_keepalive=st.none() | MOMENTS,
    manager_node=st.text(),
    timestamp=MOMENTS,
    event_id=st.text(),
    late=st.booleans(),
    left=st.none(),  # it decides nothing
)


def one(kind: Any, number: int = 1, name: str = "web", current: Any = "Active", at: int = 100, node: str = "node01", **more: Any) -> Event:
    reason = {"connected": "returned", "disconnected": "stopped", "pending": "startup", "overdue": "keepalive_overdue"}.get(kind, kind)
    reason = {"overdue_cleared": "kept_alive"}.get(kind, reason)
    return EVENT._replace(
        kind=kind, reason=reason, agent_id=number, agent_name=name, current=current, timestamp=at, manager_node=node,
        event_id=f"evt_{number}_{at}_{kind}", **more,
    )  # fmt: skip


def heard(*given: Event) -> Told:
    told = Told()
    for event in given:
        told.hear(event)
    return told


def taken(*given: Event, known: Agent | None = None) -> Agent:
    (agent,) = published.agents({} if known is None else {known.id: known}, heard(*given))
    return agent


FOUND = Agent(
    id=1, name="web", date_add=77, status="Active", reason="first_contact", since=5, ip="10.0.0.1", last_keepalive=9, manager_node="node01",
    witness="node01", contact=9, last_event_id="evt_of_its_own", hold=Hold("reset", 1, 2), moving=Move("node02", 1, 2),
)  # fmt: skip


# Messages -----------------------------------------------------------------------------------------------------------


@given(EVENTS)
def test_an_event_is_read_back_from_each_of_its_messages(event: Event) -> None:
    for message in events.messages("wazuh", "lab", event):
        _, body, headers = seal.seal(message, 1, 2, SIGNER)
        assert event_of(headers, body) == event


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"1", b"\xff", b"{}", b'{"agent_id":"x"}', b'{"agent_id":"1","agent_name":"a"}', b"[" * 100_000]
)
def test_what_is_no_event_tells_nothing(body: bytes) -> None:
    assert event_of({events.H_REASON: "stopped", events.H_KIND: "disconnected"}, body) is None
    assert manager_event_of(body) is None
    assert not ends_its_input({events.H_KIND: "batch"}, body)


@pytest.mark.parametrize("headers", [{}, {events.H_REASON: "weather"}, {events.H_KIND: "eclipse"}])
def test_an_event_of_another_version_tells_nothing(headers: dict[str, str]) -> None:
    _, body, sealed = seal.seal(events.messages("wazuh", "lab", EVENT)[0], 1, 2, SIGNER)
    assert event_of({**sealed, **headers} if headers else {}, body) is None


@given(st.sampled_from(get_args(ManagerKind)), st.text(), MOMENTS, st.dictionaries(st.text(), st.text() | st.integers(-1000, 1000)))
def test_a_managers_event_is_read_back(kind: ManagerKind, node: str, at: int, details: dict[str, Any]) -> None:
    event = ManagerEvent(kind, node, at, "evt", details)
    _, body, _ = seal.seal(events.manager_message("wazuh", "lab", event), 1, 2, SIGNER)
    assert manager_event_of(body) == event
    assert manager_event_of(body.replace(kind.encode(), b"eclipse")) is None


@pytest.mark.parametrize("changes", [0, 1, events.BATCH_EVENTS, events.BATCH_EVENTS + 1, 2 * events.BATCH_EVENTS])
def test_the_last_batch_of_an_input_says_so_and_nothing_else_does(changes: int) -> None:
    summary = events.Summary(1, 1, 0, changes)
    made = events.batches("wazuh", "lab", "node01", 7, 5, [EVENT] * changes, summary)
    ends = [ends_its_input(message.headers, message.body) for message in made]
    assert ends == [False] * (len(made) - 1) + [True]
    assert not ends_its_input(events.messages("wazuh", "lab", EVENT)[0].headers, BATCH.body)


# What stands --------------------------------------------------------------------------------------------------------


def test_a_change_stands_over_what_deciding_again_found() -> None:
    stopped = one("disconnected", current="Disconnected", node="node02")
    expected = FOUND._replace(
        status="Disconnected", reason="stopped", since=100, manager_node="node02", last_event_id=stopped.event_id, overdue=None,
        went_at=100,
    )  # fmt: skip
    assert taken(stopped, known=FOUND._replace(overdue=3)) == expected


def test_what_changes_no_status_gives_the_newest_event_and_leaves_the_rest() -> None:
    back, refused = one("connected", at=90), one("version_refused", at=100, node="node09")
    assert taken(back, refused, known=FOUND) == FOUND._replace(
        reason="returned", since=90, last_event_id=refused.event_id, refused=True, refused_by="node09", refused_at=100_000,
    )  # fmt: skip
    assert taken(refused, known=FOUND) == FOUND._replace(
        last_event_id=refused.event_id,
        refused=True,
        refused_by="node09",
        refused_at=100_000,
    )


def test_a_keepalive_is_overdue_until_the_agent_keeps_alive_or_changes() -> None:
    overdue = one("overdue", at=90)
    assert taken(overdue, known=FOUND).overdue == 90
    assert taken(overdue, one("overdue_cleared", at=120)).overdue is None
    assert taken(one("overdue_cleared", at=80), overdue).overdue == 90
    assert taken(overdue, one("disconnected", current="Disconnected"), known=FOUND._replace(overdue=90)).overdue is None


def test_a_refusal_stands_until_a_change() -> None:
    refused = one("version_refused")
    assert taken(refused).refused
    assert not taken(refused, one("connected")).refused


def test_the_manager_is_that_of_the_newest_change_or_move_whoever_told_of_a_silence() -> None:
    assert taken(one("connected", node="a"), one("moved", node="b"), one("overdue", node="c"), known=FOUND).manager_node == "b"
    assert taken(one("moved", node="b"), one("connected", node="a")).manager_node == "a"


def test_an_agent_that_only_events_tell_of_is_left_open_where_they_say_nothing() -> None:
    agent = taken(one("overdue", at=90, ip="10.0.0.9", last_keepalive=90))
    assert (agent.date_add, agent.witness, agent.contact, agent.hold, agent.ip, agent.last_keepalive) == (
        0,
        None,
        None,
        None,
        "10.0.0.9",
        90,
    )
    assert (agent.status, agent.reason, agent.since) == ("Active", "returned", 90)


def test_a_status_that_no_event_explains_any_more_is_taken_from_the_newest() -> None:
    gone = taken(one("version_refused", current="Disconnected", at=90), known=FOUND)
    assert (gone.status, gone.reason, gone.since, gone.date_add) == ("Disconnected", "unexplained", 90, 77)


def test_another_agent_under_the_same_id_is_not_mixed_up() -> None:
    new = one("registered", name="db", current="NeverConnected")
    assert taken(new, known=FOUND) == taken(new)
    assert taken(one("overdue"), new).overdue is None
    assert taken(new, one("moved", name="web")).last_event_id == "evt_1_100_moved"
    assert taken(new, one("moved", name="web")).name == "web"


def test_a_removed_agent_is_left_to_deciding_again() -> None:
    assert published.agents({1: FOUND}, heard(one("connected"), one("removed", current="Unknown"))) == []


# Ghosts -------------------------------------------------------------------------------------------------------------


GHOST = Ghost(1, "web", 77, 5, 6, "evt_of_its_own", told=False)
HAUNTED = one("removed_but_connected", current="Unknown", at=200)


def ghosts(*given: Event, known: Ghost | None = None, registered: Agent | None = None) -> list[Ghost]:
    agents = {} if registered is None else {registered.id: registered}
    return published.ghosts({} if known is None else {known.id: known}, heard(*given), agents, 1000, 60)


def test_a_ghost_goes_on_from_what_was_told_of_it() -> None:
    removed = one("removed", current="Unknown")
    assert ghosts(removed, known=GHOST) == [replace(GHOST, last_event_id=removed.event_id)]
    assert ghosts(removed, known=replace(GHOST, told=True)) == [replace(GHOST, last_event_id=removed.event_id)]
    assert ghosts(removed, HAUNTED, known=GHOST) == [replace(GHOST, last_event_id=HAUNTED.event_id, told=True)]


def test_a_ghost_that_nobody_saw_rise_does_not_take_up_an_older_removal() -> None:
    walker = replace(GHOST, date_add=0, last_event_id="")
    assert ghosts(one("removed", current="Unknown"), known=walker) == [walker]


def test_a_ghost_that_was_told_and_not_found_is_looked_for_and_not_told_again() -> None:
    expected = [Ghost(1, "web", 0, 1000, 1060, HAUNTED.event_id, told=True)]
    assert ghosts(HAUNTED) == expected
    assert ghosts(HAUNTED, known=replace(GHOST, name="other")) == expected
    assert ghosts(HAUNTED, registered=FOUND._replace(name="other")) == expected
    assert ghosts(HAUNTED, registered=FOUND) == []
    assert ghosts(one("removed", current="Unknown")) == []


def test_an_agent_registered_again_is_no_ghost() -> None:
    assert heard(HAUNTED, one("registered", current="NeverConnected")).ghosts == {}
    assert heard(HAUNTED, one("registered", name="other", current="NeverConnected")).ghosts == {1: HAUNTED}


# Managers -----------------------------------------------------------------------------------------------------------


def manager(*kinds: ManagerKind, known: Manager | None = None) -> Manager:
    told = Told()
    for at, kind in enumerate(kinds, start=100):
        told.hear_manager(ManagerEvent(kind, "node01", at, f"evt_{at}", {}))
    (found,) = published.managers({} if known is None else {"node01": known}, told, 500)
    return found


def test_a_manager_goes_on_from_what_was_told_of_it() -> None:
    known = Manager("node01", reset_at=7, unreachable=True, clock_off=True, twin_at=8, last_event_id="evt_of_its_own")
    assert manager("manager_restarted", known=known) == replace(known, reset_at=100, last_event_id="evt_100")
    assert manager("manager_unreachable", "manager_back", known=known) == replace(known, unreachable=False, last_event_id="evt_101")
    assert manager("manager_back", "manager_unreachable", "manager_restarted", known=known).unreachable
    assert manager("duplicate_collector", known=known) == replace(known, twin_at=100_000, last_event_id="evt_100")
    assert manager("clock_off", known=known) == replace(known, last_event_id="evt_100")
    assert not manager("clock_off", known=replace(known, clock_off=False)).clock_off


def test_a_manager_that_deciding_again_did_not_meet_restarted_before_events_ended() -> None:
    assert manager("manager_unreachable") == Manager("node01", reset_at=500, unreachable=True, last_event_id="evt_100")
    assert manager("clock_off").clock_off


# Parts --------------------------------------------------------------------------------------------------------------


def test_parts_of_what_was_told() -> None:
    told = heard(one("connected"), one("connected", 2), HAUNTED._replace(agent_id=3))
    for node in ("a", "b"):
        told.hear_manager(ManagerEvent("clock_off", node, 1, f"evt_{node}", {}))
    some = told.only({1, 3}, {"a"})
    assert (set(some.agents), set(some.ghosts), set(some.managers)) == ({1}, {3}, {"a"})
    rest = told.but({1, 3})
    assert (set(rest.agents), set(rest.ghosts), set(rest.managers)) == ({2}, set(), {"a", "b"})
    left = told.without(frozenset((told.agents[2][0].event_id, told.ghosts[3].event_id, "evt_a")))
    assert (set(left.agents), set(left.ghosts), set(left.managers)) == ({1}, set(), {"b"})


def test_a_body_says_each_time_to_the_second() -> None:
    """So a last keepalive that made a silence is known again exactly."""
    event = one("overdue", at=1748428500)
    assert json.loads(events.messages("wazuh", "lab", event)[0].body)["timestamp"] == "2025-05-28T10:35:00Z"
    assert taken(event).overdue == 1748428500
