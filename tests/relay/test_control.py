"""Laws of requests: what an operator asks has a place in RAW, is the relay's own word, and counts once."""

from dataclasses import replace

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import control
from relay.admit import Admitted, Gate, Raw, again
from relay.assemble import Assembler
from relay.control import Drop, Forget, Request, Retry
from relay.fleet import Forgotten, Heard
from shared import sealing, wire
from shared.errors import Quarantine
from tests.relay.lab import Lab, Speaker, row
from tests.relay.test_admit import KEYS, NOW, OWN, bodies, snapshot
from tests.relay.test_admit import raw as from_node

SUBJECT = "wazuh.raw._control"
SIGNER = sealing.MessageSigner(OWN)

TEXTS = st.text()  # whatever a hostile name holds, lone surrogates too
PLACES = st.integers(0, 2**63 - 1)
REQUESTS = st.one_of(
    st.builds(Forget, TEXTS, st.booleans()),
    st.builds(Retry, PLACES, PLACES, TEXTS, st.dictionaries(TEXTS, TEXTS), st.binary()),
    st.builds(Drop, PLACES, TEXTS),
)


def message(request: Request, sent_at: int = NOW * 1000, identity: str = "control:1", signer: sealing.MessageSigner = SIGNER) -> Raw:
    body = control.encode(request, sent_at)
    headers = {control.MESSAGE_ID: identity, sealing.SIGNATURE_HEADER: control.signature(signer, SUBJECT, body, identity)}
    return Raw(SUBJECT, headers, body, 7, NOW * 1000)


def opened(raw: Raw) -> Request:
    return control.opened(raw.subject, raw.headers, raw.body, raw.now, SIGNER)


def admitted(raw: Raw) -> Admitted:
    keys = {name: {key.kid: key} for name, key in KEYS.items()}
    return Gate("wazuh", keys, SIGNER, Assembler()).admit(raw, "lab")


def reason(raw: Raw) -> str:
    with pytest.raises(Quarantine, match="refused") as caught:
        opened(raw)
    return caught.value.reason


@given(REQUESTS)
def test_a_request_is_read_as_it_was_written(request_: Request) -> None:
    assert opened(message(request_)) == request_


def test_a_request_is_the_relays_own() -> None:
    raw = message(Forget("node01", True))
    assert reason(replace(raw, headers={})) == "unsigned"
    assert reason(message(Forget("node01", True), signer=sealing.MessageSigner(KEYS["node01"]))) == "bad_signature"
    assert reason(replace(raw, body=control.encode(Forget("node02", True), NOW * 1000))) == "bad_signature"


def test_a_request_cannot_be_said_once_more() -> None:
    """Under its own id the stream knows it; under another the signature is not of it; later it is too old."""
    raw = message(Forget("node01", True))
    assert reason(replace(raw, headers=dict(raw.headers) | {control.MESSAGE_ID: "control:2"})) == "bad_signature"
    assert reason(replace(raw, headers={sealing.SIGNATURE_HEADER: raw.headers[sealing.SIGNATURE_HEADER]})) == "bad_signature"
    for ahead in (-control.MAX_AGE, control.MAX_AGE):
        assert opened(replace(raw, now=raw.now + ahead)) == Forget("node01", True)
    for ahead in (-control.MAX_AGE - 1, control.MAX_AGE + 1):
        assert reason(replace(raw, now=raw.now + ahead)) == "stale"


def odd(body: bytes) -> Raw:
    """Any bytes under the relay's signature."""
    return Raw(SUBJECT, {sealing.SIGNATURE_HEADER: control.signature(SIGNER, SUBJECT, body, "")}, body, 7, NOW * 1000)


FINE = {"v": 1, "sent_at": NOW * 1000}
RETRY = {"ask": "retry", "position": 1, "first_at": 1, "subject": "s", "headers": {}, "body": b""}


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ([], "malformed"),
        ({}, "newer_schema"),
        (FINE | {"v": 2}, "newer_schema"),
        ({"v": 1}, "malformed"),
        (FINE, "malformed"),
        (FINE | {"sent_at": -1}, "malformed"),
        (FINE | {"ask": "else"}, "malformed"),
        (FINE | {"ask": "forget", "node": 5}, "malformed"),
        (FINE | {"ask": "drop", "position": True, "subject": "s"}, "malformed"),
        (FINE | RETRY | {"body": "text"}, "malformed"),
        (FINE | RETRY | {"headers": []}, "malformed"),
        (FINE | RETRY | {"headers": {"a": 1}}, "malformed"),
    ],
)
def test_what_is_no_request_is_refused(fields: object, why: str) -> None:
    assert reason(odd(msgpack.packb(fields))) == why


@given(st.binary())
def test_no_bytes_break_the_reading(body: bytes) -> None:
    assert reason(odd(body)) in ("malformed", "newer_schema", "stale")


def test_what_is_asked_can_be_told() -> None:
    assert control.words(Forget("node01", False)) == "forget node 'node01'"
    assert control.words(Retry(5, 0, "", {}, b"")) == "take in message 5 again"
    assert control.words(Drop(5, "")) == "drop message 5"


# At the gate --------------------------------------------------------------------------------------------------------


def test_to_forget_is_an_input_and_the_others_are_not() -> None:
    assert admitted(message(Forget("node01", True))) == Admitted(Forgotten(7, NOW * 1000, "node01"), request=Forget("node01", True))
    assert admitted(message(Drop(5, "s"))) == Admitted(None, request=Drop(5, "s"))


