"""Makes the streams and the durable consumer, for those who may: `wazuh-relay provision`.

Run again it changes nothing, or brings what may be changed to what the configuration says. What NATS never changes on a
stream is told in one sentence. The relay and the collectors run without the right to any of this.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared import config, jetstream, jsapi, subjects
from shared.errors import Stop

SECOND: Final = 1_000_000_000  # JetStream counts in nanoseconds
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
RAW_MESSAGE_BYTES: Final = 768 * 1024  # a part is 512 KiB and its envelope

CHECKPOINTS: Final = 100_000  # eleven years of one an hour, about 1 KB each
FILTERS: Final = ("agent.*.status", "security.manager_events")
"""What a consumer of EVENTS reads by default, below the prefix: every change once, and what befalls managers."""

OVERLAP: Final = 10065
MANY_REPLICAS: Final = 10074
FIXED: Final = ("storage", "retention", "deny_delete", "deny_purge")
"""What no update changes."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting that is not as it should be."""

    key: str
    found: object
    wanted: object


def streams(settings: config.NatsConfig) -> dict[str, dict[str, Any]]:
    """The streams by name, as JetStream's API writes them."""
    prefix = settings.subject_prefix
    common = {
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "num_replicas": settings.replicas,
        "allow_direct": True,
    }
    raw = {
        "subjects": [f"{prefix}.raw.*"],
        "max_age": 72 * HOUR,
        "max_bytes": settings.raw_max_bytes,
        "max_msg_size": RAW_MESSAGE_BYTES,
        "duplicate_window": 15 * MINUTE,
        "allow_atomic": True,
    }
    events = {
        "subjects": [f"{prefix}.agent.*.*", f"{prefix}.security.agent_events", f"{prefix}.security.manager_events"],
        "max_age": 30 * DAY,
        "max_bytes": settings.events_max_bytes,
        "duplicate_window": 2 * HOUR,
        "allow_atomic": True,
        "deny_delete": True,
        "deny_purge": True,
    }
    heartbeats = {
        "subjects": [f"{prefix}.manager.*.heartbeat"],
        "max_age": 30 * DAY,
        "max_msgs_per_subject": 100,
        "duplicate_window": 2 * MINUTE,
    }
    checkpoints = {  # no max_age: they outlive the events
        "subjects": [subjects.checkpoints(prefix)],
        "max_msgs": CHECKPOINTS,
        "max_bytes": settings.checkpoints_max_bytes,
        "duplicate_window": 2 * HOUR,
        "deny_delete": True,
        "deny_purge": True,
    }
    return {
        subjects.raw_stream(prefix): common | raw,
        subjects.events_stream(prefix): common | events,
        subjects.heartbeats_stream(prefix): common | heartbeats,
        subjects.checkpoints_stream(prefix): common | checkpoints,
    }


def consumer() -> dict[str, Any]:
    """The relay's durable consumer on RAW. Only a cursor: the relay resets it to its ledger's position."""
    return {
        "deliver_policy": "all",
        "ack_policy": "all",
        "ack_wait": MINUTE,
        "max_deliver": -1,
        "max_ack_pending": 100_000,
    }


def durable(prefix: str, filters: Sequence[str]) -> dict[str, Any]:
    """A durable consumer of somebody who reads EVENTS, whose user need not be allowed to make one."""
    return {
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": MINUTE,
        "max_deliver": -1,
        "max_ack_pending": 10_000,
        "filter_subjects": [f"{prefix}.{one}" for one in filters],
    }


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[Difference]:
    """What is not as wanted; the server leaves out what is false."""
    return [Difference(key, found.get(key), value) for key, value in wanted.items() if found.get(key, False) != value]


async def provision(
    connection: jetstream.Connection, settings: config.Config, readers: Sequence[str] = (), filters: Sequence[str] = FILTERS
) -> list[str]:
    """Make or update everything; one line for each thing. `readers`: names of durable consumers of EVENTS, which read `filters`.

    Raises Stop with what to do where that cannot be.
    """
    prefix = settings.nats.subject_prefix
    done = [await _stream(connection, name, wanted) for name, wanted in streams(settings.nats).items()]
    done.append(await _consumer(connection, subjects.raw_stream(prefix), settings.relay.consumer, consumer()))
    wanted = durable(prefix, filters)
    return done + [await _consumer(connection, subjects.events_stream(prefix), reader, wanted) for reader in readers]


async def _stream(connection: jetstream.Connection, name: str, wanted: Mapping[str, Any]) -> str:
    try:
        found = (await connection.stream_info(name))["config"]
    except jsapi.NotStored:
        await _ask(connection, f"STREAM.CREATE.{name}", {"name": name, **wanted}, name)
        return f"stream {name}: created"
    changes = differences(wanted, found)
    fixed = [change for change in changes if change.key in FIXED]
    if fixed:
        raise Stop(
            f"stream {name} has {fixed[0].key} {fixed[0].found!r} and needs {fixed[0].wanted!r}, which no update changes;"
            " back it up, delete it and run provision again"
        )
    if changes:
        await _ask(connection, f"STREAM.UPDATE.{name}", {**found, **wanted}, name)
    return f"stream {name}: {_said(changes)}"


async def _consumer(connection: jetstream.Connection, stream: str, name: str, wanted: Mapping[str, Any]) -> str:
    try:
        found = (await connection.api(f"CONSUMER.INFO.{stream}.{name}"))["config"]
    except jsapi.NotStored:
        await _create(connection, stream, name, wanted)
        return f"consumer {name} on {stream}: created"
    changes = differences(wanted, found)
    if any(change.key in ("deliver_policy", "ack_policy") for change in changes):
        raise Stop(f"consumer {name} on {stream} is another one's; choose another name, or delete it and run provision again")
    if changes:
        await _create(connection, stream, name, {**found, **wanted})
    return f"consumer {name} on {stream}: {_said(changes)}"


async def _create(connection: jetstream.Connection, stream: str, name: str, wanted: Mapping[str, Any]) -> None:
    request = {"stream_name": stream, "config": {**wanted, "name": name, "durable_name": name}}
    await _ask(connection, f"CONSUMER.CREATE.{stream}.{name}", request, name)


async def _ask(connection: jetstream.Connection, verb: str, request: Mapping[str, Any], name: str) -> None:
    try:
        await connection.api(verb, request)
    except jsapi.Refused as refused:
        raise Stop(f"{name} could not be made: {refused}; {_remedy(refused.code)}") from refused


def _remedy(code: int) -> str:
    return {
        OVERLAP: "another stream takes these subjects: remove them there, or set another nats.subject_prefix",
        MANY_REPLICAS: "the cluster has fewer servers: set nats.replicas to at most their number",
    }.get(code, "correct it and run provision again")


def _said(changes: list[Difference]) -> str:
    if not changes:
        return "unchanged"
    return "updated (" + ", ".join(f"{c.key} {c.found!r} -> {c.wanted!r}" for c in changes) + ")"
