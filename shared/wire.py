"""The raw snapshot: what one collector says one manager node believes at one moment, and its form on the wire.

Pure: bytes in, values out; bytes are untrusted until they are values.

    Snapshot --encode--> payload --split--> parts, each one message of at most PART_BYTES
    message  --open_part--> Part --join--> payload --decode--> Snapshot

Rules
 * A payload is one codec byte and a msgpack map, columnar (one list per column), zstd-compressed above COMPRESS_ABOVE.
 * `kind` full holds the whole table; delta holds rows that changed, absolute, and ids that are gone; beat holds neither.
 * Every kind says when the node was looked at (`taken_at`), how old what it saw may be (`as_of`) and whether it could be
   seen at all (`source_state`): a dead source is not a quiet one.
 * `digest` and `count` are of the node's whole table after this snapshot, last_keepalive left out
   (`shared.models.row_digest`): they prove that the relay's copy is the collector's.
 * `quiet`, where it is not None, names each active or pending agent whose last keepalive is older than 1.5 periods, so
   that every other one is known to be younger without shipping every keepalive.
 * A part says when it was handed to NATS (`sent_at`): its difference from the stream's own time is the node's clock
   offset, also for what waited in a spool.
 * A newer schema version is refused, never guessed at.

Not here: signatures (`sealing`), and whether a snapshot is in order or believable (the relay decides).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, cast, get_args

import msgpack
import zstandard

from .columns import MAX_INT, MAX_TEXT, Columns, Reader, equally_long, malformed
from .errors import Quarantine
from .models import CONNECTION_STATUSES, AgentRow, KeyEntry, KeysState, NodeType, SourceKind, SourceState

SCHEMA_VERSION: Final = 1

PART_BYTES: Final = 512 * 1024
"""Data in one part; with its envelope and headers a part stays well below NATS's default max_payload of 1 MiB."""
MAX_PARTS: Final = 256
MAX_PAYLOAD_BYTES: Final = 128 * 1024 * 1024  # of msgpack, after decompression: about two million agents
MAX_ROWS: Final = 2_000_000
MAX_PERIOD: Final = 86_400_000  # ms: nothing keeps alive less often than daily
COMPRESS_ABOVE: Final = 512  # bytes: below it zstd's frame costs more than it saves

Kind = Literal["full", "delta", "beat"]

_PLAIN, _ZSTD = b"\x00", b"\x01"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one node believed at one moment. Times ending in `_at`, `as_of`, `late` and `period` are milliseconds."""

    cluster: str  # the cluster block's name
    node: str  # the collector's name on the bus: wazuh.manager_node
    node_name: str  # the cluster block's node_name: what rows call this node
    node_type: NodeType
    boot: int  # grows with every start of the collector
    seq: int  # grows by one with every snapshot of a boot, from 1
    kind: Kind
    taken_at: int  # Unix ms by the node's clock
    as_of: int  # Unix ms: nothing that happened later is in here
    late: int  # ms by which the collector was behind its own plan
    source: SourceKind
    source_state: SourceState
    source_error: str  # one sentence where source_state is not ok, else ""
    db_version: int  # metadata db_version of 4.x (1..7); 500 for 5.0
    rows: tuple[AgentRow, ...]
    gone: tuple[int, ...]
    keys: tuple[KeyEntry, ...]  # full: all of client.keys; else what changed in it
    keys_gone: tuple[int, ...]
    keys_state: KeysState
    quiet: tuple[tuple[int, int], ...] | None  # (id, last_keepalive in s); None: not looked at in this snapshot
    period: int  # ms between keepalives as learnt on this node; 0: not learnt yet
    count: int
    digest: int
    gap: bool  # a full that stands for deltas that a full spool gave up


@dataclass(frozen=True, slots=True)
class Part:
    """One message of a snapshot."""

    node: str
    boot: int
    seq: int
    number: int  # from 1
    total: int
    sent_at: int  # Unix ms by the node's clock
    data: bytes


@dataclass(frozen=True, slots=True)
class Tick:
    """The relay's own clock in the stream of raw snapshots: says that nothing came."""

    relay: str
    sent_at: int  # Unix ms


# Encoding -----------------------------------------------------------------------------------------------------------


def encode(snapshot: Snapshot) -> bytes:
    """The payload of a snapshot."""
    packed: bytes = msgpack.packb(_columns(snapshot))
    if len(packed) <= COMPRESS_ABOVE:
        return _PLAIN + packed
    return _ZSTD + zstandard.ZstdCompressor(level=3).compress(packed)


def split(payload: bytes, node: str, boot: int, seq: int, sent_at: int, part_bytes: int = PART_BYTES) -> list[bytes]:
    """The messages that carry a payload, in order. `sent_at` in Unix ms."""
    chunks = [payload[i : i + part_bytes] for i in range(0, len(payload), part_bytes)]
    return [
        msgpack.packb(
            {
                "v": SCHEMA_VERSION,
                "node": node,
                "boot": boot,
                "seq": seq,
                "part": number,
                "parts": len(chunks),
                "sent_at": sent_at,
                "data": chunk,
            }
        )
        for number, chunk in enumerate(chunks, start=1)
    ]


