"""One trace from Wazuh's write to the published event, over real OTLP/HTTP, by real processes; and nothing where it is off."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from shared import catalogue, trace
from tests.otlp_receiver import Receiver, attributes
from tests.relay.rig import spawn
from tests.small_cluster import Cluster, keys, row

pytestmark = pytest.mark.unmeasured

QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_BLRP_SCHEDULE_DELAY": "100", "OTEL_METRIC_EXPORT_INTERVAL": "300"}
WAY = [
    "collector.snapshot", "collector.read", "collector.spool", "collector.publish",
    "relay.receive", "relay.decide", "relay.record", "relay.seal", "relay.publish",
]  # fmt: skip


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


async def test_one_trace_holds_all_from_the_read_to_the_published_event(cluster: Cluster, receiver: Receiver) -> None:
    async with cluster.rig.client() as client:
        await cluster.start(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, **QUICK)
        events = [one for one in await cluster.told(client, 1) if one.subject == "wazuh.agent.001.status"]
        header = trace.parse(events[-1].headers["traceparent"])
        assert header is not None
        assert header.sampled
        mine = await receiver.until(lambda r: (found := of_trace(r, header.trace_id)) and set(WAY) <= {s.name for s in found} and found)
        raw = [one for one in await cluster.rig.stored(client, "WAZUH_RAW") if header.trace_id in one.headers.get("traceparent", "")]
        await receiver.until(lambda r: {"events_decided", "started"} <= {line.event_name for line in r.lines()})
        await cluster.stop()
    spans = {span.name: span for span in mine}
    assert sorted(span.name for span in mine) == sorted(WAY)
    above = {name: next((s.name for s in mine if s.span_id == span.parent_span_id), "") for name, span in spans.items()}
    assert above == {
        "collector.snapshot": "", "collector.read": "collector.snapshot", "collector.spool": "collector.snapshot",
        "collector.publish": "collector.snapshot", "relay.receive": "collector.publish", "relay.decide": "relay.receive",
        "relay.record": "relay.receive", "relay.seal": "relay.record", "relay.publish": "relay.record",
    }  # fmt: skip
    assert spans["relay.record"].span_id.hex() == header.span_id  # a consumer goes on below it
    assert spans["collector.publish"].span_id.hex() == raw[0].headers["traceparent"].split("-")[2]
    assert events[-1].event_id in attributes(spans["relay.record"])["wazuh.event_ids"].split()
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in mine)
    decided = [line for line in receiver.lines() if line.event_name == "events_decided" and line.trace_id.hex() == header.trace_id]
    assert attributes(decided[0])["event_id"] == events[-1].event_id


def of_trace(receiver: Receiver, trace_id: str) -> list[Any]:
    return [span for span in receiver.spans() if span.trace_id.hex() == trace_id]


async def test_the_metrics_that_are_exported_are_the_catalogues(cluster: Cluster, receiver: Receiver) -> None:
    async with cluster.rig.client() as client:
        await cluster.start(WAZUH_JETSTREAM__MONITORING__OTLP_ENDPOINT=receiver.url, **QUICK)
        await cluster.told(client, 1)
        await receiver.until(lambda r: "wazuh_jetstream_relay_end_to_end_seconds" in r.metrics("wazuh-relay"))
        await receiver.until(lambda r: "wazuh_jetstream_collector_probe_seconds" in r.metrics("wazuh-collector"))
        await cluster.stop()
    for service in get_args(catalogue.Service):
        found, known = receiver.metrics(f"wazuh-{service}"), {str(name): one for name, one in catalogue.metrics_of(service).items()}
        assert set(found) <= set(known)
        assert {name for name, metric in known.items() if not metric.labels} <= set(found)
        for name, told in found.items():
            metric = known[name]
            assert told.description == metric.help
            assert told.WhichOneof("data") == {"counter": "sum", "gauge": "gauge", "histogram": "histogram"}[metric.kind]
    (point,) = receiver.metrics("wazuh-relay")["wazuh_jetstream_relay_end_to_end_seconds"].histogram.data_points
    assert point.count == sum(point.bucket_counts) >= 1
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1


async def test_a_receiver_that_is_away_holds_nothing_up_and_is_told_once(cluster: Cluster) -> None:
    async with cluster.rig.client() as client:
        await cluster.start(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", OTEL_EXPORTER_OTLP_TIMEOUT="1", **QUICK)
        await cluster.told(client, 1)
        async with asyncio.timeout(30):
            await cluster.collector.until(lambda: cluster.collector.said("otlp_failed") is not None)
        log = await cluster.stop()
    for lines in (cluster.collector.lines, [json.loads(line) for line in log.splitlines()]):
        assert len([line for line in lines if line["event"] == "otlp_failed"]) == 1
        assert not [line for line in lines if line["event"] == "library"]


LISTING = (
    "import atexit, sys; atexit.register(lambda: print('modules', sorted({m.partition('.')[0] for m in sys.modules}), file=sys.stderr))"
)
COLLECTOR = f"""
import os, sys
from collector import lean
from shared import config
reading, writing = os.pipe()
os.write(writing, lean.dump(config.load(None, os.environ)).encode())
os.close(writing)
os.set_inheritable(reading, True)
begun = {LISTING!r} + "; from collector import lean; sys.exit(lean.main())"
os.execv(sys.executable, [sys.executable, "-c", begun, str(reading)])
"""
RELAY = f"{LISTING}; from relay.__main__ import main; sys.exit(main(['run']))"


async def test_where_it_is_off_opentelemetry_is_not_imported(cluster: Cluster) -> None:
    """Each process lists its modules when it ends; the collector's are those of the lean process that runs for good."""
    async with cluster.rig.client() as client:
        await cluster.rig.provision()
        await cluster.manager.start([row(1), keys(1)])
        cluster.relay = await spawn(cluster.rig, command=("-c", RELAY))
        await cluster.collector.start(("-c", COLLECTOR))
        events = await cluster.told(client, 1)
        log = await cluster.stop()
    of_the_collector = next(line["message"] for line in cluster.collector.lines if line["message"].startswith("modules"))
    for modules in (of_the_collector, next(line for line in log.splitlines() if line.startswith("modules"))):
        assert "'nats'" in modules
        assert not [heavy for heavy in ("opentelemetry", "requests", "google") if f"'{heavy}'" in modules]
    assert not [heavy for heavy in ("pydantic", "yaml") if f"'{heavy}'" in of_the_collector]
    found = trace.parse(events[-1].headers["traceparent"])  # which consumers can follow all the same
    assert found is not None
    assert not found.sampled
