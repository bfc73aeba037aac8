"""What the relay says: events, batches, heartbeats, and the messages that carry them.

Pure. The bodies are the seed's and stay exactly so: an event has its ten keys and no other; everything more travels in
NATS headers, in CloudEvents 1.0 binary mode (https://github.com/cloudevents/spec, NATS protocol binding).

Rules
 * An event's id is made from facts alone (who, what, when it happened by Wazuh's own record, and the agent's event
   before it): nothing of a clock, a node or a threshold, so that deciding again gives the same id.
 * `timestamp` is when it happened by Wazuh's record, never when the relay noticed.
 * One event goes to `.status` and to the subject of its kind; the body is the same, the Nats-Msg-Id is not, because a
   stream deduplicates across subjects.
 * A batch holds the events of one input, at most BATCH_EVENTS of them, so that it stays below NATS's payload limit.

To add a kind: see the end of docs/events.md.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import quote, unquote

import rfc8785

from shared import subjects

Status = Literal["Active", "Disconnected", "NeverConnected", "Pending", "Unknown"]
Kind = Literal[
    "connected", "disconnected", "pending", "registered", "removed",
    "moved", "overdue", "overdue_cleared", "version_refused", "removed_but_connected",
]  # fmt: skip
"""The first five change the status; the others tell what else a consumer should know, previous and current being equal."""

ManagerKind = Literal["manager_restarted", "manager_unreachable", "manager_back", "duplicate_collector", "clock_off"]

Reason = Literal[
    "first_contact", "returned", "stopped", "silent", "manager_reset", "unexplained", "startup", "registered", "removed", "reregistered",
    "moved", "keepalive_overdue", "kept_alive", "version_refused", "removed_but_connected",
]  # fmt: skip
"""Why: status_code 3, 4 and 5 of Wazuh's row say stopped, silent and manager_reset; unexplained where a schema before
4.6 has no code. An agent that is Active had its first_contact or returned. reregistered: the name was registered before."""

TOKENS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "connected": ("status", "connected"),
    "disconnected": ("status", "disconnected"),
    "pending": ("status",),
    "registered": ("status", "registered"),
    "removed": ("status", "removed"),
    "moved": ("moved",),
    "overdue": ("overdue",),
    "overdue_cleared": ("overdue_cleared",),
    "version_refused": ("version_refused",),
    "removed_but_connected": ("removed_but_connected",),
}
"""The last tokens of the subjects that an event of a kind is published on."""

SCHEMA_VERSION: Final = "1"
BATCH_EVENTS: Final = 500  # about 400 bytes each: 200 KB of NATS's 1 MiB

H_SCHEMA: Final = "Wazuh-Schema"
H_KIND: Final = "Wazuh-Kind"
H_REASON: Final = "Wazuh-Reason"
H_CLUSTER: Final = "Wazuh-Cluster"
H_LATE: Final = "Wazuh-Late"
H_LEFT: Final = "Wazuh-Left-Manager"
H_OUTBOX: Final = "Wazuh-Outbox-Sequence"
H_POSITION: Final = "Wazuh-Raw-Position"
H_ENCRYPTION: Final = "Wazuh-Encryption"
H_CHAIN: Final = "Wazuh-Chain"
H_PREVIOUS: Final = "Wazuh-Chain-Previous"
H_DIGEST: Final = "Wazuh-Chain-Digest"
H_MESSAGE_ID: Final = "Nats-Msg-Id"
CE_ID: Final = "ce-id"
CE_CONTENT: Final = "ce-datacontenttype"

BATCH: Final = "batch"
CHECKPOINT: Final = "checkpoint"
LEFT_OUT: Final = "left_out"
"""The kind of a message that stands for one that the server refused; it ends the Nats-Msg-Id of that one."""

_compact: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
_quoted: Final = json.encoder.encode_basestring

COVERED_PREFIXES: Final = ("wazuh-", "ce-")
"""Headers that mean something and are covered by the signature; the signature itself is not (sealing.SIGNATURE_HEADER)."""


class Event(NamedTuple):
    """One change of one agent. Times are Unix seconds as Wazuh recorded them."""

    kind: Kind
    reason: Reason
    agent_id: int
    agent_name: str
    previous: Status
    current: Status
    ip: str | None
    last_keepalive: int | None
    manager_node: str
    timestamp: int
    event_id: str
    late: bool  # decided from a snapshot that had waited in a spool
    left: str | None = None  # moved: the manager it was on before


@dataclass(frozen=True, slots=True)
class ManagerEvent:
    """What is told of a manager. `timestamp` in Unix seconds; `details`: what it is about, by kind (README)."""

    kind: ManagerKind
    node: str
    timestamp: int
    event_id: str
    details: Mapping[str, int | float | str]


@dataclass(frozen=True, slots=True)
class Summary:
    """The fleet after an input."""

    total: int
    active: int
    disconnected: int
    changes: int


class Message(NamedTuple):
    """One message to be sealed and published. `body` is RFC 8785 JSON without a signature."""

    subject: str
    message_id: str
    body: bytes
    headers: Mapping[str, str]


@lru_cache(maxsize=1024)  # who goes at once goes at the same second
def utc(seconds: int) -> str:
    """Unix seconds as RFC 3339 UTC; what no calendar holds is the calendar's end, as Wazuh itself writes it."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return "9999-12-31T23:59:59Z"


