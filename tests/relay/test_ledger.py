"""What is recorded is recorded once and whole; what is to be published has one number each."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from relay import outbox, stored
from relay.database import Prepared
from relay.decided import Agent, Decision, Hold
from relay.events import Message
from relay.fleet import Ticked
from relay.ledger import Ledger, Pruned
from shared.errors import Stop
from tests.relay import lab, ledgers
from tests.relay.lab import T0

DAY = 86_400_000
pytestmark = pytest.mark.usefixtures("read_back")


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    opened = ledgers.opened(url)
    yield opened
    opened.close()


def nothing(position: int) -> Decision:
    return Decision(position, T0 * 1000, (), (), (), (), 0, None, settled=True)


def numbers(ledger: Ledger) -> list[int]:
    return [out.sequence for out in ledger.outbox(1000)]


def agent(number: int, **changes: Any) -> Agent:
    made = Agent(number, f"agent-{number}", T0, "Active", "returned", T0, None, T0, "m", "m", T0, f"evt_{number}", None)
    return made._replace(**changes)


# Positions ----------------------------------------------------------------------------------------------------------


def test_a_new_ledger_stands_before_everything(ledger: Ledger) -> None:
    assert ledger.position() == 0
    assert (ledger.last_sequence(), ledger.sent_through(), ledger.outbox_depth(), ledger.outbox(10)) == (0, 0, 0, [])
    assert (list(ledger.agents()), ledger.history(None, 10), ledger.shelf.kept(10)) == ([], [], [])


def test_a_decision_is_there_after_the_ledger_is_opened_again(url: str) -> None:
    desk = ledgers.settled(ledgers.opened(url))
    decision = ledgers.stop(desk, 1, T0 + 5)
    desk.ledger.close()
    again = ledgers.opened(url)
    assert again.position() == 2
    assert [out.message for out in again.outbox(100)][-3:] == list(decision.messages)
    assert list(again.agents()) == [desk.fleet.agents[1], desk.fleet.agents[2]]
    again.close()


def test_a_position_is_taken_once(ledger: Ledger) -> None:
    desk = ledgers.settled(ledger)
    before = dict(desk.fleet.agents)
    decision = ledgers.stop(desk, 1, T0 + 5)
    recorded = (ledger.outbox(100), ledger.history(None, 100), ledger.last_sequence())
    for _ in range(2):
        ledger.record(replace(decision, agents=tuple(before.values())), desk.fleet, None)
        ledger.skip(1)
        ledger.quarantine(2, 0, "s", "malformed", "refused", {}, b"")
    assert (ledger.outbox(100), ledger.history(None, 100), ledger.last_sequence()) == recorded
    assert {one.id: one for one in ledger.agents()} == desk.fleet.agents
    assert (ledger.position(), ledger.shelf.kept(10)) == (2, [])


def test_what_is_skipped_is_behind_us(ledger: Ledger) -> None:
    ledger.skip(7)
    assert ledger.position() == 7


def test_a_quarantined_message_is_kept_with_its_reason_and_behind_us(ledger: Ledger) -> None:
    headers, payload = {"Name\0": "\ud800"}, bytes(range(256))
    ledger.quarantine(3, 1234, "wazuh.raw.\0\\x", "malformed", "refused: '\ud800'", headers, payload)
    ledger.quarantine(4, 1235, "wazuh.raw.a", "unsigned", "refused", {}, b"")
    assert ledger.position() == 4
    newest, oldest = ledger.shelf.kept(10)
    assert (newest.position, ledger.shelf.kept(1)) == (4, [newest])
    assert oldest == stored.Quarantined(oldest.number, 3, 1234, "wazuh.raw.\0\\x", "malformed", "refused: '\ud800'", headers, payload)


def test_a_refused_snapshot_moves_the_position_and_no_table(ledger: Ledger) -> None:
    desk = ledgers.settled(ledger)
    speaker = desk.speakers["m"]
    speaker.seq -= 1
    decision = desk.full("m", [], T0 + 1)
    assert decision.refused == "repeat"
    assert ledger.position() == 2
    assert ledger.restore("lab", ledgers.POLICY) == desk.fleet


def test_a_tick_that_changes_nothing_moves_the_position(ledger: Ledger) -> None:
    desk = ledgers.settled(ledger)
    desk.step(Ticked(2, T0 * 1000))
    assert ledger.position() == 2
    assert ledger.restore("lab", ledgers.POLICY) == desk.fleet


# The outbox ---------------------------------------------------------------------------------------------------------


def test_messages_are_numbered_without_a_gap_and_never_twice_though_rows_are_deleted(ledger: Ledger) -> None:
    desk = ledgers.settled(ledger)  # one summary
    ledgers.stop(desk, 1, T0 + 5)  # three messages
    assert (numbers(ledger), ledger.outbox_depth()) == ([1, 2, 3, 4], 4)
    ledger.mark_sent(3)
    assert (numbers(ledger), ledger.sent_through(), ledger.outbox_depth()) == ([4], 3, 1)
    ledger.mark_sent(4)
    assert (numbers(ledger), ledger.last_sequence(), ledger.outbox_depth()) == ([], 4, 0)
    ledgers.stop(desk, 2, T0 + 6)
    assert numbers(ledger) == [5, 6, 7]
    assert [out.position for out in ledger.outbox(2)] == [3, 3]
    assert [out.sequence for out in ledger.outbox(2, 5)] == [6, 7]
    assert [out.sequence for out in ledger.outbox(10, 7)] == []
    status, kind, batch = ledger.outbox(10)
    assert status.message.headers is kind.message.headers
    assert status.message.headers != batch.message.headers


@pytest.mark.parametrize("most", [1, 2, 5, 1000])
def test_what_was_put_in_last_is_given_as_it_would_be_read(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(outbox, "FRESH", most)
    ledger._fresh = outbox.Fresh()
    desk = ledgers.settled(ledger, 4)
    for number, marked in ((1, 0), (2, 3), (3, 3), (4, 11)):
        ledgers.stop(desk, number, T0 + 4 + number)
        ledger.mark_sent(marked)
        kept = [ledger.outbox(limit, after) for limit in (1, 3, 100) for after in range(marked, 15)]
        ledger._fresh.forget()
        assert kept == [ledger.outbox(limit, after) for limit in (1, 3, 100) for after in range(marked, 15)]
        assert numbers(ledger) == list(range(marked + 1, 3 * number + 2))


def test_after_an_error_nothing_is_given_from_memory(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows then what was committed."""
    monkeypatch.setattr(outbox, "FRESH", 1000)
    ledger._fresh = outbox.Fresh()
    desk = ledgers.settled(ledger)
    ledgers.stop(desk, 1, T0 + 5)
    assert len(ledger._fresh.after(0, 10)) == 4
    with mock.patch.object(ledger, "_upsert_nodes", Prepared("INSERT INTO nowhere VALUES (1)")), pytest.raises(Stop):
        ledgers.stop(desk, 2, T0 + 6)
    assert ledger._fresh.after(0, 10) == []
    assert numbers(ledger) == [1, 2, 3, 4]
    ledgers.stop(desk, 2, T0 + 7)
    assert ledger._fresh.after(3, 10) == []
    assert numbers(ledger) == [1, 2, 3, 4, 5, 6, 7]
    ledger.restore("lab", ledgers.POLICY)
    assert ledger._fresh.after(4, 10) == []


