"""The relay's values as rows of the ledger, and back. Pure.

Text from outside may hold what a database refuses: a lone surrogate (neither encodes it), NUL (PostgreSQL). `plain` writes
those as `\\uXXXX` and a backslash as two, so that ordinary names stay as they are and every name comes back as it was.

A row is a tuple in the order of its table's columns: a hundred thousand of them are written in one transaction.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from operator import attrgetter
from sys import intern
from typing import Any, Final, NamedTuple, TypeVar

import msgpack

from shared import trace, wire
from shared.models import AgentRow

from .chain import NO_LINK, Link, Linked
from .clocks import NodeClock
from .decided import Agent, Decision, Ghost, Hold, Manager, Move
from .events import Event, Message
from .fleet import Node
from .tables import Table

MAX_INT: Final = 2**63 - 1

_ODD: Final = re.compile(r"[\\\x00\ud800-\udfff]")
_ESCAPED: Final = re.compile(r"\\(\\|u[0-9a-f]{4})")

_json: Final = json.JSONEncoder(separators=(",", ":")).encode  # ASCII: NUL and surrogates come back as they were

_FACTS: Final = tuple(field.name for field in fields(Node))
_facts: Final = attrgetter(*_FACTS)

Row = tuple[Any, ...]
Quiet = tuple[Mapping[int, int], frozenset[int] | None, Mapping[int, int], int | None]
"""`quiet`, `news`, `woken` and `digest` of a tables.Table; no digest where an older version wrote it."""

_Text = TypeVar("_Text", str, str | None)


@dataclass(frozen=True, slots=True)
class Kept:
    """The snapshot of an input that was taken, as it came."""

    node: str
    position: int
    now: int  # Unix ms, the stream's time
    sent_at: int  # Unix ms by the node's clock
    kind: wire.Kind
    payload: bytes  # wire.decode reads it


class Outgoing(NamedTuple):
    """A message that is not yet known to be in EVENTS."""

    sequence: int
    position: int  # RAW sequence of the input that it was decided on
    message: Message
    link: Link = NO_LINK


@dataclass(frozen=True, slots=True)
class Past:
    """An event as it was decided. `now` in Unix ms by the stream's clock."""

    position: int
    now: int
    muted: bool  # decided again for a ledger that was rebuilt, not published again
    event: Event


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A message that was refused, and why."""

    number: int  # in this ledger
    position: int
    now: int  # Unix ms, the stream's time
    subject: str
    reason: str
    sentence: str
    headers: Mapping[str, str]
    payload: bytes


# Text ---------------------------------------------------------------------------------------------------------------


def plain(text: _Text) -> _Text:
    """Text that every database holds; `original` gives it back."""
    if text is None or _ODD.search(text) is None:
        return text
    return _ODD.sub(lambda odd: "\\\\" if odd[0] == "\\" else f"\\u{ord(odd[0]):04x}", text)


def original(text: _Text) -> _Text:
    """What `plain` was given."""
    if text is None or "\\" not in text:
        return text
    return _ESCAPED.sub(lambda escaped: "\\" if escaped[1] == "\\" else chr(int(escaped[1][1:], 16)), text)


def headers_text(headers: Mapping[str, str]) -> str:
    """Headers as JSON."""
    return _json(dict(headers))


def headers_of(text: str) -> dict[str, str]:
    """Headers that `headers_text` wrote."""
    headers: dict[str, str] = json.loads(text)
    return headers


# Agents -------------------------------------------------------------------------------------------------------------


def agent_row(agent: Agent) -> Row:
    """A row of `agents`. A hold until a time that 64 bits cannot say lasts until the last that they can."""
    hold, move = agent.hold, agent.moving
    return (
        agent.id,
        plain(agent.name),
        agent.date_add,
        agent.status,
        agent.reason,
        agent.since,
        plain(agent.ip),
        agent.last_keepalive,
        plain(agent.manager_node),
        plain(agent.witness),
        agent.contact,
        agent.last_event_id,
        *((None, None, None, None) if hold is None else (hold.kind, hold.since, min(hold.until, MAX_INT), hold.began)),
        agent.mirrored,
        *((None, None, None) if move is None else (plain(move.node), move.since, move.at)),
        agent.overdue,
        agent.refused,
        plain(agent.refused_by),
        agent.refused_at,
        agent.went_at,
    )


def contact_row(agent: Agent) -> Row:
    """The columns of `agents` that a newer contact moves, and whose they are."""
    return (agent.last_keepalive, agent.contact, agent.id)


def agents_of(rows: Sequence[Row], like: Sequence[AgentRow | None]) -> list[Agent]:
    """The agents that `agent_row` wrote. What equals a value of `like`, rows of the same ids, is that very value, and a word that many
    share is held once. By columns, for there are a hundred thousand."""
    if not rows:
        return []
    ids, names, ips, _, _, gone_at, seen_at, added, _ = zip(*(row or _NOBODY for row in like), strict=True)
    number, name, date_add, status, reason, since, ip, last_keepalive, manager_node, witness, contact, last_event_id, *more = zip(
        *rows, strict=True
    )
    kind, held, until, began, mirrored, to, to_since, to_at, overdue, refused, refused_by, refused_at, went_at = more
    columns = (
        _same(number, ids),
        _same(list(map(original, name)), names),
        _same(date_add, added),
        _shared(status),
        _shared(reason),
        _same(since, gone_at, seen_at, added),
        _same(list(map(original, ip)), ips),
        _same(last_keepalive, seen_at),
        _shared(manager_node),
        _shared(witness),
        _same(contact, seen_at, gone_at),
        last_event_id,
        [None if one[0] is None else Hold(*one) for one in zip(kind, held, until, began, strict=True)],
        map(bool, mirrored),
        [None if one[0] is None else Move(original(one[0]), *one[1:]) for one in zip(to, to_since, to_at, strict=True)],
        overdue,
        map(bool, refused),
        _shared(refused_by),
        refused_at,
        _same(went_at, gone_at),
    )
    return list(map(Agent._make, zip(*columns, strict=True)))


_NOBODY: Final = (None,) * len(AgentRow._fields)


def _same(column: Sequence[Any], *like: Sequence[Any]) -> Sequence[Any]:
    for known in like:
        column = known if column == known else [old if old == new else new for old, new in zip(known, column, strict=True)]
    return column


def _shared(words: Sequence[str | None]) -> Iterator[str | None]:
    known = {word: None if word is None else intern(original(word)) for word in set(words)}
    return map(known.__getitem__, words)


# Ghosts and managers ------------------------------------------------------------------------------------------------


def ghost_row(ghost: Ghost) -> Row:
    """A row of `ghosts`."""
    until = min(ghost.until, MAX_INT)
    return (ghost.id, plain(ghost.name), ghost.date_add, ghost.since, until, ghost.last_event_id, ghost.told)


def ghost_of(row: Sequence[Any]) -> Ghost:
    """The ghost that `ghost_row` wrote."""
    number, name, date_add, since, until, last_event_id, told = row
    return Ghost(number, original(name), date_add, since, until, last_event_id, bool(told))


def manager_row(manager: Manager) -> Row:
    """A row of `managers`."""
    return (
        plain(manager.node), manager.reset_at, manager.unreachable, manager.clock_off, manager.twin_at, manager.last_event_id,
    )  # fmt: skip


def manager_of(row: Sequence[Any]) -> Manager:
    """The manager that `manager_row` wrote."""
    node, reset_at, unreachable, clock_off, twin_at, last_event_id = row
    return Manager(original(node), reset_at, bool(unreachable), bool(clock_off), twin_at, last_event_id)


# Nodes --------------------------------------------------------------------------------------------------------------


def node_row(number: int, node: Node) -> Row:
    """A row of `nodes`."""
    facts = dict(zip(_FACTS, _facts(node), strict=True)) | {"clock": asdict(node.clock)}
    return (number, plain(node.node), _json(facts))


def node_of(facts: str) -> Node:
    """The node in the facts that `node_row` wrote. Raises ValueError, TypeError, KeyError for what it did not write."""
    told = json.loads(facts)
    clock = NodeClock(**told["clock"])
    told.setdefault("quiet_through", told["quiet_at"] and told["quiet_at"] + clock.offset)  # ledgers of old have none
    return Node(**{**told, "clock": replace(clock, settings=tuple((begins_at, before) for begins_at, before in clock.settings))})


def quiet_bytes(quiet: Quiet) -> bytes:
    """A node's quiet list, whose row changed since, who was named before, and the table's digest."""
    packed: bytes = msgpack.packb((dict(quiet[0]), None if quiet[1] is None else sorted(quiet[1]), dict(quiet[2]), quiet[3]))
    return packed


def quiet_of(packed: bytes) -> Quiet:
    """What `quiet_bytes` wrote. Raises ValueError, TypeError for what it did not write."""
    quiet, news, woken, *digest = msgpack.unpackb(packed, strict_map_key=False)
    return dict(quiet), None if news is None else frozenset(news), dict(woken), next(iter(digest), None)


def fits(table: Table) -> bool:
    """Whether a table can be one snapshot. Deltas alone can make it longer than the wire allows."""
    return max(len(table.rows), len(table.keys)) <= wire.MAX_ROWS


def whole(node: Node, table: Table) -> bytes:
    """The payload of a full snapshot that says all a table holds."""
    return wire.encode(
        wire.Snapshot(
            cluster=node.cluster,
            node=node.node,
            node_name=node.node_name,
            node_type=node.node_type,
            boot=node.boot,
            seq=node.seq,
            kind="full",
            taken_at=0,
            as_of=0,
            late=0,
            source=node.source,
            source_state="ok",
            source_error="",
            db_version=node.db_version,
            rows=tuple(table.rows.values()),
            gone=(),
            keys=tuple(table.keys.values()),
            keys_gone=(),
            keys_state="ok",
            quiet=None,
            period=0,
            count=len(table.rows),
            digest=table.digest,
            gap=False,
        )
    )


# Events and messages ------------------------------------------------------------------------------------------------


def history_rows(decision: Decision, *, muted: bool) -> Iterator[Row]:
    """A decision's rows of `history`, without their number."""
    for event in decision.happened:
        yield (
            decision.position,
            decision.now,
            muted,
            event.kind,
            event.reason,
            event.agent_id,
            plain(event.agent_name),
            event.previous,
            event.current,
            plain(event.ip),
            event.last_keepalive,
            plain(event.manager_node),
            event.timestamp,
            event.event_id,
            event.late,
            plain(event.left),
        )


