"""Laws of heartbeats."""

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from relay import clocks, heartbeat, seal
from relay.books import LEDGER, Books
from relay.chain import Head
from relay.fleet import Fleet
from relay.heartbeat import Heartbeats
from relay.mind import Mind
from shared import jetstream, sealing
from shared.clock import SystemClock
from shared.config import NatsConfig
from shared.telemetry import Telemetry
from tests.guards import guard
from tests.relay.lab import T0, Lab, row
from tests.relay.rig import signed

FAILED = re.compile(rb'heartbeats_total\{outcome="failed"\} ([0-9.]+)')
KEY = sealing.Key(b"r" * 32)
SIGNER = sealing.MessageSigner(KEY)


def lab() -> Lab:
    made = Lab()
    made.node("one", "standalone")
    rows = [row(1, "active", T0, node="one"), row(2, "disconnected", T0 - 9, code=3, dt=T0 - 5, node="one"), row(3, "never_connected")]
    made.full("one", rows, T0)
    return made


def test_a_heartbeat_counts_the_agents_that_report_to_its_node() -> None:
    (body,) = heartbeat.bodies(lab().fleet, T0 * 1000 + 700)
    assert body == {
        "manager_node": "one",
        "timestamp": "2023-11-14T22:13:20Z",
        "status": "fresh",
        "node_type": "standalone",
        "source": "socket",
        "source_state": "ok",
        "agents": {"total": 3, "active": 1, "disconnected": 1, "pending": 0, "never_connected": 1, "overdue": 0},
        "clock_offset_seconds": 0.0,
        "clock_off": False,
        "last_snapshot": "2023-11-14T22:13:20Z",
        "boot": 1,
        "seq": 1,
        "head": None,
    }


def test_a_heartbeat_tells_how_far_the_chain_has_come() -> None:
    (body,) = heartbeat.bodies(lab().fleet, 0, Head("0123456789abcdef", 7, "d" * 64))
    assert body["head"] == {"chain": "0123456789abcdef", "sequence": 7, "digest": "d" * 64}


def test_a_silent_node_is_stale() -> None:
    made = lab()
    made.tick(T0 + 10)
    made.tick(T0 + 20)
    made.tick(T0 + 31)
    assert [body["status"] for body in heartbeat.bodies(made.fleet, 0)] == ["stale"]


def test_overdue_agents_are_counted_where_they_report_and_a_wrong_clock_is_told() -> None:
    made = Lab()
    made.node("one", "standalone", skew=-100)
    made.full("one", [row(number, "active", T0 - 200, node="one") for number in (1, 2)], T0)
    made.beat("one", T0 + 1, {2: T0 - 200})
    (body,) = heartbeat.bodies(made.fleet, T0 * 1000)
    assert (body["agents"]["active"], body["agents"]["overdue"]) == (2, 1)
    assert (body["clock_offset_seconds"], body["clock_off"]) == (100.0, True)


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), st.integers(-(2**64), 2**64), st.integers(0, 2**63 - 1))
def test_no_number_of_a_hostile_node_breaks_a_heartbeat(boot: int, seq: int, offset: int, heard: int) -> None:
    fleet = lab().fleet
    fleet.nodes["one"] = replace(fleet.nodes["one"], boot=boot, seq=seq, clock=clocks.first(offset, 0), heard_at=heard)
    (body,) = heartbeat.bodies(fleet, 0)
    sealed = seal.seal_apart(heartbeat.message("wazuh", "lab\r\n", body, 0), SIGNER)
    assert seal.verify(*sealed, SIGNER).ok


@given(st.integers(-(10**12), 10**12))
def test_sorted_compact_json_is_what_a_heartbeats_signature_is_over(offset: int) -> None:
    fleet = lab().fleet
    fleet.nodes["one"] = replace(fleet.nodes["one"], clock=clocks.first(offset, 0))
    (body,) = heartbeat.bodies(fleet, 0)
    _, packed, _ = seal.seal_apart(heartbeat.message("wazuh", "lab", body, 0), SIGNER)
    assert signed(json.loads(packed), KEY.secret)


async def test_a_failure_is_counted_and_the_next_beat_is_tried(tmp_path: Path) -> None:
    metrics, books = Telemetry("relay"), Books(guard(LEDGER))

    class Mindless:
        fleet: Fleet = lab().fleet

        def head(self) -> None:
            return None

    class Away(jetstream.Connection):
        async def publish(self, *given: object, **more: object) -> jetstream.PubAck:
            raise jetstream.Timeout("no answer")

    connection = Away(NatsConfig(), "test", lambda state, detail: None)
    beats = Heartbeats(connection, books, cast("Mind", Mindless()), SIGNER, "wazuh", 0.001, metrics, SystemClock())
    task = asyncio.create_task(beats.run())
    async with asyncio.timeout(20):
        while (found := FAILED.search(metrics.text())) is None or float(found[1]) < 2:
            await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.wait([task])
    books.close()
