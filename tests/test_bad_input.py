"""What goes wrong under a running service ends in one sentence, a count and an honest /readyz; once it is mended, all goes on.

Each test is one life of one real process. `wazuh-collector run` lives through ills in a row: while one lasts, the collector has
told it once, however often it looked; it counts each failed look, is not ready for the same reason and says so in WAZUH_RAW;
after it, rows that are new arrive there. `wazuh-relay run` is sent what it must refuse. Both refuse a configuration that is wrong.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from tests.collector import schemas
from tests.collector.life import is_one_sentence, watched
from tests.collector.process import PATIENCE_S, ROOT
from tests.collector.wdb_server import Behaviour, WdbServer, frame
from tests.manager.home import write_keys
from tests.nats_server import NatsServer
from tests.relay.rig import NodeVoice, Rig, changes, ended, page, spawn
from tests.relay.test_run import hostile

pytestmark = pytest.mark.unmeasured

TIMEOUT: Final = "2s"  # for a silent socket; long enough for one that answers on a busy machine
SECRET: Final = "5ec2e7" * 10


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "m"
    (made / "etc").mkdir(parents=True)
    (made / "queue/db").mkdir(parents=True)
    (made / "etc/ossec.conf").write_text("<ossec_config><cluster><node_name>node01</node_name></cluster></ossec_config>")
    write_keys(made / "etc/client.keys", "")
    return made


# The database ---------------------------------------------------------------------------------------------------------


class Disk:
    """global.db. Whatever becomes of it happens at once, by a rename: so that nobody sees it half done."""

    def __init__(self, path: Path) -> None:
        self.path, self.ids = path, [1]
        self.put()

    def put(self, version: str = "4.14") -> None:
        """Replace it by a sound one of a version, with one more agent."""
        self.ids.append(self.ids[-1] + 1)
        fresh = self.path.with_name("fresh.db")
        with contextlib.closing(sqlite3.connect(fresh)) as database, database:
            schemas.create(database, version)
            database.executemany(schemas.INSERT, map(schemas.agent, self.ids))
        fresh.replace(self.path)

    @contextmanager
    def missing(self) -> Iterator[None]:
        self.path.unlink()
        yield
        self.put()

    @contextmanager
    def denied(self) -> Iterator[None]:
        self.path.chmod(0)
        yield
        self.path.chmod(0o640)
        self.put()

    @contextmanager
    def closed(self) -> Iterator[None]:
        self.path.parent.chmod(0)
        yield
        self.path.parent.chmod(0o750)
        self.put()

    @contextmanager
    def locked(self) -> Iterator[None]:
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as writer:
            writer.execute("begin exclusive")
            yield
            self.ids.append(self.ids[-1] + 1)
            writer.execute(schemas.INSERT, schemas.agent(self.ids[-1]))
            writer.execute("commit")

    @contextmanager
    def holds(self, content: bytes) -> Iterator[None]:
        """These bytes instead of a database."""
        other = self.path.with_name("other.db")
        other.write_bytes(content)
        other.replace(self.path)
        yield
        self.put()

    @contextmanager
    def foreign(self) -> Iterator[None]:
        """A table of agents as no Wazuh that is supported makes it."""
        other = self.path.with_name("foreign.db")
        with contextlib.closing(sqlite3.connect(other)) as database, database:
            database.execute("create table agent (id integer primary key, name text not null, status text)")
        other.replace(self.path)
        yield
        self.put()


async def test_a_collector_outlives_every_ill_of_the_database(home: Path, nats_server: NatsServer) -> None:
    disk = Disk(home / "queue/db/global.db")
    ills: list[tuple[AbstractContextManager[None], str, str]] = [
        (disk.missing(), "missing", "does not exist"),
        (disk.denied(), "denied", "may not be read by this user"),
        (disk.closed(), "denied", "may not be read by this user"),
        (disk.locked(), "locked", "is locked until wazuh-db commits"),
        (disk.holds(os.urandom(20_000)), "corrupt", "is no SQLite database"),
        (disk.holds(b"SQLite format 3\0" + b"\xff" * 20_000), "corrupt", "is no SQLite database"),
        (disk.holds(b""), "corrupt", "is empty (0 bytes)"),
        (disk.foreign(), "unsupported", "has no connection_status"),
    ]
    async with watched(home, nats_server, wazuh__source="file") as life:
        await life.sees(*disk.ids)
        for ill, state, words in ills:
            with ill:
                await life.suffers(state, words)
            await life.recovers(*disk.ids)
        for version in ("4.2", "4.3", "5.0", "4.14"):  # replaced while it is in use, by one of another version and without an agent
            del disk.ids[0]
            disk.put(version)
            await life.sees(*disk.ids)
            assert life.bus.newest is not None
            assert life.bus.newest.db_version == schemas.DB_VERSION[version]


# The socket -----------------------------------------------------------------------------------------------------------


def says(raw: bytes) -> Behaviour:
    """These bytes, whatever was asked."""
    return lambda connection, _, __: connection.sendall(raw)


def breaks_off(connection: socket.socket, _: str, answer: bytes) -> None:
    connection.sendall(frame(answer)[:-3])
    connection.shutdown(socket.SHUT_RDWR)


def hangs_up(connection: socket.socket, _: str, __: bytes) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def is_silent(_: socket.socket, __: str, ___: bytes) -> None:
    return


class Daemon(WdbServer):
    """wazuh-db, which can fall ill for as long as a test likes. `ids`: of its agents."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.ill: Behaviour | None = None
        self.ids: list[int] = []
        schemas.create(self.db)
        self.grow()

    def answer(self, request: str) -> bytes:
        self.behave(self.ill)
        return super().answer(request)

    def grow(self) -> None:
        """One more agent."""
        self.ids.append(len(self.ids) + 1)
        self.execute(schemas.INSERT, *schemas.agent(self.ids[-1]))

    def drop(self) -> None:
        """Close what is connected at this moment."""
        for client in list(self._open):
            with suppress(OSError):  # closed long ago
                client.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def answering(self, behaviour: Behaviour) -> Iterator[None]:
        self.ill = behaviour
        yield
        self.grow()
        self.ill = None

    @contextmanager
    def denied(self) -> Iterator[None]:
        self.path.chmod(0)
        self.drop()
        yield
        self.grow()
        self.path.chmod(0o660)

    @contextmanager
    def away(self, *, unlinked: bool) -> Iterator[None]:
        """Nobody listens; `unlinked`: and there is nothing to connect to."""
        self._hang_up()
        self.ill = hangs_up  # on who came in at the last moment
        if unlinked:
            self.path.unlink()
        yield
        self.grow()
        self.ill = None
        self.path.unlink(missing_ok=True)
        self._listen()

    @contextmanager
    def foreign(self) -> Iterator[None]:
        self.execute("alter table agent rename column connection_status to status")
        yield
        self.execute("alter table agent rename column status to connection_status")
        self.grow()


