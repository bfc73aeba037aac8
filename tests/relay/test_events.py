"""Laws of what the relay says."""

import json
import re
from typing import get_args

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from relay import events
from relay.events import Event, ManagerEvent, Message, Summary

EVENT = Event(
    kind="disconnected",
    reason="stopped",
    agent_id=1,
    agent_name="web-01",
    previous="Active",
    current="Disconnected",
    ip="192.168.1.100",
    last_keepalive=1748428245,
    manager_node="wazuh-manager-01",
    timestamp=1748428500,
    event_id="evt_001_1748428500_disconnected_0123456789abcdef",
    late=False,
)
TEN_KEYS = {
    "agent_id", "agent_name", "previous_status", "current_status", "ip_address",
    "last_keepalive", "manager_node", "timestamp", "event_id", "signature",
}  # fmt: skip


def test_a_body_has_the_seeds_ten_keys_and_no_other() -> None:
    assert events.body(EVENT) == {
        "agent_id": "001",
        "agent_name": "web-01",
        "previous_status": "Active",
        "current_status": "Disconnected",
        "ip_address": "192.168.1.100",
        "last_keepalive": "2025-05-28T10:30:45Z",
        "manager_node": "wazuh-manager-01",
        "timestamp": "2025-05-28T10:35:00Z",
        "event_id": EVENT.event_id,
        "signature": None,
    }
    assert set(events.body(EVENT._replace(last_keepalive=None, ip=None))) == TEN_KEYS


@given(st.text(), st.one_of(st.none(), st.text()))
def test_canonical_body_is_what_json_sorts_to(name: str, ip: str | None) -> None:
    """A consumer needs no RFC 8785 library: keys are ASCII and values are texts, so sorted compact JSON is the same."""
    body = events.body(EVENT._replace(agent_name=name, ip=ip))
    del body["signature"]
    assert (
        events.canonical(events.body(EVENT._replace(agent_name=name, ip=ip)))
        == json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    )


TEXTS = st.text(st.characters())  # surrogates too


@given(TEXTS, st.none() | TEXTS, TEXTS, st.none() | st.integers(0, 2**40))
def test_what_a_message_and_a_batch_hold_is_the_rfc_8785_form_of_a_body(name: str, ip: str | None, node: str, seen: int | None) -> None:
    event = EVENT._replace(agent_name=name, ip=ip, manager_node=node, last_keepalive=seen)
    summary = {"total_agents": 4, "active_agents": 3, "disconnected_agents": 1, "changes_detected": 2}
    batch = {
        "batch_id": "batch_7_9000_0", "manager_node": node, "timestamp": "1970-01-01T00:00:09Z",
        "events": [events.body(event), events.body(EVENT)], "summary": summary,
    }  # fmt: skip
    try:
        wanted = events.canonical(events.body(event)), rfc8785.dumps(batch)  # type: ignore[arg-type]
    except ValueError:
        with pytest.raises(ValueError):
            events.messages("w", "lab", event)
        with pytest.raises(ValueError):
            batches(node, event, EVENT)
    else:
        assert {message.body for message in events.messages("w", "lab", event)} == {wanted[0]}
        assert batches(node, event, EVENT)[0].body == wanted[1]


def batches(node: str, *happened: Event) -> list[Message]:
    return events.batches("w", "lab", node, 7, 9000, happened, Summary(4, 3, 1, 2))


@given(
    st.recursive(
        st.none() | TEXTS | st.integers(-(2**53) + 1, 2**53 - 1), lambda inner: st.lists(inner) | st.dictionaries(st.text("az_"), inner)
    )
)
def test_what_the_relay_packs_is_the_rfc_8785_form(value: object) -> None:
    try:
        wanted = rfc8785.dumps(value)  # type: ignore[arg-type]
    except ValueError:
        with pytest.raises(ValueError):
            events.packed(value)
    else:
        assert events.packed(value) == wanted


@given(st.integers(-(2**63), 2**63))
def test_every_time_is_a_utc_text(seconds: int) -> None:
    assert re.fullmatch(r"-?\d+-\d\d-\d\dT\d\d:\d\d:\d\dZ", events.utc(seconds))


IDENTITY = (1, "web-01", 1700000000)


def test_an_event_id_names_agent_time_and_kind() -> None:
    made = events.event_id("wazuh", IDENTITY, "disconnected", ("Active", "Disconnected"), 1748428500, 3, "")
    assert re.fullmatch(r"evt_001_1748428500_disconnected_[0-9a-f]{16}", made)


def test_every_fact_changes_the_id_and_nothing_else_is_in_it() -> None:
    base = ("wazuh", IDENTITY, "disconnected", ("Active", "Disconnected"), 1748428500, 3, "")
    others = [
        ("other", *base[1:]),
        (base[0], (2, "web-01", 1700000000), *base[2:]),
        (base[0], (1, "web-02", 1700000000), *base[2:]),
        (base[0], (1, "web-01", 1700000001), *base[2:]),
        (*base[:2], "connected", *base[3:]),
        (*base[:3], ("Pending", "Disconnected"), *base[4:]),
        (*base[:4], 1748428501, *base[5:]),
        (*base[:5], 4, base[6]),
        (*base[:6], "evt_before"),
        (*base[:5], None, base[6]),
    ]
    ids = {events.event_id(*facts) for facts in (base, *others)}  # type: ignore[arg-type]
    assert len(ids) == len(others) + 1
    assert events.event_id(*base) == events.event_id(*base)  # type: ignore[arg-type]


@given(st.integers(0, 2**64))
def test_no_number_of_a_hostile_row_breaks_an_id(number: int) -> None:
    assert events.event_id("c", (number, "n", number), "connected", ("Unknown", "Active"), number, number, "")


