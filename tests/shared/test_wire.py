"""What a collector says arrives as it was said; what is anything else is refused as Quarantine, and nothing else is raised."""

import dataclasses
import tracemalloc
from collections.abc import Callable
from typing import Any, get_args

import msgpack
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import columns, models, wire
from shared.errors import Quarantine
from shared.models import AgentRow, KeyEntry
from shared.wire import Part, Snapshot, Tick

numbers = st.integers(0, columns.MAX_INT)
texts = st.text(max_size=12)
names = st.text(min_size=1, max_size=12)
optional_numbers = st.none() | numbers
rows = st.builds(
    AgentRow,
    id=numbers,
    name=texts,
    ip=st.none() | texts,
    status=st.sampled_from(models.CONNECTION_STATUSES),
    code=optional_numbers,
    disconnection_time=numbers,
    last_keepalive=optional_numbers,
    date_add=numbers,
    node_name=st.none() | texts,
)
snapshots = st.builds(
    Snapshot,
    cluster=texts,
    node=names,
    node_name=texts,
    node_type=st.sampled_from(get_args(models.NodeType)),
    boot=numbers,
    seq=numbers,
    kind=st.sampled_from(get_args(wire.Kind)),
    taken_at=numbers,
    as_of=numbers,
    late=numbers,
    source=st.sampled_from(get_args(models.SourceKind)),
    source_state=st.sampled_from(get_args(models.SourceState)),
    source_error=texts,
    db_version=numbers,
    rows=st.lists(rows, max_size=4).map(tuple),
    gone=st.lists(numbers, max_size=3).map(tuple),
    keys=st.lists(st.builds(KeyEntry, id=numbers, name=texts, ip=texts, removed=st.booleans()), max_size=3).map(tuple),
    keys_gone=st.lists(numbers, max_size=3).map(tuple),
    keys_state=st.sampled_from(get_args(models.KeysState)),
    quiet=st.none() | st.lists(st.tuples(numbers, numbers), max_size=3).map(tuple),
    period=st.integers(0, wire.MAX_PERIOD),
    count=numbers,
    digest=st.integers(0, 2**64 - 1),
    gap=st.booleans(),
)

ROW = AgentRow(1, "web", "10.0.0.1", "active", 0, 0, 1_700_000_000, 1_600_000_000, "node01")
SNAPSHOT = Snapshot(
    cluster="wazuh",
    node="n",
    node_name="node01",
    node_type="master",
    boot=1,
    seq=1,
    kind="full",
    taken_at=1,
    as_of=1,
    late=0,
    source="socket",
    source_state="ok",
    source_error="",
    db_version=7,
    rows=(ROW, ROW._replace(id=2)),
    gone=(3,),
    keys=(KeyEntry(1, "web", "any", removed=False),),
    keys_gone=(4,),
    keys_state="ok",
    quiet=((1, 2),),
    period=10_000,
    count=2,
    digest=5,
    gap=False,
)
PART = wire.split(b"payload", "n", 1, 2, 3)[0]


