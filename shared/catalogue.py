"""Every metric and every kind of log line, by name: a mistyped name is a type error, and the documentation is made from here.

Pure. Names follow Prometheus: base units, `_total` for counters. Keep both lists sorted by service, then by name.
"""

from dataclasses import dataclass
from typing import Final, Literal, get_args

Service = Literal["collector", "relay"]

MetricName = Literal[
    # both
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
    "wazuh_jetstream_breaker_state",
    "wazuh_jetstream_build_info",
    "wazuh_jetstream_keyring_reloads_total",
    "wazuh_jetstream_keyring_up",
    "wazuh_jetstream_nats_connected",
    "wazuh_jetstream_nats_rebuilds_total",
    # collector
    "wazuh_jetstream_collector_agents",
    "wazuh_jetstream_collector_keepalive_period_seconds",
    "wazuh_jetstream_collector_keys_bad_lines_total",
    "wazuh_jetstream_collector_keys_up",
    "wazuh_jetstream_collector_last_published_timestamp_seconds",
    "wazuh_jetstream_collector_late_seconds",
    "wazuh_jetstream_collector_probe_seconds",
    "wazuh_jetstream_collector_probes_total",
    "wazuh_jetstream_collector_publish_retries_total",
    "wazuh_jetstream_collector_read_seconds",
    "wazuh_jetstream_collector_reads_total",
    "wazuh_jetstream_collector_rows_refused_total",
    "wazuh_jetstream_collector_snapshots_published_total",
    "wazuh_jetstream_collector_snapshots_total",
    "wazuh_jetstream_collector_source_budget_ratio",
    "wazuh_jetstream_collector_source_busy_seconds_total",
    "wazuh_jetstream_collector_source_errors_total",
    "wazuh_jetstream_collector_source_up",
    "wazuh_jetstream_collector_spool_bytes",
    "wazuh_jetstream_collector_spool_depth",
    "wazuh_jetstream_collector_spool_gaps_total",
    "wazuh_jetstream_collector_spool_oldest_age_seconds",
    # relay
    "wazuh_jetstream_relay_agents",
    "wazuh_jetstream_relay_chain_head",
    "wazuh_jetstream_relay_checkpoints_total",
    "wazuh_jetstream_relay_consumer_resets_total",
    "wazuh_jetstream_relay_decide_seconds",
    "wazuh_jetstream_relay_end_to_end_seconds",
    "wazuh_jetstream_relay_events_total",
    "wazuh_jetstream_relay_future_snapshots_total",
    "wazuh_jetstream_relay_heartbeats_total",
    "wazuh_jetstream_relay_holds",
    "wazuh_jetstream_relay_latency_seconds",
    "wazuh_jetstream_relay_leading",
    "wazuh_jetstream_relay_lease_epoch",
    "wazuh_jetstream_relay_manager_events_total",
    "wazuh_jetstream_relay_messages_total",
    "wazuh_jetstream_relay_node_clock_offset_seconds",
    "wazuh_jetstream_relay_node_fresh",
    "wazuh_jetstream_relay_node_last_snapshot_timestamp_seconds",
    "wazuh_jetstream_relay_node_source_up",
    "wazuh_jetstream_relay_node_table_age_seconds",
    "wazuh_jetstream_relay_node_table_proved",
    "wazuh_jetstream_relay_outbox_depth",
    "wazuh_jetstream_relay_outbox_oldest_age_seconds",
    "wazuh_jetstream_relay_outbox_sequence",
    "wazuh_jetstream_relay_publish_batches_total",
    "wazuh_jetstream_relay_publish_retries_total",
    "wazuh_jetstream_relay_published_messages_total",
    "wazuh_jetstream_relay_quarantine_bytes",
    "wazuh_jetstream_relay_quarantine_depth",
    "wazuh_jetstream_relay_quarantine_overflow_total",
    "wazuh_jetstream_relay_quarantined_total",
    "wazuh_jetstream_relay_raw_age_seconds",
    "wazuh_jetstream_relay_raw_lag",
    "wazuh_jetstream_relay_raw_lost_total",
    "wazuh_jetstream_relay_raw_position",
    "wazuh_jetstream_relay_record_seconds",
    "wazuh_jetstream_relay_silence_lag_seconds",
    "wazuh_jetstream_relay_superseded_total",
]


