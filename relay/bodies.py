"""Takes signed bodies apart as the relay wrote them, without reading what they say. Pure.

The relay writes a body of one event as what it signed with the signature at the end, and a batch as plain compact JSON, keys
sorted (`relay.seal`). A quotation mark inside a text is written `\\"`, so that a pattern with bare ones around `signature` finds
that key and nothing else.
"""

import json
import re
from dataclasses import dataclass
from typing import Final

from . import events

_AT_THE_END: Final = b',"signature":"'
_AMONG_OTHERS: Final = re.compile(rb'"signature":"([0-9a-f]+)",')
_EVENTS: Final = b'"events":['


@dataclass(frozen=True, slots=True)
class Parts:
    """`signed`: each text that a signature in the body is to be of, and that signature; `bare`: the body without signatures."""

    signed: list[tuple[bytes, str]]
    bare: bytes


def apart(body: bytes) -> Parts | None:
    """The parts of a body; None where the relay did not write it so. Whether the signatures are right is not known yet: if all are,
    `bare` is the RFC 8785 form that the chain is over."""
    begin, _, end = body.rpartition(_AT_THE_END)
    if not begin or end.find(b'"') != len(end) - 2 or not end.endswith(b"}"):
        return _batch(body)
    bare = begin + b"}"
    return Parts([(bare, end[:-2].decode("ascii", "replace"))], bare)


def _batch(body: bytes) -> Parts | None:
    begin, found, rest = body.partition(_EVENTS)
    first, *others = _AMONG_OTHERS.split(rest)
    if not found or not others:
        return None
    signed, start = [], first
    for signature, behind in zip(others[::2], others[1::2], strict=True):
        end, _, after = behind.partition(b"}")
        signed.append((start + end + b"}", signature.decode()))
        start = after[1:]
    told, without = b",".join([text for text, _ in signed]) + after, b"".join((first, *others[1::2]))
    if told != without or not _is_empty_batch(begin + _EVENTS + after):
        return None
    return Parts(signed, begin + _EVENTS + told)


def _is_empty_batch(text: bytes) -> bool:
    """Whether it is a batch without events, in its RFC 8785 form."""
    try:
        fields = json.loads(text)
        return isinstance(fields, dict) and fields.get("events") == [] and events.canonical(fields) == text
    except (ValueError, RecursionError):
        return False
