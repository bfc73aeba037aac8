"""JetStream's replies become values or typed errors, whatever bytes they hold."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import jsapi
from shared.errors import Quarantine, Transient, Unreachable, WazuhJetstreamError
from shared.jsapi import Delivered, PubAck


def error(code: int, description: str = "reason") -> bytes:
    return json.dumps({"error": {"code": 400, "err_code": code, "description": description}}).encode()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (10059, jsapi.NotStored),
        (10014, jsapi.NotStored),
        (10077, jsapi.StreamFull),
        (10023, jsapi.StreamFull),
        (10071, jsapi.WrongLastSequence),
        (10164, jsapi.WrongLastSequence),
        (10201, jsapi.DuplicateInBatch),
        (10054, jsapi.TooLarge),
        (10174, jsapi.Refused),
        (1, jsapi.Refused),
    ],
)
def test_each_code_is_its_kind_of_error(code: int, kind: type[WazuhJetstreamError]) -> None:
    with pytest.raises(WazuhJetstreamError) as refused:
        jsapi.puback(error(code), None, "a message")
    assert type(refused.value) is kind
    assert isinstance(refused.value, Quarantine if kind is jsapi.TooLarge else Transient)
    assert "reason" in str(refused.value)
    assert getattr(refused.value, "code", code) == code


@pytest.mark.parametrize(("text", "last"), [("wrong last sequence: 12", 12), ("wrong last sequence", 0), ("wrong: x", 0)])
def test_a_wrong_last_sequence_tells_the_right_one(text: str, last: int) -> None:
    with pytest.raises(jsapi.WrongLastSequence) as refused:
        jsapi.puback(error(10071, text), None, "a message")
    assert refused.value.last == last


def test_nobody_there_is_not_stored() -> None:
    with pytest.raises(jsapi.NotStored, match="provisioned"):
        jsapi.puback(b"", {"Status": "503"}, "a message")


def test_acks() -> None:
    assert jsapi.puback(b'{"stream":"S","seq":3}', None, "m") == PubAck("S", 3, duplicate=False)
    assert jsapi.puback(b'{"stream":"S","seq":3,"duplicate":true}', {}, "m") == PubAck("S", 3, duplicate=True)


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"[]", b"+OK", b"{}", b'{"stream":1,"seq":1}', b'{"stream":"S","seq":"1"}', b'{"stream":"S","seq":true}']
)
def test_what_is_no_ack_is_unreachable(data: bytes) -> None:
    with pytest.raises(Unreachable):
        jsapi.puback(data, None, "a message")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "err_code", "description", "stream", "seq", "message"]), inner)
    ),
    max_leaves=8,
)


@given(json_values | st.binary().map(repr))
def test_any_reply_is_a_value_or_one_printable_sentence(value: Any) -> None:
    data = json.dumps(value).encode()
    for read in (jsapi.puback, jsapi.reply):
        try:
            read(data, None, "a message")
            sentence = ""
        except WazuhJetstreamError as refused:
            sentence = str(refused)
        assert sentence.isprintable()


def message(**changed: object) -> dict[str, object]:
    headers = base64.b64encode(b"NATS/1.0\r\nA: b:c\r\nB:\r\n\r\n").decode()
    return {"message": {"subject": "s.x", "seq": 4, "hdrs": headers, "data": "aGk=", "time": "2026-11-23T05:42:25.23743631Z"} | changed}


def test_a_stored_message_is_read_with_its_headers_and_time() -> None:
    stored = jsapi.stored(message(), "m")
    assert (stored.subject, stored.seq, stored.data, stored.headers) == ("s.x", 4, b"hi", {"A": "b:c", "B": ""})
    assert stored.time_ms == 1795412545237
    assert jsapi.stored({"message": {"subject": "s", "seq": 1, "time": "2026-11-23T05:42:25Z"}}, "m").data == b""


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"message": None},
        {"message": {}},
        message(seq="x"),
        message(seq=None),
        message(seq=float("inf")),
        message(time="now"),
        message(time=1),
        message(data="?"),
        message(hdrs="a"),
    ],
)
def test_what_is_no_stored_message_is_unreachable(fields: dict[str, object]) -> None:
    with pytest.raises(Unreachable):
        jsapi.stored(fields, "m")


V1 = "$JS.ACK.S.c.1.22.3.1795412545237436310.5"
V2 = "$JS.ACK._.hash.S.c.1.22.3.1795412545237436310.5"


@pytest.mark.parametrize("reply", [V1, V2, V2 + ".token"])
def test_both_forms_of_the_ack_subject_tell_the_same(reply: str) -> None:
    assert jsapi.delivered("s.x", reply, None, b"hi") == Delivered("s.x", {}, b"hi", 22, 3, 1795412545237, 5, reply)


@pytest.mark.parametrize(
    "reply", ["", "_INBOX.x", "$JS.ACK.S.c", V1.replace(".22.", ".x."), V1.replace("$JS", "JS"), V1 + ".more", V1.replace("22", "-2")]
)
def test_another_reply_subject_is_no_delivery(reply: str) -> None:
    assert jsapi.delivered("s.x", reply, {"A": "b"}, b"") is None


@given(st.text())
def test_any_reply_subject_is_read(reply: str) -> None:
    jsapi.delivered("s.x", reply, None, b"")
