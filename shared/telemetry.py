"""Metrics in Prometheus' form, named by `shared.catalogue`. One registry per instance, so that tests never share one.

Safe to use from several threads. The only module that imports prometheus_client.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

from . import catalogue
from .catalogue import Metric, MetricName, Service
from .version import VERSION

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Family:
    """All values of one metric: (what follows the metric's name, labels, value) of each; `le` is a histogram's own label."""

    name: MetricName
    samples: list[tuple[str, dict[str, str], float]]


class Telemetry:
    """The metrics of one service, all present from the start so that a rate over them is right from the first scrape.

    Each method raises ValueError where the labels are not the catalogue's, KeyError for the other service's metric and
    AttributeError where the kind is another.
    """

    content_type: Final = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, service: Service) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        named = catalogue.metrics_of(service).items()
        self._metrics = {name: _make(name, metric, self._registry) for name, metric in named if not name.startswith("process_")}
        self.gauge("wazuh_jetstream_build_info", 1, version=VERSION)

    def count(self, name: MetricName, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        self._child(name, labels).inc(amount)

    def gauge(self, name: MetricName, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._child(name, labels).set(value)

    def observe(self, name: MetricName, seconds: float, **labels: str) -> None:
        """Add one observation to a histogram."""
        self._child(name, labels).observe(seconds)

    def live(self, name: MetricName, value: Callable[[], float]) -> None:
        """A gauge without labels whose value is asked for whenever somebody looks; on that one's thread, and never raising."""
        cast("Gauge", self._metrics[name]).set_function(value)

    def clear(self, *names: MetricName) -> None:
        """Show no value under any labels of these any more; 0 where they have none."""
        for name in names:
            if catalogue.METRICS[name].labels:
                self._metrics[name].clear()
            else:
                self.gauge(name, 0)

    def forget(self, name: MetricName, **labels: str) -> None:
        """Show the value under these labels no more, if there is one."""
        with contextlib.suppress(KeyError):
            self._metrics[name].remove(*(labels[label] for label in catalogue.METRICS[name].labels))

    def text(self) -> bytes:
        """All metrics in the text format 0.0.4."""
        return prometheus_client.generate_latest(self._registry)

    def families(self) -> Iterator[Family]:
        """All metrics as values."""
        for metric in self._registry.collect():
            name = cast("MetricName", metric.name if metric.name in catalogue.METRICS else f"{metric.name}_total")
            yield Family(name, [(s.name.removeprefix(f"{metric.name}_"), dict(s.labels), s.value) for s in metric.samples])

    def _child(self, name: MetricName, labels: dict[str, str]) -> Any:
        metric = self._metrics[name]
        return metric.labels(**labels) if labels or catalogue.METRICS[name].labels else metric


def _make(name: MetricName, metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    if metric.kind == "histogram":
        return Histogram(name, metric.help, metric.labels, buckets=metric.buckets, registry=registry)
    made = (Counter if metric.kind == "counter" else Gauge)(name, metric.help, metric.labels, registry=registry)
    for values in metric.known:
        made.labels(*values)
    return made
