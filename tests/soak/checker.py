"""The independent checker: what stands in EVENTS, held against what the agents did and what the managers' databases showed.

It knows the seed document, HMAC-SHA256 and JSON; nothing of the relay. Three questions:

1. Laws of the stream (`read`), which no fault excuses: every message signed twice over and tied to the one before it
   (`tests.soak.links`), in the outbox's order without a hole, no message and no event twice, each event on each of its subjects
   and in a batch, and each agent's previous status the one that was told before.
2. What had to be told (`wanted`). The world's oracle says what happened, `tests.soak.shown` what of it reached RAW while it
   was news. What never reached RAW is *lost* all the same if it stood in the database of the agent's own manager for SHOWN
   seconds while nothing kept its collector from looking: those spans are facts that the faults wrote down, and each is
   stretched until a later look of that node stands in RAW, which proves that somebody looks again. What stood shorter, or
   behind a fault, is *unshown*: no source could show it; and what reached RAW only when something newer of the agent was
   known is *superseded*. Both are counted and printed apart. While a node's clock is off, or its
   table was empty and has not been proved again (rule 6), what happened there may be told.
3. What was told (`tests.truth.judge`): an event that fits nothing that happened is false.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from tests.soak.decrypting import decrypted
from tests.soak.links import Links
from tests.soak.managers import Stood
from tests.soak.raw import Log, Message, Span
from tests.soak.shown import Shown, Terms
from tests.soak.unheard import served_after_removal, unheard
from tests.truth.judge import Said
from tests.truth.shown import Wanted
from tests.world.config import Fact
from tests.world.oracle import Expected, expected

SHOWN: Final = 2.0  # seconds that a state must stand in clear sight: two poll_intervals of the soak's collectors
_STATEMENT: Final = "wazuh-jetstream/1"
_TWICE: Final = frozenset(("connected", "disconnected", "registered", "removed"))  # kinds that are told on .status and on their own
_AGENT: Final = re.compile(r".*\.agent\.[^.]+\.([^.]+)")
_SETTLED: Final = {"connected": "active", "disconnected": "disconnected", "registered": "never_connected", "removed": None}


# The laws of the stream ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Laws:
    """What breaks a law, one sentence each; and the changes that were told, in order."""

    said: list[Said] = field(default_factory=list)
    events: int = 0
    lost: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    reordered: list[str] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)


def read(messages: Iterable[Message], secrets: Collection[bytes], decided_at: Mapping[int, float], ciphers: Collection[bytes] = ()) -> Laws:
    """All of EVENTS from its beginning. `secrets`: of every key that the relays ever signed with; `ciphers`: that they encrypted
    under; `decided_at`: Unix time of each message of RAW, by its sequence."""
    reader = _Reader(secrets, decided_at, ciphers)
    for message in messages:
        reader.take(message)
    reader.end()
    return reader.laws


class _Reader:
    def __init__(self, secrets: Collection[bytes], decided_at: Mapping[int, float], ciphers: Collection[bytes]) -> None:
        self.laws = Laws()
        self._secrets, self._decided_at, self._ciphers = secrets, decided_at, ciphers
        self._outbox = 0
        self._links = Links()
        self._ids: set[str] = set()
        self._told: set[tuple[str, str]] = set()  # (event id, last token)
        self._events: set[str] = set()
        self._status: dict[str, str] = {}  # of each agent, as it was told last
        self._owed: set[tuple[str, str]] = set()  # (event id, last token) that must follow
        self._batched: list[str] = []

    def take(self, message: Message) -> None:
        where = f"message {message.sequence} on {message.subject}"
        body = decrypted(message.subject, message.headers, message.body, self._ciphers)
        fields = _fields(body or b"")
        if body is None or not any(verified(message, fields, secret) for secret in self._secrets):
            self.laws.unverified.append(where)
            self._links.lose()
        elif wrong := self._links.take(message.subject, message.headers, fields, follows=self._follows(message)):
            self.laws.unverified.append(f"{where} {wrong}")
        self._in_order(message, where)
        identity = message.headers.get("Nats-Msg-Id", "")
        if identity in self._ids:
            self.laws.duplicates.append(f"{where} repeats {identity}")
        self._ids.add(identity)
        if isinstance(fields.get("events"), list):
            self._batched += [str(event.get("event_id")) for event in fields["events"]]
        elif matched := _AGENT.fullmatch(message.subject):
            self._agent(message, fields, (str(fields.get("event_id")), matched[1]), where)

    def _follows(self, message: Message) -> bool:
        return message.headers.get("Wazuh-Outbox-Sequence") == str(self._outbox + 1)

    def _in_order(self, message: Message, where: str) -> None:
        text = message.headers.get("Wazuh-Outbox-Sequence", "")
        sequence = int(text) if text.isdecimal() else 0
        if sequence <= self._outbox:
            self.laws.reordered.append(f"{where} has outbox sequence {text or 'none'} after {self._outbox}")
            return
        if sequence > self._outbox + 1:
            self.laws.lost.append(f"before {where} the outbox's messages {self._outbox + 1} to {sequence - 1} are missing")
        self._outbox = sequence

    def _agent(self, message: Message, fields: Mapping[str, Any], told: tuple[str, str], where: str) -> None:
        identity, token = told
        if told in self._told:
            self.laws.duplicates.append(f"{where} tells event {identity} again")
        self._told.add(told)
        self._owed.discard(told)
        if identity in self._events:
            return
        self._events.add(identity)
        self.laws.events += 1
        kind = message.headers.get("Wazuh-Kind", "")
        if kind in _TWICE:
            self._owed |= {(identity, other) for other in ("status", kind) if other != token}
        self._change(message, fields, identity, where)

    def _change(self, message: Message, fields: Mapping[str, Any], identity: str, where: str) -> None:
        agent, previous, current = (str(fields.get(name)) for name in ("agent_id", "previous_status", "current_status"))
        before = self._status.get(agent, previous)
        if previous != before:
            self.laws.reordered.append(f"{where} says agent {agent} was {previous}, but {before} was told last")
        self._status[agent] = current
        if previous != current:
            self.laws.said.append(self._as_said(message, fields, identity))

    def _as_said(self, message: Message, fields: Mapping[str, Any], identity: str) -> Said:
        position = message.headers.get("Wazuh-Raw-Position", "")
        at = self._decided_at.get(int(position), message.at) if position.isdecimal() else message.at
        return Said(
            int(fields["agent_id"]), str(fields["agent_name"]), str(fields["previous_status"]), str(fields["current_status"]), at,
            identity, str(fields["manager_node"]), message.headers.get("Wazuh-Reason", ""),
            datetime.fromisoformat(str(fields["timestamp"])).timestamp(),
        )  # fmt: skip

    def end(self) -> None:
        self.laws.lost += [f"event {identity} was never told on its subject .{token}" for identity, token in sorted(self._owed)]
        batched = set(self._batched)
        self.laws.lost += [f"event {identity} is in no batch" for identity in sorted(self._events - batched)]
        self.laws.lost += [f"event {identity} of a batch has no message of its own" for identity in sorted(batched - self._events)]
        if len(self._batched) > len(batched):
            self.laws.duplicates.append(f"{len(self._batched) - len(batched)} events are in two batches")


def _fields(body: bytes) -> Mapping[str, Any]:
    try:
        fields = json.loads(body)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def verified(message: Message, fields: Mapping[str, Any], secret: bytes) -> bool:
    """Both signatures: the header's, over subject, body and what means something; and each event's own, over its body."""
    covered = {
        name.lower(): value
        for name, value in message.headers.items()
        if name.lower().startswith(("wazuh-", "ce-")) and name.lower() != "wazuh-signature"
    }
    digest = hashlib.sha256(message.body).hexdigest()
    statement = json.dumps([_STATEMENT, message.subject, digest, sorted(covered.items())], separators=(",", ":"))
    given = message.headers.get("Wazuh-Signature", "").split(",")
    if not any(_same(secret, statement.encode(), one.strip().rpartition(";")[2]) for one in given):
        return False
    signed = fields["events"] if isinstance(fields.get("events"), list) else [fields] if "event_id" in fields else []
    return all(_signed(event, secret) for event in signed)


def _signed(event: Mapping[str, Any], secret: bytes) -> bool:
    unsigned = {name: value for name, value in event.items() if name != "signature"}
    canonical = json.dumps(unsigned, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return _same(secret, canonical.encode(), str(event.get("signature")))


def _same(secret: bytes, text: bytes, signature: str) -> bool:
    return hmac.compare_digest(hmac.new(secret, text, hashlib.sha256).hexdigest().encode(), signature.encode())


# What had to be told ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a run. Spans are by node, in Unix seconds."""

    history: Sequence[Fact]
    log: Log
    stood: Mapping[tuple[str, int], Sequence[Stood]]
    blind: Mapping[str, Sequence[Span]]  # when a fault may have kept its collector from looking
    unsure: Mapping[str, Sequence[Span]]  # when its clock was off, or its table had been emptied
    baseline: float


