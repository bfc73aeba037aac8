"""The whole collector as a process: real sockets and files of a simulated manager, a real nats-server, real signals."""

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from collector.spool import Spool
from shared import keygen, keyring, sealing
from shared.config import NatsConfig
from shared.jetstream import Connection
from tests.collector.fakes import Receiver
from tests.collector.process import CollectorProcess
from tests.collector.test_publish import provision, snapshots, stored
from tests.manager.driver import ManagerProcess
from tests.nats_server import NatsServer
from tests.world.writes import Columns, Delete, Insert, Keys, Update, Write

pytestmark = pytest.mark.unmeasured

PATIENCE_S = 30.0
START = 1_795_400_000


def row(number: int) -> Write:
    columns: Columns = {"id": number, "name": f"agent-{number}", "ip": "10.0.0.1", "node_name": "node01"}
    return Insert("node01", 0, columns | {"connection_status": "active", "last_keepalive": START, "date_add": START - 10})


def status(number: int, word: str, at: int) -> Write:
    return Update("node01", 0, (number,), {"connection_status": word, "disconnection_time": at})


def keys(*numbers: int) -> Write:
    return Keys("node01", 0, "".join(f"{number:03d} agent-{number} any {number:064x}\n" for number in numbers))


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Connection]:
    made = Connection(NatsConfig(url=nats_server.url, reconnect_delay=0.05), "test", lambda *_: None, jitter=lambda: 0.2)
    await made.start()
    await provision(made)
    yield made
    await made.close()


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[ManagerProcess]:
    made = ManagerProcess(tmp_path / "m", commit_seconds=0.2)
    await made.start([row(1), row(2), row(3), keys(1, 2, 3)])
    yield made
    await made.stop()


@pytest.fixture
async def collector(tmp_path: Path, manager: ManagerProcess, nats_server: NatsServer) -> AsyncIterator[CollectorProcess]:
    made = CollectorProcess(tmp_path, manager.home, nats_server.url)
    yield made
    await made.kill()


async def fold(bus: Connection) -> Receiver:
    receiver = Receiver()
    for snapshot in snapshots(await stored(bus)):
        receiver.take(snapshot)
    return receiver


