"""What an operator must see of the fleet, above all a node that holds up the others."""

import json
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from relay.gauges import OF_THE_LEADER, UNPROVED_S, Gauges
from relay.nodes import _facts, _row
from shared import catalogue
from shared.health import Readiness
from shared.telemetry import Telemetry
from tests.relay.lab import T0, Lab, row


class Shown:
    """A fleet, and what is shown of it."""

    def __init__(self) -> None:
        self.lab, self.metrics, self.readiness = Lab(), Telemetry("relay"), Readiness()
        self.gauges = Gauges(self.metrics, self.readiness)
        for name, kind in (("one", "master"), ("two", "worker")):
            self.lab.node(name, kind)  # type: ignore[arg-type]
            self.lab.full(name, [row(1, "active", T0, node="one"), row(2, "disconnected", T0 - 9, code=3, dt=T0 - 5, node="one")], T0)

    def show(self, now: int) -> None:
        self.gauges.show(self.lab.fleet, now * 1000)

    def value(self, name: str, **labels: str) -> float | None:
        samples = [s for family in text_string_to_metric_families(self.metrics.text().decode()) for s in family.samples]
        return next((s.value for s in samples if s.name == f"wazuh_jetstream_relay_{name}" and s.labels == labels), None)

    def tables(self) -> dict[str, object]:
        return json.loads(self.readiness.json())["checks"]["tables"]  # type: ignore[no-any-return]

    def disagree(self, now: int) -> None:
        """Node two's digest is not that of what it said."""
        self.lab.hear(replace(self.lab.speakers["two"].snapshot("beat", now), digest=1), now)
        self.lab.beat("one", now)


def test_agents_are_shown_by_status_and_by_the_node_they_report_to() -> None:
    shown = Shown()
    shown.show(T0)
    told = {
        (node, status): shown.value("agents", node=node, status=status) for node in ("one", "two") for status in ("Active", "Disconnected")
    }
    assert told == {("one", "Active"): 1, ("one", "Disconnected"): 0, ("two", "Active"): 0, ("two", "Disconnected"): 1}
    shown.lab.fleet.forget("two")
    shown.lab.fleet.agents.clear()
    shown.show(T0)
    assert shown.value("agents", node="two", status="Active") is None


def test_a_node_whose_digest_never_agrees_is_seen_with_all_that_waits_for_it() -> None:
    shown = Shown()
    shown.show(T0)
    assert (shown.value("node_table_proved", node="two"), shown.tables()["ok"]) == (1, True)
    for now in range(T0 + 10, T0 + 10 + int(UNPROVED_S) + 11, 10):
        shown.disagree(now)
        shown.show(now)
    assert shown.value("node_table_proved", node="two") == 0
    assert shown.value("node_table_proved", node="one") == 1
    late = shown.value("silence_lag_seconds")
    assert late is not None
    assert late >= UNPROVED_S
    assert late == shown.value("node_table_age_seconds", node="two")
    assert shown.tables()["ok"] is False
    assert "not proved: two for" in str(shown.tables()["detail"])
    assert shown.readiness.ready  # told, and no reason to be taken out of service
    assert _row(_facts(shown.lab.fleet.nodes["two"], 0))[-1] == f"not proved for {late:.0f} s"
    assert _row(_facts(shown.lab.fleet.nodes["one"], 0))[-1] == "proved"


def test_a_node_that_was_never_proved_is_as_old_as_the_fleet() -> None:
    shown = Shown()
    fleet = shown.lab.fleet
    fleet.nodes["two"] = replace(fleet.nodes["two"], as_of=0, proved=False)
    shown.show(T0 + 500)
    assert shown.value("node_table_age_seconds", node="two") == 500
    assert shown.value("silence_lag_seconds") == 500
    assert _row(_facts(fleet.nodes["two"], 0))[-1] == "never proved"


def test_it_is_told_once_and_once_more_when_it_is_proved_again(caplog: pytest.LogCaptureFixture) -> None:
    shown = Shown()
    with caplog.at_level("INFO"):
        for now in range(T0 + 10, T0 + 310, 10):
            shown.disagree(now)
            shown.show(now)
        shown.lab.full("two", list(shown.lab.speakers["two"].rows.values()), T0 + 320)
        shown.show(T0 + 320)
    assert [record.__dict__["event"] for record in caplog.records] == ["tables_unproved", "tables_proved"]
    assert shown.tables()["ok"] is True


def test_one_that_is_not_heard_holds_up_nobody() -> None:
    shown = Shown()
    shown.disagree(T0 + 10)
    shown.show(T0 + 10)
    for now in range(T0 + 20, T0 + 300, 10):
        shown.lab.beat("one", now)
        shown.show(now)
    assert shown.value("node_fresh", node="two") == 0
    assert shown.tables()["ok"] is True
    assert (shown.value("silence_lag_seconds") or 0) < 60


def test_a_relay_that_stands_by_shows_nothing_of_the_fleet() -> None:
    shown = Shown()
    shown.show(T0)
    shown.metrics.clear(*OF_THE_LEADER)
    for name in OF_THE_LEADER:
        if catalogue.METRICS[name].labels:
            assert f"\n{name}{{" not in shown.metrics.text().decode()
        else:
            assert f"\n{name} 0.0\n" in shown.metrics.text().decode()
