"""Metrics in Prometheus' form, named by `shared.catalogue`. One registry per instance, so that tests never share one.

Safe to use from several threads. The only module that imports prometheus_client.
"""

import contextlib
from typing import Any, Final

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from . import catalogue
from .catalogue import Metric, MetricName, Service

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


class Telemetry:
    """The metrics of one service, all present from the start so that a rate over them is right from the first scrape.

    Each method raises ValueError where the labels are not the catalogue's, KeyError for the other service's metric and
    AttributeError where the kind is another.
    """

    content_type: Final = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, service: Service) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._metrics = {name: _make(name, metric, self._registry) for name, metric in catalogue.metrics_of(service).items()}

    def count(self, name: MetricName, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        self._child(name, labels).inc(amount)

    def gauge(self, name: MetricName, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._child(name, labels).set(value)

    def observe(self, name: MetricName, seconds: float, **labels: str) -> None:
        """Add one observation to a histogram."""
        self._child(name, labels).observe(seconds)

    def forget(self, name: MetricName, **labels: str) -> None:
        """Show the value under these labels no more, if there is one."""
        with contextlib.suppress(KeyError):
            self._metrics[name].remove(*(labels[label] for label in catalogue.METRICS[name].labels))

    def text(self) -> bytes:
        """All metrics in the text format 0.0.4."""
        return prometheus_client.generate_latest(self._registry)

    def _child(self, name: MetricName, labels: dict[str, str]) -> Any:
        metric = self._metrics[name]
        return metric.labels(**labels) if labels or catalogue.METRICS[name].labels else metric


def _make(name: MetricName, metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    if metric.kind == "histogram":
        return Histogram(name, metric.help, metric.labels, buckets=metric.buckets, registry=registry)
    kind = Counter if metric.kind == "counter" else Gauge
    return kind(name, metric.help, metric.labels, registry=registry)
