"""Laws of what is sealed: anybody with the key can tell that it is whole and whose it is."""

import hashlib
import hmac
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay import events, seal
from relay.events import Event, Message, Summary
from relay.seal import Verdict
from shared import ed25519, sealing

KEY = sealing.Key(b"k" * 32)
PAIR = ed25519.PrivateKey.from_raw(b"p" * 32)
SIGNER = sealing.MessageSigner(KEY)
EVENT = Event(
    kind="disconnected",
    reason="stopped",
    agent_id=1,
    agent_name="wéb\n01 \U0001f600",
    previous="Active",
    current="Disconnected",
    ip=None,
    last_keepalive=1748428245,
    manager_node="manager",
    timestamp=1748428500,
    event_id="evt_001_1748428500_disconnected_0123456789abcdef",
    late=False,
)
STATUS, KIND = events.messages("wazuh", "lab", EVENT)
OTHER = EVENT._replace(agent_id=2, event_id="evt_002_1748428500_disconnected_0123456789abcdef")
(BATCH,) = events.batches("wazuh", "lab", "manager", 7, 1748428500000, [EVENT, OTHER], Summary(2, 0, 2, 2))


def test_an_events_body_is_its_ten_keys_signed_over_its_canonical_form() -> None:
    subject, body, headers = seal.seal(STATUS, 41, 7, SIGNER)
    fields = json.loads(body)
    assert fields.pop("signature") == hmac.new(KEY.secret, STATUS.body, hashlib.sha256).hexdigest()
    assert fields == {name: value for name, value in events.body(EVENT).items() if name != "signature"}
    assert (subject, headers["Wazuh-Outbox-Sequence"], headers["Wazuh-Raw-Position"]) == ("wazuh.agent.001.status", "41", "7")
    assert headers["Nats-Msg-Id"] == f"{EVENT.event_id}:status"
    assert (seal.outbox_sequence(headers), seal.raw_position(headers)) == (41, 7)


@given(st.text(), st.one_of(st.none(), st.text()))
@example('x,"signature":null,', '},{"agent_id":')
@example(',"events":[{', '}],"manager_node":')
@example("x,", "\\,")
def test_an_event_in_a_batch_has_the_signature_of_its_single_message(name: str, ip: str | None) -> None:
    event = EVENT._replace(agent_name=name, ip=ip)
    (batch,) = events.batches("wazuh", "lab", "manager", 7, 0, [event, OTHER], Summary(2, 0, 2, 2))
    single = json.loads(seal.seal(events.messages("wazuh", "lab", event)[0], 1, 7, SIGNER)[1])
    sealed = json.loads(seal.seal(batch, 3, 7, SIGNER)[1])
    assert sealed["events"][0] == single
    assert set(sealed) == {"batch_id", "manager_node", "timestamp", "events", "summary"}
    unsigned = [{**one, "signature": None} for one in sealed["events"]]
    assert events.packed({**sealed, "events": unsigned}) == batch.body


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 2), st.booleans(), st.sampled_from([KEY, PAIR])), max_size=8))
def test_what_a_sealer_remembers_changes_nothing(given: list[tuple[int, int, bool, sealing.SigningKey]]) -> None:
    """Messages of one event and of others, in any order, from other places and chains, under keys that are changed meanwhile."""
    signer, messages = (
        sealing.MessageSigner(KEY),
        [STATUS, KIND, *events.messages("wazuh", "lab", OTHER), BATCH, STATUS._replace(headers={})],
    )
    sealer = seal.Sealer(signer)
    for sequence, (which, position, chained, key) in enumerate(given):
        signer.renew(sealing.MessageSigner(key))
        link = {"Wazuh-Chain": f"c{position}", "Wazuh-Chain-Previous": str(sequence)} if chained else {}
        sealed = sealer.seal(messages[which], sequence, position, link)
        assert (sealed.subject, sealed.body, sealed.all_headers) == seal.seal(messages[which], sequence, position, signer, link)
        assert seal.verify(sealed.subject, sealed.body, sealed.all_headers, signer).ok
        assert sealed.headers.keys().isdisjoint(sealed.shared)