async def until(bus: Connection, condition: Callable[[Receiver], bool]) -> Receiver:
    """Until what the stream says, folded, is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition(receiver := await fold(bus)):
            await asyncio.sleep(0.05)
    return receiver


def is_told(number: int, at: int) -> Callable[[Receiver], bool]:
    return lambda receiver: number in receiver.rows and receiver.rows[number].disconnection_time == at


@pytest.mark.parametrize("source", ["socket", "file", "auto"])
async def test_what_wazuh_writes_is_in_the_stream(
    tmp_path: Path, manager: ManagerProcess, nats_server: NatsServer, bus: Connection, source: str
) -> None:
    collector = CollectorProcess(tmp_path, manager.home, nats_server.url, wazuh__source=source)
    await collector.start()
    await until(bus, lambda receiver: len(receiver.rows) == 3)
    await manager.apply([status(2, "disconnected", 7), Delete("node01", 0, (3,)), keys(1, 2), row(4)])
    receiver = await until(bus, is_told(2, 7))
    receiver = await until(bus, lambda receiver: 4 in receiver.rows and len(receiver.keys) == 2)
    assert {number: (one.name, one.status) for number, one in receiver.rows.items()} == {
        1: ("agent-1", "active"),
        2: ("agent-2", "disconnected"),
        4: ("agent-4", "active"),
    }
    assert sorted(receiver.keys) == [1, 2]
    assert receiver.proved
    assert await collector.terminate() == 0
    assert {s.source for s in snapshots(await stored(bus))} == {"file" if source == "file" else "socket"}
    assert {s.node for s in snapshots(await stored(bus))} == {"node01"}
    assert not [line for line in collector.lines if line["event"] == "(text)" or line.get("level") == "error"]


async def until_ready(collector: CollectorProcess) -> None:
    """A snapshot may be in the stream before its ack is here."""
    async with asyncio.timeout(20):
        while (await collector.get("/readyz"))[0] != 200:
            await asyncio.sleep(0.01)


async def test_the_pages_say_what_works(tmp_path: Path, manager: ManagerProcess, nats_server: NatsServer, bus: Connection) -> None:
    collector = CollectorProcess(tmp_path, manager.home, nats_server.url, wazuh__source="socket")
    await collector.start()
    await until(bus, lambda receiver: len(receiver.rows) == 3)
    await collector.until(lambda: collector.said("nats_connected") is not None)
    await until_ready(collector)
    assert await collector.get("/healthz") == (200, "ok\n")
    code, body = await collector.get("/readyz")
    assert (code, {name: check["ok"] for name, check in json.loads(body)["checks"].items()}) == (
        200,
        {"source": True, "nats": True, "raw": True, "spool": True, "keyring": True},
    )
    assert 'wazuh_jetstream_breaker_state{dependency="source"} 0.0' in (await collector.get("/metrics"))[1]
    assert 'wazuh_jetstream_collector_agents{status="active"} 3.0' in (await collector.get("/metrics"))[1]
    await manager.stop()
    await collector.until(lambda: collector.said("source_lost") is not None)
    await asyncio.to_thread(nats_server.kill)
    await collector.until(lambda: collector.said("nats_lost") is not None)
    code, body = await collector.get("/readyz")
    checks = json.loads(body)["checks"]
    assert (code, checks["source"]["ok"], checks["nats"]["ok"], checks["spool"]["ok"]) == (503, False, False, True)
    assert str(manager.home) in checks["source"]["detail"]
    assert 'wazuh_jetstream_breaker_state{dependency="source"} 0.0' not in (await collector.get("/metrics"))[1]
    assert await collector.terminate() == 0


async def test_the_end_leaves_nothing_in_memory_alone(
    collector: CollectorProcess, manager: ManagerProcess, nats_server: NatsServer, bus: Connection
) -> None:
    """NATS is away, a change comes, SIGTERM: exit 0; the next start sends it, and the state after it."""
    await collector.start()
    await until(bus, lambda receiver: len(receiver.rows) == 3)
    await asyncio.to_thread(nats_server.kill)
    await manager.apply([status(1, "disconnected", 5)])
    async with asyncio.timeout(PATIENCE_S):
        while 'snapshots_total{kind="delta"} 1.0' not in (await collector.get("/metrics"))[1]:
            await asyncio.sleep(0.02)
    assert await collector.terminate() == 0
    stopped = collector.said("stopped")
    assert stopped is not None
    assert stopped["waiting"] >= 1
    await manager.apply([status(1, "active", 0)])
    await asyncio.to_thread(nats_server.start)
    await collector.start()
    await until(bus, lambda receiver: receiver.boot_with_full > receiver.first_boot)
    told = [(s.boot, one.status) for s in snapshots(await stored(bus)) for one in s.rows if one.id == 1]
    assert [word for _, word in told][:3] == ["active", "disconnected", "active"]
    assert told[0][0] == told[1][0] < told[2][0]
    assert await collector.terminate() == 0


@pytest.mark.parametrize("point", ["before_spool", "after_spool", "after_publish", "after_forget"])
async def test_kill_9_at_every_crash_point_loses_nothing_and_doubles_nothing(
    tmp_path: Path, collector: CollectorProcess, manager: ManagerProcess, bus: Connection, point: str
) -> None:
    """The process kills itself at the point; what its spool holds then is in the stream after the next start, once."""
    await collector.start(WAZUH_JETSTREAM_CRASH_AT=f"collector.{point}:4")
    at = 0
    while collector.said("(ended)") is None:
        at += 1
        await manager.apply([status(1, "disconnected", at)])
        await asyncio.sleep(0.02)
    assert await collector.ended() == -9
    spool = Spool.open(tmp_path / "spool.db", 1 << 20, 0, "node01")
    kept = spool.oldest()
    spool.close()
    if point in ("before_spool", "after_forget"):  # what was sent may be on the disk still: the next one would have taken it along
        assert kept is None or kept.order in [(s.boot, s.seq) for s in snapshots(await stored(bus))]
    await collector.start()
    await manager.apply([status(2, "disconnected", 77)])
    receiver = await until(bus, is_told(2, 77))
    assert receiver.rows[1].disconnection_time == at
    assert receiver.proved
    got = [(s.boot, s.seq) for s in snapshots(await stored(bus))]
    assert len(got) == len(set(got))
    assert kept is None or kept.order in got
    assert await collector.terminate() == 0


async def test_a_source_that_is_not_there_yet_is_waited_for(tmp_path: Path, nats_server: NatsServer, bus: Connection) -> None:
    home = tmp_path / "m"
    (home / "etc").mkdir(parents=True)
    (home / "etc/ossec.conf").write_text("<ossec_config><cluster><node_name>node01</node_name></cluster></ossec_config>")
    collector = CollectorProcess(tmp_path, home, nats_server.url)
    await collector.start()
    await collector.until(lambda: collector.said("source_lost") is not None)
    manager = ManagerProcess(home)
    await manager.start([row(1)])
    await until(bus, lambda receiver: len(receiver.rows) == 1 and receiver.proved)
    assert collector.said("source_back") is not None
    assert await collector.terminate() == 0
    await manager.stop()


async def test_a_spool_whose_disk_is_full_at_the_start_is_waited_for(
    collector: CollectorProcess, manager: ManagerProcess, bus: Connection
) -> None:
    script = """
