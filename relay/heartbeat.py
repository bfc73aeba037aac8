"""Tells of each manager node, in time: is it heard, can its source be read, how far is its clock off, whose agents are there
and how many of them are overdue.

Heartbeats go to a stream of their own, past the outbox: a lost one is replaced by the next. They are sealed like events.
"""

import asyncio
import logging
from collections import Counter
from typing import Any, Final

from shared import clock, jetstream, logs, sealing, subjects, telemetry
from shared.errors import Quarantine, Transient

from . import events, gauges, seal
from .books import Books
from .fleet import Fleet, Node
from .mind import Mind

LOGGER: Final = logging.getLogger("relay.heartbeat")

TIMEOUT: Final = 5.0  # seconds
KIND: Final = "heartbeat"
EXACT: Final = 2**53 - 1  # the largest number that JSON's readers all hold exactly (RFC 8785); a hostile node may count higher
STATUSES: Final[dict[events.Status, str]] = {
    "Active": "active",
    "Disconnected": "disconnected",
    "Pending": "pending",
    "NeverConnected": "never_connected",
}


def bodies(fleet: Fleet, now_ms: int) -> list[dict[str, Any]]:
    """A heartbeat's body for each known node; `now_ms` is Unix ms."""
    counted = gauges.census(fleet)
    overdue = Counter(agent.manager_node for agent in fleet.agents.values() if agent.overdue is not None)
    off = {manager.node for manager in fleet.managers.values() if manager.clock_off}
    return [_body(node, _here(node, counted), overdue[node.node], now_ms, clock_off=node.node in off) for node in fleet.nodes.values()]


def _here(node: Node, counted: Counter[tuple[str, events.Status]]) -> Counter[events.Status]:
    return Counter({status: counted[node.node, status] for status in gauges.STATUSES})


def _body(node: Node, agents: Counter[events.Status], overdue: int, now_ms: int, *, clock_off: bool) -> dict[str, Any]:
    counts = {word: agents[status] for status, word in STATUSES.items()}
    return {
        "manager_node": node.node,
        "timestamp": events.utc(now_ms // 1000),
        "status": "fresh" if node.fresh else "stale",
        "node_type": node.node_type,
        "source": node.source,
        "source_state": node.source_state,
        "agents": {"total": agents.total(), **counts, "overdue": overdue},
        "clock_offset_seconds": max(-EXACT, min(node.offset, EXACT)) / 1000,
        "clock_off": clock_off,
        "last_snapshot": events.utc(node.heard_at // 1000),
        "boot": min(node.boot, EXACT),
        "seq": min(node.seq, EXACT),
    }


def message(prefix: str, cluster: str, body: dict[str, Any], now_ms: int) -> events.Message:
    """The heartbeat as a message to be sealed."""
    node = body["manager_node"]
    identity = f"heartbeat:{events.percent(node)}:{now_ms}"
    headers = {
        "ce-specversion": "1.0",
        "ce-id": identity,
        "ce-source": f"/wazuh-jetstream/{events.percent(cluster)}/{events.percent(node)}",
        "ce-type": "wazuh-jetstream.manager.heartbeat.v1",
        "ce-time": body["timestamp"],
        "ce-datacontenttype": "application/json",
        events.H_KIND: KIND,
        events.H_CLUSTER: events.percent(cluster),
        events.H_SCHEMA: events.SCHEMA_VERSION,
    }
    return events.Message(subjects.heartbeat(prefix, node), identity, events.canonical(body), headers)


class Heartbeats:
    """Publishes heartbeats, one of each node every interval (s)."""

    def __init__(
        self,
        connection: jetstream.Connection,
        books: Books,
        mind: Mind,
        signer: sealing.MessageSigner,
        prefix: str,
        interval: float,
        metrics: telemetry.Telemetry,
        watch: clock.Clock,
    ) -> None:
        self._connection = connection
        self._books = books
        self._mind = mind
        self._signer = signer
        self._prefix = prefix
        self._interval = interval
        self._metrics = metrics
        self._clock = watch
        self._failing = False

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await self.beat()
            await asyncio.sleep(self._interval)

    async def beat(self) -> None:
        """One heartbeat of each node; a failure is counted and told once."""
        now = self._clock.now_ms()
        for made in await self._books.call(self._messages, now):
            subject, body, headers = seal.seal_apart(made, self._signer)
            try:
                await self._connection.publish(subject, body, headers, TIMEOUT)
            except (Transient, Quarantine) as error:
                self._failed(error)
                return
            self._failing = False
            self._metrics.count("wazuh_jetstream_relay_heartbeats_total", outcome="acked")

    def _messages(self, now: int) -> list[events.Message]:
        fleet = self._mind.fleet
        return [message(self._prefix, fleet.cluster, body, now) for body in bodies(fleet, now)]

    def _failed(self, error: Exception) -> None:
        self._metrics.count("wazuh_jetstream_relay_heartbeats_total", outcome="failed")
        if not self._failing:
            self._failing = True
            logs.log(LOGGER, "warning", "heartbeat_failed", f"heartbeats cannot be published: {error}")