async def test_a_collector_outlives_every_ill_of_the_socket(home: Path, nats_server: NatsServer) -> None:
    settings = {"wazuh__source": "socket", "collector__request_timeout": TIMEOUT}
    daemon = Daemon(home / "queue/db/wdb")
    with daemon:
        ills: list[tuple[AbstractContextManager[None], str, str]] = [
            (daemon.answering(breaks_off), "garbled", "closed it in the middle of an answer"),
            (daemon.answering(says(struct.pack("<I", 1 << 31) + os.urandom(64))), "garbled", "announced an answer of 2147483648 bytes"),
            (daemon.answering(says(b"HTTP/1.1 400 Bad Request\r\n\r\n")), "garbled", "announced an answer of"),
            (daemon.answering(says(frame(b"\0\xff\x1b[2J what"))), "garbled", "answered '\\x00"),
            (daemon.answering(says(frame(b'ok [{"i":1,"n'))), "garbled", "answered JSON that ends or breaks"),
            (daemon.answering(says(frame(b"err \x1b[2J no"))), "garbled", "refused a request"),
            (daemon.answering(hangs_up), "silent", "without an answer"),
            (daemon.answering(is_silent), "silent", "did not answer"),
            (daemon.denied(), "denied", "may not be used by this user"),
            (daemon.away(unlinked=False), "silent", "nobody answers at"),
            (daemon.away(unlinked=True), "missing", "does not exist"),
            (daemon.foreign(), "unsupported", "has no connection_status"),
        ]
        async with watched(home, nats_server, **settings) as life:
            await life.sees(*daemon.ids)
            for ill, state, words in ills:
                with ill:
                    await life.suffers(state, words)
                await life.recovers(*daemon.ids)
            daemon.drop()  # a connection that broke while it was idle is no ill: another one is opened without a word
            daemon.grow()
            await life.sees(*daemon.ids)


# client.keys ----------------------------------------------------------------------------------------------------------


def write_clients(path: Path, *ids: int, broken: Iterable[bytes] = ()) -> None:
    """Replace client.keys: broken lines, and after them these agents."""
    fresh = path.with_name("fresh.keys")
    fresh.write_bytes(b"".join(line + b"\n" for line in (*broken, *(f"{n:03d} agent-{n} any {SECRET}".encode() for n in ids))))
    fresh.replace(path)


