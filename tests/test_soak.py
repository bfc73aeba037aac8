"""Laws of `make soak`'s checker: it finds what is lost, doubled, reordered, false or unverified, and excuses what no source could show."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import chain, encryption, events, seal
from relay.chain import Chain, Head
from shared import sealing, wire
from shared.models import AgentRow
from tests.relay.lab import T0, Speaker, row
from tests.soak import checker, raw
from tests.soak.managers import Stood
from tests.soak.raw import Message, Offsets
from tests.soak.shown import Terms
from tests.truth.judge import Verdict, judge
from tests.world.config import Fact
from tests.world.model import World, WorldConfig, cluster

pytestmark = pytest.mark.unmeasured

SECRET = bytes(range(32))
SIGNER = sealing.MessageSigner(sealing.Key(SECRET))
BASE = float(T0)
DEADLINE_S = 20.0


# A stream as the relay writes it ------------------------------------------------------------------------------------


def body(agent: int, previous: str, current: str, at: float, identity: str) -> dict[str, Any]:
    return {
        "agent_id": f"{agent:03d}",
        "agent_name": f"agent-{agent}",
        "previous_status": previous,
        "current_status": current,
        "ip_address": "10.0.0.1",
        "last_keepalive": events.utc(int(at)),
        "manager_node": "node01",
        "timestamp": events.utc(int(at)),
        "event_id": identity,
        "signature": None,
    }


def told(*changes: tuple[int, str, str, float], crypt: encryption.EncryptionHandler | None = None) -> list[Message]:
    """EVENTS with these changes (agent, previous, current, moment), each with all its messages, as a relay seals them."""
    found, growing = list[Message](), Chain(Head("", 0, ""))
    for place, (agent, previous, current, at) in enumerate(changes, start=1):
        fields = body(agent, previous, current, at, f"evt_{place}")
        kind = "connected" if current == "Active" else "disconnected"
        headers = {events.H_KIND: kind, events.H_REASON: "stopped", "ce-id": f"evt_{place}"}
        packed = events.canonical(fields)
        batch = {"batch_id": f"b{place}", "manager_node": "node01", "timestamp": events.utc(int(at)), "events": [fields], "summary": {}}
        several = [
            events.Message(f"wazuh.agent.{agent:03d}.{token}", f"evt_{place}:{token}", packed, headers) for token in ("status", kind)
        ]
        told_as = {events.H_KIND: events.BATCH, "ce-id": f"b{place}"}
        several.append(events.Message("wazuh.security.agent_events", f"b{place}", events.canonical(batch), told_as))
        for linked in growing.extend(several, place):
            subject, data, sealed = seal.seal(linked.message, linked.sequence, place, SIGNER, chain.headers(linked.link), crypt)
            found.append(Message(len(found) + 1, at, subject, sealed, data))
    return found


FLAP = [(1, "Active", "Disconnected", BASE + 20), (1, "Disconnected", "Active", BASE + 40), (2, "Active", "Disconnected", BASE + 50)]


def moved(after: list[Message]) -> list[Message]:
    """A stream that goes on with an event that changes no status: on a subject of its own, and in a batch."""
    fields = body(1, "Active", "Active", BASE + 60, "evt_moved")
    batch = {"batch_id": "moved", "manager_node": "node01", "timestamp": events.utc(T0), "events": [fields], "summary": {}}
    own = events.Message("wazuh.agent.001.moved", "evt_moved:moved", events.canonical(fields), {events.H_KIND: "moved"})
    both = own, events.Message("wazuh.security.agent_events", "moved", events.canonical(batch), {events.H_KIND: events.BATCH})
    last = after[-1]
    head = chain.head_of(last.subject, json.loads(last.body), last.headers, len(after))
    assert head is not None
    linked = Chain(head).extend(both, 9)
    sealed = [seal.seal(one.message, one.sequence, 9, SIGNER, chain.headers(one.link)) for one in linked]
    return [*after, *(Message(len(after) + place, BASE + 60, s, headers, data) for place, (s, data, headers) in enumerate(sealed, start=1))]


def read(messages: list[Message]) -> checker.Laws:
    return checker.read(messages, [SECRET], {})


def broken(laws: checker.Laws) -> dict[str, int]:
    return {name: len(getattr(laws, name)) for name in ("lost", "duplicates", "reordered", "unverified") if getattr(laws, name)}


def again(messages: list[Message], place: int, **headers: str) -> Message:
    """A message of a stream once more, at its end, sealed anew with other headers."""
    old = messages[place]
    kept = {name: value for name, value in old.headers.items() if name != sealing.SIGNATURE_HEADER} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    signature = SIGNER.sign_header(old.subject, old.body, events.covered(kept))
    return replace(old, sequence=len(messages) + 1, headers={**kept, sealing.SIGNATURE_HEADER: signature})


def test_what_a_relay_seals_breaks_no_law() -> None:
    laws = read(told(*FLAP))
    assert broken(laws) == {}
    assert [(said.agent_id, said.previous, said.current, said.at) for said in laws.said] == FLAP


def test_what_is_encrypted_is_read_with_the_key_and_is_unverified_without_it() -> None:
    messages = told(*FLAP, crypt=encryption.EncryptionHandler(encryption.Secret(SECRET), (), secrets.token_bytes))
    laws = checker.read(messages, [SECRET], {}, [bytes(32), SECRET])
    assert (broken(laws), len(laws.said)) == ({}, len(FLAP))
    assert broken(checker.read(messages, [SECRET], {}, [bytes(32)]))["unverified"] == len(messages)


def test_an_event_that_changes_no_status_is_told_on_its_own_subject_alone() -> None:
    laws = read(moved(told(*FLAP)))
    assert (broken(laws), laws.events, len(laws.said)) == ({}, 4, 3)
    assert broken(read(moved(told(FLAP[0])))) == {"reordered": 1}  # it says Active of one that was told to be Disconnected


@pytest.mark.parametrize("place", range(6))
def test_a_message_that_is_missing_is_lost(place: int) -> None:
    messages = told(*FLAP)
    assert "lost" in broken(read(messages[:place] + messages[place + 1 :]))


def test_a_change_without_its_other_subject_or_its_batch_is_lost_even_at_the_end() -> None:
    messages = told(*FLAP)
    assert broken(read(messages[:-1])) == {"lost": 1}
    assert broken(read(messages[:-2])) == {"lost": 2}


def test_a_message_stored_twice_is_a_duplicate() -> None:
    messages = told(*FLAP)
    found = broken(read([*messages, replace(messages[-1], sequence=10)]))
    assert found.pop("reordered") == 1  # its outbox sequence comes again too
    assert found["duplicates"] >= 1


def test_an_event_told_again_under_another_number_is_a_duplicate() -> None:
    messages = told(*FLAP)
    twice = again(messages, 6, Wazuh_Outbox_Sequence="10", Nats_Msg_Id="evt_3:status:again")
    assert broken(read([*messages, twice])) == {"duplicates": 1, "unverified": 1}  # and it is tied to another message than stands before it


def test_an_outbox_sequence_that_goes_back_is_reordered() -> None:
    messages = told(*FLAP)
    late = again(messages, 8, Wazuh_Outbox_Sequence="2", Nats_Msg_Id="other")
    assert broken(read([*messages[:8], late])) == {"reordered": 1}


def test_a_previous_status_that_was_not_told_is_reordered() -> None:
    assert broken(read(told(FLAP[0], (1, "Active", "Disconnected", BASE + 60)))) == {"reordered": 1}


def other_header(message: Message) -> Message:
    return replace(message, headers={**message.headers, events.H_POSITION: "77"})


def other_body(message: Message) -> Message:
    return replace(message, body=message.body.replace(b"10.0.0.1", b"10.0.0.2"))


def other_subject(message: Message) -> Message:
    return replace(message, subject=message.subject.replace("wazuh", "other", 1))


def unsigned_body(message: Message) -> Message:
    """The header's signature is right, and the body's is of another body."""
    data = message.body.replace(b"10.0.0.1", b"10.0.0.2")
    signature = SIGNER.sign_header(message.subject, data, events.covered(message.headers))
    return replace(message, body=data, headers={**message.headers, sealing.SIGNATURE_HEADER: signature})


def no_signature(message: Message) -> Message:
    return replace(message, headers={name: value for name, value in message.headers.items() if name != sealing.SIGNATURE_HEADER})


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("forge", [other_header, other_body, other_subject, unsigned_body, no_signature])
def test_whatever_was_changed_is_unverified(forge: Any, place: int) -> None:
    messages = told(FLAP[0])
    messages[place] = forge(messages[place])
    assert len(read(messages).unverified) == 1


def test_what_is_signed_and_not_tied_to_what_stands_before_it_is_unverified() -> None:
    messages = told(*FLAP)
    for wrong in ({"Wazuh-Chain-Previous": "0" * 64}, {"Wazuh-Chain": "other"}, {"Wazuh-Chain": ""}):
        place = len(messages) - 1
        last = replace(messages[place], headers={**messages[place].headers, **wrong})
        signature = SIGNER.sign_header(last.subject, last.body, events.covered(last.headers))
        last = replace(last, headers={**last.headers, sealing.SIGNATURE_HEADER: signature})
        assert broken(read([*messages[:place], last])) == {"unverified": 1}


# What had to be told ------------------------------------------------------------------------------------------------

HISTORY = (
    Fact(BASE - 200, 0, "", "sweeps", "node01", 6.0),
    *(Fact(BASE - 100, agent, f"agent-{agent}", what, "node01") for agent in (1, 2) for what in ("registered", "started", "connected")),
    Fact(BASE + 20, 1, "agent-1", "stopped", "node01"),
    Fact(BASE + 38, 1, "agent-1", "started", "node01"),
    Fact(BASE + 40, 1, "agent-1", "connected", "node01"),
)
STOOD = {
    ("node01", 1): (
        Stood("active", BASE - 100, BASE + 20),
        Stood("disconnected", BASE + 20, BASE + 38),
        Stood("pending", BASE + 38, BASE + 40),
        Stood("active", BASE + 40),
    )
}


def weighed(
    changes: list[tuple[int, str, str, float]],
    log: raw.Log | None = None,
    history: Sequence[Fact] = HISTORY,
    **more: Mapping[str, list[raw.Span]],
) -> Verdict:
    evidence = checker.Evidence(history, log or raw.Log(), STOOD, more.get("blind", {}), more.get("unsure", {}), BASE)
    world = World(WorldConfig(nodes=cluster(1), start=BASE), seed=1)
    terms = Terms(BASE + 120, 5.0, 20.0, world, "node01", 5.0, 4.0, more.get("deaf", {}), more.get("silent", {}))
    return judge(checker.wanted(evidence, terms), read(told(*changes)).said, {1: "Active", 2: "Active"})


def test_all_told_is_clean() -> None:
    verdict = weighed(FLAP[:2])
    assert (verdict.missed, verdict.false, verdict.must) == ([], [], 2)


def test_what_stood_in_clear_sight_and_never_reached_raw_is_lost() -> None:
    verdict = weighed([])
    assert [missed.expected.kind for missed in verdict.missed] == ["disconnected"]  # the return says what was told last: Active


def test_what_stood_behind_a_fault_is_unshown() -> None:
    verdict = weighed([], blind={"node01": [(BASE + 19, BASE + 39)]})
    assert (verdict.missed, verdict.count("never_shown")) == ([], 1)


def shown(node: str, *versions: tuple[float, AgentRow, float]) -> raw.Log:
    return raw.Log({(node, 1): [raw.Version(*version) for version in versions]})


STOP = row(1, "disconnected", T0 + 18, code=3, dt=T0 + 20, node="node01")


def test_what_reached_raw_is_lost_whatever_fault_there_was() -> None:
    verdict = weighed([], shown("node01", (BASE + 21, STOP, BASE + 22)), blind={"node01": [(BASE, BASE + 100)]})
    assert [missed.expected.kind for missed in verdict.missed] == ["disconnected"]


def test_what_reached_raw_when_something_newer_was_known_is_superseded() -> None:
    log = shown("node01", (BASE + 21, STOP, BASE + 60))
    log.rows["worker1", 1] = [raw.Version(BASE + 41, row(1, "active", T0 + 40, node="worker1"), BASE + 42)]
    verdict = weighed([], log, blind={"node01": [(BASE, BASE + 100)]})
    assert (verdict.missed, verdict.count("superseded")) == ([], 1)


def test_a_return_that_reached_raw_when_a_copy_had_told_of_the_silence_after_it_is_superseded() -> None:
    log = shown("node01", (BASE + 21, STOP, BASE + 22), (BASE + 41, row(1, "active", T0 + 40, node="node01"), BASE + 80))
    assert [missed.expected.kind for missed in weighed(FLAP[:1], log).missed] == ["connected"]
    swept = row(1, "disconnected", T0 + 40, code=4, dt=T0 + 50, node="node01")
    log.rows["worker1", 1] = [raw.Version(BASE + 51, swept, BASE + 52)]
    verdict = weighed(FLAP[:1], log)
    assert (verdict.missed, verdict.count("superseded")) == ([], 1)


def test_a_fault_excuses_nothing_beside_it() -> None:
    assert weighed([], blind={"node01": [(BASE + 19, BASE + 30)]}).missed
    assert weighed([], blind={"worker1": [(BASE + 19, BASE + 39)]}).missed


def test_while_a_clock_is_off_it_may_be_told() -> None:
    assert not weighed([], unsure={"node01": [(BASE + 10, BASE + 60)]}).missed
    assert not weighed(FLAP[:2], unsure={"node01": [(BASE + 10, BASE + 60)]}).false
    assert weighed([], unsure={"node01": [(BASE + 70, BASE + 80)]}).missed


def test_of_an_agent_whose_manager_cannot_be_heard_the_others_may_speak() -> None:
    """It need not be told, and it is not false; of another agent, or of another manager's, it is."""
    outage = [(2, "Active", "Disconnected", BASE + 60), (2, "Disconnected", "Active", BASE + 70)]
    assert not weighed(FLAP[:2] + outage, deaf={"node01": [(BASE + 55, BASE + 65)]}).false
    assert not weighed(FLAP[:2], deaf={"node01": [(BASE + 55, BASE + 65)]}).missed
    assert len(weighed(FLAP[:2] + outage, deaf={"worker1": [(BASE + 55, BASE + 65)]}).false) == 2