import os, resource, sys
from collector import run
from shared import cli, config
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
sys.exit(cli.run(lambda: run.run(config.load(None, os.environ)), "wazuh-collector"))
"""
    await collector.start(("-c", script), until="spool_failed")
    status, body = await collector.get("/readyz")
    assert (status, json.loads(body)["checks"]["spool"]["ok"]) == (503, False)
    resource.prlimit(collector.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await until(bus, lambda receiver: len(receiver.rows) == 3 and receiver.proved)
    assert collector.said("spool_back") is not None
    assert await collector.terminate() == 0


async def test_what_cannot_start_says_why_in_one_line(tmp_path: Path, manager: ManagerProcess, nats_server: NatsServer) -> None:
    async def refused(expected: str, **settings: str) -> None:
        collector = CollectorProcess(tmp_path, manager.home, nats_server.url, **settings)
        await collector.start()
        assert await collector.ended() == 78, collector.lines
        (line,) = [one["message"] for one in collector.lines if one["event"] == "(text)"]
        assert line.startswith("wazuh-collector: error: ")
        assert expected in line

    running = CollectorProcess(tmp_path, manager.home, nats_server.url)
    await running.start()
    await refused("is in use by another wazuh-collector")
    await refused(
        "set another monitoring.metrics_port", monitoring__metrics_port=str(running.port), collector__spool_path=str(tmp_path / "2.db")
    )
    await refused("security.signing_key_path is not set", security__signing_key_path="")
    await refused("cannot be read", wazuh__config_path=str(tmp_path / "absent.conf"))
    assert await running.terminate() == 0


async def test_a_dead_reader_ends_the_process_with_its_reason(tmp_path: Path, manager: ManagerProcess, nats_server: NatsServer) -> None:
    script = """
import os, sys
from collector import run, sources
from shared import cli, config
def read(self):
    raise ZeroDivisionError("a bug in the reader")