def test_marking_less_than_was_marked_changes_nothing(ledger: Ledger) -> None:
    ledgers.stop(ledgers.settled(ledger), 1, T0 + 5)
    ledger.mark_sent(3)
    ledger.mark_sent(1)
    assert (ledger.sent_through(), numbers(ledger)) == (3, [4])


def test_messages_come_out_as_they_were_decided(ledger: Ledger) -> None:
    desk = ledgers.settled(ledger)
    decision = ledgers.stop(desk, 1, T0 + 5)
    odd = Message("wazuh.agent.001.status", "id", b"\0\xff", {"ce-id": "\0\ud800\\"})
    ledger.record(replace(nothing(3), messages=(odd,)), desk.fleet, None)
    assert [out.message for out in ledger.outbox(100)][1:] == [*decision.messages, odd]


def test_what_events_holds_already_is_not_stored_when_lost_decisions_are_made_again(ledger: Ledger) -> None:
    """A power failure took the last transactions; their first messages had been published as 1 to 3."""
    ledger.mark_sent(3)
    desk = ledgers.settled(ledger)
    decision = ledgers.stop(desk, 1, T0 + 5)
    assert numbers(ledger) == [4]
    assert [out.message for out in ledger.outbox(10)] == list(decision.messages[-1:])
    assert (ledger.last_sequence(), ledger.sent_through()) == (4, 3)