@pytest.mark.parametrize(
    ("quiets", "silent", "missed"),
    [
        ([], [], 0),  # nobody has told that it is not there
        ([(12, 12.1)], [], 0),  # somebody has, before that meant anything
        ([(15, 15.1)], [], 1),
        ([(15, 39.0)], [], 0),
        ([], [(5, 30)], 1),  # who cannot be heard holds up nothing
        ([], [(21, 50)], 1),
        ([], [(39, 50)], 0),
    ],
)
def test_who_is_back_before_the_manager_it_had_left_has_told_that_it_is_not_there_may_have_been_away(
    quiets: list[tuple[float, float]], silent: list[raw.Span], missed: int
) -> None:
    log = shown("node01", (BASE + 21, STOP, BASE + 22))
    log.rows["worker1", 1] = [raw.Version(BASE - 10, row(1, "active", T0 - 10, node="worker1"), BASE - 10)]
    log.quiets["worker1"] = [(BASE + look, BASE + sent) for look, sent in quiets]
    history = sorted((*HISTORY, Fact(BASE + 10, 1, "agent-1", "moved", "node01", BASE + 9)), key=lambda fact: fact.at)
    spans = {"worker1": [(BASE + begin, BASE + end) for begin, end in silent]}
    assert len(weighed([], log, history, silent=spans).missed) == missed


