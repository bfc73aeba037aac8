"""JetStream's replies as values and errors.

Pure: bytes and header texts in, values out. `shared.jetstream` does the talking and names all of this again.
Sources: nats-server `server/errors.json` (error codes), ADR-15 (the ack reply subject), ADR-50 (atomic batches).
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from .errors import Quarantine, Transient, Unreachable
from .logs import printable

# Values -------------------------------------------------------------------------------------------------------------


class Message(NamedTuple):
    """One message to publish. `shared`: more headers, the very same object in messages that follow each other and have them in common."""

    subject: str
    body: bytes
    headers: Mapping[str, str]
    shared: Mapping[str, str] = MappingProxyType({})

    @property
    def all_headers(self) -> dict[str, str]:
        """Its own and the shared ones."""
        return {**self.shared, **self.headers}


@dataclass(frozen=True, slots=True)
class PubAck:
    """The stream holds it: `seq` of the message, or of the last one of a batch. `duplicate`: it held it already."""

    stream: str
    seq: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message read from a stream by its place."""

    subject: str
    headers: dict[str, str]
    data: bytes
    seq: int
    time_ms: int  # Unix ms by the stream's clock


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message that a consumer delivered."""

    subject: str
    headers: dict[str, str]
    data: bytes
    stream_seq: int
    consumer_seq: int  # 1, 2, 3 ... without a hole unless something was delivered twice or to somebody else
    time_ms: int  # Unix ms by the stream's clock
    num_pending: int  # messages in the stream after this one that this consumer has not seen
    reply: str  # where its ack goes


# Errors -------------------------------------------------------------------------------------------------------------


class Timeout(Transient):
    """No answer in time, or the connection broke while waiting. What was published may be stored or not: same Msg-Id again."""


class Refused(Transient):
    """JetStream said no; nothing was stored. `code` is the err_code of nats-server's errors.json, 0 where there is none."""

    def __init__(self, sentence: str, code: int = 0) -> None:
        self.code = code
        super().__init__(sentence)


class NotStored(Refused):
    """No stream takes this subject, or the stream or consumer is not there (yet, or now)."""


class StreamFull(Refused):
    """The stream or the server's storage is full."""


class WrongLastSequence(Refused):
    """Nats-Expected-Last-Sequence did not hold: somebody else has written. `last` is the stream's last sequence."""

    def __init__(self, sentence: str, code: int, last: int) -> None:
        self.last = last
        super().__init__(sentence, code)


class DuplicateInBatch(Refused):
    """A Nats-Msg-Id of the batch is in the stream already; the whole batch was refused."""


class TooLarge(Quarantine):
    """The message can never be stored on this server."""

    def __init__(self, sentence: str) -> None:
        super().__init__("too_large", sentence)


_MESSAGE_TOO_LARGE: Final = 10054
_WRONG_LAST_SEQUENCE: Final = (10071, 10164)
_KINDS: Final[dict[int, type[Refused]]] = {
    10014: NotStored,  # consumer not found
    10059: NotStored,  # stream not found
    10039: NotStored,  # JetStream not enabled for account
    10076: NotStored,  # JetStream not enabled
    10008: NotStored,  # JetStream system temporarily unavailable
    10118: NotStored,  # stream is offline
    10023: StreamFull,  # insufficient resources
    10047: StreamFull,  # insufficient storage resources
    10077: StreamFull,  # the store refused: maximum messages or bytes exceeded
    10201: DuplicateInBatch,
}


def refusal(error: Mapping[str, Any], what: str) -> Refused | TooLarge:
    """The error in a JetStream reply; `what` was asked for."""
    code = error.get("err_code")
    code = code if isinstance(code, int) else 0
    reason = printable(str(error.get("description", "no reason given")))[:500]
    sentence = f"NATS refused {what}: {reason} ({code})"
    if code == _MESSAGE_TOO_LARGE:
        return TooLarge(sentence)
    if code in _WRONG_LAST_SEQUENCE:
        return WrongLastSequence(sentence, code, _last_number(reason))
    return _KINDS.get(code, Refused)(sentence, code)


def _last_number(text: str) -> int:
    number = text.rpartition(":")[2].strip()
    return int(number) if number.isdecimal() else 0


# Replies ------------------------------------------------------------------------------------------------------------

STATUS_HEADER: Final = "Status"
NO_RESPONDERS: Final = "503"


def reply(data: bytes, headers: Mapping[str, str] | None, what: str) -> dict[str, Any]:
    """The JSON object of a reply. Raises NotStored for nobody there, the error the reply holds, Unreachable for nonsense."""
    if headers and headers.get(STATUS_HEADER) == NO_RESPONDERS:
        raise NotStored(f"NATS refused {what}: nothing there takes it; is the stream provisioned and JetStream enabled?")
    try:
        fields = json.loads(data)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise Unreachable(f"the answer to {what} is not from JetStream; does another service listen on that subject?")
    error = fields.get("error")
    if error is not None:
        raise refusal(error if isinstance(error, dict) else {}, what)
    return fields


def puback(data: bytes, headers: Mapping[str, str] | None, what: str) -> PubAck:
    """The ack of a publish. Raises as `reply`."""
    fields = reply(data, headers, what)
    stream, seq = fields.get("stream"), fields.get("seq")
    if not isinstance(stream, str) or type(seq) is not int:
        raise Unreachable(f"the answer to {what} is not an ack of a stream; does another service listen on that subject?")
    return PubAck(stream, seq, fields.get("duplicate") is True)


def stored(fields: Mapping[str, Any], what: str) -> StoredMessage:
    """The message in a reply to STREAM.MSG.GET. Raises Unreachable for nonsense."""
    try:
        message = fields["message"]
        return StoredMessage(
            subject=str(message["subject"]),
            headers=_headers(base64.b64decode(message.get("hdrs", ""), validate=True)),
            data=base64.b64decode(message.get("data", ""), validate=True),
            seq=int(message["seq"]),
            time_ms=_milliseconds(message["time"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError, binascii.Error) as error:
        raise Unreachable(f"the answer to {what} is not a message") from error


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _milliseconds(time: str) -> int:
    return (datetime.fromisoformat(time) - _EPOCH) // timedelta(milliseconds=1)


def _headers(block: bytes) -> dict[str, str]:
    lines = block.decode("utf-8", "replace").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


_V1_TOKENS: Final = 9  # $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<ns>.<pending>
_V2_TOKENS: Final = 11  # $JS.ACK.<domain>.<account>.<stream> ... as above, and perhaps a random token


def delivered(subject: str, reply_to: str, headers: dict[str, str] | None, data: bytes) -> Delivered | None:
    """The message with the places that its reply subject tells; None where it is not a delivery of a consumer."""
    tokens = reply_to.split(".")
    first = 5 if len(tokens) == _V1_TOKENS else 7
    places = tokens[first : first + 4]
    known = len(tokens) == _V1_TOKENS or len(tokens) >= _V2_TOKENS
    if not known or tokens[:2] != ["$JS", "ACK"] or not all(map(str.isdecimal, places)):
        return None
    stream_seq, consumer_seq, nanoseconds, pending = map(int, places)
    return Delivered(subject, headers or {}, data, stream_seq, consumer_seq, nanoseconds // 1_000_000, pending, reply_to)