def test_more_published_than_is_decided_again_so_far_is_no_depth(ledger: Ledger) -> None:
    ledger.mark_sent(9)
    ledgers.settled(ledger)
    assert (ledger.last_sequence(), ledger.outbox_depth(), numbers(ledger)) == (1, 0, [])


def test_a_rebuilt_ledger_goes_on_with_the_number_after_the_last_one_published(ledger: Ledger) -> None:
    ledger.start_sequence_at(40)
    desk = ledgers.Desk(ledger)
    desk.node("m")
    desk.muted = True
    desk.full("m", [lab.row(1, "active", T0 - 1)], T0)
    muted = ledgers.stop(desk, 1, T0 + 5)
    assert (ledger.last_sequence(), numbers(ledger), len(muted.messages)) == (40, [], 3)
    desk.muted = False
    desk.delta("m", lab.row(1, "active", T0 + 8), now=T0 + 9)
    assert (numbers(ledger), ledger.sent_through()) == ([41, 42, 43], 40)
    ledger.start_sequence_at(20)
    assert numbers(ledger) == [41, 42, 43]
    assert [past.muted for past in ledger.history(None, 10)] == [False, True]


def test_a_new_ledger_decides_from_what_was_published_last(ledger: Ledger) -> None:
    ledger.adopt_published([agent(1, status="Disconnected", last_event_id="evt_before"), agent(2)])
    ledger.adopt_published([agent(1, status="Disconnected", last_event_id="evt_before")])
    restored = ledger.restore("lab", ledgers.POLICY)
    assert restored.agents == {1: agent(1, status="Disconnected", last_event_id="evt_before"), 2: agent(2)}
    assert restored.counts == {"Disconnected": 1, "Active": 1}
    assert ledger.position() == 0


# For people ---------------------------------------------------------------------------------------------------------


def test_names_come_back_whatever_they_hold(ledger: Ledger) -> None:
    odd = [
        agent(1, name="\0\ud800\\u0000", ip="\0", manager_node="\\", witness="\udfff"),
        agent(2, name="ü\n\\\\", hold=Hold("reset", 1, 2)),
    ]
    ledger.adopt_published(odd)
    assert list(ledger.agents()) == odd


def test_who_was_only_met_again_has_the_newer_contact_and_nothing_else(ledger: Ledger) -> None:
    desk = ledgers.settled(ledger, 3)
    before = list(ledger.agents())
    desk.full("m", [lab.row(1, "active", T0 + 7), lab.row(2, "active", T0 + 8, ip="10.9.9.9"), lab.row(3, "active", T0 - 1)], T0 + 9)
    after = list(ledger.agents())
    assert after == [desk.fleet.agents[number] for number in (1, 2, 3)]
    assert after[0] == before[0]._replace(last_keepalive=T0 + 7, contact=T0 + 7)
    assert (after[1].ip, after[1].contact, after[2]) == ("10.9.9.9", T0 + 8, before[2])


def test_a_hold_longer_than_64_bits_can_say_lasts_as_long_as_they_can(ledger: Ledger) -> None:
    ledger.adopt_published([agent(1, hold=Hold("reset", 1, 3 * 2**63))])
    assert next(ledger.agents()).hold == Hold("reset", 1, 2**63 - 1)


