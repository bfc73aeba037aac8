"""Begins where EVENTS ends: what a relay does first, so that a ledger that was lost or is older doubles and loses nothing.

    S, P        outbox sequence and RAW position of the last message of EVENTS
    position    up to where the ledger has decided RAW

 * P <= position: the ledger knows all that was published. It goes on.
 * The ledger has decided before but not up to P (a power failure took its last transactions, or it is an older copy): it
   decides the same again, to the same sequences, and does not store what is published (`Ledger.mark_sent`).
 * The ledger is new: RAW is decided again from its beginning, muted. RAW may begin after the fleet did, so what comes out
   need not be what was published. Just before P every agent is set to what was published of it before P; P is decided, and
   its messages that are in EVENTS are left out; after P every agent is judged anew against what was published of it.

Reading messages is pure (`published`); the rest asks NATS.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, get_args

from shared import jetstream, jsapi, subjects
from shared.errors import Stop

from . import deliver, events, ledger, publish, reading, seal
from .books import Books
from .decided import Agent

STEP: Final = 2_000  # messages: how far back the first look for P's first message goes
MANY: Final = 500  # agents: above it their subjects are not listed but all are read


@dataclass(frozen=True, slots=True)
class Replay:
    """What is to be decided again. `through` is P."""

    through: int
    before: Mapping[int, Agent] = field(default_factory=dict)  # as published last before P
    at: Mapping[int, Agent] = field(default_factory=dict)  # as published at P
    sent: frozenset[str] = frozenset()  # message ids published at P


async def begin(connection: jetstream.Connection, books: Books, book: ledger.Ledger, prefix: str) -> Replay | None:
    """Bring ledger and EVENTS together; the replay that a new ledger needs, None where it goes on where it was.

    Raises Stop where EVENTS or RAW contradict the ledger, a kind of Transient where NATS does not answer.
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
    if position == 0 or sequence == sent:
        await books.insist(book.start_sequence_at, sent)
        return _within(await read(connection, prefix, last, through), int(raw["last_seq"]))
    if int(raw["first_seq"]) > position + 1:
        raise Stop(
            f"the ledger has decided RAW up to {position}, EVENTS holds what was decided from {through}, and RAW begins at"
            f" {raw['first_seq']}; move the ledger away and it is made anew from RAW and EVENTS"
        )
    await books.insist(book.mark_sent, sent)
    return None


def _within(replay: Replay, last: int) -> Replay:
    """A RAW that ends before P was made anew, or lost its end: all that it holds is older than what was published."""
    if last >= replay.through:
        return replay
    return Replay(last + 1, before={**replay.before, **replay.at})


# Reading EVENTS -----------------------------------------------------------------------------------------------------


async def read(connection: jetstream.Connection, prefix: str, last: jsapi.StoredMessage, position: int) -> Replay:
    """What EVENTS says was published, before and at the RAW position of its last message."""
    stream, statuses = subjects.events_stream(prefix), f"{prefix}.agent.*.status"
    final = [m async for m in reading.through(connection, stream, last.seq, _wanted("last_per_subject", [statuses]))]
    first, sent = await _at(connection, stream, last, position)
    at = [m for m in final if seal.raw_position(m.headers) == position]
    before = {m.subject: m for m in final if seal.raw_position(m.headers) != position}
    if at:
        chosen = [m.subject for m in at] if len(at) <= MANY else [statuses]
        async for message in reading.through(connection, stream, first - 1, _wanted("all", chosen)):
            before[message.subject] = message
    return Replay(position, _agents(before.values()), _agents(at), sent)


async def _at(connection: jetstream.Connection, stream: str, last: jsapi.StoredMessage, position: int) -> tuple[int, frozenset[str]]:
    """(stream sequence of the first message, ids of all messages) that were decided from a RAW position; the last of them is `last`."""
    step = STEP
    while True:
        start = max(1, last.seq - step)
        wanted = {"deliver_policy": "by_start_sequence", "opt_start_seq": start}
        found = [m async for m in reading.through(connection, stream, last.seq, wanted)]
        ours = [m for m in found if seal.raw_position(m.headers) == position]
        if len(ours) < len(found) or start == 1:
            return ours[0].stream_seq, frozenset(m.headers.get(events.H_MESSAGE_ID, "") for m in ours)
        step *= 8


def _wanted(policy: str, chosen: list[str]) -> dict[str, Any]:
    return {"deliver_policy": policy, "filter_subjects": chosen}


def _agents(messages: Iterable[jsapi.Delivered]) -> dict[int, Agent]:
    agents = (published(message.headers, message.data) for message in messages)
    return {agent.id: agent for agent in agents if agent is not None}


def published(headers: Mapping[str, str], body: bytes) -> Agent | None:
    """The agent that a message on its `.status` subject tells of; None where that is no event of this version.

    What an event does not tell is left open: `decide` fills in date_add, witness and contact when it meets the agent.
    """
    try:
        fields = json.loads(body)
        agent = Agent(
            id=int(fields["agent_id"]),
            name=str(fields["agent_name"]),
            date_add=0,
            status=fields["current_status"],
            reason=headers[events.H_REASON],  # type: ignore[arg-type]
            since=_seconds(fields["timestamp"]) or 0,
            ip=fields["ip_address"],
            last_keepalive=_seconds(fields["last_keepalive"]),
            manager_node=str(fields["manager_node"]),
            witness=None,
            contact=None,
            last_event_id=str(fields["event_id"]),
            hold=None,
        )
    except (ValueError, KeyError, TypeError):
        return None
    known = agent.status in get_args(events.Status) and agent.reason in get_args(events.Reason)
    return agent if known else None


def _seconds(text: str | None) -> int | None:
    return None if text is None else int(datetime.fromisoformat(text).timestamp())


# Taking it over -----------------------------------------------------------------------------------------------------


def taken_over(known: Mapping[int, Agent], told: Mapping[int, Agent]) -> list[Agent]:
    """The agents as they were published: what the replay found of them, with the published status.

    An agent that was published as removed is left as the replay has it.
    """
    return [_merged(known.get(agent.id), agent) for agent in told.values() if agent.status != "Unknown"]


def _merged(known: Agent | None, told: Agent) -> Agent:
    if known is None or known.name != told.name:
        return told
    return replace(known, status=told.status, reason=told.reason, since=told.since, last_event_id=told.last_event_id)