def event_id(
    cluster: str,
    agent: tuple[int, str, int],
    kind: Kind,
    change: tuple[Status, Status],
    timestamp: int,
    code: int | None,
    previous_id: str,
) -> str:
    """`evt_{agent_id}_{t}_{kind}_{h}`. `agent` is its identity (id, name, date_add); ids alone are reused by Wazuh."""
    facts = [1, cluster, *agent, kind, *change, timestamp, code, previous_id]
    digest = hashlib.sha256(packed(_interoperable(facts))).hexdigest()[:16]
    return f"evt_{subjects.agent_id(agent[0])}_{timestamp}_{kind}_{digest}"


def _interoperable(facts: Sequence[Any]) -> list[Any]:
    # RFC 8785 knows only numbers that a double holds exactly; a hostile row may hold larger ones.
    return [str(fact) if isinstance(fact, int) and abs(fact) >= 2**53 else fact for fact in facts]


def manager_event_id(cluster: str, node: str, kind: ManagerKind, timestamp: int, previous_id: str) -> str:
    """`evt_{node}_{t}_{kind}_{h}`, made of facts alone, as an agent event's."""
    facts = [1, cluster, node, kind, timestamp, previous_id]
    digest = hashlib.sha256(rfc8785.dumps(_interoperable(facts))).hexdigest()[:16]
    return f"evt_{percent(node)}_{timestamp}_{kind}_{digest}"


def body(event: Event) -> dict[str, Any]:
    """The ten keys of the seed's AgentStatusEvent, not yet signed: what `_text` writes."""
    return {
        "agent_id": subjects.agent_id(event.agent_id),
        "agent_name": event.agent_name,
        "previous_status": event.previous,
        "current_status": event.current,
        "ip_address": event.ip,
        "last_keepalive": None if event.last_keepalive is None else utc(event.last_keepalive),
        "manager_node": event.manager_node,
        "timestamp": utc(event.timestamp),
        "event_id": event.event_id,
        "signature": None,
    }


NO_SIGNATURE: Final = b',"signature":null,'
"""The room for an event's signature in the canonical form of a batch. No text in it holds these bytes: there, a quote is escaped, and
behind the one that ends it comes a comma, brace or bracket."""


def canonical(fields: Mapping[str, Any]) -> bytes:
    """The RFC 8785 form of a body without its `signature`: what that signature is over.

    Of what is `_plain`, as events and batches are, Python's own JSON is that form, three times as fast; a test holds it.
    Raises ValueError where there is none.
    """
    unsigned = {key: value for key, value in fields.items() if key != "signature"}
    return _compact(unsigned).encode() if _plain(unsigned) else rfc8785.dumps(unsigned)


def _plain(value: object) -> bool:
    """Whether a value holds nothing but text, null and whole numbers that a double holds, under ASCII keys."""
    kind = type(value)
    if value is None or kind is str:
        return True
    if isinstance(value, dict):
        return all(map(str.isascii, value)) and all(map(_plain, value.values()))
    return all(map(_plain, value)) if isinstance(value, list) else kind is int and abs(value) < 2**53  # type: ignore[arg-type]


def packed(value: object) -> bytes:
    """The RFC 8785 form of what holds texts, null and numbers that a double holds exactly, under ASCII keys: ten times quicker
    than the form of anything, and the same, as a test holds. Raises ValueError for half a surrogate pair, as that does."""
    return _compact(value).encode()


def messages(prefix: str, cluster: str, event: Event) -> list[Message]:
    """The messages of one event: one on each of its kind's subjects."""
    canonical_form, headers = _text(event).encode(), _headers(cluster, event)
    return [
        Message(subjects.agent(prefix, event.agent_id, token), f"{event.event_id}:{token}", canonical_form, headers)
        for token in TOKENS[event.kind]
    ]


def manager_message(prefix: str, cluster: str, event: ManagerEvent) -> Message:
    """The message of one manager event."""
    fields = {
        "event_id": event.event_id,
        "event_type": event.kind,
        "manager_node": event.node,
        "timestamp": utc(event.timestamp),
        "details": dict(event.details),
    }
    headers = {
        **_cloudevent(cluster, event.node, event.event_id, f"manager.{event.kind}", utc(event.timestamp)),
        "ce-subject": percent(event.node),
        H_KIND: event.kind,
        H_CLUSTER: percent(cluster),
        H_SCHEMA: SCHEMA_VERSION,
    }
    return Message(subjects.manager_events(prefix), event.event_id, canonical(fields), headers)


