"""Proves EVENTS: that every message is the relay's word, in its order, and that none is missing. Pure; for consumers too.

    from relay.verify import Verifier                 pip install 'wazuh-jetstream[verify]'

    verifier = Verifier(keys)                         shared.sealing.Verifier, with the keys that count
    for told in heads:                                each message of WAZUH_CHECKPOINTS and WAZUH_HEARTBEATS
        faults = verifier.hear(told, "WAZUH_CHECKPOINTS")
    for told in events:                               each message of WAZUH_EVENTS, in its order
        faults = verifier.take(told)
    faults = verifier.settle()                        all that there is now was taken: what is missing?
    verifier.verdict()

What is held against what
 * every message's signatures against the keys (`seal.verify`);
 * its outbox sequence against those before: the odd one out is named, be it early, late or told twice;
 * the digest that it says the one before has against what that one has (`relay.chain`);
 * the heads that the relay signed against the chain: what they tell of must be there, so that a cut end is found.
The stream may begin anywhere, for its oldest messages leave it. Then the proof begins there, and the last head before says how
many there were. They left too early if that head is younger than the stream's retention.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from shared import sealing
from shared.errors import Quarantine

from . import bodies, chain, encryption, events, layout, published, seal
from .chain import GENESIS, Head
from .faults import MEANING, Fault, FaultKind
from .gaps import Gaps
from .layout import Layout

__all__ = ["MEANING", "Fault", "FaultKind", "Place", "Signed", "Told", "Verdict", "Verifier", "proved"]

_ONCE: Final = (*(f".{token}" for token in published.SUBJECTS), ".manager_events")
"""Ends of the subjects on which each event stands once."""

GENUINE: Final = seal.Verdict(True)
KEY_ID: Final = 16  # characters of a key's id

RECENT: Final = 50_000
"""Digests kept for heads that come after their message: heartbeats come every few seconds."""


@dataclass(frozen=True, slots=True)
class Told:
    """A message of EVENTS; `at` in Unix ms by the stream's clock."""

    stream_sequence: int
    at: int
    subject: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Signed:
    """A head that the relay signed: where that stands, and when it was told first and last (Unix ms by the stream's clock)."""

    head: Head
    where: str
    since: int
    at: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message stands, for sentences."""

    stream_sequence: int
    outbox_sequence: int | None
    event_id: str
    at: int

    def __str__(self) -> str:
        return f"message {self.stream_sequence} (outbox sequence {self.outbox_sequence}, {self.event_id or 'no id'})"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is proved. `first` and `last`: the messages that the proof begins and ends with; `complete`: the newest signed head up to
    which nothing is missing; `before`: the last head before `first`, where the stream begins later than the chain."""

    ok: bool
    messages: int
    events: int
    chain: str
    first: Place | None
    last: Place | None
    complete: Signed | None
    before: Signed | None
    from_beginning: bool  # `first` is the chain's first
    unchained: int  # messages from before the chain, of which signature and order alone are proved
    left_out: tuple[str, ...]  # what the server refused, as the relay declared it
    faults: Mapping[FaultKind, int]