def unpacked(packed: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = msgpack.unpackb(packed)
    return fields


def payload_with(**changed: object) -> bytes:
    fields = unpacked(wire.encode(dataclasses.replace(SNAPSHOT, rows=(), keys=()))[1:])
    packed: bytes = msgpack.packb(fields | changed)
    return b"\x00" + packed


def part_with(**changed: object) -> bytes:
    packed: bytes = msgpack.packb(unpacked(PART) | changed)
    return packed


def reason(refused: "pytest.ExceptionInfo[Quarantine]") -> str:
    return refused.value.reason


def refusal(read: Callable[[bytes], object], message: bytes) -> Quarantine | None:
    """The refusal, or None where the message was accepted; any other error is a failure of the test."""
    try:
        read(message)
    except Quarantine as refused:
        return refused
    return None


def is_proper(refused: Quarantine | None) -> bool:
    """Whether a refusal, if there is one, has a known reason and a sentence that is safe to print."""
    return refused is None or (refused.reason in {"malformed", "newer_schema", "oversized"} and str(refused).isprintable())


# Round trips --------------------------------------------------------------------------------------------------------


@given(snapshots, st.integers(16, 300))
def test_a_snapshot_comes_back_through_any_number_of_parts(snapshot: Snapshot, part_bytes: int) -> None:
    messages = wire.split(wire.encode(snapshot), snapshot.node, snapshot.boot, snapshot.seq, 7, part_bytes)
    parts = [part for message in messages if isinstance(part := wire.open_part(message), Part)]
    assert [(p.node, p.boot, p.seq, p.sent_at, p.total) for p in parts] == [
        (snapshot.node, snapshot.boot, snapshot.seq, 7, len(messages))
    ] * len(messages)
    assert [part.number for part in parts] == list(range(1, len(messages) + 1))
    assert wire.decode(wire.join(parts)) == snapshot


@given(texts, numbers)
def test_a_tick_comes_back(relay: str, sent_at: int) -> None:
    assert wire.open_part(wire.encode_tick(Tick(relay, sent_at))) == Tick(relay, sent_at)


def test_a_large_snapshot_is_compressed_and_a_small_one_is_not() -> None:
    small = wire.encode(dataclasses.replace(SNAPSHOT, rows=()))
    large = wire.encode(dataclasses.replace(SNAPSHOT, rows=(ROW,) * 1000))
    assert (small[0], large[0]) == (0, 1)
    assert len(large) < 1000
    assert len(wire.decode(large).rows) == 1000


def test_parts_and_ids_of_a_payload() -> None:
    payload = bytes(2 * wire.PART_BYTES + 1)
    messages = wire.split(payload, "n", 1, 2, 3)
    assert len(messages) == 3
    assert max(map(len, messages)) < wire.PART_BYTES + 1024
    assert wire.message_id("n", 1, 2, 3) == "n:1:2:3"


# Refusals -----------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_quarantine(body: bytes) -> None:
    for read in (wire.open_part, wire.decode):
        assert is_proper(refusal(read, body))


@settings(max_examples=150)
@given(snapshots, st.data())
def test_every_change_of_a_message_is_decoded_or_quarantined(snapshot: Snapshot, data: st.DataObject) -> None:
    payload = wire.encode(snapshot)
    message = bytearray(data.draw(st.sampled_from([payload, *wire.split(payload, "n", 1, 1, 1)])))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(message) - 1))
        message[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if not message:
            break
    for read in (wire.open_part, wire.decode):
        assert is_proper(refusal(read, bytes(message)))


FIELDS = sorted(unpacked(payload_with()[1:]))
_ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150)
@given(st.sampled_from(FIELDS), _ANY)
def test_every_value_in_every_field_is_decoded_or_quarantined(field: str, value: object) -> None:
    payload = payload_with(**{field: value})
    refused = refusal(wire.decode, payload)
    assert is_proper(refused)
    if refused is None:
        snapshot = wire.decode(payload)
        assert wire.decode(wire.encode(snapshot)) == snapshot


@pytest.mark.parametrize("field", [f for f in FIELDS if f not in {"gap", "quiet_id", "v"}])
def test_a_field_that_is_missing_or_of_another_type_is_refused(field: str) -> None:
    values: list[object] = [None, 1.5, True, {"a": 1}, [[]]]
    for value in values:
        with pytest.raises(Quarantine) as refused:
            wire.decode(payload_with(**{field: value}))
        assert reason(refused) == "malformed"


@pytest.mark.parametrize(
    "changed",
    [
        {"seq": -1},
        {"seq": 2**63},
        {"digest": 2**64 - 1, "count": -1},
        {"cluster": "x" * (columns.MAX_TEXT + 1)},
        {"node_type": "boss"},
        {"kind": b"full"},
        {"row_status": b"\x09"},
        {"key_removed": b"\x02"},
        {"row_id": [1]},
        {"key_id": [1]},
        {"quiet_id": [1, 2]},
        {"row_id": [-1]},
        {"row_id": [True]},
        {"row_name": ["x" * (columns.MAX_TEXT + 1)]},
        {"row_name": [None]},
        {"row_date_add": [None]},
        {"gone": [2**63]},
    ],
)
def test_wrong_columns_and_values_out_of_range_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(Quarantine) as refused:
        wire.decode(payload_with(**changed))
    assert reason(refused) == "malformed"


def test_only_true_is_a_gap() -> None:
    assert wire.decode(payload_with(gap=True)).gap
    assert not wire.decode(payload_with(gap=1)).gap


@pytest.mark.parametrize("version", [None, 0, -1, True, "1", 1.0])
def test_a_message_without_a_schema_version_is_refused(version: object) -> None:
    for read, message in ((wire.decode, payload_with(v=version)), (wire.open_part, part_with(v=version))):
        with pytest.raises(Quarantine, match="no schema version") as refused:
            read(message)
        assert reason(refused) == "malformed"


