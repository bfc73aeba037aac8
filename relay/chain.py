"""The chain: every message of the outbox is tied to the one before it, so that what is missing between two is missed. Pure.

    content  = SHA-256 of these lines, joined by one line feed:
                 SHA-256 of the body's RFC 8785 form without its signatures (its own, and those of a batch's `events`)
                 name:value of each header `Wazuh-...` and `ce-...` but APART, names in lower case; these lines are sorted
    digest   = SHA-256 of the lines VERSION, chain, sequence, previous, subject, content
    previous = the digest of the message before; GENESIS where the chain begins
    chain    = the first 16 digits of the digest that its first message would have in the chain named ""

All in hex, all text UTF-8. The sequence is `Wazuh-Outbox-Sequence`. Nothing of a key is in it: signing again under another
key, or encrypting, leaves the chain as it is. What is decided again gives the same chain.

A message that the server refused is stood for by another one under its sequence, which tells its digest in
`Wazuh-Chain-Digest`: the chain goes on with that.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from . import events
from .events import Message

VERSION: Final = "wazuh-jetstream-chain/1"
GENESIS: Final = "0" * 64
NAME_DIGITS: Final = 16
APART: Final = frozenset(
    name.lower() for name in (events.H_OUTBOX, events.H_CHAIN, events.H_PREVIOUS, events.H_DIGEST, "ce-datacontenttype")
)
"""Headers that content does not cover: the place in the chain, and how the body is wrapped."""
WRAPPING: Final = "wazuh-encryption"
"""Begins the names of all other headers that say how the body is wrapped."""

_compact: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


class Link(NamedTuple):
    """What a message says of its place. `chain` is empty where it was decided before there was a chain."""

    chain: str
    previous: str


NO_LINK: Final = Link("", "")


class Head(NamedTuple):
    """A chain up to a message: that one's sequence and digest. `chain` is empty where none has begun."""

    chain: str
    sequence: int
    digest: str


class Linked(NamedTuple):
    """A message with its place in the chain."""

    sequence: int
    link: Link
    message: Message


class Chain:
    """A chain that grows. `head` is its end."""

    def __init__(self, head: Head) -> None:
        self.head = head

    def extend(self, messages: Iterable[Message], position: int) -> Iterator[Linked]:
        """Tie messages, that were decided on a RAW position, to the end one after the other."""
        body, headers, told = b"", None, ""
        for message in messages:
            if message.headers is not headers or message.body is not body:  # the messages of one event share them
                body, headers = message.body, message.headers
                told = _content(message, position)
            sequence = self.head.sequence + 1
            link = self._link(sequence, message.subject, told)
            self.head = Head(link.chain, sequence, digest(link, sequence, message.subject, told))
            yield Linked(sequence, link, message)

    def _link(self, sequence: int, subject: str, told: str) -> Link:
        if self.head.chain:
            return Link(self.head.chain, self.head.digest)
        return Link(digest(Link("", GENESIS), sequence, subject, told)[:NAME_DIGITS], GENESIS)


def digest_of(message: Message, sequence: int, position: int, link: Link) -> str:
    """The digest of a message as it is in the outbox."""
    return digest(link, sequence, message.subject, _content(message, position))


def _content(message: Message, position: int) -> str:
    """A body of the outbox has no signature of its own, but a batch's events have room for theirs."""
    batch = message.headers.get(events.H_KIND) == events.BATCH
    body = message.body.replace(events.NO_SIGNATURE, b",") if batch else message.body
    return content(sha256(body), {**message.headers, events.H_POSITION: str(position)})


def content(body: str, headers: Mapping[str, str]) -> str:
    """What a message says, as one digest; `body` is that of its body, as `sha256(unsigned(…))` gives it."""
    told = sorted([f"{covered}:{value}" for name, value in headers.items() if (covered := telling(name))])
    return sha256("\n".join((body, *told)).encode("utf-8", "surrogatepass"))


@lru_cache(maxsize=256)
def telling(name: str) -> str:
    """A header's name in lower case; empty where content does not cover it."""
    lower = events.covered_name(name)
    return "" if lower in APART or lower.startswith(WRAPPING) else lower


def sha256(data: bytes) -> str:
    """In hex."""
    return hashlib.sha256(data).hexdigest()


def digest(link: Link, sequence: int, subject: str, told: str) -> str:
    """The digest of a message; `told` is its content."""
    lines = f"{VERSION}\n{link.chain}\n{sequence}\n{link.previous}\n{subject}\n{told}"
    return sha256(lines.encode("utf-8", "surrogatepass"))


def unsigned(fields: Mapping[str, Any]) -> bytes:
    """A body without its signatures, in the form that `content` is over.

    For what the relay signs this is the RFC 8785 form: keys are ASCII, and Python writes its numbers as JSON's readers do.
    Raises ValueError for a text that no encoding has.
    """
    kept = {key: value for key, value in fields.items() if key != "signature"}
    if isinstance(inner := kept.get("events"), list):
        kept["events"] = [_bare(event) for event in inner]
    return _compact(kept).encode()


def _bare(event: object) -> object:
    return {key: value for key, value in event.items() if key != "signature"} if isinstance(event, dict) else event


# Headers ------------------------------------------------------------------------------------------------------------


def headers(link: Link) -> dict[str, str]:
    """The headers that tell a message's place; none where it has none."""
    return {events.H_CHAIN: link.chain, events.H_PREVIOUS: link.previous} if link.chain else {}


def link_of(headers: Mapping[str, str]) -> Link | None:
    """What a message's headers say of its place; None where it is in no chain."""
    chain, previous = headers.get(events.H_CHAIN), headers.get(events.H_PREVIOUS)
    return Link(chain, previous) if chain and previous else None


def head_of(subject: str, fields: Mapping[str, Any], headers: Mapping[str, str], sequence: int) -> Head | None:
    """The chain up to a message as it stands in EVENTS, its body opened; None where it is in no chain. Raises ValueError."""
    link = link_of(headers)
    if link is None:
        return None
    stood_for = headers.get(events.H_DIGEST)
    if stood_for is not None:
        return Head(link.chain, sequence, stood_for)
    return Head(link.chain, sequence, digest(link, sequence, subject, content(sha256(unsigned(fields)), headers)))