def encode_tick(tick: Tick) -> bytes:
    """The message of a tick."""
    packed: bytes = msgpack.packb({"v": SCHEMA_VERSION, "tick": tick.relay, "sent_at": tick.sent_at})
    return packed


def message_id(node: str, boot: int, seq: int, number: int) -> str:
    """The Nats-Msg-Id of a part: sending it again stores it once."""
    return f"{node}:{boot}:{seq}:{number}"


def _columns(s: Snapshot) -> dict[str, object]:
    ids, names, ips, statuses, codes, gone_at, seen_at, added, nodes = _apart(s.rows, AgentRow)
    key_ids, key_names, key_ips, removed = _apart(s.keys, KeyEntry)
    return {
        "v": SCHEMA_VERSION,
        "cluster": s.cluster,
        "node": s.node,
        "node_name": s.node_name,
        "node_type": s.node_type,
        "boot": s.boot,
        "seq": s.seq,
        "kind": s.kind,
        "taken_at": s.taken_at,
        "as_of": s.as_of,
        "late": s.late,
        "source": s.source,
        "source_state": s.source_state,
        "source_error": s.source_error,
        "db_version": s.db_version,
        "row_id": ids,
        "row_name": names,
        "row_ip": ips,
        "row_status": bytes(map(CONNECTION_STATUSES.index, statuses)),
        "row_code": codes,
        "row_disconnection_time": gone_at,
        "row_last_keepalive": seen_at,
        "row_date_add": added,
        "row_node_name": nodes,
        "gone": list(s.gone),
        "key_id": key_ids,
        "key_name": key_names,
        "key_ip": key_ips,
        "key_removed": bytes(removed),
        "keys_gone": list(s.keys_gone),
        "keys_state": s.keys_state,
        "quiet_id": None if s.quiet is None else [q[0] for q in s.quiet],
        "quiet_at": None if s.quiet is None else [q[1] for q in s.quiet],
        "period": s.period,
        "count": s.count,
        "digest": s.digest,
        "gap": s.gap,
    }


def _apart(values: Sequence[AgentRow] | Sequence[KeyEntry], kind: type[AgentRow] | type[KeyEntry]) -> Sequence[Sequence[Any]]:
    """A column for each field."""
    return list(zip(*values, strict=True)) or [()] * len(kind._fields)


# Decoding -----------------------------------------------------------------------------------------------------------


def taken_at(head: bytes) -> int | None:
    """When the snapshot was taken whose payload begins so; None where that cannot be told. For payloads of our own."""
    try:
        unpacker = msgpack.Unpacker()
        unpacker.feed(zstandard.ZstdDecompressor().decompressobj().decompress(head[1:]) if head[:1] == _ZSTD else head[1:])
        pairs = ((unpacker.unpack(), unpacker.unpack()) for _ in range(unpacker.read_map_header()))
        return next((int(value) for key, value in pairs if key == "taken_at"), None)
    except (ValueError, msgpack.OutOfData, zstandard.ZstdError):
        return None


def open_part(body: bytes) -> Part | Tick:
    """The part or tick in one message. Raises Quarantine: malformed, newer_schema, oversized."""
    fields = _unpack(body)
    if "tick" in fields:
        return Tick(_text(fields, "tick"), _int(fields, "sent_at"))
    data = fields.get("data")
    if not isinstance(data, bytes) or not data:
        raise malformed("'data' is not a byte string")
    if len(data) > PART_BYTES:
        raise Quarantine("oversized", f"raw message refused: a part of {len(data)} bytes, the limit is {PART_BYTES}")
    part = Part(
        node=_name(fields, "node"),
        boot=_int(fields, "boot"),
        seq=_int(fields, "seq"),
        number=_int(fields, "part"),
        total=_int(fields, "parts"),
        sent_at=_int(fields, "sent_at"),
        data=data,
    )
    if not 1 <= part.number <= part.total:
        raise malformed(f"part {part.number} of {part.total}")
    if part.total > MAX_PARTS:
        raise Quarantine("oversized", f"raw message refused: {part.total} parts, the limit is {MAX_PARTS}")
    return part


def join(parts: Sequence[Part]) -> bytes:
    """The payload of one snapshot's parts, given whole and in order."""
    return b"".join(part.data for part in parts)


class Maker(Protocol):
    """Makes values of columns: who holds many snapshots need not make again what it holds."""

    def rows(self, columns: Columns) -> Iterable[AgentRow]:
        """A row for each place in the columns."""

    def keys(self, columns: Columns) -> Iterable[KeyEntry]:
        """A key for each place in the columns; asked for after the rows."""


class New:
    """Makes each value anew."""

    def rows(self, columns: Columns) -> Iterable[AgentRow]:
        """A row for each place in the columns."""
        return map(AgentRow._make, zip(*columns, strict=True))

    def keys(self, columns: Columns) -> Iterable[KeyEntry]:
        """A key for each place in the columns."""
        return map(KeyEntry._make, zip(*columns, strict=True))


NEW: Final = New()