def test_what_never_happened_is_false() -> None:
    verdict = weighed(FLAP)
    assert [said.agent_id for said in verdict.false] == [2]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)).map(lambda span: (float(min(span)), float(max(span))))))
def test_a_clear_piece_touches_no_blind_span(blind: list[raw.Span]) -> None:
    pieces = checker.clear((10.0, 40.0), blind)
    moments = [moment + 0.5 for moment in range(10, 40)]
    seen = {moment for moment in moments if not any(begin < moment < end for begin, end in blind)}
    assert {moment for moment in moments if any(begin <= moment <= end for begin, end in pieces)} == seen


# What the collectors told -------------------------------------------------------------------------------------------


def parts(*snapshots: tuple[wire.Snapshot, float]) -> list[Message]:
    found: list[Message] = []
    for snapshot, at in snapshots:
        for part in wire.split(wire.encode(snapshot), snapshot.node, snapshot.boot, snapshot.seq, snapshot.taken_at, 100):
            found.append(Message(len(found) + 1, at, f"wazuh.raw.{snapshot.node}", {}, part))
    return found


def test_raw_becomes_each_row_s_versions_and_when_the_stream_had_them() -> None:
    speaker = Speaker("node01", "master")
    first = speaker.snapshot("full", T0, rows=(row(1, "active", T0), row(2, "active", T0)))
    second = speaker.snapshot("delta", T0 + 2, rows=(row(1, "disconnected", T0, code=3, dt=T0 + 1),), gone=(2,))
    heard = raw.snapshots(parts((first, BASE + 0.5), (second, BASE + 9)), Offsets())
    log = raw.log(heard)
    versions = [(v.look, v.row.status if v.row else None, v.sent) for v in log.rows["node01", 1]]
    assert versions == [(BASE, "active", BASE + 0.5), (BASE + 2, "disconnected", BASE + 9)]
    assert [v.row is None for v in log.rows["node01", 2]] == [False, True]