class Verifier:
    """One stream's proof. `kept_since`: Unix ms from which on nothing can have left the stream by its bounds; None: not known, or
    the stream is not read from its beginning. `crypt`: opens what is encrypted; without it that is told as forged."""

    def __init__(self, keys: sealing.Verifier, kept_since: int | None = None, crypt: encryption.EncryptionHandler | None = None) -> None:
        self._keys = keys
        self._crypt = crypt
        self._kept_since = kept_since
        self._faults: Counter[FaultKind] = Counter()
        self._heads: dict[tuple[str, int], Signed] = {}  # that no message was held against yet
        self._messages = self._events = self._unchained = 0
        self._left_out: list[str] = []
        self._sent = b"", ""  # the last body as it was sent, and its digest: the messages of one event have one body
        self._bare = b"", ""  # the last body, opened, that is signed, and its digest without signatures
        self._forged = 0  # messages since the last genuine one
        self._stray: tuple[str, int] | None = None  # where another chain would go on
        self._begin("")

    def _begin(self, name: str) -> None:
        self._chain = name
        self._from_beginning = False
        self._first: Place | None = None
        self._last: Place | None = None
        self._gaps: Gaps[Place] = Gaps()
        self._early: tuple[Place, int, int] | None = None  # (beyond the end, its sequence, forged ones before it): the next one tells why
        self._digests: dict[int, str] = {}  # of messages whose successor was not taken yet
        self._wanted: dict[int, str] = {}  # what the successor says of a message that was not taken yet
        self._recent: dict[int, str] = {}
        self._less_recent: dict[int, str] = {}
        self._proved: Signed | None = None
        self._cut_at = 0  # the head whose absence was told

    # Heads ----------------------------------------------------------------------------------------------------------

    def hear(self, told: Told, stream: str) -> list[Fault]:
        """A heartbeat or a checkpoint, from the stream of that name."""
        verdict, where = seal.verify(told.subject, told.body, told.headers, self._keys), f"message {told.stream_sequence} of {stream}"
        if not verdict.ok:
            return self._note(Fault("forged", told.stream_sequence, None, _id(told.headers), f"{where}: {verdict.why}"))
        head = _head(_fields(told), told.headers)
        return [] if head is None else self._hear(Signed(head, where, told.at, told.at))

    def _hear(self, signed: Signed) -> list[Fault]:
        head = signed.head
        known = (self._recent.get(head.sequence) or self._less_recent.get(head.sequence)) if head.chain == self._chain else None
        if known is not None:
            return self._prove(signed, known)
        other = self._heads.setdefault((head.chain, head.sequence), signed)
        if other.head != head:
            text = f"{signed.where} and {other.where} tell two digests of outbox sequence {head.sequence}"
            return self._note(Fault("false_head", None, head.sequence, "", text))
        since, at = min(other.since, signed.since), max(other.at, signed.at)
        self._heads[head.chain, head.sequence] = replace(other, since=since, at=at)
        return []

    def _prove(self, signed: Signed, digest: str) -> list[Fault]:
        if signed.head.digest != digest:
            text = f"{signed.where} tells another digest of outbox sequence {signed.head.sequence} than the message there has"
            return self._note(Fault("false_head", None, signed.head.sequence, "", text))
        if self._proved is None or signed.head.sequence >= self._proved.head.sequence:
            self._proved = signed
        return []

    # Messages -------------------------------------------------------------------------------------------------------

    def take(self, told: Told) -> list[Fault]:
        """The stream's next message; what is wrong as far as that can be told yet."""
        self._messages += 1
        sequence = seal.outbox_sequence(told.headers)
        place = Place(told.stream_sequence, sequence, _id(told.headers), told.at)
        where = layout.of(told.headers)
        verdict = self._signed(told, where)
        if not verdict.ok or sequence is None:
            self._forged += 1
            why = verdict.why or "it has no outbox sequence"
            return self._note(_fault("forged", place, f"{place}: {why}{_named(told.headers)}"))
        link = chain.link_of(told.headers)
        if link is None and self._chain:
            return self._note(_fault("unchained", place, f"{place} has no place in the chain, which began before it"))
        if link is not None and link.chain != self._chain and not self._follows(link, sequence):
            self._stray = link.chain, sequence + 1
            return self._note(_fault("other_chain", place, f"{place} is of chain {link.chain}, not of {self._chain}"))
        return self._take_genuine(place, sequence, link, told, where)

    def _signed(self, told: Told, where: Layout) -> seal.Verdict:
        """Whether both signatures are right."""
        if self._is_signed_plainly(told, where):
            return GENUINE
        verdict = seal.verify(told.subject, told.body, told.headers, self._keys, self._crypt)
        if verdict.ok:
            body = seal.opened(told.subject, told.body, told.headers, self._crypt)
            self._bare = body, chain.sha256(chain.unsigned(json.loads(body)))
        return verdict

    def _is_signed_plainly(self, told: Told, where: Layout) -> bool:
        """The same of what the relay writes, in a third of the time: nothing is read that need not be. False may mean anything."""
        if told.body != self._sent[0]:
            self._sent = told.body, chain.sha256(told.body)
        statement = where.statement(told.subject, self._sent[1], told.headers)
        if not self._keys.verify_statement(told.headers.get(sealing.SIGNATURE_HEADER, ""), statement):
            return False
        try:
            body = seal.opened(told.subject, told.body, told.headers, self._crypt) if where.encrypted else told.body
        except Quarantine:
            return False
        if body != self._bare[0]:
            parts = bodies.apart(body)
            if parts is None or not all(self._keys.verify_signature(text, signature) for text, signature in parts.signed):
                return False
            self._bare = body, chain.sha256(parts.bare)
        return True

    def _take_genuine(self, place: Place, sequence: int, link: chain.Link | None, told: Told, where: Layout) -> list[Fault]:
        faults = self._turn_to(link, place) if link is not None and link.chain != self._chain else []
        forged, self._forged = self._forged, 0
        faults += self._judge_early(sequence)
        if self._gaps.met(sequence):
            return faults + self._note(_fault("repeated", place, f"{place} stands there a second time"))
        faults += self._order(place, sequence, forged)
        self._events += told.subject.endswith(_ONCE) and told.headers.get(events.H_KIND) != events.LEFT_OUT
        if link is None:
            self._unchained += 1
            return faults
        return faults + self._tie(place, sequence, link, self._digest(link, sequence, told, where))

    def _follows(self, link: chain.Link, sequence: int) -> bool:
        """Whether a message begins a chain here, or goes on with one whose first message seemed astray."""
        return not self._chain or link.previous == GENESIS or self._stray == (link.chain, sequence)

    def _turn_to(self, link: chain.Link, place: Place) -> list[Fault]:
        """From here on the stream is of this chain; what came before it had none, or was of another."""
        faults = []
        if self._chain:
            faults = self.settle()
            if self._stray != (link.chain, place.outbox_sequence):
                faults += self._note(_fault("other_chain", place, f"{place} begins chain {link.chain}; before it was {self._chain}"))
            self._begin(link.chain)
        self._chain, self._stray = link.chain, None
        return faults

    # Order ----------------------------------------------------------------------------------------------------------

    def _order(self, place: Place, sequence: int, forged: int) -> list[Fault]:
        end = self._gaps.end
        if end is None or sequence == end + 1:
            self._gaps.reach(sequence)
            self._first, self._last = self._first or place, place
        elif sequence > end:
            self._early = place, sequence, forged
        else:
            self._gaps.fill(sequence)
            return self._note(_fault("reordered", place, f"{place} stands behind {self._last}"))
        return []

    def _judge_early(self, following: int) -> list[Fault]:
        """What came early did so if one that it left behind comes now; else what is between is missing."""
        if self._early is None:
            return []
        (place, sequence, forged), self._early = self._early, None
        end = self._gaps.end or 0
        if end < following < sequence:
            self._gaps.note(sequence)
            return self._note(_fault("reordered", place, f"{place} stands before outbox sequence {following}"))
        self._gaps.skip(sequence, place, told=sequence - end - 1 <= forged)  # what is changed is not missing, and told of already
        self._last = place
        return []

    # Links ----------------------------------------------------------------------------------------------------------

    def _tie(self, place: Place, sequence: int, link: chain.Link, digest: str) -> list[Fault]:
        faults, before = [], self._digests.pop(sequence - 1, None)
        if link.previous == GENESIS:
            self._from_beginning = True
        elif before is None:
            self._wanted[sequence - 1] = link.previous
        elif before != link.previous:
            faults += self._note(_fault("broken_link", place, f"{place} was tied to another message {sequence - 1} than stands there"))
        after = self._wanted.pop(sequence, None)
        if after is None:
            self._digests[sequence] = digest
        elif after != digest:
            faults += self._note(_fault("broken_link", place, f"{place} is not what outbox sequence {sequence + 1} was tied to"))
        return faults + self._remember(link.chain, sequence, digest)

    def _remember(self, name: str, sequence: int, digest: str) -> list[Fault]:
        if len(self._recent) >= RECENT:
            self._less_recent, self._recent = self._recent, {}
        self._recent[sequence] = digest
        signed = self._heads.pop((name, sequence), None)
        return [] if signed is None else self._prove(signed, digest)

    def _digest(self, link: chain.Link, sequence: int, told: Told, where: Layout) -> str:
        stood_for = told.headers.get(events.H_DIGEST)
        if stood_for is not None:
            self._left_out.append(f"outbox sequence {sequence} ({seal.message_id(told.headers)})")
            return stood_for
        return chain.digest(link, sequence, told.subject, where.content(self._bare[1], told.headers))

    # The ends -------------------------------------------------------------------------------------------------------

    def settle(self) -> list[Fault]:
        """All that the stream holds was taken, and all heads heard that were signed before: what is missing. May be asked again."""
        faults = self._judge_early(0)
        for first, last, place in self._gaps.missing():
            what = f"outbox sequence {first} is" if first == last else f"outbox sequences {first} to {last} are"
            faults += self._note(_fault("missing", place, f"{what} missing before {place}", first))
        return [*faults, *self._at_the_end(), *self._at_the_beginning()]

    def _at_the_end(self) -> list[Fault]:
        newest = max(self._of_chain(), key=lambda one: (0 if self._chain else one.at, one.head.sequence), default=None)
        end = self._gaps.end or 0
        if newest is None or newest.head.sequence <= max(end + self._forged, self._cut_at) or (not end and self._aged(newest)):
            return []
        self._cut_at = newest.head.sequence
        ends = "the stream is empty" if self._last is None else f"the stream ends with {self._last}, {newest.head.sequence - end} short"
        text = f"{ends}; {newest.where} tells that the chain went on to outbox sequence {newest.head.sequence}"
        last = self._last or Place(0, None, "", 0)
        return self._note(Fault("truncated", last.stream_sequence or None, newest.head.sequence, last.event_id, text))

    def _aged(self, newest: Signed) -> bool:
        """Whether all messages may have left the stream by its bounds."""
        return self._kept_since is not None and newest.since < self._kept_since

    def _at_the_beginning(self) -> list[Fault]:
        place, before, first = self._first, self._before(), self._gaps.first
        if place is None or before is None or first is None:
            return []
        if before.head.sequence == first - 1:
            tied = self._wanted.get(first - 1, before.head.digest)
            return [] if tied == before.head.digest else self._join_fails(place, before)
        if self._kept_since is None or before.at < self._kept_since:
            return []
        self._kept_since = None  # told once
        text = (
            f"{first - 1 - before.head.sequence} messages before {place} are gone before their time: {before.where} was signed before them"
        )
        return self._note(_fault("removed_early", place, text))

    def _join_fails(self, place: Place, before: Signed) -> list[Fault]:
        del self._heads[self._chain, before.head.sequence]  # told once
        return self._note(_fault("false_head", place, f"{place} was tied to another message than {before.where} tells of"))

    def _of_chain(self) -> Iterator[Signed]:
        """The heads that no message was held against; of any chain where none was met."""
        return (signed for (name, _), signed in self._heads.items() if name == self._chain or not self._chain)

    def _before(self) -> Signed | None:
        """The last head before the first message."""
        first = self._gaps.first if self._chain else None
        earlier = (signed for signed in self._of_chain() if first is not None and signed.head.sequence < first)
        return max(earlier, key=lambda one: one.head.sequence, default=None)

    def verdict(self) -> Verdict:
        """What is proved by now."""
        return Verdict(
            ok=not self._faults, messages=self._messages, events=self._events, chain=self._chain, first=self._first, last=self._last,
            complete=self._proved, before=None if self._from_beginning else self._before(), from_beginning=self._from_beginning,
            unchained=self._unchained, left_out=tuple(self._left_out), faults=dict(self._faults),
        )  # fmt: skip

    def _note(self, fault: Fault) -> list[Fault]:
        self._faults[fault.kind] += 1
        return [fault]