def wanted(evidence: Evidence, terms: Terms) -> list[Wanted]:
    """Everything that had to be told or may be, in order of time."""
    happened = expected(evidence.history, until=terms.until, grace=terms.grace, baseline_at=evidence.baseline, shown=0.0)
    shown = Shown(evidence.log, evidence.history, terms)
    weighed = [_weigh(one, shown, evidence, terms) for one in happened]
    patience = terms.grace + terms.lag
    excused = [*shown.excused, *unheard(evidence.history, terms.deaf, evidence.baseline, patience)]
    excused += served_after_removal(evidence.history, patience)
    return sorted([*weighed, *excused], key=lambda one: one.expected.at)


def _weigh(one: Expected, shown: Shown, evidence: Evidence, terms: Terms) -> Wanted:
    found = shown.weigh(one)
    if found.word == "never_shown" and one.certain:
        found = _in_sight(found, evidence, terms)
    unsure = evidence.unsure.get(one.node, ())
    if found.word == "must" and any(begin <= found.due - terms.lag and one.at <= end for begin, end in unsure):
        return replace(found, word="may", due=found.due + max(end - begin for begin, end in unsure))
    return found


def _in_sight(found: Wanted, evidence: Evidence, terms: Terms) -> Wanted:
    """It did not reach RAW; it is lost if it could be seen."""
    one = found.expected
    enough = SHOWN + (2 * terms.grace if one.reason == "manager_reset" else 0.0)
    until = _over(evidence.history, one, terms.until - terms.grace)
    for stood in evidence.stood.get((one.node, one.agent_id), ()):
        if stood.status == _SETTLED.get(one.kind, "") and one.at - 1.0 <= stood.begin < until:
            piece = next(
                (p for p in clear((stood.begin, min(stood.end, until)), evidence.blind.get(one.node, ())) if p[1] - p[0] >= enough), None
            )
            if piece is not None:
                return Wanted(one, "must", piece[0] + SHOWN, piece[1] + terms.grace + terms.lag)
    return found


def _over(history: Sequence[Fact], one: Expected, until: float) -> float:
    """When what was expected was over, at the latest."""
    ends = ("stopped", "died", "moved", "lost", "refused", "removed", "registered", "connected", "started")
    following = (fact.at for fact in history if fact.agent == one.agent_id and fact.at > one.at and fact.what in ends)
    return min(next(following, until), until)


def clear(span: Span, blind: Sequence[Span]) -> list[Span]:
    """What is left of a span without the blind ones."""
    pieces, begin = [], span[0]
    for shut, opened in sorted(blind):
        if opened > begin and shut < span[1]:
            if shut > begin:
                pieces.append((begin, shut))
            begin = max(begin, opened)
    return [*pieces, (begin, span[1])] if begin < span[1] else pieces