def test_a_message_is_taken_in_again_with_the_delay_that_it_had() -> None:
    """It stands at the request's place; the node's clock offset is measured as it was then."""
    said = snapshot()
    first = replace(from_node(bodies(said)[0], position=3), now=(NOW - 500) * 1000)
    request = Retry(3, first.now, first.subject, first.headers, first.body)
    taken = admitted(again(request, message(request)))
    assert taken.given == Heard(7, NOW * 1000, said.taken_at + 500_000, said)
    assert wire.decode(taken.payload) == said


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (from_node(bodies(snapshot(), part_bytes=100)[0]), "incomplete"),
        (from_node(bodies(snapshot())[0], key=KEYS["node02"]), "bad_signature"),
        (from_node(wire.encode_tick(wire.Tick("relay", NOW)), "wazuh.raw._tick", OWN), "unknown_node"),
        (message(Forget("node01", True)), "unknown_node"),
    ],
)
def test_what_is_taken_in_again_must_be_one_whole_message_of_a_node(first: Raw, why: str) -> None:
    with pytest.raises(Quarantine, match="refused") as caught:
        admitted(again(Retry(3, NOW, first.subject, first.headers, first.body), message(Drop(1, ""))))
    assert caught.value.reason == why


def test_what_is_taken_in_again_does_not_interrupt_what_is_coming() -> None:
    keys = {name: {key.kid: key} for name, key in KEYS.items()}
    gate = Gate("wazuh", keys, SIGNER, Assembler())
    parts = [from_node(body, position=number) for number, body in enumerate(bodies(snapshot(), part_bytes=400), start=1)]
    old = from_node(bodies(snapshot(seq=9))[0])
    assert gate.admit(parts[0], "lab").given is None
    assert gate.admit(again(Retry(3, NOW, old.subject, old.headers, old.body), message(Drop(1, ""))), "lab").given is not None
    assert [gate.admit(part, "lab").given is None for part in parts[1:]] == [True] * (len(parts) - 2) + [False]


# Whether it may be done ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fresh", "force", "why"), [(True, False, "still_heard"), (True, True, None), (False, False, None)])
def test_a_node_that_is_heard_is_forgotten_only_by_force(fresh: bool, force: bool, why: str | None) -> None:
    lab = Lab()
    lab.node("node01")
    lab.full("node01", [row(1, "active", NOW)], NOW)
    lab.fleet.nodes["node01"] = replace(lab.fleet.nodes["node01"], fresh=fresh)
    if why is None:
        control.check(Forget("node01", force), lab.fleet.nodes)
    else:
        with pytest.raises(Quarantine, match="use --force") as caught:
            control.check(Forget("node01", force), lab.fleet.nodes)
        assert caught.value.reason == why


def test_a_node_that_is_not_known_cannot_be_forgotten() -> None:
    with pytest.raises(Quarantine, match="no such node is known"):
        control.check(Forget("node09", True), {})
    control.check(Drop(1, "s"), {})


# Forgetting ---------------------------------------------------------------------------------------------------------


def forgetting(lab: Lab, node: str, now: int) -> None:
    lab.position += 1
    lab.step(Forgotten(lab.position, now * 1000, node))


def two_nodes() -> Lab:
    """Agent 1 is the worker's, agent 2 the master's; the master has a mirror of agent 1."""
    lab = Lab()
    lab.node("master", "master")
    lab.node("worker", "worker")
    rows = [row(1, "active", NOW - 5, node="worker"), row(2, "active", NOW, node="master")]
    lab.full("master", rows, NOW)
    lab.full("worker", [row(1, "active", NOW, node="worker", added=0)], NOW)
    return lab


def test_what_a_forgotten_node_said_leaves_the_fleet_without_an_event() -> None:
    lab = two_nodes()
    before = len(lab.events)
    forgetting(lab, "worker", NOW + 1)
    assert (list(lab.fleet.nodes), list(lab.fleet.tables), list(lab.fleet.managers)) == (["master"], ["master"], ["master"])
    assert (lab.events[before:], sorted(lab.fleet.agents)) == ([], [1, 2])


def test_the_others_speak_for_the_agents_of_a_forgotten_node() -> None:
    lab = two_nodes()
    forgetting(lab, "worker", NOW + 1)
    lab.delta("master", row(1, "disconnected", NOW, code=3, dt=NOW + 60, node="worker"), now=NOW + 61)
    lab.beats(NOW + 62)
    assert [(event.agent_id, event.kind) for event in lab.events] == [(1, "disconnected")]


def test_a_forgotten_node_that_speaks_again_is_a_new_one() -> None:
    """Also with a lower boot than it had: nothing is remembered of it."""
    lab = two_nodes()
    forgetting(lab, "worker", NOW + 1)
    lab.speakers["worker"] = Speaker("worker", "worker", boot=0)
    decision = lab.full("worker", [row(1, "active", NOW + 10, node="worker", added=0)], NOW + 10)
    assert (decision.refused, sorted(lab.fleet.nodes), lab.status(1)) == (None, ["master", "worker"], "Active")


def test_the_only_master_is_kept_as_long_as_there_are_workers() -> None:
    lab = two_nodes()
    with pytest.raises(Quarantine, match="it is the only master"):
        control.check(Forget("master", True), lab.fleet.nodes)
    forgetting(lab, "worker", NOW + 1)
    control.check(Forget("master", True), lab.fleet.nodes)


def test_the_last_node_that_is_forgotten_removes_nobody() -> None:
    lab = two_nodes()
    for node in ("worker", "master", "nobody"):
        forgetting(lab, node, NOW + 1)
    lab.tick(NOW + 100)
    assert (lab.fleet.nodes, lab.events, sorted(lab.fleet.agents)) == ({}, [], [1, 2])