sources.AutoSource.read = read
sys.exit(cli.run(lambda: run.run(config.load(None, os.environ)), "wazuh-collector"))
"""
    collector = CollectorProcess(tmp_path, manager.home, nats_server.url)
    await collector.start(("-c", script))
    assert await collector.ended() == 70
    assert "a bug in the reader" in collector.lines[-2]["message"]


async def probes(collector: CollectorProcess) -> str:
    text = (await collector.get("/metrics"))[1]
    return next(line for line in text.splitlines() if line.startswith("wazuh_jetstream_collector_probes_total"))


async def test_a_wazuh_db_that_never_answers_does_not_hold_up_the_end(
    collector: CollectorProcess, manager: ManagerProcess, bus: Connection
) -> None:
    """The reader is left behind in its wait; the process ends in order, and the spool is free for the next one."""
    await collector.start()
    await until(bus, lambda receiver: len(receiver.rows) == 3)
    os.kill(manager.pid, signal.SIGSTOP)
    seen, now = "", await probes(collector)
    while seen != now:  # until no look ends any more: the reader waits for an answer
        await asyncio.sleep(0.25)
        seen, now = now, await probes(collector)
    assert await collector.terminate() == 0
    assert [line for line in collector.lines if line.get("level") == "error"] == []
    os.kill(manager.pid, signal.SIGCONT)
    await collector.start()
    await manager.apply([status(1, "disconnected", 3)])
    await until(bus, is_told(1, 3))
    assert await collector.terminate() == 0


async def test_a_node_s_key_is_changed_while_it_runs(
    tmp_path: Path, manager: ManagerProcess, nats_server: NatsServer, bus: Connection
) -> None:
    """By SIGHUP or by itself; and a file that cannot be used leaves the old key in use, in sight of /readyz."""
    collector = CollectorProcess(tmp_path, manager.home, nats_server.url, wazuh__source="socket")
    await collector.start()
    await until(bus, lambda receiver: len(receiver.rows) == 3)
    key, first = tmp_path / "signing.key", keyring.read_key(tmp_path / "signing.key")
    key.write_text("half")
    os.kill(collector.pid, signal.SIGHUP)
    await collector.until(lambda: collector.said("keyring_refused") is not None)
    code, body = await collector.get("/readyz")
    assert (code, json.loads(body)["checks"]["keyring"]["ok"]) == (503, False)
    made = keygen.signing_key(tmp_path / "next.key", "ed25519")
    made.path.rename(key)
    os.kill(collector.pid, signal.SIGHUP)
    await collector.until(lambda: collector.said("keyring_reloaded") is not None)
    assert made.kid in collector.said("keyring_reloaded")["message"]  # type: ignore[index]
    async with asyncio.timeout(20):
        while (last := (await stored(bus))[-1].headers["Wazuh-Signature"]).split(";")[1] != made.kid:
            await asyncio.sleep(0.05)
    assert await collector.terminate() == 0
    kids = [message.headers["Wazuh-Signature"].split(";")[1] for message in await stored(bus)]
    assert set(kids) == {first.kid, made.kid}
    assert kids == sorted(kids, key=[first.kid, made.kid].index)
    keys = {one.kid: one for one in (first, keyring.read_key(key))}
    for message in await stored(bus):
        assert sealing.verify_header(keys, message.headers["Wazuh-Signature"], message.subject, message.data, {})
    assert last.startswith("ed25519;")


def test_a_collector_that_signs_with_a_secret_never_loads_what_a_pair_needs(tmp_path: Path) -> None:
    """6.5 MB on somebody's busiest security server."""
    (tmp_path / "key").write_text("6b" * 32)
    (tmp_path / "key").chmod(0o600)
    code = f"""
import sys
from pathlib import Path
import collector.run
from shared import keyring
keyring.read_key(Path({str(tmp_path / "key")!r}))
print("cryptography" in sys.modules, "pydantic" in sys.modules)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "False"]


async def test_a_reading_thread_that_hangs_shows_on_healthz(tmp_path: Path, manager: ManagerProcess, nats_server: NatsServer) -> None:
    """Only then: as long as it turns it is alive, and the event loop that still answers says which part does not turn."""
    script = f"""
import os, sys, threading
from collector import run, sources
from shared import cli, config
run.STUCK_S = 0.3
poll = sources.AutoSource.poll
sources.AutoSource.poll = lambda self: threading.Event().wait() if os.path.exists({str(tmp_path / "hang")!r}) else poll(self)
sys.exit(cli.run(lambda: run.run(config.load(None, os.environ)), "wazuh-collector"))
"""
    collector = CollectorProcess(tmp_path, manager.home, nats_server.url, collector__request_timeout="50ms", wazuh__poll_interval="50ms")
    await collector.start(("-c", script))
    async with asyncio.timeout(PATIENCE_S):
        while float((await probes(collector)).split()[1]) < 30:  # at 20 ms or more each: longer than it may be busy
            assert await collector.get("/healthz") == (200, "ok\n")
        (tmp_path / "hang").touch()
        while (seen := await collector.get("/healthz"))[0] == 200:
            await asyncio.sleep(0.02)
    assert seen == (503, "not alive: stuck is the reader\n")
    assert await collector.terminate() == 0