@dataclass(frozen=True, slots=True)
class Metric:
    """What a metric says. `buckets` (upper bounds) are a histogram's alone. `known`: values of its labels that are shown as 0 from the
    start, so that the first count is seen as one."""

    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    known: tuple[tuple[str, ...], ...] = ()


def _each(*values: str) -> tuple[tuple[str, ...], ...]:
    """Values of an only label."""
    return tuple((value,) for value in values)


_FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_LATENCY: Final = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 15.0, 60.0, 300.0)


_REASONS: Final = _each(
    "bad_signature", "incomplete", "malformed", "newer_schema", "only_master", "oversized", "stale", "still_heard", "too_large",
    "undecidable", "undecryptable", "unknown_key", "unknown_node", "unsigned", "wrong_cluster", "wrong_node",
)  # fmt: skip
_EVENTS: Final = (
    ("connected", "first_contact"),
    ("connected", "returned"),
    ("disconnected", "manager_reset"),
    ("disconnected", "silent"),
    ("disconnected", "stopped"),
    ("disconnected", "unexplained"),
    ("moved", "moved"),
    ("overdue", "keepalive_overdue"),
    ("overdue_cleared", "kept_alive"),
    ("pending", "startup"),
    ("registered", "registered"),
    ("registered", "reregistered"),
    ("removed", "removed"),
    ("removed_but_connected", "removed_but_connected"),
    ("version_refused", "version_refused"),
)
_OF_MANAGERS: Final = _each("clock_off", "duplicate_collector", "manager_back", "manager_restarted", "manager_unreachable")


def _counter(unit: str, text: str, *labels: str, known: tuple[tuple[str, ...], ...] = ()) -> Metric:
    return Metric("counter", unit, text, labels, known=known)


def _gauge(unit: str, text: str, *labels: str) -> Metric:
    return Metric("gauge", unit, text, labels)


def _histogram(text: str, buckets: tuple[float, ...]) -> Metric:
    return Metric("histogram", "seconds", text, (), buckets)


