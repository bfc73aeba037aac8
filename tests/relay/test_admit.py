"""Laws of the gate: nothing that is not a known node's signed word becomes an input."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.admit import Gate, Raw
from relay.assemble import Assembler
from relay.fleet import Heard, Ticked
from shared import sealing, wire
from shared.errors import Quarantine
from tests.relay.lab import Speaker

OWN = sealing.Key(b"r" * 32)
KEYS = {name: sealing.Key(name.encode().ljust(32)) for name in ("node01", "node02", "a.b c")}
NOW = 1_750_000_000


def gate() -> Gate:
    return Gate("wazuh", {name: {key.kid: key} for name, key in KEYS.items()}, sealing.MessageSigner(OWN), Assembler())


def raw(body: bytes, subject: str = "wazuh.raw.node01", key: sealing.Key | None = KEYS["node01"], position: int = 1) -> Raw:
    headers = {} if key is None else {sealing.SIGNATURE_HEADER: sealing.MessageSigner(key).sign_header(subject, body, {})}
    return Raw(subject, headers, body, position, NOW * 1000)


def snapshot(node: str = "node01", **changes: object) -> wire.Snapshot:
    return Speaker(node, "standalone").snapshot("full", NOW, **changes)


def bodies(of: wire.Snapshot, part_bytes: int = wire.PART_BYTES, **envelope: object) -> list[bytes]:
    made = wire.split(wire.encode(of), of.node, of.boot, of.seq, of.taken_at, part_bytes)
    return [msgpack.packb(msgpack.unpackb(body) | envelope) for body in made]


def reason(message: Raw, cluster: str = "lab") -> str:
    with pytest.raises(Quarantine) as caught:
        gate().admit(message, cluster)
    return caught.value.reason


@pytest.mark.parametrize("cluster", ["", "lab"])
def test_a_signed_snapshot_is_an_input(cluster: str) -> None:
    said = snapshot()
    admitted = gate().admit(raw(bodies(said)[0], position=8), cluster)
    assert admitted.given == Heard(8, NOW * 1000, said.taken_at, said)
    assert (wire.decode(admitted.payload), admitted.future, admitted.abandoned) == (said, False, None)


def test_a_node_may_be_called_anything() -> None:
    said = snapshot("a.b c")
    assert gate().admit(raw(bodies(said)[0], "wazuh.raw.a%2Eb%20c", KEYS["a.b c"]), "lab").given is not None


def test_parts_make_an_input_with_the_last() -> None:
    said, at_the_gate = snapshot(), gate()
    parts = bodies(said, part_bytes=100)
    came = [at_the_gate.admit(raw(body, position=number), "lab").given for number, body in enumerate(parts, start=1)]
    assert len(parts) > 2
    assert came == [None] * (len(parts) - 1) + [Heard(len(parts), NOW * 1000, said.taken_at, said)]


def test_an_interrupted_snapshot_is_told_of() -> None:
    at_the_gate = gate()
    at_the_gate.admit(raw(bodies(snapshot(), part_bytes=100)[0], position=5), "lab")
    admitted = at_the_gate.admit(raw(bodies(snapshot(seq=2))[0], position=6), "lab")
    assert admitted.given is not None
    assert admitted.abandoned is not None
    assert (admitted.abandoned.position, admitted.abandoned.refusal.reason) == (5, "incomplete")


def test_a_refused_message_tells_of_what_it_interrupted() -> None:
    at_the_gate = gate()
    at_the_gate.admit(raw(bodies(snapshot(), part_bytes=100)[0], position=5), "lab")
    with pytest.raises(Quarantine, match=r"refused.*before it, snapshot 1 of boot 1"):
        at_the_gate.admit(raw(bodies(snapshot(seq=2), part_bytes=100)[1], position=6), "lab")


def test_a_tick_is_the_relays_own() -> None:
    body = wire.encode_tick(wire.Tick("relay", NOW))
    assert gate().admit(raw(body, "wazuh.raw._tick", OWN, 3), "lab").given == Ticked(3, NOW * 1000)
    assert reason(raw(body, "wazuh.raw._tick", KEYS["node01"])) == "bad_signature"
    assert reason(raw(body, "wazuh.raw._tick", None)) == "unsigned"
    assert reason(raw(bodies(snapshot())[0], "wazuh.raw._tick", OWN)) == "malformed"
    assert reason(raw(body)) == "wrong_node"


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (raw(bodies(snapshot())[0], key=None), "unsigned"),
        (raw(bodies(snapshot())[0], key=KEYS["node02"]), "bad_signature"),
        (raw(bodies(snapshot("node09"))[0], "wazuh.raw.node09", KEYS["node01"]), "unknown_node"),
        (raw(b"x", "wazuh.raw.%ff"), "unknown_node"),
        (raw(b"x", "wazuh.raw."), "unknown_node"),
        (raw(b"x", "wazuh.raw.n%6Fde01"), "unknown_node"),
        (raw(b"x", "other.raw.node01"), "unknown_node"),
        (raw(bodies(snapshot("node02"))[0]), "wrong_node"),
        (raw(bodies(snapshot("node02"), node="node01")[0]), "wrong_node"),
        (raw(bodies(snapshot(), seq=7)[0]), "wrong_node"),
        (raw(bodies(snapshot(), boot=7)[0]), "wrong_node"),
        (raw(bodies(snapshot(cluster="other"))[0]), "wrong_cluster"),
        (raw(b"not msgpack"), "malformed"),
        (raw(bodies(snapshot(), v=99)[0]), "newer_schema"),
        (raw(bodies(snapshot(), data=b"x" * (wire.PART_BYTES + 1))[0]), "oversized"),
        (raw(bodies(snapshot(), data=b"\x07x")[0]), "malformed"),
        (raw(bodies(snapshot(), part_bytes=100)[1]), "incomplete"),
    ],
)
def test_what_is_refused_has_its_reason(message: Raw, why: str) -> None:
    assert reason(message) == why


@given(st.binary(), st.text(), st.booleans())
def test_bytes_without_a_key_never_pass_nor_break_the_gate(body: bytes, signature: str, tick: bool) -> None:
    subject = "wazuh.raw._tick" if tick else "wazuh.raw.node01"
    with pytest.raises(Quarantine, match=r"refused"):
        gate().admit(Raw(subject, {sealing.SIGNATURE_HEADER: signature}, body, 1, NOW), "lab")


@given(st.binary())
def test_no_bytes_that_a_node_signs_break_the_gate(body: bytes) -> None:
    with pytest.raises(Quarantine, match=r"refused"):
        gate().admit(raw(body), "lab")


@pytest.mark.parametrize(("ahead", "future"), [(300_000, False), (300_001, True)])
def test_a_clock_far_ahead_is_believed_and_told(ahead: int, future: bool) -> None:
    admitted = gate().admit(raw(bodies(snapshot(taken_at=NOW * 1000 + ahead))[0]), "lab")
    assert (admitted.given is not None, admitted.future) == (True, future)