async def test_broken_lines_of_client_keys_are_told_once_and_cost_no_other_line(home: Path, nats_server: NatsServer) -> None:
    disk, path = Disk(home / "queue/db/global.db"), home / "etc/client.keys"
    broken = (b"no", f"x02 agent-2 any {SECRET}".encode(), b"003 agent-3", f"000 manager any {SECRET}".encode(), b"\0\xff\x1b[2J" * 500)
    counter = "wazuh_jetstream_collector_keys_bad_lines_total"
    async with watched(home, nats_server, wazuh__source="file", collector__full_interval="1s") as life:
        write_clients(path, 1, 4, broken=broken)
        await life.bus.until(lambda receiver, _: set(receiver.keys) == {1, 4})
        fulls = life.bus.fulls
        await life.bus.until(lambda *_: life.bus.fulls >= fulls + 2)  # for each of them the file is read again
        assert await life.metric(counter) == len(broken)
        (line,) = life.lines("keys_bad_lines")
        is_one_sentence(line, f"holds {len(broken)} lines that Wazuh would not accept")
        write_clients(path, 1, 5)
        await life.bus.until(lambda receiver, _: set(receiver.keys) == {1, 5})
        write_clients(path, 1, 6, broken=(b"broken again",))
        await life.bus.until(lambda receiver, _: set(receiver.keys) == {1, 6})
        assert await life.metric(counter) == len(broken) + 1
        await life.sees(*disk.ids)
    assert len(life.lines("keys_bad_lines")) == 2
    assert SECRET not in json.dumps(life.collector.lines)


async def test_a_client_keys_that_cannot_be_read_is_told_once_and_its_agents_are_kept(home: Path, nats_server: NatsServer) -> None:
    disk, path = Disk(home / "queue/db/global.db"), home / "etc/client.keys"
    write_clients(path, 1)
    async with watched(home, nats_server, wazuh__source="file", collector__full_interval="1s") as life:
        await life.bus.until(lambda receiver, _: set(receiver.keys) == {1})
        ills: tuple[tuple[Callable[[], None], str, str], ...] = (
            (path.unlink, "missing", "does not exist"),
            (lambda: path.chmod(0), "denied", "may not be read by this user"),
        )
        for number, (befall, state, words) in enumerate(ills, 2):
            befall()
            await life.bus.until(lambda _, newest, state=state: newest.keys_state == state)  # type: ignore[misc]
            fulls = life.bus.fulls
            await life.bus.until(lambda *_, fulls=fulls: life.bus.fulls > fulls)
            line = life.lines("keys_lost")[-1]
            assert line["state"] == state
            is_one_sentence(line, words)
            assert number - 1 in life.bus.receiver.keys
            write_clients(path, number)
            await life.bus.until(lambda receiver, _, number=number: set(receiver.keys) == {number})  # type: ignore[misc]
        await life.sees(*disk.ids)
    assert (len(life.lines("keys_lost")), len(life.lines("keys_back"))) == (2, 2)


# The configuration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["collector", "relay"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nats: {ulr: nats://127.0.0.1:4222}", "unknown key 'nats.ulr' in {path}; the nearest known one is nats.url"),
        ("monitoring: {metrics_port: ninety}", "monitoring.metrics_port in {path} is 'ninety', expected a whole number"),
        (None, "configuration {path} cannot be read (No such file or directory)"),
    ],
)
def test_a_wrong_configuration_is_refused_in_one_line(program: str, text: str | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    command = [sys.executable, "-m", program, "run", "--config", str(path)]
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S, check=False)
    assert (told.returncode, told.stdout) == (78, "")
    (line,) = told.stderr.splitlines()
    assert line.startswith(f"wazuh-{program}: error: ")
    assert words.format(path=path) in line


# The relay ------------------------------------------------------------------------------------------------------------


async def test_a_relay_tells_and_counts_what_it_refuses_and_goes_on(tmp_path: Path, nats_server: NatsServer) -> None:
    """`tests.relay.test_run` says what is kept of each message; here is what the process tells of it."""
    rig = Rig(tmp_path, nats_server, "node01", "node02")
    await rig.provision()
    async with rig.client() as client:
        relay = await spawn(rig)
        assert relay.stderr is not None
        port = json.loads(await relay.stderr.readline())["port"]
        voice = NodeVoice(rig, client)
        await voice.full(3)
        sent = 0
        for node, body, headers in hostile(rig, voice):
            await rig.send(client, node, body, headers)
            sent += 1
        await voice.stop(1)
        found = await rig.until(client, 1)
        metrics = await page(port, "/metrics")
        async with asyncio.timeout(PATIENCE_S):  # what a stranger sends does not keep it from being ready
            while not (await page(port, "/readyz")).startswith("HTTP/1.1 200"):
                await asyncio.sleep(0.02)
        code, errors = await ended(relay, signal.SIGTERM)
    assert (code, changes(found)) == (0, [("001", "Active", "Disconnected")])
    refused = [line for line in map(json.loads, errors.splitlines()) if line["event"] == "message_quarantined"]
    counted = +Counter({m[1]: int(float(m[2])) for m in re.finditer(r'relay_quarantined_total\{reason="(\w+)"\} (\S+)', metrics)})
    assert len(refused) == sent
    assert counted == Counter(line["reason"] for line in refused)
    assert {"malformed", "newer_schema", "unsigned", "oversized", "unknown_node"} < set(counted)
    for line in refused:
        assert line["level"] == "warning"
        assert line["message"].isprintable()
        assert "refused" in line["message"]
