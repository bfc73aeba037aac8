"""Begins where EVENTS ends: what a relay does first, so that a ledger that was lost or is older doubles and loses nothing.

    S, P        outbox sequence and RAW position of the last message of EVENTS
    position    up to where the ledger has decided RAW

 * P <= position: the ledger knows all that was published. It goes on.
 * The ledger has decided before but not up to P (a power failure took its last transactions, or it is an older copy): it
   decides the same again, to the same sequences, and does not store what is published (`Ledger.mark_sent`).
 * The ledger is new and RAW is all newer than EVENTS (NATS was made anew but for EVENTS): what was told is taken over first.
 * The ledger is new: RAW is decided again from its beginning, muted. RAW may begin after the fleet did, so what comes out
   need not be what was published. Just before P every agent, ghost and manager is set to what was told of it before P. P is
   decided: muted too where all its messages are in EVENTS (the last batch says how many events there were), else those that
   are there are left out. After P every agent is judged anew against what was told of it.

What is read of EVENTS, page by page and kept as events:
 * of each agent the last message of each kind, at most one for each of `published.SUBJECTS`;
 * of all managers together the newest MOST events;
 * where P's messages are not all there: P's, and what was told before of the agents that P tells of.

What a message says and how it is taken over is in `relay.published`; this asks NATS.
"""

import json
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from shared import jetstream, jsapi, subjects
from shared.errors import Stop

from . import chain, deliver, ledger, publish, published, reading, seal
from .books import Books
from .encryption import EncryptionHandler
from .published import Told

STEP: Final = 2_000  # messages: how far back the first look for P's first message goes
MANY: Final = 500  # agents: above it they are not listed but all are read
MOST: Final = 10_000  # events of managers


@dataclass(frozen=True, slots=True)
class Replay:
    """What is to be decided again. `through` is P."""

    through: int
    before: Told = field(default_factory=Told)  # what was told before P
    after: Told = field(default_factory=Told)  # what was told when P was, where deciding P again may come to something else
    sent: frozenset[str] = frozenset()  # ids of P's messages
    whole: bool = False  # all of P's messages are in EVENTS
    ended_at: int = 0  # Unix s by the stream's clock: when the last message of EVENTS came


async def begin(
    connection: jetstream.Connection, books: Books, book: ledger.Ledger, prefix: str, crypt: EncryptionHandler | None = None
) -> Replay | None:
    """Bring ledger and EVENTS together; the replay that a new ledger needs, None where it goes on where it was.

    Raises Stop where EVENTS or RAW contradict the ledger or EVENTS cannot be decrypted, a kind of Transient where NATS does not answer.
    """
    raw = (await connection.stream_info(subjects.raw_stream(prefix)))["state"]
    last = await connection.last_message(subjects.events_stream(prefix))
    position, sequence = await books.insist(lambda: (book.position(), book.last_sequence()))
    deliver.check_end(subjects.raw_stream(prefix), int(raw["last_seq"]), position)
    if last is None:
        return None
    sent, through = seal.outbox_sequence(last.headers), seal.raw_position(last.headers)
    if sent is None or through is None or (through <= position and sent > sequence):
        raise Stop(publish.stale_writer(subjects.events_stream(prefix), last))
    if through <= position:
        return None
    head = _head(last, sent, crypt)
    if position == 0 or sequence == sent:
        await books.insist(book.start_sequence_at, sent, head)
        return await read(connection, prefix, last, through, raw, crypt)
    if int(raw["first_seq"]) > position + 1:
        raise Stop(
            f"the ledger has decided RAW up to {position}, EVENTS holds what was decided from {through}, and RAW begins at"
            f" {raw['first_seq']}; move the ledger away and it is made anew from RAW and EVENTS"
        )
    await books.insist(book.mark_sent, sent, head)
    return None


def _head(last: jsapi.StoredMessage, sequence: int, crypt: EncryptionHandler | None) -> chain.Head | None:
    """The chain as EVENTS ends with it, which goes on from there; None where the relay that wrote it had none."""
    if chain.link_of(last.headers) is None:
        return None
    body = reading.opened_body(last.subject, last.data, last.headers, crypt)
    try:
        return chain.head_of(last.subject, json.loads(body), last.headers, sequence)
    except (ValueError, AttributeError, RecursionError) as error:
        raise Stop(
            f"the last message of EVENTS ({last.seq}, on {last.subject}) is in the chain and its body cannot be read;"
            " see who else writes there: wazuh-relay verify"
        ) from error


