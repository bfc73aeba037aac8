"""The metrics of `shared.telemetry`, which `shared.catalogue` names, as OpenTelemetry's: one set of numbers, shown twice.

A thread sends them every OTEL_METRIC_EXPORT_INTERVAL milliseconds (60,000), cumulative, under the names that Prometheus sees.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from . import catalogue
from .catalogue import MetricName
from .telemetry import Family, Telemetry
from .version import VERSION

INTERVAL: Final = "OTEL_METRIC_EXPORT_INTERVAL"
DEFAULT_MS: Final = 60_000.0
UNITS: Final = {"seconds": "s", "bytes": "By", "bool": "1", "info": "1", "state": "1", "ratio": "1"}
"""The catalogue's units as UCUM writes them; what is counted is in braces."""


class Bridge:
    """Exports until it is closed. Raises ValueError for an interval that is none."""

    def __init__(self, exporter: OTLPMetricExporter, resource: Resource, metrics: Telemetry, environ: Mapping[str, str]) -> None:
        self._interval = float(environ.get(INTERVAL) or DEFAULT_MS) / 1000
        if not 0 < self._interval <= 86_400:
            raise ValueError(f"{INTERVAL} must be above 0 and at most a day")
        self._exporter, self._resource, self._metrics = exporter, resource, metrics
        self._began = time.time_ns()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otlp metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send them once more, and end."""
        self._ending.set()
        self._thread.join()
        self._exporter.shutdown()

    def _run(self) -> None:
        while not self._ending.wait(self._interval):
            self._send()
        self._send()

    def _send(self) -> None:
        scope = InstrumentationScope("wazuh-jetstream", VERSION)
        found = [ScopeMetrics(scope, list(converted(self._metrics, self._began, time.time_ns())), "")]
        self._exporter.export(MetricsData([ResourceMetrics(self._resource, found, "")]))


def converted(metrics: Telemetry, began: int, now: int) -> Iterator[Metric]:
    """Every metric that has a value; `began` and `now` in Unix nanoseconds."""
    for family in metrics.families():
        described = catalogue.METRICS[family.name]
        data = _CONVERTERS[described.kind](family, began, now)
        if data.data_points:
            yield Metric(family.name, described.help, _unit(family.name), data)


def _unit(name: MetricName) -> str:
    unit = catalogue.METRICS[name].unit
    return UNITS.get(unit, f"{{{unit}}}")


def _sum(family: Family, began: int, now: int) -> Sum:
    return Sum(_numbers(family, began, now), AggregationTemporality.CUMULATIVE, is_monotonic=True)


def _gauge(family: Family, began: int, now: int) -> Gauge:
    return Gauge(_numbers(family, began, now))


def _numbers(family: Family, began: int, now: int) -> list[NumberDataPoint]:
    return [NumberDataPoint(labels, began, now, value) for _, labels, value in family.samples]


def _histogram(family: Family, began: int, now: int) -> Histogram:
    grouped: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
    for suffix, labels, value in family.samples:
        le = labels.pop("le", suffix)
        grouped.setdefault(tuple(sorted(labels.items())), {})[le] = value
    points = [_point(dict(labels), values, began, now) for labels, values in grouped.items()]
    return Histogram(points, AggregationTemporality.CUMULATIVE)


def _point(labels: dict[str, str], values: dict[str, float], began: int, now: int) -> HistogramDataPoint:
    """`values`: cumulative counts by upper bound, and `sum` and `count`."""
    total, count = values.pop("sum"), values.pop("count")
    ordered = sorted((float(bound), value) for bound, value in values.items())
    counts = [int(value - before) for (_, value), before in zip(ordered, [0.0, *(value for _, value in ordered)], strict=False)]
    nothing: Any = None  # Prometheus keeps neither
    bounds = [bound for bound, _ in ordered[:-1]]
    return HistogramDataPoint(labels, began, now, int(count), total, counts, bounds, min=nothing, max=nothing)


_CONVERTERS: Final[dict[str, Callable[[Family, int, int], Sum | Gauge | Histogram]]] = {
    "counter": _sum,
    "gauge": _gauge,
    "histogram": _histogram,
}
