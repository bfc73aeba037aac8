"""The catalogue describes every name, and nothing else."""

import re
from typing import get_args

from shared import catalogue
from shared.catalogue import EVENTS, METRICS


def test_every_metric_name_is_described_and_every_description_has_a_name() -> None:
    assert set(METRICS) == set(get_args(catalogue.MetricName))
    assert len(get_args(catalogue.MetricName)) == len(METRICS)


def test_every_log_event_is_described_and_every_description_has_a_name() -> None:
    assert set(EVENTS) == set(get_args(catalogue.LogEvent))
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", event) for event in EVENTS)


def test_descriptions_are_sentences() -> None:
    for text in [*EVENTS.values(), *(metric.help for metric in METRICS.values())]:
        assert text.endswith(".")
        assert text.isprintable()


def test_names_follow_prometheus() -> None:
    for name, metric in METRICS.items():
        assert re.fullmatch(r"(wazuh_jetstream|process)_[a-z_]+", name)
        assert name.endswith("_total") == (metric.kind == "counter"), name
        assert (metric.kind == "histogram") == bool(metric.buckets), name
        assert metric.buckets == tuple(sorted(set(metric.buckets)))


def test_a_service_shows_its_own_metrics_and_those_of_both() -> None:
    collector, relay = catalogue.metrics_of("collector"), catalogue.metrics_of("relay")
    assert set(collector) | set(relay) == set(METRICS)
    both = set(collector) & set(relay)
    assert "wazuh_jetstream_nats_connected" in both
    assert not any("_collector_" in name or "_relay_" in name for name in both)