def _fault(kind: FaultKind, place: Place, sentence: str, outbox_sequence: int | None = None) -> Fault:
    return Fault(kind, place.stream_sequence, outbox_sequence or place.outbox_sequence, place.event_id, sentence)


def _id(headers: Mapping[str, str]) -> str:
    return headers.get("ce-id", "")


def _named(headers: Mapping[str, str]) -> str:
    """The keys that a message says it is signed under."""
    entries = headers.get(sealing.SIGNATURE_HEADER, "").split(",")[: sealing.MAX_SIGNATURES]
    named = ", ".join(parts[1][:KEY_ID] for entry in entries if len(parts := entry.split(";")) > 1)
    return f" (it names key {named})" if named else ""


def _fields(told: Told) -> Mapping[str, Any]:
    """The body of a message that was verified."""
    fields: Mapping[str, Any] = json.loads(told.body)
    return fields


def _head(fields: Mapping[str, Any], headers: Mapping[str, str]) -> Head | None:
    """The head that a checkpoint or a heartbeat tells."""
    told = fields if headers.get(events.H_KIND) == events.CHECKPOINT else fields.get("head")
    return Head(told["chain"], told["sequence"], told["digest"]) if told else None


def proved(keys: sealing.Verifier, messages: Iterable[Told]) -> tuple[Verdict, list[Fault]]:
    """A whole stream's verdict and faults, without heads: for those who keep events somewhere else."""
    verifier = Verifier(keys)
    faults = [fault for message in messages for fault in verifier.take(message)]
    faults += verifier.settle()
    return verifier.verdict(), faults
