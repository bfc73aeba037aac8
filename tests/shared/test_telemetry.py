"""Metrics are the catalogue's, with its labels, and all there from the start."""

import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from shared import catalogue
from shared.telemetry import Telemetry


def values(telemetry: Telemetry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(telemetry.text().decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


@pytest.mark.parametrize("service", ["collector", "relay"])
def test_all_metrics_of_the_service_are_there_from_the_start(service: catalogue.Service) -> None:
    text = Telemetry(service).text().decode()
    for name, metric in catalogue.metrics_of(service).items():
        assert f"# TYPE {name} {metric.kind}\n" in text
    assert "_created" not in text


def test_values_are_counted_set_and_observed() -> None:
    telemetry = Telemetry("relay")
    telemetry.count("wazuh_jetstream_relay_messages_total", outcome="decided")
    telemetry.count("wazuh_jetstream_relay_messages_total", 2, outcome="decided")
    telemetry.gauge("wazuh_jetstream_relay_holds", 7)
    telemetry.gauge("wazuh_jetstream_relay_holds", 5)
    telemetry.observe("wazuh_jetstream_relay_decide_seconds", 0.002)
    found = values(telemetry)
    assert found["wazuh_jetstream_relay_messages_total", (("outcome", "decided"),)] == 3
    assert found["wazuh_jetstream_relay_holds", ()] == 5
    assert found["wazuh_jetstream_relay_decide_seconds_count", ()] == 1
    assert found["wazuh_jetstream_relay_decide_seconds_bucket", (("le", "0.001"),)] == 0
    assert found["wazuh_jetstream_relay_decide_seconds_bucket", (("le", "0.0025"),)] == 1


def test_wrong_labels_are_an_error() -> None:
    telemetry = Telemetry("relay")
    with pytest.raises(ValueError, match="label"):
        telemetry.count("wazuh_jetstream_relay_messages_total")
    with pytest.raises(ValueError, match="label"):
        telemetry.count("wazuh_jetstream_relay_messages_total", outcome="x", other="y")
    with pytest.raises(ValueError, match="label"):
        telemetry.gauge("wazuh_jetstream_relay_holds", 1, node="n")


def test_another_service_s_metric_and_another_kind_are_errors() -> None:
    telemetry = Telemetry("collector")
    with pytest.raises(KeyError):
        telemetry.gauge("wazuh_jetstream_relay_holds", 1)
    with pytest.raises(AttributeError):
        telemetry.observe("wazuh_jetstream_collector_spool_depth", 1)


def test_hostile_label_values_stay_one_line() -> None:
    telemetry = Telemetry("relay")
    telemetry.gauge("wazuh_jetstream_relay_node_fresh", 1, node='a"b\nc\\')
    assert values(telemetry)["wazuh_jetstream_relay_node_fresh", (("node", 'a"b\nc\\'),)] == 1


def test_two_services_in_one_process_count_apart() -> None:
    one, other = Telemetry("collector"), Telemetry("collector")
    one.count("wazuh_jetstream_collector_probes_total")
    assert values(other)["wazuh_jetstream_collector_probes_total", ()] == 0


def test_threads_lose_no_count() -> None:
    telemetry = Telemetry("collector")

    def count() -> None:
        for _ in range(1000):
            telemetry.count("wazuh_jetstream_collector_probes_total")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values(telemetry)["wazuh_jetstream_collector_probes_total", ()] == 4000


def test_a_live_gauge_is_asked_when_somebody_looks() -> None:
    telemetry, asked = Telemetry("collector"), iter([1.5, 2.5])
    telemetry.live("wazuh_jetstream_collector_spool_oldest_age_seconds", lambda: next(asked))
    assert [values(telemetry)["wazuh_jetstream_collector_spool_oldest_age_seconds", ()] for _ in range(2)] == [1.5, 2.5]


def test_what_is_not_known_any_more_is_not_shown() -> None:
    telemetry = Telemetry("relay")
    telemetry.gauge("wazuh_jetstream_relay_holds", 7)
    telemetry.gauge("wazuh_jetstream_relay_node_fresh", 1, node="n")
    telemetry.clear("wazuh_jetstream_relay_holds", "wazuh_jetstream_relay_node_fresh")
    found = values(telemetry)
    assert found["wazuh_jetstream_relay_holds", ()] == 0
    assert ("wazuh_jetstream_relay_node_fresh", (("node", "n"),)) not in found


def test_a_counter_begins_at_0_under_every_label_that_is_known() -> None:
    """Prometheus sees no increase in a series that begins at 1."""
    found = values(Telemetry("relay"))
    assert found["wazuh_jetstream_relay_quarantined_total", (("reason", "bad_signature"),)] == 0
    assert found["wazuh_jetstream_relay_events_total", (("kind", "disconnected"), ("reason", "silent"))] == 0
