"""Metrics, their documentation, the alerts, the runbook and the dashboard all speak of the same things."""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from relay import events
from shared import catalogue
from shared.catalogue import METRICS
from tests import make_docs
from tests.relay.rig import page
from tests.small_cluster import Cluster

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
ALERTS: list[dict[str, Any]] = [rule for group in RULES["groups"] for rule in group["rules"]]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
SCRAPED = {"instance", "job"}  # labels that Prometheus adds
FOREIGN = {"up": SCRAPED, "ALERTS": {"alertname", "alertstate", "severity"}}
SELECTOR = re.compile(r"\b(wazuh_jetstream_\w+|process_\w+|up|ALERTS)\b(?:\s*\{([^}]*)\})?")
GROUPED = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")


def labels_of(name: str) -> set[str] | None:
    """The labels of a series of a metric; None: there is none of that name."""
    if name in FOREIGN:
        return FOREIGN[name] | SCRAPED
    for suffix, more in (("_bucket", {"le"}), ("_sum", set()), ("_count", set()), ("", set[str]())):
        metric = METRICS.get(name.removesuffix(suffix))  # type: ignore[call-overload]
        if name.endswith(suffix) and metric is not None and (metric.kind == "histogram") == bool(suffix):
            return {*metric.labels, *more, *SCRAPED}
    return None


def faults(expression: str) -> Iterator[str]:
    """What an expression names that is not in the catalogue."""
    known: set[str] = set()
    for name, matchers in SELECTOR.findall(expression):
        labels = labels_of(name)
        if labels is None:
            yield f"no metric {name}"
            continue
        known |= labels
        yield from (f"{name} has no label {label}" for label in re.findall(r"(\w+)\s*[=!]", matchers) if label not in labels)
        yield from _unknown_values(name, matchers)
    for listed in GROUPED.findall(expression):
        yield from (f"no label {label}" for label in map(str.strip, listed.split(",")) if label not in known)


def _unknown_values(name: str, matchers: str) -> Iterator[str]:
    metric = METRICS.get(name)  # type: ignore[call-overload]
    for label, values in re.findall(r'(\w+)=~?"([^"$]*)"', matchers):
        if metric is not None and metric.known and label in metric.labels:
            known = {combination[metric.labels.index(label)] for combination in metric.known}
            yield from (f"{name} never has {label}={value}" for value in values.split("|") if value not in known)


def test_faults_are_found() -> None:
    """The check itself: a wrong name, label, value or grouping does not pass."""
    good = 'sum by (kind) (rate(wazuh_jetstream_relay_events_total{kind="moved"}[5m]))'
    assert list(faults(good)) == []
    for part, wrong in (("events_total", "event_total"), ("{kind", "{sort"), ("moved", "move"), ("by (kind)", "by (node)")):
        assert list(faults(good.replace(part, wrong)))
    assert list(faults("wazuh_jetstream_relay_decide_seconds")) == ["no metric wazuh_jetstream_relay_decide_seconds"]
    assert list(faults("rate(wazuh_jetstream_relay_holds_bucket[5m])")) == ["no metric wazuh_jetstream_relay_holds_bucket"]


@pytest.mark.parametrize("alert", ALERTS, ids=[alert["alert"] for alert in ALERTS])
def test_an_alert_names_what_is_in_the_catalogue_and_has_its_runbook(alert: dict[str, Any]) -> None:
    assert list(faults(alert["expr"])) == []
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{alert['alert'].lower()}"
    labels = set().union(*(labels_of(name) or set() for name, _ in SELECTOR.findall(alert["expr"])))
    told = " ".join(alert["annotations"].values())
    assert set(re.findall(r"\$labels\.(\w+)", told)) <= labels
    section = RUNBOOK.partition(f"\n## {alert['alert']}\n")[2].partition("\n## ")[0]
    assert section.count("\n**Look at**\n") == section.count("\n**Do**\n") == 1


def test_every_section_of_the_runbook_is_an_alerts() -> None:
    names = [alert["alert"] for alert in ALERTS]
    assert len(set(names)) == len(names)
    assert re.findall(r"^## (.*)$", RUNBOOK, re.MULTILINE) == names


@pytest.mark.parametrize("word", re.findall(r"`((?:wazuh_jetstream|process)_\w+)`", RUNBOOK + (ROOT / "docs/monitoring.md").read_text()))
def test_a_metric_that_the_docs_name_is_in_the_catalogue(word: str) -> None:
    assert word in METRICS


