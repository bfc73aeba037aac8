"""A body that is taken apart without being read gives what reading it gives, or nothing."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import bodies, chain, events, seal
from relay.events import Summary
from tests.relay.streams import SIGNER, event, messages

TEXTS = st.one_of(st.text(max_size=8), st.sampled_from(['","signature":"ab",', '\\","signature":"ab"}', '},{"', '"events":[', "]}", "é"]))


def read(body: bytes) -> bodies.Parts:
    """The same by reading it."""
    fields = json.loads(body)
    signed = fields.get("events", [fields])
    return bodies.Parts([(events.canonical(one), one["signature"]) for one in signed], chain.unsigned(fields))


def batch(*names: str, node: str = "node01") -> bytes:
    happened = [event(number, agent=number, name=name) for number, name in enumerate(names, start=1)]
    (made,) = events.batches("wazuh", "lab", node, 7, 7000, happened, Summary(9, 8, 1, len(names)))
    return seal.seal(made, 1, 7, SIGNER)[1]


@given(st.integers(1, 6))
def test_what_the_relay_wrote_comes_apart(count: int) -> None:
    for message in messages(count):
        body = seal.seal(message, 1, 7, SIGNER)[1]
        assert bodies.apart(body) == read(body)


@given(st.lists(TEXTS, min_size=1, max_size=4), TEXTS)
def test_no_text_in_it_makes_it_come_apart_elsewhere(names: list[str], node: str) -> None:
    one = events.messages("wazuh", "lab", event(1, name=names[0]))[0]
    for body in (seal.seal(one, 1, 7, SIGNER)[1], batch(*names, node=node)):
        assert bodies.apart(body) == read(body)


def written(spoil: Any, body: bytes = batch("a", "b")) -> bytes:
    fields = json.loads(body)
    spoil(fields)
    return json.dumps(fields, separators=(",", ":"), sort_keys=True).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"events":[],"signature":"ab","x":1}',
        b',"signature":"ab"}',
        b'{"a":1,"signature":"ab"',
        b'{"events":[' + b"[" * 100_000 + b'"signature":"ab",}',
        b'{"events":[{"signature":"ab","timestamp":""}]',
        b'{"a":{"events":[{"signature":"ab","timestamp":""}]}}',
        b'["events":[{"signature":"ab","timestamp":""}]]',
        batch("a", "b").replace(b"},{", b"};{"),
        batch("a", "b").replace(b'"events":[', b'"events": ['),
        batch("a", "b").replace(b'"manager_node":"node01","summary"', b'"manager_node": "node01","summary"'),
        written(lambda fields: fields.update(signature="ab")),
        written(lambda fields: fields["events"][0].pop("signature")),
        batch(),
    ],
)
def test_what_is_written_otherwise_does_not(body: bytes) -> None:
    """Or into texts that no signature is of: what is put together again is the body."""
    parts = bodies.apart(body)
    if parts is not None:
        assert not all(SIGNER.verify_signature(*one) for one in parts.signed)


@given(st.binary(max_size=40), st.integers(0, 2000), st.integers(0, 20))
def test_what_verifies_is_what_reading_finds(put: bytes, at: int, cut: int) -> None:
    whole = batch("a", "b", "c")
    body = whole[:at] + put + whole[at + cut :]
    parts = bodies.apart(body)
    if parts is not None and all(SIGNER.verify_signature(*one) for one in parts.signed):
        assert parts == read(body)