def left_out(subject: str, left: Message, sequence: int, reason: str) -> Message:
    """What stands in the stream for a message of the outbox that it does not take: which one it was, and why."""
    told = json.loads(left.body)
    node, time, identity = str(told.get("manager_node", "")), str(told.get("timestamp", "")), f"{left.message_id}:{LEFT_OUT}"
    fields = {
        "event_id": identity,
        "event_type": LEFT_OUT,
        "manager_node": node,
        "timestamp": time,
        "details": {"message_id": left.message_id, "subject": left.subject, "sequence": sequence, "reason": reason},
    }
    cluster = left.headers.get(H_CLUSTER, "")
    headers = {
        **_cloudevent(unquote(cluster), node, identity, f"message.{LEFT_OUT}", time),
        "ce-subject": percent(node),
        H_KIND: LEFT_OUT,
        H_CLUSTER: cluster,
        H_SCHEMA: SCHEMA_VERSION,
    }
    return Message(subject, identity, canonical(fields), headers)


def batches(prefix: str, cluster: str, node: str, position: int, now: int, happened: Sequence[Event], summary: Summary) -> list[Message]:
    """The batch messages of one input, made from its RAW `position` and stream time `now` (Unix ms), so that they are the
    same each time the input is decided, and others where RAW was made anew. A fleet's baseline makes one without events."""
    chunks = [happened[i : i + BATCH_EVENTS] for i in range(0, len(happened), BATCH_EVENTS)] or [[]]
    return [
        Message(
            subjects.agent_events(prefix),
            f"batch_{position}_{now}_{number}",
            _batch(f"batch_{position}_{now}_{number}", node, now, chunk, summary),
            {
                **_cloudevent(cluster, node, f"batch_{position}_{now}_{number}", "agents.batch", utc(now // 1000)),
                H_KIND: BATCH,
                H_CLUSTER: percent(cluster),
                H_SCHEMA: SCHEMA_VERSION,
            },
        )
        for number, chunk in enumerate(chunks)
    ]


def _batch(batch_id: str, node: str, now: int, chunk: Sequence[Event], summary: Summary) -> bytes:
    """The RFC 8785 form of a batch."""
    counts = {
        "total_agents": summary.total,
        "active_agents": summary.active,
        "disconnected_agents": summary.disconnected,
        "changes_detected": summary.changes,
    }
    around = {"batch_id": batch_id, "manager_node": node, "timestamp": utc(now // 1000), "events": [], "summary": counts}
    before, empty, after = packed(around).partition(b'"events":[')
    return b"%s%s%s%s" % (before, empty, ",".join([_text(event, '"signature":null,') for event in chunk]).encode(), after)


def _text(event: Event, signature: str = "") -> str:
    """The RFC 8785 form of an event's `body`, at a quarter of the cost of making any such form; a test holds the two together.
    `signature`: what stands in its place."""
    ip = "null" if event.ip is None else _quoted(event.ip)
    last_keepalive = "null" if event.last_keepalive is None else f'"{utc(event.last_keepalive)}"'
    return (
        f'{{"agent_id":"{subjects.agent_id(event.agent_id)}","agent_name":{_quoted(event.agent_name)},'
        f'"current_status":{_quoted(event.current)},"event_id":{_quoted(event.event_id)},"ip_address":{ip},'
        f'"last_keepalive":{last_keepalive},"manager_node":{_quoted(event.manager_node)},'
        f'"previous_status":{_quoted(event.previous)},{signature}"timestamp":"{utc(event.timestamp)}"}}'
    )


def _headers(cluster: str, event: Event) -> dict[str, str]:
    headers = {
        **_cloudevent(cluster, event.manager_node, event.event_id, f"agent.{event.kind}", utc(event.timestamp)),
        "ce-subject": subjects.agent_id(event.agent_id),
        H_KIND: event.kind,
        H_REASON: event.reason,
        H_CLUSTER: percent(cluster),
        H_SCHEMA: SCHEMA_VERSION,
    }
    if event.late:
        headers[H_LATE] = "true"
    if event.left is not None:
        headers[H_LEFT] = percent(event.left)
    return headers


def _cloudevent(cluster: str, node: str, identity: str, kind: str, time: str) -> dict[str, str]:
    return {
        "ce-specversion": "1.0",
        "ce-id": identity,
        "ce-source": f"/wazuh-jetstream/{percent(cluster)}/{percent(node)}",
        "ce-type": f"wazuh-jetstream.{kind}.v1",
        "ce-time": time,
        "ce-datacontenttype": "application/json",
    }


@lru_cache(maxsize=256)  # a fleet has few clusters and managers, and each event names them
def percent(text: str) -> str:
    """Text as a header value: percent-encoded as CloudEvents asks, so that no name can break out of a header."""
    return quote(text, safe="", errors="replace")


def covered(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that a message's signature covers, by lower-case name (NATS keeps case, proxies may not)."""
    names = ((covered_name if len(name) <= LONGEST_OWN else covered_name.__wrapped__)(name) for name in headers)
    return {name: value for name, value in zip(names, headers.values(), strict=True) if name}


LONGEST_OWN: Final = 40  # characters of a header's name: what is longer is none of ours, and not worth remembering


@lru_cache(maxsize=128)
def covered_name(name: str) -> str:
    """A header's name in lower case; empty where the signature does not cover it. Kept in mind, for they are always the same."""
    lower = name.lower()
    return lower if lower.startswith(COVERED_PREFIXES) and lower != "wazuh-signature" else ""
