"""What an operator asks of the relay: to retire a manager, to try a quarantined message again, to drop it.

Pure. A request is a message of RAW, signed with the relay's own key. So it has a place among the inputs: it is decided in its
turn by whichever relay decides, and once more by every replay. What it speaks of, it carries or names by its RAW position:
another ledger may have given it another number.

Rules
 * The signature covers the Nats-Msg-Id, and a request is good for MAX_AGE: so nobody can say it once more. Within that time
   the stream itself knows the id.
 * A quarantined message is known by its RAW position and its subject.
 * A message is tried again with the clock offset that was measured when it came first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from shared import columns, sealing
from shared.errors import Quarantine

from .fleet import Node

SCHEMA_VERSION: Final = 1
MESSAGE_ID: Final = "Nats-Msg-Id"
MAX_AGE: Final = 300_000  # ms, ahead or behind; below RAW's duplicate window of 15 min


@dataclass(frozen=True, slots=True)
class Forget:
    """A manager is retired: its view leaves the fleet. `force`: also if it is still heard."""

    node: str
    force: bool


@dataclass(frozen=True, slots=True)
class Retry:
    """A quarantined message is to be taken in again, as it came."""

    position: int  # in RAW, where it was refused
    first_at: int  # Unix ms, the stream's time of it
    subject: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Drop:
    """A quarantined message is of no use any more."""

    position: int
    subject: str


Request = Forget | Retry | Drop


def encode(request: Request, sent_at: int) -> bytes:
    """The message of a request. `sent_at` in Unix ms."""
    packed: bytes = msgpack.packb(
        {"v": SCHEMA_VERSION, "sent_at": sent_at, **_fields(request)}, unicode_errors="surrogatepass"
    )  # fmt: skip
    return packed


def _fields(request: Request) -> dict[str, object]:
    if isinstance(request, Forget):
        return {"ask": "forget", "node": request.node, "force": request.force}
    named: dict[str, object] = {"position": request.position, "subject": request.subject}
    if isinstance(request, Drop):
        return {"ask": "drop", **named}
    return {"ask": "retry", **named, "first_at": request.first_at, "headers": dict(request.headers), "body": request.body}


def signature(signer: sealing.MessageSigner, subject: str, body: bytes, message_id: str) -> str:
    """The value of SIGNATURE_HEADER for a request."""
    return signer.sign_header(subject, body, {MESSAGE_ID: message_id})


def opened(subject: str, headers: Mapping[str, str], body: bytes, now: int, own: sealing.Verifier) -> Request:
    """The request in a message. Raises Quarantine: unsigned, bad_signature, stale, malformed, newer_schema."""
    given = headers.get(sealing.SIGNATURE_HEADER)
    if given is None:
        raise Quarantine("unsigned", f"request refused: it has no {sealing.SIGNATURE_HEADER} header")
    if not own.verify_header(given, subject, body, {MESSAGE_ID: headers.get(MESSAGE_ID, "")}):
        raise Quarantine("bad_signature", "request refused: it is not signed with this relay's key")
    fields = _unpacked(body)
    if abs(now - _number(fields, "sent_at")) > MAX_AGE:
        raise Quarantine("stale", f"request refused: it is older than {MAX_AGE // 60_000} min, or its clock is off; ask again")
    return _request(fields)


def check(request: Request, nodes: Mapping[str, Node]) -> None:
    """Raise Quarantine where a request may not be done: unknown_node, still_heard, only_master."""
    if not isinstance(request, Forget):
        return
    refused, node = f"request to forget node {request.node!r} refused", nodes.get(request.node)
    if node is None:
        raise Quarantine("unknown_node", f"{refused}: no such node is known")
    if node.fresh and not request.force:
        raise Quarantine("still_heard", f"{refused}: it is heard; stop its collector and wait for relay.node_stale, or use --force")
    if len(nodes) > 1 and [other.node for other in nodes.values() if other.node_type != "worker"] == [node.node]:
        # Without a master the workers' own tables would say who is registered, and those may lack agents (rule 5).
        raise Quarantine("only_master", f"{refused}: it is the only master; let its successor's collector speak first")


def words(request: Request) -> str:
    """What is asked for, as the end of a sentence."""
    if isinstance(request, Forget):
        return f"forget node {request.node!r}"
    return f"drop message {request.position}" if isinstance(request, Drop) else f"take in message {request.position} again"


# Decoding -----------------------------------------------------------------------------------------------------------


def _unpacked(body: bytes) -> dict[str, Any]:
    try:
        fields = msgpack.unpackb(body, max_ext_len=0, unicode_errors="surrogatepass")
    except (ValueError, TypeError, RecursionError) as error:
        raise _malformed("it is not msgpack") from error
    if not isinstance(fields, dict):
        raise _malformed("it is not a map")
    if fields.get("v") != SCHEMA_VERSION:
        raise Quarantine("newer_schema", f"request refused: this relay reads schema {SCHEMA_VERSION}; use the command of its version")
    return fields


def _request(fields: Mapping[str, Any]) -> Request:
    match fields.get("ask"):
        case "forget":
            return Forget(_text(fields, "node"), fields.get("force") is True)
        case "retry":
            places = (_number(fields, "position"), _number(fields, "first_at"), _text(fields, "subject"))
            return Retry(*places, _headers(fields), _bytes(fields, "body"))
        case "drop":
            return Drop(_number(fields, "position"), _text(fields, "subject"))
    raise _malformed("it asks for nothing that is known")


def _malformed(what: str) -> Quarantine:
    return Quarantine("malformed", f"request refused: {what}")


def _number(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    if type(value) is not int or not 0 <= value <= columns.MAX_INT:
        raise _malformed(f"{name!r} is no number in range")
    return value


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise _malformed(f"{name!r} is no text")
    return value


def _bytes(fields: Mapping[str, Any], name: str) -> bytes:
    value = fields.get(name)
    if not isinstance(value, bytes):
        raise _malformed(f"{name!r} is no bytes")
    return value


def _headers(fields: Mapping[str, Any]) -> dict[str, str]:
    value = fields.get("headers")
    if not isinstance(value, dict) or not all(isinstance(text, str) for pair in value.items() for text in pair):
        raise _malformed("'headers' is no map of texts")
    return value