def test_one_event_goes_to_status_and_to_its_kind_under_two_message_ids() -> None:
    one, two = events.messages("wazuh", "wazuh", EVENT)
    assert (one.subject, two.subject) == ("wazuh.agent.001.status", "wazuh.agent.001.disconnected")
    assert one.body == two.body
    assert one.message_id != two.message_id
    assert one.message_id.startswith(EVENT.event_id)


def test_every_kind_has_its_subjects() -> None:
    assert set(events.TOKENS) == set(get_args(events.Kind))


def test_headers_are_cloudevents_and_say_kind_reason_and_cluster() -> None:
    headers = events.messages("wazuh", "zürich soc", EVENT._replace(late=True))[0].headers
    assert headers["ce-specversion"] == "1.0"
    assert headers["ce-id"] == EVENT.event_id
    assert headers["ce-source"] == "/wazuh-jetstream/z%C3%BCrich%20soc/wazuh-manager-01"
    assert headers["ce-time"] == "2025-05-28T10:35:00Z"
    assert (headers["Wazuh-Kind"], headers["Wazuh-Reason"], headers["Wazuh-Late"]) == ("disconnected", "stopped", "true")


@given(st.text())
def test_no_name_breaks_out_of_a_header(name: str) -> None:
    for value in events.messages("wazuh", name, EVENT._replace(manager_node=name))[0].headers.values():
        assert value.isascii()
        assert value.isprintable()
        assert " " not in value


def test_a_batch_is_cut_before_it_is_too_large() -> None:
    many = [EVENT._replace(agent_id=n) for n in range(events.BATCH_EVENTS + 1)]
    one, two = events.batches("wazuh", "wazuh", "node01", 77, 1748428500123, many, Summary(600, 1, 2, len(many)))
    assert one.subject == "wazuh.security.agent_events"
    assert (one.message_id, two.message_id) == ("batch_77_1748428500123_0", "batch_77_1748428500123_1")
    first, second = json.loads(one.body), json.loads(two.body)
    assert set(first) == {"batch_id", "manager_node", "timestamp", "events", "summary"}
    assert [len(b["events"]) for b in (first, second)] == [events.BATCH_EVENTS, 1]
    assert first["timestamp"] == "2025-05-28T10:35:00Z"
    assert len(one.body) < 900_000


def test_signatures_cover_what_means_something_and_not_themselves() -> None:
    headers = {"Wazuh-Kind": "x", "ce-id": "1", "Nats-Msg-Id": "n", "Wazuh-Signature": "s", "traceparent": "t"}
    assert events.covered(headers) == {"wazuh-kind": "x", "ce-id": "1"}


def test_only_a_move_names_the_manager_that_was_left() -> None:
    moved = EVENT._replace(kind="moved", reason="moved", current="Active", left="wazuh manager/00")
    [message] = events.messages("wazuh", "wazuh", moved)
    assert message.subject == "wazuh.agent.001.moved"
    assert message.headers["Wazuh-Left-Manager"] == "wazuh%20manager%2F00"
    assert "Wazuh-Left-Manager" not in events.messages("wazuh", "wazuh", EVENT)[0].headers
    assert set(json.loads(message.body)) == TEN_KEYS - {"signature"}


RESTARTED = ManagerEvent("manager_restarted", "node 01", 1748428500, "evt_node%2001_1748428500_manager_restarted_0", {"agents_reset": 7})


def test_an_event_of_a_manager_says_what_it_is_about_and_names_no_agent() -> None:
    message = events.manager_message("wazuh", "zürich soc", RESTARTED)
    assert (message.subject, message.message_id) == ("wazuh.security.manager_events", RESTARTED.event_id)
    assert json.loads(message.body) == {
        "event_id": RESTARTED.event_id,
        "event_type": "manager_restarted",
        "manager_node": "node 01",
        "timestamp": "2025-05-28T10:35:00Z",
        "details": {"agents_reset": 7},
    }
    headers = message.headers
    assert (headers["ce-subject"], headers["ce-id"]) == ("node%2001", RESTARTED.event_id)
    assert headers["ce-type"] == "wazuh-jetstream.manager.manager_restarted.v1"
    assert (headers["Wazuh-Kind"], headers["Wazuh-Cluster"]) == ("manager_restarted", "z%C3%BCrich%20soc")
    assert "Wazuh-Reason" not in headers


def test_every_fact_changes_a_managers_event_id_and_nothing_else_is_in_it() -> None:
    base = ("wazuh", "node01", "manager_back", 1748428500, "")
    others = [
        ("other", *base[1:]),
        (base[0], "node02", *base[2:]),
        (*base[:2], "manager_unreachable", *base[3:]),
        (*base[:3], 1748428501, base[4]),
        (*base[:4], "evt_before"),
    ]
    ids = {events.manager_event_id(*facts) for facts in (base, *others)}  # type: ignore[arg-type]
    assert len(ids) == len(others) + 1
    assert re.fullmatch(r"evt_node01_1748428500_manager_back_[0-9a-f]{16}", events.manager_event_id(*base))  # type: ignore[arg-type]


@given(st.text(), st.integers(-(2**64), 2**64))
def test_no_name_or_time_of_a_manager_breaks_its_message(node: str, moment: int) -> None:
    identity = events.manager_event_id("c", node, "clock_off", moment, "")
    message = events.manager_message("wazuh", "c", ManagerEvent("clock_off", node, moment, identity, {"behind_seconds": 0.5}))
    assert json.loads(message.body)["manager_node"] == node
    for value in (message.message_id, *message.headers.values()):
        assert value.isascii()
        assert value.isprintable()
        assert " " not in value