METRICS: Final[dict[MetricName, Metric]] = {
    # both
    "process_cpu_seconds_total": _counter("seconds", "Total user and system CPU time spent in seconds."),
    "process_max_fds": _gauge("files", "Maximum number of open file descriptors."),
    "process_open_fds": _gauge("files", "Number of open file descriptors."),
    "process_resident_memory_bytes": _gauge("bytes", "Resident memory size in bytes."),
    "process_start_time_seconds": _gauge("seconds", "Start time of the process since unix epoch in seconds."),
    "process_virtual_memory_bytes": _gauge("bytes", "Virtual memory size in bytes."),
    "wazuh_jetstream_breaker_state": _gauge("state", "0: a dependency answers; 2: it is left alone; 1: it is tried again.", "dependency"),
    "wazuh_jetstream_build_info": _gauge("info", "Always 1; the label tells the version.", "version"),
    "wazuh_jetstream_keyring_reloads_total": _counter("reloads", "Times the key files were read again, by what came of it.", "outcome"),
    "wazuh_jetstream_keyring_up": _gauge(
        "bool", "1 while the keys in use are those in the files; 0: those cannot be used, the old ones are."
    ),
    "wazuh_jetstream_nats_connected": _gauge("bool", "1 while the connection to NATS stands."),
    "wazuh_jetstream_nats_rebuilds_total": _counter("clients", "Clients given up and replaced by a fresh one."),
    # collector
    "wazuh_jetstream_collector_agents": _gauge("agents", "Agents in this node's table, by connection status.", "status"),
    "wazuh_jetstream_collector_keepalive_period_seconds": _gauge("seconds", "Learnt time between two keepalives; 0 until learnt."),
    "wazuh_jetstream_collector_keys_bad_lines_total": _counter("lines", "Lines of client.keys that Wazuh would not accept."),
    "wazuh_jetstream_collector_keys_up": _gauge("bool", "1 while client.keys can be read."),
    "wazuh_jetstream_collector_last_published_timestamp_seconds": _gauge(
        "seconds", "When NATS last acked a snapshot, Unix time; 0: not yet."
    ),
    "wazuh_jetstream_collector_late_seconds": _gauge("seconds", "How far the last look was behind its plan."),
    "wazuh_jetstream_collector_probe_seconds": _histogram("How long the source was busy for one short look.", _FAST),
    "wazuh_jetstream_collector_probes_total": _counter("probes", "Short looks that ask whether anything moved."),
    "wazuh_jetstream_collector_publish_retries_total": _counter("attempts", "Attempts to publish that failed and were repeated."),
    "wazuh_jetstream_collector_read_seconds": _histogram("How long the source was busy for one read.", _FAST),
    "wazuh_jetstream_collector_reads_total": _counter(
        "reads", "Reads that brought rows: full, partial.", "kind", known=_each("full", "partial")
    ),
    "wazuh_jetstream_collector_rows_refused_total": _counter("rows", "Rows of Wazuh's table that broke a rule and were left out."),
    "wazuh_jetstream_collector_snapshots_published_total": _counter("snapshots", "Snapshots that NATS has acked."),
    "wazuh_jetstream_collector_snapshots_total": _counter(
        "snapshots", "Snapshots made: full, delta, beat.", "kind", known=_each("beat", "delta", "full")
    ),
    "wazuh_jetstream_collector_source_budget_ratio": _gauge("ratio", "Share of the source's time that looking may take, as configured."),
    "wazuh_jetstream_collector_source_busy_seconds_total": _counter(
        "seconds", "Time that the source was busy for us; its rate is our share of it."
    ),
    "wazuh_jetstream_collector_source_errors_total": _counter("errors", "Failed reads by the source's state.", "state"),
    "wazuh_jetstream_collector_source_up": _gauge("bool", "1 while the source can be read."),
    "wazuh_jetstream_collector_spool_bytes": _gauge("bytes", "Size of what waits in the spool."),
    "wazuh_jetstream_collector_spool_depth": _gauge("snapshots", "Snapshots that wait in the spool."),
    "wazuh_jetstream_collector_spool_gaps_total": _counter("gaps", "Times the spool was full and single changes gave way."),
    "wazuh_jetstream_collector_spool_oldest_age_seconds": _gauge("seconds", "How long ago the oldest snapshot in the spool was taken."),
    # relay
    "wazuh_jetstream_relay_agents": _gauge("agents", "Agents of the cluster, by status and by the node they report to.", "node", "status"),
    "wazuh_jetstream_relay_chain_head": _gauge("sequence", "Last message of the chain that the stream of events holds.", "chain"),
    "wazuh_jetstream_relay_checkpoints_total": _counter("messages", "Signed heads of the chain, by what became of them.", "outcome"),
    "wazuh_jetstream_relay_consumer_resets_total": _counter("resets", "Times the durable consumer was set back."),
    "wazuh_jetstream_relay_decide_seconds": _histogram("How long one decision took.", _FAST),
    "wazuh_jetstream_relay_end_to_end_seconds": _histogram("From a collector's look to its event's ack, by the stream's clock.", _LATENCY),
    "wazuh_jetstream_relay_events_total": _counter("events", "Events decided.", "kind", "reason", known=_EVENTS),
    "wazuh_jetstream_relay_future_snapshots_total": _counter("snapshots", "Snapshots of a clock far ahead of the stream's."),
    "wazuh_jetstream_relay_heartbeats_total": _counter(
        "messages", "Heartbeats, by what became of them.", "outcome", known=_each("acked", "failed")
    ),
    "wazuh_jetstream_relay_holds": _gauge("agents", "Agents whose change waits for its grace to pass."),
    "wazuh_jetstream_relay_latency_seconds": _histogram("From a snapshot's arrival in the stream to its event's ack.", _LATENCY),
    "wazuh_jetstream_relay_leading": _gauge("bool", "1 while this relay decides, 0 while it stands by."),
    "wazuh_jetstream_relay_lease_epoch": _gauge("epoch", "Counts up with each relay that takes the lead; 0 while this one stands by."),
    "wazuh_jetstream_relay_manager_events_total": _counter("events", "Events of managers decided.", "kind", known=_OF_MANAGERS),
    "wazuh_jetstream_relay_messages_total": _counter(
        "messages",
        "Raw messages taken in, by what became of them.",
        "outcome",
        known=_each("decided", "duplicate_collector", "quarantined", "repeat", "request", "tick"),
    ),
    "wazuh_jetstream_relay_node_clock_offset_seconds": _gauge("seconds", "Stream time minus the node's clock.", "node"),
    "wazuh_jetstream_relay_node_fresh": _gauge("bool", "1 while a node's snapshots are fresh.", "node"),
    "wazuh_jetstream_relay_node_last_snapshot_timestamp_seconds": _gauge(
        "seconds", "When a node was last heard, Unix time by the stream's clock.", "node"
    ),
    "wazuh_jetstream_relay_node_source_up": _gauge("bool", "1 while a node's collector can read Wazuh's database.", "node"),
    "wazuh_jetstream_relay_node_table_age_seconds": _gauge(
        "seconds", "How far back a node has told all: what says 'nothing came' waits for the oldest fresh one.", "node"
    ),
    "wazuh_jetstream_relay_node_table_proved": _gauge(
        "bool", "1 while our copy of a node's table is the collector's, by their digests.", "node"
    ),
    "wazuh_jetstream_relay_outbox_depth": _gauge("messages", "Messages decided and not yet acked by the stream."),
    "wazuh_jetstream_relay_outbox_oldest_age_seconds": _gauge(
        "seconds", "How long the oldest message of the outbox has waited, as this process saw it."
    ),
    "wazuh_jetstream_relay_outbox_sequence": _gauge("sequence", "Last outbox sequence that the stream has acked."),
    "wazuh_jetstream_relay_publish_batches_total": _counter(
        "batches", "Atomic batches, by what became of them.", "outcome", known=_each("acked", "duplicate", "failed", "too_large")
    ),
    "wazuh_jetstream_relay_publish_retries_total": _counter("attempts", "Batches that failed and were repeated."),
    "wazuh_jetstream_relay_published_messages_total": _counter("messages", "Messages that the stream of events has acked."),
    "wazuh_jetstream_relay_quarantine_bytes": _gauge("bytes", "Size of the messages in the quarantine."),
    "wazuh_jetstream_relay_quarantine_depth": _gauge("messages", "Messages in the quarantine."),
    "wazuh_jetstream_relay_quarantine_overflow_total": _counter("messages", "Quarantined messages that gave way to newer ones."),
    "wazuh_jetstream_relay_quarantined_total": _counter("messages", "Messages refused, by reason.", "reason", known=_REASONS),
    "wazuh_jetstream_relay_raw_age_seconds": _gauge("seconds", "Age of the raw message decided last, when it was decided."),
    "wazuh_jetstream_relay_raw_lag": _gauge("messages", "Raw messages that wait in the stream."),
    "wazuh_jetstream_relay_raw_lost_total": _counter("messages", "Raw messages that the stream dropped before they were read."),
    "wazuh_jetstream_relay_raw_position": _gauge("sequence", "Sequence of the last raw message decided."),
    "wazuh_jetstream_relay_record_seconds": _histogram("How long the ledger's transaction took.", _FAST),
    "wazuh_jetstream_relay_silence_lag_seconds": _gauge("seconds", "How late what says 'nothing came' is told; 0 while no node is fresh."),
    "wazuh_jetstream_relay_superseded_total": _counter("facts", "Late facts stored without an event."),
}