def test_a_newer_schema_is_refused_and_never_guessed_at() -> None:
    for read, message in ((wire.decode, payload_with(v=2)), (wire.open_part, part_with(v=2))):
        with pytest.raises(Quarantine, match="upgrade the relay") as refused:
            read(message)
        assert reason(refused) == "newer_schema"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"data": b""}, "malformed"),
        ({"data": "text"}, "malformed"),
        ({"data": bytes(wire.PART_BYTES + 1)}, "oversized"),
        ({"part": 0}, "malformed"),
        ({"part": 2}, "malformed"),
        ({"parts": 0}, "malformed"),
        ({"parts": wire.MAX_PARTS + 1}, "oversized"),
        ({"node": 1}, "malformed"),
        ({"node": ""}, "malformed"),
        ({"tick": 1}, "malformed"),
        ({"tick": "r", "sent_at": None}, "malformed"),
    ],
)
def test_an_envelope_that_is_wrong_is_refused(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(Quarantine) as refused:
        wire.open_part(part_with(**changed))
    assert reason(refused) == why


def test_a_payload_is_of_a_known_codec() -> None:
    for payload in (b"", b"\x02" + payload_with()[1:]):
        with pytest.raises(Quarantine, match="codec"):
            wire.decode(payload)


@pytest.mark.parametrize(
    "packed", [b"", b"\xc1", b"\x93", b"\x01\x01", b"\x91" * 5000, msgpack.packb([1]), msgpack.packb(msgpack.Timestamp(1))]
)
def test_what_is_no_msgpack_map_is_refused(packed: bytes) -> None:
    with pytest.raises(Quarantine):
        wire.decode(b"\x00" + packed)


def test_a_list_longer_than_any_fleet_is_refused() -> None:
    packed = bytearray(payload_with()[1:])
    packed += b"\xa1x\xdd" + (wire.MAX_ROWS + 1).to_bytes(4, "big") + bytes(wire.MAX_ROWS + 1)
    packed[:3] = b"\xde" + (int.from_bytes(packed[1:3], "big") + 1).to_bytes(2, "big")
    with pytest.raises(Quarantine, match="msgpack"):
        wire.decode(b"\x00" + bytes(packed))


# Bombs --------------------------------------------------------------------------------------------------------------


def compressed(size: int, *, tell_size: bool = True) -> bytes:
    compressor = zstandard.ZstdCompressor(level=1, write_content_size=tell_size).compressobj(size if tell_size else -1)
    block = bytes(1 << 20)
    parts = [compressor.compress(block) for _ in range(size >> 20)]
    return b"\x01" + b"".join([*parts, compressor.flush()])


@pytest.mark.parametrize("tell_size", [True, False])
def test_a_bomb_is_refused_before_it_takes_memory(*, tell_size: bool) -> None:
    bomb = compressed(wire.MAX_PAYLOAD_BYTES + (1 << 20), tell_size=tell_size)
    tracemalloc.start()
    try:
        with pytest.raises(Quarantine) as refused:
            wire.decode(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert reason(refused) == "oversized"


def frame(content: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(content)


@pytest.mark.parametrize(
    "packed",
    [b"", b"\x28\xb5\x2f\xfd", frame(b"x" * 100)[:-3], frame(b"x" * 100) + b"more", frame(b"{}") * 2, b"no zstd at all"],
)
def test_a_broken_frame_is_refused(packed: bytes) -> None:
    with pytest.raises(Quarantine) as refused:
        wire.decode(b"\x01" + packed)
    assert reason(refused) in {"malformed", "oversized"}


def test_a_frame_that_lies_about_its_size_is_refused() -> None:
    honest = bytearray(frame(b"x" * 100))
    assert honest[5] == 100  # the size stands in the frame's header (RFC 8878 3.1.1.1.4)
    for size in (99, 101, 255):
        honest[5] = size
        with pytest.raises(Quarantine) as refused:
            wire.decode(b"\x01" + bytes(honest))
        assert reason(refused) == "malformed"


@pytest.mark.parametrize("rows", [0, 300])
def test_when_a_snapshot_was_taken_is_told_by_how_it_begins(rows: int) -> None:
    made = dataclasses.replace(SNAPSHOT, rows=tuple(ROW._replace(id=number) for number in range(1, rows + 1)), count=rows)
    payload = wire.encode(made)
    assert wire.taken_at(payload[:8192]) == made.taken_at


@pytest.mark.parametrize("head", [b"", b"\x00", b"\x01", b"\x01abc", b"\x00\x81\xa1a\x01", b"\x00\x82\xa1a\x01", b"\x00\xc1"])
def test_what_does_not_tell_when_it_was_taken_is_none(head: bytes) -> None:
    assert wire.taken_at(head) is None