def test_a_node_is_deaf_from_stale_to_heard_again() -> None:
    speaker = Speaker("node01", "master")
    said = [(speaker.snapshot("beat", T0 + at), BASE + at) for at in (0, 4, 30)]
    spans = raw.deaf(raw.snapshots(parts(*said), Offsets()), 6.0, BASE + 60, {"worker1": [(BASE, BASE + 1)]})
    assert [begin - BASE for begin, _ in spans["node01"]] == [10.0, 36.0]
    assert spans["node01"][-1][1] == BASE + 60
    assert spans["worker1"] == [(BASE, BASE + 1 + raw.SEEN_AGAIN)]


def test_what_drains_from_a_spool_makes_no_node_fresh() -> None:
    speaker = Speaker("node01", "master")
    said = [speaker.snapshot("beat", T0 + at) for at in range(10)]
    heard = raw.snapshots(parts((said[0], BASE), *((one, BASE + 40) for one in said[1:])), Offsets())
    assert raw.deaf(heard, 6.0, BASE + 60, {}) == {"node01": [(BASE + 6, BASE + 60)]}


def test_a_full_that_says_so_tells_what_was_given_up() -> None:
    speaker = Speaker("worker1", "worker")
    said = [(speaker.snapshot("beat", T0), BASE), (speaker.snapshot("full", T0 + 9, gap=True), BASE + 9)]
    assert raw.gaps(raw.snapshots(parts(*said), Offsets())) == {"worker1": [(BASE, BASE + 9)]}


def test_a_clock_that_was_set_back_shows_each_look_where_it_was() -> None:
    offsets = Offsets()
    offsets.put("node01", 100.0, -20.0)
    offsets.put("node01", 130.0, 0.0)
    assert offsets.true("node01", 95.0, after=90.0) == 95.0
    assert offsets.true("node01", 95.0, after=99.0) == 115.0
    assert offsets.true("node01", 131.0, after=129.0) == 131.0
