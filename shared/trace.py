"""Trace contexts in the form of W3C Trace Context (https://www.w3.org/TR/trace-context/), made from facts alone. Pure.

    snapshot of (subject, boot, seq) --> trace id, root span --step--> span --step--> span ...

Rules
 * A snapshot's trace id and each span's id are digests of what they are about. So a snapshot that is sent again, or decided
   again, by a process that knows nothing of the first time, goes on in the same trace; nothing has to be stored for it.
 * A context is a pointer for people. Nothing is decided by it, no signature covers it, and one that cannot be read is none.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

HEADER: Final = "traceparent"
_FORM: Final = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?", re.ASCII)
_MAX: Final = 512  # characters of a header: later versions of the form may be longer than the 55 of version 00


@dataclass(frozen=True, slots=True)
class Context:
    """One span of one trace. `sampled`: it is recorded somewhere."""

    trace_id: str  # 32 hex digits
    span_id: str  # 16 hex digits
    sampled: bool = False

    @property
    def header(self) -> str:
        """The value of HEADER."""
        return f"00-{self.trace_id}-{self.span_id}-0{self.sampled:d}"


def root(subject: str, boot: int, seq: int) -> Context:
    """The root span of what was said on a subject under these numbers; not sampled."""
    digest = hashlib.sha256(f"wazuh-jetstream trace\0{subject}\0{boot}\0{seq}".encode("utf-8", "replace")).hexdigest()
    return Context(digest[:32], digest[32:48])


def step(parent: Context, name: str) -> Context:
    """The span of a step below `parent`; sampled as that is."""
    digest = hashlib.sha256(f"{parent.trace_id}\0{parent.span_id}\0{name}".encode()).hexdigest()
    return Context(parent.trace_id, digest[:16], parent.sampled)


def parse(value: str | None) -> Context | None:
    """The context in a header that anybody may have written; None where there is none that can be read."""
    found = None if value is None or len(value) > _MAX else _FORM.fullmatch(value)
    if found is None or not int(found[1], 16) or not int(found[2], 16):
        return None
    return Context(found[1], found[2], bool(int(found[3], 16) & 1))
