"""`wazuh-relay tail`: follows EVENTS and verifies each message as it prints it.

One line for each event of an agent: a change by its `.status` message, which every change has, any other under its own
kind; and one for each event of a manager. Nothing is acked and nobody else's consumer is touched.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TextIO, get_args
from urllib.parse import unquote

from shared import config, jetstream, jsapi, subjects
from shared.errors import Quarantine, Transient
from shared.logs import printable

from . import events, published, reading, seal, session
from .trust import Reading

WAIT_S: Final = 5.0
BATCH: Final = 256
RETRY_S: Final = 1.0

KINDS: Final[tuple[str, ...]] = (*get_args(events.Kind), *get_args(events.ManagerKind))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to show. `since_s`: seconds back from now, None: from now on; `limit`: then end, None: follow for ever."""

    from_start: bool = False
    since_s: float | None = None
    agent: int | None = None
    kind: str | None = None
    limit: int | None = None


async def tail(settings: config.Config, keys: Reading, wanted: Wanted, out: TextIO, now_ms: int, *, as_json: bool) -> int:
    """Print until `limit` or interrupted; 0. Raises Stop where NATS or the stream is not there."""
    shown = 0
    show = as_line if as_json else as_text
    async with (
        session.connected(settings, "tail") as connection,
        contextlib.aclosing(follow(connection, settings.nats.subject_prefix, wanted, now_ms)) as messages,
    ):
        async for message in messages:
            if wanted.kind not in (None, message.headers.get(events.H_KIND)):
                continue
            out.write(show(message, keys) + "\n")
            out.flush()
            shown += 1
            if shown == wanted.limit:
                break
    return 0


async def follow(connection: jetstream.Connection, prefix: str, wanted: Wanted, now_ms: int) -> AsyncGenerator[jsapi.Delivered, None]:
    """Messages as they come, through broken connections, each once. Raises a kind of Transient where the first attempt fails."""
    stream, chosen, began = subjects.events_stream(prefix), _subjects(prefix, wanted), False
    place = _place(wanted, now_ms, int((await connection.stream_info(stream))["state"]["last_seq"]))
    while True:
        try:
            async with reading.opened(connection, stream, {"filter_subjects": chosen, **place}) as (puller, _):
                began = True
                while True:
                    for message in await puller.next(BATCH, WAIT_S):
                        yield message
                        place = {"deliver_policy": "by_start_sequence", "opt_start_seq": message.stream_seq + 1}
        except Transient:
            if not began:
                raise
            await asyncio.sleep(RETRY_S)


def _subjects(prefix: str, wanted: Wanted) -> list[str]:
    """Where what is wanted is found once; of one agent or all, and no manager's where an agent is asked for."""
    who = "*" if wanted.agent is None else subjects.agent_id(wanted.agent)
    of_agents = [f"{prefix}.agent.{who}.{token}" for token in published.SUBJECTS]
    return of_agents if wanted.agent is not None else [*of_agents, subjects.manager_events(prefix)]


def _place(wanted: Wanted, now_ms: int, last: int) -> dict[str, Any]:
    """Where to begin, so that a broken connection does not move it; `last` is the stream's last sequence."""
    if wanted.from_start:
        return {"deliver_policy": "all"}
    if wanted.since_s is not None:
        moment = datetime.fromtimestamp(now_ms / 1000 - wanted.since_s, UTC).isoformat()
        return {"deliver_policy": "by_start_time", "opt_start_time": moment}
    return {"deliver_policy": "by_start_sequence", "opt_start_seq": last + 1}


# One message --------------------------------------------------------------------------------------------------------


def as_line(message: jsapi.Delivered, keys: Reading) -> str:
    """A message as one line of JSON."""
    verdict = seal.verify(message.subject, message.data, message.headers, keys.verifier, keys.crypt)
    fields = _fields(message, keys)
    return json.dumps(
        {
            "verified": verdict.ok,
            "why": verdict.why,
            "kind": message.headers.get(events.H_KIND),
            "reason": message.headers.get(events.H_REASON),
            "left_manager": _left(message.headers),
            "late": _is_late(message.headers),
            "latency_seconds": _latency(message, fields),
            "sequence": message.stream_seq,
            "raw_position": seal.raw_position(message.headers),
            "subject": message.subject,
            "event": fields,
        },
        separators=(",", ":"),
    )


def as_text(message: jsapi.Delivered, keys: Reading) -> str:
    """A message as one line for people."""
    verdict = seal.verify(message.subject, message.data, message.headers, keys.verifier, keys.crypt)
    fields = _fields(message, keys)
    latency = _latency(message, fields)
    parts = (
        fields.get("timestamp"),
        *(_of_manager(fields) if message.subject.endswith(".manager_events") else _of_agent(message, fields)),
        "verified" if verdict.ok else f"NOT VERIFIED: {verdict.why}",
        "" if latency is None else f"{latency:.1f} s",
    )
    return printable("  ".join(str(part) for part in parts if part != "")).rstrip()


def _of_agent(message: jsapi.Delivered, fields: Mapping[str, Any]) -> tuple[str, ...]:
    late = ", late" if _is_late(message.headers) else ""
    if message.subject.endswith(".status"):
        why = message.headers.get(events.H_REASON, "?")
        what = f"{fields.get('previous_status')} -> {fields.get('current_status')} ({why}{late})"
    else:
        left = _left(message.headers)
        what = f"{fields.get('current_status')}, {message.headers.get(events.H_KIND)}{'' if left is None else f' from {left}'}{late}"
    return f"{fields.get('agent_id')} {fields.get('agent_name')}", what, f"on {fields.get('manager_node')}"


def _of_manager(fields: Mapping[str, Any]) -> tuple[str, ...]:
    details = fields.get("details")
    told = ", ".join(f"{key} {value}" for key, value in details.items()) if isinstance(details, dict) else ""
    return f"manager {fields.get('manager_node')}", str(fields.get("event_type")), told


def _left(headers: Mapping[str, str]) -> str | None:
    """The manager that an agent was on before it moved."""
    left = headers.get(events.H_LEFT)
    return None if left is None else unquote(left)


def _is_late(headers: Mapping[str, str]) -> bool:
    return headers.get(events.H_LATE) == "true"


def _fields(message: jsapi.Delivered, keys: Reading) -> dict[str, Any]:
    try:
        fields = json.loads(seal.opened(message.subject, message.data, message.headers, keys.crypt))
    except (ValueError, RecursionError, Quarantine):
        return {}
    return fields if isinstance(fields, dict) else {}


def _latency(message: jsapi.Delivered, fields: dict[str, Any]) -> float | None:
    """Seconds from the fact to its event in the stream; a fact has whole seconds."""
    try:
        moment = datetime.fromisoformat(fields["timestamp"])
        return round(message.time_ms / 1000 - moment.timestamp(), 1)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