def decode(payload: bytes, maker: Maker = NEW) -> Snapshot:
    """The snapshot in a payload. Raises Quarantine: malformed, newer_schema, oversized."""
    fields = _unpack(unwrapped(payload))
    quiet, read = _quiet(fields), Reader(fields)
    return Snapshot(
        cluster=_text(fields, "cluster"),
        node=_name(fields, "node"),
        node_name=_text(fields, "node_name"),
        node_type=cast("NodeType", _word(fields, "node_type", get_args(NodeType))),
        boot=_int(fields, "boot"),
        seq=_int(fields, "seq"),
        kind=cast("Kind", _word(fields, "kind", get_args(Kind))),
        taken_at=_int(fields, "taken_at"),
        as_of=_int(fields, "as_of"),
        late=_int(fields, "late"),
        source=cast("SourceKind", _word(fields, "source", get_args(SourceKind))),
        source_state=cast("SourceState", _word(fields, "source_state", get_args(SourceState))),
        source_error=_text(fields, "source_error"),
        db_version=_int(fields, "db_version"),
        rows=tuple(maker.rows(row_columns(read))),
        gone=tuple(read.ints("gone")),
        keys=tuple(maker.keys(key_columns(read))),
        keys_gone=tuple(read.ints("keys_gone")),
        keys_state=cast("KeysState", _word(fields, "keys_state", get_args(KeysState))),
        quiet=quiet,
        period=_int(fields, "period", limit=MAX_PERIOD),
        count=_int(fields, "count"),
        digest=_int(fields, "digest", limit=2**64 - 1),
        gap=fields.get("gap") is True,
    )


def unwrapped(payload: bytes) -> bytes:
    """The msgpack in a payload. Raises Quarantine: malformed, oversized."""
    codec, packed = payload[:1], payload[1:]
    if codec == _PLAIN:
        return packed
    if codec != _ZSTD:
        raise malformed("unknown codec byte")
    try:
        size = zstandard.frame_content_size(packed)
        if not 0 <= size <= MAX_PAYLOAD_BYTES:
            raise Quarantine("oversized", f"raw message refused: unpacks to {size} bytes, limit {MAX_PAYLOAD_BYTES}")
        return zstandard.ZstdDecompressor().decompress(packed, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise malformed(f"zstd says {error}") from error


def _unpack(packed: bytes) -> dict[str, Any]:
    try:
        fields = msgpack.unpackb(packed, max_map_len=256, max_array_len=MAX_ROWS, max_ext_len=0)
    except (ValueError, TypeError, RecursionError) as error:  # msgpack's own errors are ValueErrors
        raise malformed("it is not msgpack") from error
    if not isinstance(fields, dict):
        raise malformed("it is not a msgpack map")
    check_version(fields.get("v"))
    return fields


def check_version(version: object) -> None:
    """Raise Quarantine, malformed or newer_schema, where this is not the version of a payload that is read here."""
    if type(version) is not int or version < 1:
        raise malformed("it has no schema version")
    if version > SCHEMA_VERSION:
        raise Quarantine(
            "newer_schema",
            f"raw message refused: schema {version}, this relay reads up to {SCHEMA_VERSION}; upgrade the relay before the collectors",
        )


def _int(fields: Mapping[str, Any], name: str, limit: int = MAX_INT) -> int:
    value = fields.get(name)
    if type(value) is not int or not 0 <= value <= limit:
        raise malformed(f"{name!r} is not a number in range")
    return value


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise malformed(f"{name!r} is not a text of at most {MAX_TEXT} characters")
    return value


def _name(fields: Mapping[str, Any], name: str) -> str:
    value = _text(fields, name)
    if not value:
        raise malformed(f"{name!r} is empty")
    return value


def _word(fields: Mapping[str, Any], name: str, words: tuple[str, ...]) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or value not in words:
        raise malformed(f"{name!r} is none of {', '.join(words)}")
    return value


def row_columns(read: Reader) -> Columns:
    """A payload's rows, a column for each field of AgentRow. Raises Quarantine: malformed."""
    columns = (
        read.ints("row_id"),
        read.texts("row_name"),
        read.texts("row_ip", nullable=True),
        read.words("row_status", CONNECTION_STATUSES),
        read.ints("row_code", nullable=True),
        read.ints("row_disconnection_time"),
        read.ints("row_last_keepalive", nullable=True),
        read.ints("row_date_add"),
        read.texts("row_node_name", nullable=True),
    )
    return equally_long(columns, "row")


def key_columns(read: Reader) -> Columns:
    """A payload's keys, a column for each field of KeyEntry. Raises Quarantine: malformed."""
    columns = (read.ints("key_id"), read.texts("key_name"), read.texts("key_ip"), read.words("key_removed", (False, True)))
    return equally_long(columns, "key")


def _quiet(fields: dict[str, Any]) -> tuple[tuple[int, int], ...] | None:
    if fields.get("quiet_id") is None:
        return None
    read = Reader(fields)
    return tuple(zip(*equally_long((read.ints("quiet_id"), read.ints("quiet_at")), "quiet"), strict=True))
