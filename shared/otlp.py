"""Exports spans, log lines and metrics by OTLP over HTTP (protobuf). Imported only where that is configured: it costs memory.

Rules
 * Nothing here holds anybody up: spans and lines go through bounded queues that drop what does not fit, metrics by a thread of
   their own. A receiver that is away is told in the log once a minute at most.
 * Spans are told when they are over, with ids that are made from facts (`shared.trace`).
 * What OpenTelemetry itself logs is never exported, or a failed export would make the next one.
 * Which signals: OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER and OTEL_LOGS_EXPORTER set to "none" turn one off.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, cast

from opentelemetry import trace as api
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace.status import Status, StatusCode

from . import logs, otlpmetrics
from .catalogue import Service
from .clock import Clock
from .telemetry import Telemetry
from .trace import Context
from .tracing import Step
from .version import VERSION

_logger = logging.getLogger("otlp")

SCOPE: Final = "wazuh-jetstream"
CLOSE_S: Final = 2.0
COMPLAIN_S: Final = 60.0
_LIBRARIES: Final = ("opentelemetry", "urllib3", "requests", "otlp")
_KINDS: Final = {"internal": api.SpanKind.INTERNAL, "producer": api.SpanKind.PRODUCER, "consumer": api.SpanKind.CONSUMER}
_SEVERITIES: Final = {
    logging.DEBUG: SeverityNumber.DEBUG,
    logging.INFO: SeverityNumber.INFO,
    logging.WARNING: SeverityNumber.WARN,
    logging.ERROR: SeverityNumber.ERROR,
    logging.CRITICAL: SeverityNumber.FATAL,
}


class Exporting:
    """Everything that is exported by one process; see `shared.tracing.Tracing`. Raises ValueError for settings it cannot use."""

    def __init__(
        self, service: Service, instance: str, endpoint: str | None, metrics: Telemetry, clock: Clock, environ: Mapping[str, str]
    ) -> None:
        self._clock = clock
        self.on = _asked_for(environ, "TRACES")
        self._closing: list[Callable[[], object]] = []
        self._ids = _Ids()
        _complain_rarely(clock)
        resource = Resource.create({"service.name": f"wazuh-{service}", "service.version": VERSION, "service.instance.id": instance})
        self._spans = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        if self.on:
            self._spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=_url(endpoint, "traces"))))
            self._closing.append(self._spans.shutdown)
        self._tracer = self._spans.get_tracer(SCOPE, VERSION)
        if _asked_for(environ, "LOGS"):
            self._export_logs(resource, endpoint)
        if _asked_for(environ, "METRICS"):
            bridge = otlpmetrics.Bridge(OTLPMetricExporter(endpoint=_url(endpoint, "metrics")), resource, metrics, environ)
            self._closing.append(bridge.close)
        logs.log(_logger, "info", "otlp_started", "traces, metrics and logs are exported by OTLP", instance=instance)

    def sampled(self, span: Context) -> Context:
        """The root span, marked as OpenTelemetry's sampler decides (OTEL_TRACES_SAMPLER; by default all)."""
        if not self.on:
            return span
        decision = self._spans.sampler.should_sample(None, int(span.trace_id, 16), "root").decision
        return replace(span, sampled=decision is Decision.RECORD_AND_SAMPLE)

    def tell(self, step: Step) -> None:
        """Record a step whose span is sampled."""
        if not (self.on and step.span.sampled):
            return
        self._ids.next(step.span)
        zero = time.time_ns() - round(self._clock.monotonic() * 1e9)
        span = self._tracer.start_span(
            step.name,
            api.set_span_in_context(_known(step.parent)),
            _KINDS[step.kind],
            dict(step.attributes),
            [api.Link(_context(link)) for link in step.links],
            zero + round(step.began * 1e9),
        )
        if step.failed:
            span.set_status(Status(StatusCode.ERROR, step.failed))
        span.end(zero + round(step.ended * 1e9))

    def close(self) -> None:
        """Send what is left, within CLOSE_S: a receiver that is away must not hold up the end."""
        ending = [threading.Thread(target=close, daemon=True) for close in self._closing]
        until = self._clock.monotonic() + CLOSE_S
        for thread in ending:
            thread.start()
        for thread in ending:
            thread.join(max(0.0, until - self._clock.monotonic()))

    def _export_logs(self, resource: Resource, endpoint: str | None) -> None:
        provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(endpoint=_url(endpoint, "logs"))))
        handler = _Lines(provider)
        logging.getLogger().addHandler(handler)
        self._closing += [lambda: logging.getLogger().removeHandler(handler), provider.shutdown]


class _Ids(IdGenerator):
    """Gives the span that is begun next on this thread the ids that it is to have."""

    def __init__(self) -> None:
        self._local = threading.local()

    def next(self, span: Context) -> None:
        self._local.span = span

    def generate_span_id(self) -> int:
        return int(self._local.span.span_id, 16)

    def generate_trace_id(self) -> int:
        return int(self._local.span.trace_id, 16)


class _Lines(logging.Handler):
    """Log lines as OpenTelemetry's log records: the same event names and fields as on stderr."""

    def __init__(self, provider: LoggerProvider) -> None:
        super().__init__()
        self._provider = provider

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] not in _LIBRARIES:
            try:
                self._send(record)
            except Exception:  # noqa: BLE001 -- as every handler of the standard library: a log line never breaks what logs it
                self.handleError(record)

    def _send(self, record: logging.LogRecord) -> None:
        fields = logs.fields(record)
        spans = Context(str(fields.get("trace_id", "")), str(fields.get("span_id", "")) or "0", sampled=True)
        self._provider.get_logger(record.name).emit(
            timestamp=round(record.created * 1e9),
            context=api.set_span_in_context(_known(spans if spans.trace_id else None)),
            severity_number=_SEVERITIES.get(record.levelno, SeverityNumber.UNSPECIFIED),
            severity_text=record.levelname,
            body=record.getMessage()[: logs.MAX_VALUE],
            attributes={name: cast("str | int | float", value) for name, value in fields.items() if value is not None},
            event_name=getattr(record, "event", "library"),
        )


class _Rarely(logging.Handler):
    """Tells a complaint of OpenTelemetry's once in COMPLAIN_S, as a line of ours."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(logging.WARNING)
        self._clock, self._quiet_until = clock, 0.0

    def emit(self, record: logging.LogRecord) -> None:
        now = self._clock.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + COMPLAIN_S
            text = f"OpenTelemetry cannot export; nothing else is affected, see whether its receiver is up: {record.getMessage()}"
            logs.log(_logger, "warning", "otlp_failed", text)


def _complain_rarely(clock: Clock) -> None:
    rarely = _Rarely(clock)
    for name in ("opentelemetry", "urllib3"):
        library = logging.getLogger(name)
        library.propagate = False
        library.handlers = [rarely]


def _asked_for(environ: Mapping[str, str], signal: str) -> bool:
    return environ.get(f"OTEL_{signal}_EXPORTER", "").strip().lower() != "none"


def _url(endpoint: str | None, signal: str) -> str | None:
    """None: OpenTelemetry reads its own variables."""
    return None if endpoint is None else f"{endpoint.rstrip('/')}/v1/{signal}"


def _known(span: Context | None) -> Any:
    return api.INVALID_SPAN if span is None else api.NonRecordingSpan(_context(span))


def _context(span: Context) -> api.SpanContext:
    flags = api.TraceFlags(api.TraceFlags.SAMPLED if span.sampled else api.TraceFlags.DEFAULT)
    return api.SpanContext(int(span.trace_id, 16), int(span.span_id, 16), is_remote=True, trace_flags=flags)
