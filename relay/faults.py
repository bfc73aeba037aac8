"""What can be wrong with a stream of events. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

FaultKind = Literal[
    "forged", "missing", "reordered", "repeated", "broken_link", "truncated", "other_chain", "unchained", "false_head", "removed_early",
]  # fmt: skip

MEANING: Final[Mapping[FaultKind, str]] = {
    "forged": "a signature is missing, of something else, or under a key that does not count: changed, or put in by somebody",
    "missing": "messages are not there between two that are",
    "reordered": "a message does not stand where it was published",
    "repeated": "a message stands there a second time",
    "broken_link": "the message before is not the one that this one was tied to",
    "truncated": "the relay signed that the chain goes on, and the stream ends before",
    "other_chain": "a message of another chain: of a relay with another ledger, or of another time",
    "unchained": "a signed message without a place in the chain, after the chain began",
    "false_head": "a signed head is not of this chain",
    "removed_early": "the beginning is gone before its time",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and where. Sequences are None, and the id empty, where there is none to name."""

    kind: FaultKind
    stream_sequence: int | None
    outbox_sequence: int | None
    event_id: str
    sentence: str
