"""How the fleet is, shown: agents by node and status, and of each node whether it is heard, read and proved.

A node's table is *proved* while the digest in its snapshots is that of the relay's copy. Where it is not, absence proves nothing,
and what says "nothing came" (overdue, reset and not returned) waits, for the whole fleet (rule 9): so an operator must see it.
"""

import logging
from collections import Counter
from typing import Final

from shared import health, logs, telemetry
from shared.catalogue import MetricName

from .events import Status
from .fleet import Fleet, Node

LOGGER: Final = logging.getLogger("relay.gauges")

UNPROVED_S: Final = 180.0
"""After a gap a table is proved again by the next full snapshot, within a minute; three times that is no gap any more."""

OF_NODES: Final[tuple[MetricName, ...]] = (
    "wazuh_jetstream_relay_node_clock_offset_seconds",
    "wazuh_jetstream_relay_node_fresh",
    "wazuh_jetstream_relay_node_last_snapshot_timestamp_seconds",
    "wazuh_jetstream_relay_node_source_up",
    "wazuh_jetstream_relay_node_table_age_seconds",
    "wazuh_jetstream_relay_node_table_proved",
)
OF_THE_LEADER: Final[tuple[MetricName, ...]] = (
    *OF_NODES,
    "wazuh_jetstream_relay_agents",
    "wazuh_jetstream_relay_holds",
    "wazuh_jetstream_relay_outbox_depth",
    "wazuh_jetstream_relay_outbox_oldest_age_seconds",
    "wazuh_jetstream_relay_quarantine_bytes",
    "wazuh_jetstream_relay_quarantine_depth",
    "wazuh_jetstream_relay_raw_age_seconds",
    "wazuh_jetstream_relay_raw_lag",
    "wazuh_jetstream_relay_silence_lag_seconds",
)
"""What a relay that stands by does not know."""

STATUSES: Final[tuple[Status, ...]] = ("Active", "Disconnected", "Pending", "NeverConnected", "Unknown")


def census(fleet: Fleet) -> Counter[tuple[str, Status]]:
    """How many agents are of each status, by the node they report to."""
    return Counter((agent.manager_node, agent.status) for agent in fleet.agents.values())


def age(now: int, moment: int) -> float:
    """Seconds from a moment to now, both in Unix ms by the stream's clock."""
    return max(0, now - moment) / 1000


class Gauges:
    """The fleet's gauges, and the page's line about tables. For one thread."""

    def __init__(self, metrics: telemetry.Telemetry, readiness: health.Readiness) -> None:
        self._metrics, self._readiness = metrics, readiness
        self._shown: set[tuple[str, Status]] = set()
        self._unproved_since: dict[str, int] = {}
        self._told: frozenset[str] = frozenset()

    def show(self, fleet: Fleet, now: int) -> None:
        """Show a fleet as it is; `now` in Unix ms."""
        self._show_agents(census(fleet), fleet)
        self._metrics.gauge("wazuh_jetstream_relay_holds", len(fleet.holding))
        began = now if fleet.began_at is None else fleet.began_at  # who never told all has not since the fleet's first snapshot
        for node in fleet.nodes.values():
            self._show_node(node, age(now, node.as_of or began))
        heard = any(node.fresh for node in fleet.nodes.values())
        self._metrics.gauge("wazuh_jetstream_relay_silence_lag_seconds", age(now, fleet.through() or began) if heard else 0.0)
        self._tell_tables(fleet, now)

    def _show_agents(self, counted: Counter[tuple[str, Status]], fleet: Fleet) -> None:
        shown = {(node, status) for node in {*fleet.nodes, *(node for node, _ in counted)} for status in STATUSES}
        for node, status in shown:
            self._metrics.gauge("wazuh_jetstream_relay_agents", counted[node, status], node=node, status=status)
        for node, status in self._shown - shown:
            self._metrics.forget("wazuh_jetstream_relay_agents", node=node, status=status)
        self._shown = shown

    def _show_node(self, node: Node, table_age: float) -> None:
        values: dict[MetricName, float] = {
            "wazuh_jetstream_relay_node_clock_offset_seconds": node.offset / 1000,
            "wazuh_jetstream_relay_node_fresh": node.fresh,
            "wazuh_jetstream_relay_node_last_snapshot_timestamp_seconds": node.heard_at / 1000,
            "wazuh_jetstream_relay_node_source_up": node.source_state == "ok",
            "wazuh_jetstream_relay_node_table_age_seconds": table_age,
            "wazuh_jetstream_relay_node_table_proved": node.proved,
        }
        for name, value in values.items():
            self._metrics.gauge(name, value, node=node.node)

    def _tell_tables(self, fleet: Fleet, now: int) -> None:
        """A node that is fresh and not proved for UNPROVED_S holds up the others."""
        unproved = {node.node for node in fleet.nodes.values() if node.fresh and not node.proved}
        self._unproved_since = {name: self._unproved_since.get(name, now) for name in sorted(unproved)}
        long = {name: (now - since) / 1000 for name, since in self._unproved_since.items() if now - since >= UNPROVED_S * 1000}
        which = ", ".join(f"{name} for {seconds:.0f} s" for name, seconds in long.items())
        advice = "what says 'nothing came' waits for it; restart that collector, it sends its whole table"
        self._readiness.advise("tables", not long, f"not proved: {which}; {advice}" if long else "every fresh node's table is proved")
        for name in sorted(long.keys() - self._told):
            text = f"what the relay holds of node {name} has not been its collector's table for {long[name]:.0f} s; {advice}"
            logs.log(LOGGER, "warning", "tables_unproved", text, node=name)
        if self._told and not long:
            logs.log(LOGGER, "info", "tables_proved", "every fresh node's table is proved again")
        self._told = frozenset(long)