def test_the_messages_of_one_event_share_what_they_can_and_a_batch_is_not_signed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    signed: list[bytes] = []

    def sign(message: bytes) -> str:
        signed.append(message)
        return KEY.sign(message)

    monkeypatch.setattr(SIGNER, "sign_message", sign)
    sealer = seal.Sealer(SIGNER)
    one, two, *_ = [sealer.seal(message, 1, 2) for message in (STATUS, KIND, *events.messages("wazuh", "lab", OTHER), BATCH)]
    assert one.shared is two.shared
    assert one.body is two.body
    assert len(signed) == 2
    monkeypatch.setattr(seal, "REMEMBERED", 2)
    sealer.seal(events.messages("wazuh", "lab", EVENT._replace(agent_id=3))[0], 6, 2)
    sealer.seal(STATUS, 7, 2)
    assert len(signed) == 4


def test_a_baselines_batch_holds_no_event() -> None:
    (batch,) = events.batches("wazuh", "lab", "manager", 7, 0, [], Summary(2, 0, 2, 0))
    sealed = seal.seal(batch, 3, 7, SIGNER)
    assert json.loads(sealed[1])["events"] == []
    assert seal.verify(*sealed, SIGNER) == Verdict(True)


@pytest.mark.parametrize("message", [STATUS, KIND, BATCH])
def test_what_was_sealed_is_verified(message: Message) -> None:
    assert seal.verify(*seal.seal(message, 1, 2, SIGNER), SIGNER) == Verdict(True)
    assert seal.verify(*seal.seal_apart(message, SIGNER), SIGNER) == Verdict(True)


def test_a_proxy_may_change_the_case_of_header_names() -> None:
    subject, body, headers = seal.seal(STATUS, 1, 2, SIGNER)
    assert seal.verify(subject, body, {name.lower(): value for name, value in headers.items()}, SIGNER).ok


@given(st.sampled_from([STATUS, BATCH]), st.data())
def test_no_byte_subject_or_header_can_be_changed(message: Message, data: st.DataObject) -> None:
    subject, body, headers = seal.seal(message, 1, 2, SIGNER)
    place = data.draw(st.integers(0, len(body) - 1))
    changed = body[:place] + bytes([body[place] ^ data.draw(st.integers(1, 255))]) + body[place + 1 :]
    assert not seal.verify(subject, changed, headers, SIGNER).ok
    assert not seal.verify(subject + "x", body, headers, SIGNER).ok
    name = data.draw(st.sampled_from(sorted(events.covered(headers))))
    real = next(key for key in headers if key.lower() == name)
    assert not seal.verify(subject, body, {**headers, real: headers[real] + "x"}, SIGNER).ok


def test_unsigned_and_foreign_messages_are_told_apart() -> None:
    subject, body, headers = seal.seal(STATUS, 1, 2, SIGNER)
    assert seal.verify(subject, body, {}, SIGNER) == Verdict(False, "unsigned")
    other = sealing.MessageSigner(sealing.Key(b"o" * 32))
    assert "another key" in seal.verify(subject, body, headers, other).why


NEVER_SIGNED = (
    b"",
    b"\xff",
    b"[" * 5000,
    b"[1]",
    b"1",
    b'{"a":1}',
    b'{"signature":1}',
    b'{"signature":"x"}',
    b'{"signature":"x","n":1e999}',
    b'{"signature":"x","n":123456789012345678901234567890}',
    b'{"events":[1]}',
    b'{"events":[{"signature":"x"}]}',
    b'{"events":{}}',
)


@pytest.mark.parametrize("body", NEVER_SIGNED)
def test_a_body_that_was_never_signed_is_refused_whatever_its_header_says(body: bytes) -> None:
    value = SIGNER.sign_header("s", body, {})
    verdict = seal.verify("s", body, {sealing.SIGNATURE_HEADER: value}, SIGNER)
    assert not verdict.ok
    assert "body" in verdict.why


@pytest.mark.parametrize("value", ["", "-1", "1.5", "x", "²", "٣", "1" * 20])
def test_a_number_that_no_relay_wrote_is_none(value: str) -> None:
    assert seal.outbox_sequence({"Wazuh-Outbox-Sequence": value}) is None
    assert seal.raw_position({}) is None