LogEvent = Literal[
    # both
    "health_listening",
    "keyring_refused",
    "keyring_reloaded",
    "nats_connected",
    "nats_error",
    "nats_lost",
    "nats_rebuilt",
    "otlp_failed",
    "otlp_started",
    "started",
    "stopped",
    "stopping",
    # collector
    "keys_back",
    "keys_bad_lines",
    "keys_lost",
    "part_ended",
    "publish_failed",
    "publish_resumed",
    "rows_refused",
    "snapshot_made",
    "snapshot_published",
    "snapshot_refused",
    "source_back",
    "source_changed",
    "source_lost",
    "spool_back",
    "spool_failed",
    "spool_full",
    # relay
    "baseline_done",
    "catching_up",
    "caught_up",
    "checkpoint_failed",
    "consumer_reset",
    "event_decided",
    "event_published",
    "events_decided",
    "heartbeat_failed",
    "lease_lost",
    "lease_taken",
    "ledger_back",
    "ledger_lost",
    "message_dropped",
    "message_quarantined",
    "node_forgotten",
    "outbox_stalled",
    "quarantine_full",
    "raw_back",
    "raw_lost",
    "raw_unread",
    "recovered",
    "request_done",
    "standing_by",
    "tables_proved",
    "tables_unproved",
]