@pytest.mark.parametrize(
    "word", sorted(set(re.findall(r"`([a-z]+(?:_[a-z]+)+)` (?:or `[a-z_]+` )?in (?:its|the|their) (?:relay's )?log", RUNBOOK)))
)
def test_a_log_event_that_the_runbook_names_is_in_the_catalogue(word: str) -> None:
    assert word in catalogue.EVENTS


PANELS: list[dict[str, Any]] = DASHBOARD["panels"]


@pytest.mark.parametrize("panel", PANELS, ids=[panel["title"] for panel in PANELS])
def test_a_panel_asks_for_what_is_in_the_catalogue(panel: dict[str, Any]) -> None:
    targets = panel.get("targets", [])
    assert bool(targets) == (panel["type"] != "row")
    for target in targets:
        assert SELECTOR.search(target["expr"]) is not None
        assert list(faults(target["expr"])) == []
        labels = set().union(*(labels_of(name) or set() for name, _ in SELECTOR.findall(target["expr"])))
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels


def test_the_dashboard_hangs_together() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for one, other in combinations([panel["gridPos"] for panel in PANELS], 2):
        apart = [one[a] + one[size] <= other[a] or other[a] + other[size] <= one[a] for a, size in (("x", "w"), ("y", "h"))]
        assert any(apart), (one, other)
    assert all(spot["x"] >= 0 and spot["x"] + spot["w"] <= 24 for spot in (panel["gridPos"] for panel in PANELS))
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(PANELS))) <= {*variables, "__rate_interval"}
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variables["node"]["query"]["query"]).groups()  # type: ignore[union-attr]
    assert label in (labels_of(metric) or ())


def test_the_configurations_of_prometheus_and_grafana_are_read() -> None:
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    assert all((DEPLOY / "prometheus" / name).exists() for name in prometheus["rule_files"])
    jobs = {job["job_name"] for job in prometheus["scrape_configs"]}
    assert set(re.findall(r'job="([^"]+)"', json.dumps(RULES).replace("\\", ""))) <= jobs
    for path in (DEPLOY / "grafana" / "provisioning").rglob("*.yml"):
        assert yaml.safe_load(path.read_text())["apiVersion"] == 1


# The catalogue --------------------------------------------------------------------------------------------------------


def test_the_documentation_of_metrics_is_the_catalogues() -> None:
    """To renew it: make docs"""
    assert (ROOT / "docs" / "metrics.md").read_text() == make_docs.metrics()


def test_the_values_of_labels_that_are_known_are_the_codes() -> None:
    told = METRICS["wazuh_jetstream_relay_events_total"].known
    assert {kind for kind, _ in told} == set(get_args(events.Kind))
    assert {reason for _, reason in told} == set(get_args(events.Reason))
    assert {kind for (kind,) in METRICS["wazuh_jetstream_relay_manager_events_total"].known} == set(get_args(events.ManagerKind))
    source = "".join(path.read_text() for path in [*(ROOT / "relay").glob("*.py"), *(ROOT / "shared").glob("*.py")])
    refused = set(re.findall(r'Quarantine\(\s*"(\w+)"', source)) | set(re.findall(r'super\(\).__init__\("(\w+)", sentence\)', source))
    assert {reason for (reason,) in METRICS["wazuh_jetstream_relay_quarantined_total"].known} == refused


async def test_each_documented_metric_is_shown_and_each_that_is_shown_is_documented(cluster: Cluster) -> None:
    """By both real services, read by the Prometheus client's own parser, while all of it happens: label by label."""
    async with cluster.rig.client() as client:
        await cluster.start()
        await cluster.told(client, 1)
        _, of_the_collector = await cluster.collector.get("/metrics")
        of_the_relay = (await page(cluster.port, "/metrics")).partition("\r\n\r\n")[2]
        await cluster.stop()
    told = (ROOT / "docs" / "metrics.md").read_text()
    for service, text in zip(get_args(catalogue.Service), (of_the_collector, of_the_relay), strict=True):
        families = {_full_name(family): family for family in text_string_to_metric_families(text)}
        assert set(families) == set(catalogue.metrics_of(service))
        for name, family in families.items():
            metric = METRICS[name]  # type: ignore[index]
            assert (family.type, family.documentation) == (metric.kind, metric.help)
            assert {label for sample in family.samples for label in sample.labels} <= {*metric.labels, "le"}
            assert f"| `{name}` | {metric.kind} |" in told
    assert 'wazuh_jetstream_relay_events_total{kind="disconnected",reason="stopped"} 1.0' in of_the_relay


def _full_name(family: Any) -> str:
    return f"{family.name}_total" if family.type == "counter" else str(family.name)