def past_of(row: Sequence[Any]) -> Past:
    """The event that a row of `history`, with its number, tells of."""
    (_, position, now, muted, kind, reason, number, name, previous, current, ip, last_keepalive, node, timestamp, event_id) = row[:15]
    late, left = row[15:]
    event = Event(
        kind=kind,
        reason=reason,
        agent_id=number,
        agent_name=original(name),
        previous=previous,
        current=current,
        ip=original(ip),
        last_keepalive=last_keepalive,
        manager_node=original(node),
        timestamp=timestamp,
        event_id=event_id,
        late=bool(late),
        left=original(left),
    )
    return Past(position, now, bool(muted), event)


def outgoing(messages: Iterable[Linked], position: int, traceparent: str = "") -> Iterator[Outgoing]:
    """Messages in order as they wait to be published; `traceparent`: one more header."""
    more = {trace.HEADER: traceparent} if traceparent else {}
    given, headers = None, dict[str, str]()
    for linked in messages:
        message = linked.message
        if message.headers is not given:  # the messages of one event share them
            given, headers = message.headers, {**message.headers, **more}
        yield Outgoing(linked.sequence, position, Message(message.subject, message.message_id, message.body, headers), linked.link)


def outbox_rows(waiting: Iterable[Outgoing]) -> Iterator[Row]:
    """The rows of `outbox` for messages in order."""
    headers, text = None, ""
    for out in waiting:
        message, link = out.message, out.link
        if message.headers is not headers:
            headers, text = message.headers, headers_text(message.headers)
        yield (out.sequence, out.position, message.subject, message.message_id, text, message.body, link.chain, link.previous)


def outgoing_of(rows: Iterable[Sequence[Any]]) -> Iterator[Outgoing]:
    """The messages that rows of `outbox` hold. Those of one event share their headers and body."""
    text, headers, body = "", dict[str, str](), b""
    for sequence, position, subject, message_id, told, data, chain, previous in rows:
        if told != text or data != body:
            text, headers, body = told, headers_of(told), bytes(data)
        yield Outgoing(sequence, position, Message(subject, message_id, body, headers), Link(chain, previous))


def quarantined_of(row: Sequence[Any]) -> Quarantined:
    """The message that a row of `quarantine`, with its number, holds."""
    number, position, now, subject, reason, sentence, headers, payload = row
    return Quarantined(number, position, now, original(subject), reason, original(sentence), headers_of(headers), bytes(payload))