EVENTS: Final[dict[LogEvent, str]] = {
    # both
    "health_listening": "The pages /healthz, /readyz and /metrics are served.",
    "keyring_refused": "The key files changed and cannot be used; the keys that were read before stay in use.",
    "keyring_reloaded": "The key files were read again, because they changed or by SIGHUP, and are in use.",
    "nats_connected": "The connection to NATS stands.",
    "nats_error": "NATS or its client reported an error.",
    "nats_lost": "The connection to NATS broke; it is being restored.",
    "nats_rebuilt": "The client was closed for good and replaced by a fresh one.",
    "otlp_failed": "Traces, metrics or logs could not be exported by OTLP; told once a minute at most, nothing else is affected.",
    "otlp_started": "Traces, metrics and logs are exported by OTLP.",
    "started": "The service runs.",
    "stopped": "The service ended.",
    "stopping": "The service was asked to end.",
    # collector
    "keys_back": "client.keys can be read again.",
    "keys_bad_lines": "client.keys holds lines that Wazuh would not accept.",
    "keys_lost": "client.keys cannot be read.",
    "part_ended": "The reader or the publisher ended unasked; the service ends with it.",
    "publish_failed": "A snapshot could not be published; it stays in the spool and is tried again.",
    "publish_resumed": "NATS takes snapshots again.",
    "rows_refused": "Rows of Wazuh's table broke a rule and were left out.",
    "snapshot_made": "A snapshot was made (debug).",
    "snapshot_published": "NATS has acked a snapshot (debug).",
    "snapshot_refused": "A snapshot can never be published and was dropped.",
    "source_back": "Wazuh's agents can be read again.",
    "source_changed": "Where both ways in are allowed, the other one is used now.",
    "source_lost": "Wazuh's agents cannot be read.",
    "spool_back": "The spool could be opened.",
    "spool_failed": "The disk refused the spool: at the start it is tried again, later whole snapshots are sent from memory.",
    "spool_full": "The spool is full: single changes gave way to one full snapshot.",
    # relay
    "baseline_done": "Every node was heard; from here on differences are events.",
    "catching_up": "The ledger is behind the events that were published; RAW is decided again, without publishing.",
    "caught_up": "The ledger knows all that was published.",
    "checkpoint_failed": "The head of the chain could not be published; it is tried again.",
    "consumer_reset": "The durable consumer was set back to the ledger's position.",
    "event_decided": "One event (debug).",
    "event_published": "Events are published again.",
    "events_decided": "An input led to events; the first event_id, how many, and of which kinds.",
    "heartbeat_failed": "The health of the nodes could not be published; it is tried again.",
    "lease_lost": "Another relay decides now; this one stands by.",
    "lease_taken": "This relay decides from here on.",
    "ledger_back": "The ledger answers again.",
    "ledger_lost": "The ledger does not answer; it is tried again.",
    "message_dropped": "A decided message can never be published and was left out.",
    "message_quarantined": "A raw message was refused and kept aside.",
    "node_forgotten": "A manager was retired by an operator; its view left the fleet.",
    "outbox_stalled": "Events could not be published; they stay in the outbox and are tried again.",
    "quarantine_full": "The quarantine is full: its oldest messages gave way.",
    "raw_back": "RAW can be read again.",
    "raw_lost": "The raw stream dropped messages before they were read.",
    "raw_unread": "RAW cannot be read; it is tried again.",
    "recovered": "What the stream already holds was marked as sent.",
    "request_done": "An operator's request was taken up.",
    "standing_by": "Another relay decides; this one takes over when that one ends.",
    "tables_proved": "What the relay holds of every fresh node is its collector's again.",
    "tables_unproved": "What the relay holds of a node is not its collector's table; what says 'nothing came' waits for it.",
}


def metrics_of(service: Service) -> dict[MetricName, Metric]:
    """The metrics that a service shows: its own and those of both."""
    others = tuple(f"wazuh_jetstream_{other}_" for other in get_args(Service) if other != service)
    return {name: metric for name, metric in METRICS.items() if not name.startswith(others)}