# Reading EVENTS -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Heard:
    """What was read of EVENTS, and whom of it P told of."""

    through: int
    newest: Told = field(default_factory=Told)
    before: Told = field(default_factory=Told)
    agents: set[int] = field(default_factory=set)
    managers: set[str] = field(default_factory=set)

    def hear(self, message: jsapi.Delivered) -> None:
        event = published.event_of(message.headers, message.data)
        if event is None:
            return
        self.newest.hear(event)
        if seal.raw_position(message.headers) == self.through:
            self.agents.add(event.agent_id)
            return
        self.before.hear(event)
        if event.kind == "removed":  # nobody asks for it again, and there may be more of them than agents
            del self.newest.ghosts[event.agent_id], self.before.ghosts[event.agent_id]

    def hear_manager(self, message: jsapi.Delivered) -> None:
        event = published.manager_event_of(message.data)
        if event is None:
            return
        self.newest.hear_manager(event)
        if seal.raw_position(message.headers) == self.through:
            self.managers.add(event.node)
        else:
            self.before.hear_manager(event)


async def read(
    connection: jetstream.Connection,
    prefix: str,
    last: jsapi.StoredMessage,
    position: int,
    raw: Mapping[str, Any],
    crypt: EncryptionHandler | None = None,
) -> Replay:
    """What EVENTS says was told, before and at the RAW position of its last message. `raw`: the state of that stream."""
    stream, heard, ended_at = subjects.events_stream(prefix), _Heard(position), last.time_ms // 1000
    newest = _wanted("last_per_subject", _every(prefix, "*", published.SUBJECTS))
    async for message in reading.through(connection, stream, last.seq, newest, crypt):
        heard.hear(message)
    async for message in _of_managers(connection, prefix, last, crypt):
        heard.hear_manager(message)
    if raw["messages"] == 0 or datetime.fromisoformat(raw["first_ts"]).timestamp() * 1000 > last.time_ms:
        return Replay(int(raw["first_seq"]), heard.newest, ended_at=ended_at)  # RAW was made anew, and is newer than all that was told
    if int(raw["last_seq"]) < position:  # RAW lost its end: all that it holds is older
        return Replay(int(raw["last_seq"]) + 1, heard.newest, ended_at=ended_at)
    if published.ends_its_input(last.headers, reading.opened_body(last.subject, last.data, last.headers, crypt)):
        return Replay(position, heard.before.but(heard.agents), heard.newest, whole=True, ended_at=ended_at)
    first, sent = await _at(connection, stream, last, position)
    before = await _before(connection, prefix, first, heard, crypt)
    return Replay(position, before, heard.newest.only(heard.agents, heard.managers), sent, ended_at=ended_at)


async def _of_managers(
    connection: jetstream.Connection, prefix: str, last: jsapi.StoredMessage, crypt: EncryptionHandler | None
) -> AsyncIterator[jsapi.Delivered]:
    """The newest events of managers, at most MOST."""
    stream, start = subjects.events_stream(prefix), 1
    while True:
        wanted = {**_wanted("by_start_sequence", [subjects.manager_events(prefix)]), "opt_start_seq": start}
        async with reading.opened(connection, stream, wanted) as (_, pending):
            if pending <= MOST:
                break
        start = (start + last.seq + 1) // 2
    async for message in reading.through(connection, stream, last.seq, wanted, crypt):
        yield message


async def _before(connection: jetstream.Connection, prefix: str, first: int, heard: _Heard, crypt: EncryptionHandler | None) -> Told:
    """What was told before P's first message, at stream sequence `first`."""
    before, stream = heard.before.but(heard.agents), subjects.events_stream(prefix)
    if not heard.agents:
        return before
    listed = [subjects.agent_id(number) for number in sorted(heard.agents)] if len(heard.agents) <= MANY else ["*"]
    chosen = [subject for who in listed for subject in _every(prefix, who, ("*",))]
    async for message in reading.through(connection, stream, first - 1, _wanted("all", chosen), crypt):
        event = published.event_of(message.headers, message.data)
        if event is not None and event.agent_id in heard.agents:
            before.hear(event)
    return before


async def _at(connection: jetstream.Connection, stream: str, last: jsapi.StoredMessage, position: int) -> tuple[int, frozenset[str]]:
    """(stream sequence of the first message, ids of all messages) that were decided from a RAW position; the last of them is `last`."""
    step = STEP
    while True:
        start = max(1, last.seq - step)
        wanted = {"deliver_policy": "by_start_sequence", "opt_start_seq": start}
        found = [m async for m in reading.through(connection, stream, last.seq, wanted)]
        ours = [m for m in found if seal.raw_position(m.headers) == position]
        if len(ours) < len(found) or start == 1:
            return ours[0].stream_seq, frozenset(seal.message_id(m.headers) for m in ours)
        step *= 8


def _wanted(policy: str, chosen: list[str]) -> dict[str, Any]:
    return {"deliver_policy": policy, "filter_subjects": chosen}


def _every(prefix: str, who: str, tokens: Collection[str]) -> list[str]:
    return [f"{prefix}.agent.{who}.{token}" for token in tokens]
