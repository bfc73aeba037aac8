"""Every border where somebody else's bytes come in: how one input is fed to it, and what may come of it.

`feed` raises nothing but `refusals`, and tells whether a forgery was accepted.
"""

import base64
import contextlib
import json
import socket
import sqlite3
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from collector import clientkeys, ossecconf, rows, wdb
from collector.globaldb import FileSource
from relay import admit, control, events, published, seal
from relay.assemble import Assembler
from shared import config, jsapi, login, sealing, wire
from shared.clock import SystemClock
from shared.errors import ConfigError, Quarantine, SourceUnavailable, Transient
from shared.logs import printable
from tests.fuzz.flat import flat, unflat
from tests.fuzz.keyed import key_files, prove_event, read_key_file, scratch, sealed_events
from tests.relay.lab import T0, Speaker, key, row

CORPUS = Path(__file__).parent / "corpus"
NOW = 1_750_000_000
OWN = sealing.MessageSigner(sealing.Key(b"r" * 32))
NODE = sealing.MessageSigner(sealing.Key(b"n" * 32))
MIB = 1 << 20


@dataclass(frozen=True)
class Border:
    """`share`: how many of a thousand inputs it gets; `limit`: bytes that an input may have there, or may unpack to."""

    name: str
    share: int
    limit: int
    seeds: Sequence[bytes]
    refusals: tuple[type[Exception], ...]
    feed: Callable[[bytes], bool]