def test_agents_are_listed_by_id_while_the_ledger_is_written(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.recall.PAGE", 2)
    ledger.adopt_published(agent(number) for number in (5, 3, 2**63 - 1, 4))
    listed = []
    for one in ledger.agents():
        listed.append(one.id)
        ledger.skip(ledger.position() + 1)
    assert listed == [3, 4, 5, 2**63 - 1]


def test_history_tells_what_was_decided_the_newest_first(ledger: Ledger) -> None:
    desk = ledgers.settled(ledger)
    (first,), (second,) = ledgers.stop(desk, 1, T0 + 5).happened, ledgers.stop(desk, 2, T0 + 6).happened
    assert [past.event for past in ledger.history(None, 10)] == [second, first]
    assert ledger.history(1, 10) == [stored.Past(2, (T0 + 5) * 1000, False, first)]
    assert [past.event for past in ledger.history(None, 1)] == [second]


def test_a_removed_agent_is_listed_no_more(ledger: Ledger) -> None:
    desk = ledgers.settled(ledger)
    decision = desk.full("m", [lab.row(2, "active", T0 - 1)], T0 + 5)
    assert decision.removed == (1,)
    assert [one.id for one in ledger.agents()] == [2]


def test_a_ledger_can_be_read_while_a_relay_uses_it(ledger: Ledger, url: str) -> None:
    desk = ledgers.settled(ledger)
    reader = Ledger.open(url, read_only=True)
    ledgers.stop(desk, 1, T0 + 5)
    assert {one.id: one for one in reader.agents()} == desk.fleet.agents
    reader.close()


def test_pruning_takes_what_is_older_than_its_retention_and_a_bounded_number_at_once(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.ledger.PRUNED", 2)
    desk = ledgers.settled(ledger, agents=4)
    for number in (1, 2, 3, 4):
        ledgers.stop(desk, number, T0 + number)
    ledger.quarantine(90, T0 * 1000, "s", "unsigned", "refused", {}, b"")
    ledger.quarantine(91, (T0 + 4) * 1000, "s", "unsigned", "refused", {}, b"")
    now = (T0 + 4) * 1000 + DAY  # the fourth event and the second refusal are just as old as they may be
    assert [ledger.prune(now, DAY, DAY) for _ in range(3)] == [Pruned(2, 1), Pruned(1, 0), Pruned(0, 0)]
    assert [past.event.agent_id for past in ledger.history(None, 10)] == [4]
    assert [refused.position for refused in ledger.shelf.kept(10)] == [91]


# Large decisions ----------------------------------------------------------------------------------------------------


def test_a_decision_larger_than_a_chunk_is_recorded_whole(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.database.CHUNK", 7)
    desk = ledgers.settled(ledger, agents=30)
    gone = [lab.row(number, "disconnected", T0, code=3, dt=T0 + 1) for number in range(1, 31)]
    decision = desk.delta("m", *gone, now=T0 + 2)
    assert [out.message for out in ledger.outbox(1000)][1:] == list(decision.messages)
    assert [past.event for past in reversed(ledger.history(None, 100))] == list(decision.happened)
    assert {one.status for one in ledger.agents()} == {"Disconnected"}


def test_the_trace_of_an_input_is_a_header_of_each_of_its_messages_and_changes_nothing_else(ledger: Ledger) -> None:
    desk = ledgers.settled(ledger)
    messages = [Message(f"wazuh.agent.00{n}.status", str(n), b"{}", {"ce-id": str(n)}) for n in (1, 2)]
    ledger.record(replace(nothing(3), messages=tuple(messages)), desk.fleet, None, traceparent="00-a-b-01")
    kept = [out.message for out in ledger.outbox(100)][1:]
    assert [one.headers for one in kept] == [{"ce-id": "1", "traceparent": "00-a-b-01"}, {"ce-id": "2", "traceparent": "00-a-b-01"}]
    assert [one._replace(headers={"ce-id": one.message_id}) for one in kept] == messages
