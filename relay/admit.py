"""Turns a raw message into an input to decide on, or refuses it. Everything in RAW is hostile until it has passed here.

Pure: bytes, headers and keys in, an input out; the parts of a snapshot that is not whole yet wait in the assembler.

Rules
 * The subject names the node, and the header's signature must be under one of that node's keys. Nothing is unpacked before.
 * Ticks and requests (`relay.control`) are the relay's own: only its own keys sign them.
 * What an operator has taken in again is one whole message of a node; the snapshot that waits for its other parts is not touched.
 * The node in the envelope and in the snapshot must be the subject's; the cluster must be the relay's, once one is known.
 * A node whose clock runs far ahead of the stream's is believed (its offset is measured), but counted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from shared import columns, sealing, subjects, wire
from shared.errors import Quarantine

from . import control
from .assemble import Abandoned, Assembler
from .fleet import Forgotten, Heard, Input, Ticked

FUTURE_MS: Final = 300_000

Keys = Mapping[str, Mapping[str, sealing.VerifyingKey]]
"""node name -> key id -> key."""

Makers = Callable[[str], wire.Maker]
"""node name -> what makes the values of its snapshots."""


@dataclass(frozen=True, slots=True)
class Raw:
    """One message of RAW. `now` in Unix ms by the stream's clock."""

    subject: str
    headers: Mapping[str, str]
    body: bytes
    position: int
    now: int
    first_at: int | None = None  # the stream's time when it came first, where it is taken in again


def _anew(_node: str) -> wire.Maker:
    return wire.NEW


def again(request: control.Retry, at: Raw) -> Raw:
    """The message that an operator has taken in again, in the place of the request."""
    return Raw(request.subject, request.headers, request.body, at.position, at.now, request.first_at)


@dataclass(frozen=True, slots=True)
class Admitted:
    """What came of a message. `given` is None where more parts have to come."""

    given: Input | None
    payload: bytes = b""  # of the whole snapshot; empty for a tick
    future: bool = False
    abandoned: Abandoned | None = None
    request: control.Request | None = None


class Gate:
    """Admits raw messages. `own` are the keys that ticks are signed with."""

    def __init__(self, prefix: str, keys: Keys, own: sealing.Verifier, assembler: Assembler) -> None:
        self._prefix = f"{prefix}.raw."
        self._keys = keys
        self._own = own
        self._assembler = assembler

    def admit(self, raw: Raw, cluster: str, makers: Makers = _anew) -> Admitted:
        """The input that a message makes; `cluster` is the relay's, empty as long as none is known; `makers` make a node's values.

        Raises Quarantine: unknown_node, unsigned, bad_signature, malformed, newer_schema, oversized, wrong_node,
        incomplete, wrong_cluster, stale.
        """
        token = raw.subject.removeprefix(self._prefix)
        if raw.first_at is not None:
            return self._again(raw, raw.first_at, node_of(token, raw.subject), cluster, makers)
        if token == subjects.TICK:
            return self._tick(raw)
        if token == subjects.CONTROL:
            return self._request(raw)
        node = node_of(token, raw.subject)
        part = self._part(raw, node)
        abandoned = self._assembler.interrupted(node, part)
        try:
            payload = self._assembler.feed(node, part, raw.position)
            if payload is None:
                return Admitted(None, abandoned=abandoned)
            snapshot = _snapshot(payload, node, part, cluster, makers)
        except Quarantine as refusal:
            raise _both(refusal, abandoned) from refusal
        heard = Heard(raw.position, raw.now, part.sent_at, snapshot)
        future = max(part.sent_at, snapshot.taken_at) - raw.now > FUTURE_MS
        return Admitted(heard, payload, future, abandoned)

    def _tick(self, raw: Raw) -> Admitted:
        signature = _signature(raw)
        if not self._own.verify_header(signature, raw.subject, raw.body, {}):
            raise Quarantine("bad_signature", "tick refused: it is not signed with this relay's key; does another relay use this prefix?")
        if not isinstance(wire.open_part(raw.body), wire.Tick):
            raise columns.malformed("it is no tick")
        return Admitted(Ticked(raw.position, raw.now))

    def _request(self, raw: Raw) -> Admitted:
        request = control.opened(raw.subject, raw.headers, raw.body, raw.now, self._own)
        given = Forgotten(raw.position, raw.now, request.node) if isinstance(request, control.Forget) else None
        return Admitted(given, request=request)

    def _again(self, raw: Raw, first_at: int, node: str, cluster: str, makers: Makers) -> Admitted:
        part = self._part(raw, node)
        payload = Assembler().feed(node, part, raw.position)
        if payload is None:
            raise Quarantine("incomplete", f"message of node {node!r} refused again: it is one part of {part.total}")
        snapshot = _snapshot(payload, node, part, cluster, makers)
        return Admitted(Heard(raw.position, raw.now, part.sent_at + raw.now - first_at, snapshot), payload)

    def _part(self, raw: Raw, node: str) -> wire.Part:
        signature = _signature(raw)
        keys = self._keys.get(node)
        if keys is None:
            raise Quarantine("unknown_node", f"raw message of node {node!r} refused: the keyring holds no key of it; add its directory")
        if not sealing.verify_header(keys, signature, raw.subject, raw.body, {}):
            raise Quarantine(
                "bad_signature",
                f"raw message of node {node!r} refused: no signature under the keys that the keyring holds of it; compare the key files",
            )
        part = wire.open_part(raw.body)
        if isinstance(part, wire.Tick) or part.node != node:
            raise Quarantine("wrong_node", f"raw message on the subject of node {node!r} refused: it speaks for another")
        return part


def node_of(token: str, subject: str) -> str:
    """The node that a subject's last token names. Raises Quarantine: unknown_node."""
    try:
        node = subjects.unescape(token)
        if subjects.escape(node) == token:
            return node
    except ValueError:
        pass  # not UTF-8 once unescaped, or empty: nobody's token
    raise Quarantine("unknown_node", f"raw message refused: no node has the subject {subject!r}")


def _signature(raw: Raw) -> str:
    signature = raw.headers.get(sealing.SIGNATURE_HEADER)
    if signature is None:
        raise Quarantine("unsigned", f"raw message on {raw.subject!r} refused: it has no {sealing.SIGNATURE_HEADER} header")
    return signature


def _snapshot(payload: bytes, node: str, part: wire.Part, cluster: str, makers: Makers) -> wire.Snapshot:
    snapshot = wire.decode(payload, makers(node))
    if (snapshot.node, snapshot.boot, snapshot.seq) != (node, part.boot, part.seq):
        raise Quarantine("wrong_node", f"snapshot of node {node!r} refused: its parts and its content name different nodes or numbers")
    if cluster not in ("", snapshot.cluster):
        raise Quarantine(
            "wrong_cluster",
            f"snapshot of node {node!r} refused: it is of cluster {snapshot.cluster!r}, this relay's is {cluster!r};"
            " give each cluster its own nats.subject_prefix",
        )
    return snapshot


def _both(refusal: Quarantine, abandoned: Abandoned | None) -> Quarantine:
    """A refusal that also tells what the message interrupted, so that it is not lost from sight."""
    if abandoned is None:
        return refusal
    return Quarantine(refusal.reason, f"{refusal}; before it, {abandoned.refusal}")