def kept(name: str) -> list[bytes]:
    """The files of a border's corpus."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


# Raw messages -------------------------------------------------------------------------------------------------------


def snapshots() -> list[wire.Snapshot]:
    speaker = Speaker("node01", "master")
    speaker.rows = {number: row(number, "active", T0, name=f"agent-{number} \x1b[2J\u202e\U0001f600") for number in range(1, 40)}
    speaker.keys = {number: key(one) for number, one in speaker.rows.items()}
    return [speaker.snapshot("full", NOW), speaker.snapshot("beat", NOW), speaker.snapshot("delta", NOW, rows=(speaker.rows[1],))]


def decode_payload(data: bytes) -> bool:
    wire.decode(data)
    return False


def one_field_wrong(fields: dict[str, Any], data: bytes) -> dict[str, Any]:
    """A field chosen by the first byte becomes what the others say: msgpack, or else the bytes themselves."""
    names = sorted(fields)
    try:
        value = msgpack.unpackb(data[1:], strict_map_key=False)
    except (ValueError, TypeError, RecursionError):
        value = data[1:]
    return fields | {names[(data[0] if data else 0) % len(names)]: value}


def decode_fields(data: bytes) -> bool:
    """What the decoder makes of a snapshot that is right but for one field."""
    fields = one_field_wrong(FIELDS, data)
    wire.decode(wire._PLAIN + msgpack.packb(fields, unicode_errors="surrogatepass"))
    return False


FIELDS = msgpack.unpackb(wire.unwrapped(wire.encode(snapshots()[0])))
VALUES: tuple[Any, ...] = (
    *(-1, 2**63, 2**64 - 1, 1.5, True, None, "", "x\x1b[2J\u202e", "\U0001f600" * 2600, b"\0\1\2", b"\0" * 39, b"\xff" * 39),
    *([], [1, 2], [1, "a", None], ["a"] * 39, [7] * 39, [2**63] * 3, [[1]], {"a": 1}, [None] * 39),
)


def values() -> list[bytes]:
    """Each value in each field."""
    return [bytes((number,)) + msgpack.packb(value) for number in range(len(FIELDS)) for value in VALUES]


def envelope_field(data: bytes) -> bool:
    """A part that its node has signed and that is right but for one field."""
    return signed_by_a_node(msgpack.packb(one_field_wrong(ENVELOPE, data), unicode_errors="surrogatepass"))


def node_message(body: bytes, subject: str = "wazuh.raw.node01", signer: sealing.MessageSigner = NODE) -> bytes:
    return flat(subject, {sealing.SIGNATURE_HEADER: signer.sign_header(subject, body, {})}, body)


def parts() -> list[bytes]:
    return [part for one in snapshots() for part in wire.split(wire.encode(one), one.node, one.boot, one.seq, one.taken_at, 2000)]


def request() -> bytes:
    subject, body = "wazuh.raw._control", control.encode(control.Forget("node01", force=True), NOW * 1000)
    signature = control.signature(OWN, subject, body, "control:1")
    return flat(subject, {control.MESSAGE_ID: "control:1", sealing.SIGNATURE_HEADER: signature}, body)


ENVELOPE = msgpack.unpackb(parts()[-1])


def raw_messages() -> list[bytes]:
    tick = node_message(wire.encode_tick(wire.Tick("relay", NOW * 1000)), "wazuh.raw._tick", OWN)
    return [*map(node_message, parts()), tick, request()]


def gate() -> admit.Gate:
    keys = {"node01": {NODE.kid: sealing.Key(b"n" * 32)}, "node02": {OWN.kid: sealing.Key(b"x" * 32)}}
    return admit.Gate("wazuh", keys, OWN, Assembler())


def through_the_gate(data: bytes) -> bool:
    """As somebody without a key would send it: only what was signed passes."""
    subject, headers, body = unflat(data)
    gate().admit(admit.Raw(subject, headers, body, 1, NOW * 1000), "lab")
    return (subject, body) not in SIGNED_RAW


SIGNED_RAW = {(subject, body) for subject, _, body in map(unflat, raw_messages())}


def signed_by_a_node(data: bytes) -> bool:
    """As a node that was taken over would send it: anything, well signed. It may speak for itself and for nobody else."""
    subject = "wazuh.raw.node01"
    headers = {sealing.SIGNATURE_HEADER: NODE.sign_header(subject, data, {})}
    given = gate().admit(admit.Raw(subject, headers, data, 1, NOW * 1000), "lab").given
    return given is not None and getattr(getattr(given, "snapshot", None), "node", None) != "node01"


# Events -------------------------------------------------------------------------------------------------------------


def event_messages() -> list[bytes]:
    name, event_id = "wéb\n\x1b[2J\u202e\U0001f600", "evt_001_1_disconnected_00"
    told = ("disconnected", "stopped", 1, name, "Active", "Disconnected", None, NOW - 9, "node01", NOW, event_id, False)
    event = events.Event(*told)  # type: ignore[arg-type]
    summary = events.Summary(2, 0, 2, 1)
    made = [*events.messages("wazuh", "lab", event), *events.batches("wazuh", "lab", "node01", 7, NOW * 1000, [event], summary)]
    return [flat(*_plain(seal.seal_apart(one, OWN))) for one in made]


def _plain(sealed: tuple[str, bytes, dict[str, str]]) -> tuple[str, dict[str, str], bytes]:
    subject, body, headers = sealed
    return subject, headers, body


SEALED = {(subject, body, tuple(sorted(events.covered(headers).items()))) for subject, headers, body in map(unflat, event_messages())}


def read_event(data: bytes) -> bool:
    """What a consumer, `tail` and a ledger that is made anew do with a message of EVENTS."""
    subject, headers, body = unflat(data)
    told = published.event_of(headers, body)
    seal.outbox_sequence(headers)
    seal.raw_position(headers)
    verdict = seal.verify(subject, body, headers, OWN)
    printable(f"{told} {verdict.why}")
    return verdict.ok and (subject, body, tuple(sorted(events.covered(headers).items()))) not in SEALED


def event_bodies() -> list[bytes]:
    return [unflat(one)[2] for one in event_messages()]


MEANT = {json.dumps({**json.loads(one), "signature": ""}, sort_keys=True) for one in event_bodies()[:2]}


def read_body(data: bytes) -> bool:
    """What a consumer does who keeps bodies alone: verify the signature in one."""
    fields = json.loads(data)
    if not isinstance(fields, dict) or not isinstance(fields.get("signature"), str):
        return False
    ok = OWN.verify_signature(events.canonical(fields), fields["signature"])
    return ok and json.dumps({**fields, "signature": ""}, sort_keys=True) not in MEANT


# What JetStream and nats-py hand over -------------------------------------------------------------------------------


def read_answer(data: bytes) -> bool:
    with contextlib.suppress(Transient, Quarantine):
        jsapi.reply(data, None, "x")
    with contextlib.suppress(Transient, Quarantine):
        jsapi.puback(data, {"Status": data[:3].decode("latin-1")}, "x")
    jsapi.delivered("s", data.decode("utf-8", "replace"), None, b"")
    jsapi.stored(json.loads(data), "x")
    return False


def read_headers(data: bytes) -> bool:
    """A header block as it comes from the server, both ways it is read."""
    block = {"message": {"subject": "s", "seq": 1, "time": "2026-11-23T05:05:01Z", "hdrs": base64.b64encode(data).decode()}}
    headers = jsapi.stored(block, "x").headers
    seal.verify("s", b"{}", headers, OWN)
    coroutine = login.SecureClient()._process_headers(data)
    with contextlib.suppress(StopIteration):
        coroutine.send(None)
    return False


# Wazuh --------------------------------------------------------------------------------------------------------------


def wdb_answer(data: bytes) -> bool:
    """Bytes that come out of wazuh-db's socket, the frame's length among them."""
    ours, theirs = socket.socketpair()
    database = wdb.Wdb(Path("wdb"), SystemClock(), 1.0)
    try:
        theirs.sendall(data[: 2 * wdb.MAX_ANSWER])
        theirs.shutdown(socket.SHUT_WR)
        database._socket = ours
        ours.settimeout(1.0)
        with contextlib.suppress(EOFError):
            answer = wdb._answer(database._receive(ours, SystemClock().monotonic() + 1.0), Path("wdb"))
            rows.decode(answer.rows)
            with contextlib.suppress(SourceUnavailable):
                database.last_id(answer, 0)
            with contextlib.suppress(SourceUnavailable):
                rows.parse_probe(rows.probed([answer.rows[0].get("p") if answer.rows else None])[1], 0)
    finally:
        ours.close()
        theirs.close()
    return False


def framed(payload: bytes) -> bytes:
    return struct.pack("<I", len(payload)) + payload


def read_client_keys(data: bytes) -> bool:
    clientkeys.parse(data)
    return False


def read_ossec_conf(data: bytes) -> bool:
    ossecconf.parse(data.decode("utf-8", "replace"))
    return False


def read_config(data: bytes) -> bool:
    config.load(scratch("config.yaml", data), {})
    return False


def read_environment(data: bytes) -> bool:
    name, _, value = data.decode("utf-8", "replace").partition("=")
    config.load(None, {f"{config.ENVIRONMENT_PREFIX}{name}": value})
    return False


def databases() -> list[bytes]:
    from tests.collector import schemas

    made = []
    for version in ("4.2", "4.14", "5.0"):
        database = sqlite3.connect(":memory:")
        schemas.create(database, version)
        database.executemany(schemas.INSERT, [schemas.agent(number) for number in range(1, 8)])
        database.commit()
        made.append(database.serialize())
        database.close()
    return made


def read_database(data: bytes) -> bool:
    source = FileSource(scratch("global.db", data), SystemClock(), 1.0)
    try:
        source.read()
    finally:
        source.close()
    return False


ODD_JSON: tuple[Any, ...] = (ValueError, RecursionError)


def borders() -> list[Border]:
    """All of them; shares add up to 1000."""
    packed = [wire.encode(one) for one in snapshots()]
    payloads = [*packed, *(wire._PLAIN + wire.unwrapped(one) for one in packed), *kept("wire")]
    return [
        Border("wire", 80, wire.MAX_PAYLOAD_BYTES, payloads, (Quarantine,), decode_payload),
        Border("fields of a snapshot", 80, wire.MAX_PAYLOAD_BYTES, values(), (Quarantine,), decode_fields),
        Border("fields of an envelope", 50, wire.PART_BYTES, values(), (Quarantine,), envelope_field),
        Border("raw messages without a key", 130, wire.PART_BYTES, raw_messages(), (Quarantine,), through_the_gate),
        Border("raw messages of a node", 90, wire.MAX_PAYLOAD_BYTES, parts(), (Quarantine,), signed_by_a_node),
        Border("events", 90, MIB, event_messages() + kept("events"), (), read_event),
        Border("events under two signatures, encrypted", 60, MIB, sealed_events(), (), prove_event),
        Border("key files", 20, MIB, key_files(), (ConfigError,), read_key_file),
        Border("event bodies", 50, MIB, event_bodies(), ODD_JSON, read_body),
        Border("answers of JetStream", 60, MIB, kept("jetstream"), (Transient, Quarantine, *ODD_JSON), read_answer),
        Border("headers", 60, MIB, kept("headers"), (), read_headers),
        Border("wdb answers", 90, wdb.MAX_ANSWER, [framed(one) for one in kept("wdb")], (SourceUnavailable,), wdb_answer),
        Border("client.keys", 50, clientkeys.MAX_BYTES, kept("client.keys"), (), read_client_keys),
        Border("ossec.conf", 50, ossecconf.MAX_BYTES, kept("ossec.conf"), (ConfigError,), read_ossec_conf),
        Border("config YAML", 10, config.MAX_FILE_BYTES, kept("config"), (ConfigError,), read_config),
        Border("config environment", 10, config.MAX_FILE_BYTES, kept("environment"), (ConfigError,), read_environment),
        Border("global.db", 20, 64 * MIB, databases(), (SourceUnavailable,), read_database),
    ]
