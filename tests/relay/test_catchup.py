"""Laws of reading what was published, and of taking it over."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import catchup, events, seal
from relay.catchup import published, taken_over
from relay.decided import Agent, Hold
from shared import sealing
from tests.relay.test_seal import EVENT

SIGNER = sealing.MessageSigner(sealing.Key(b"r" * 32))


def told(event: events.Event) -> Agent:
    _, body, headers = seal.seal(events.messages("wazuh", "lab", event)[0], 1, 2, SIGNER)
    agent = published(headers, body)
    assert agent is not None
    return agent


@given(st.text(), st.one_of(st.none(), st.text()), st.integers(0, 253402300799), st.one_of(st.none(), st.integers(0, 253402300799)))
def test_an_event_tells_of_its_agent(name: str, ip: str | None, moment: int, keepalive: int | None) -> None:
    event = replace(EVENT, agent_name=name, ip=ip, timestamp=moment, last_keepalive=keepalive)
    agent = told(event)
    assert (agent.id, agent.name, agent.status, agent.reason) == (1, name, "Disconnected", "stopped")
    assert (agent.since, agent.last_keepalive, agent.ip, agent.manager_node) == (moment, keepalive, ip, "manager")
    assert (agent.last_event_id, agent.date_add, agent.witness, agent.contact, agent.hold) == (EVENT.event_id, 0, None, None, None)


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"\xff", b"{}", b'{"agent_id":"x"}', b'{"agent_id":"1","agent_name":"a"}'])
def test_what_is_no_event_tells_nothing(body: bytes) -> None:
    assert published({events.H_REASON: "stopped"}, body) is None


@pytest.mark.parametrize("headers", [{}, {events.H_REASON: "weather"}])
def test_an_event_of_another_version_tells_nothing(headers: dict[str, str]) -> None:
    _, body, _ = seal.seal(events.messages("wazuh", "lab", EVENT)[0], 1, 2, SIGNER)
    assert published(headers, body) is None


def test_what_was_published_stands_over_what_the_replay_found() -> None:
    agent = told(EVENT)
    found = replace(agent, status="Active", date_add=77, witness="node01", contact=5, last_event_id="", hold=Hold("reset", 1, 2))
    assert taken_over({1: found}, {1: agent}) == [
        replace(found, status="Disconnected", reason="stopped", since=agent.since, last_event_id=EVENT.event_id)
    ]


def test_another_agent_under_the_same_id_is_not_mixed_up() -> None:
    agent = told(EVENT)
    assert taken_over({1: replace(agent, name="other", date_add=77)}, {1: agent}) == [agent]
    assert taken_over({}, {1: agent}) == [agent]


def test_an_agent_published_as_removed_is_left_to_the_replay() -> None:
    assert taken_over({}, {1: told(replace(EVENT, kind="removed", current="Unknown"))}) == []


def test_a_raw_that_ends_before_what_was_published_is_all_old() -> None:
    before, at = {1: told(EVENT)}, {2: told(replace(EVENT, agent_id=2))}
    replay = catchup.Replay(50, before, at, frozenset({"id"}))
    assert catchup._within(replay, 50) is replay
    assert catchup._within(replay, 9) == catchup.Replay(10, {**before, **at})
