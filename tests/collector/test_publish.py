"""Laws of the publisher, on a real nats-server: nothing lost, nothing doubled, everything in order and signed."""

import asyncio
import contextlib
import json
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from collector.cadence import Plan
from collector.compose import Composer, Identity
from collector.lookout import SOURCE, Lookout
from collector.outbox import Outbox
from collector.publish import RAW, Bus, Publisher
from collector.spool import Item, Spool, SpoolFailed
from collector.watch import Watch
from shared import jsapi, sealing, subjects, wire
from shared.clock import SystemClock
from shared.config import NatsConfig
from shared.jetstream import Connection, Message, NotStored, PubAck, StoredMessage, Timeout, TooLarge
from shared.telemetry import Telemetry
from tests.collector.fakes import FakeKeys, FakeSource, Receiver, agent, untraced
from tests.guards import guard
from tests.nats_server import NatsServer

KEY = sealing.Key(b"k" * 32)
STREAM = "WAZUH_RAW"
PATIENCE_S = 20.0


def connection(server: NatsServer) -> Connection:
    return Connection(NatsConfig(url=server.url, reconnect_delay=0.05), "collector-node01", lambda *_: None, jitter=lambda: 0.2)


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Connection]:
    made = connection(nats_server)
    await made.start()
    yield made
    await made.close()


async def provision(bus: Connection) -> None:
    await bus.api(
        f"STREAM.CREATE.{STREAM}",
        {"name": STREAM, "subjects": ["wazuh.raw.>"], "storage": "file", "allow_atomic": True, "duplicate_window": 900_000_000_000},
    )


async def stored(bus: Connection) -> list[StoredMessage]:
    """Every message of the stream, in order."""
    last = (await bus.stream_info(STREAM))["state"]["last_seq"]
    answers = [await bus.api(f"STREAM.MSG.GET.{STREAM}", {"seq": seq}) for seq in range(1, last + 1)]
    return [jsapi.stored(answer, "a message") for answer in answers]


def snapshots(messages: Sequence[StoredMessage]) -> list[wire.Snapshot]:
    """Opens, verifies and joins what is in the stream."""
    signer, parts, found = sealing.MessageSigner(KEY), [], []
    for message in messages:
        assert signer.verify_header(message.headers[sealing.SIGNATURE_HEADER], message.subject, message.data, {})
        part = wire.open_part(message.data)
        assert isinstance(part, wire.Part)
        assert message.subject == subjects.raw("wazuh", part.node)
        assert message.headers["Nats-Msg-Id"] == wire.message_id(part.node, part.boot, part.seq, part.number)
        assert abs(part.sent_at - message.time_ms) < 60_000
        parts.append(part)
        if part.number == part.total:
            found.append(wire.decode(wire.join(parts)))
            parts = []
    assert not parts
    return found


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


def _wake(loop: asyncio.AbstractEventLoop, news: asyncio.Event) -> None:
    loop.call_soon_threadsafe(news.set)


class Rig:
    """A publisher and its outbox; a reader thread on a fake source where it is started."""

    def __init__(self, path: Path, bus: Bus) -> None:
        self.clock, self.telemetry, self.news = SystemClock(), Telemetry("collector"), asyncio.Event()
        self.spool = Spool.open(path, 64 << 20, 1000, "node01")
        self.bus = bus
        loop = asyncio.get_running_loop()
        self.outbox = Outbox(self.spool, lambda: _wake(loop, self.news))
        signer = sealing.MessageSigner(KEY)
        self.publisher = Publisher(
            self.outbox,
            bus,
            signer,
            "wazuh",
            "node01",
            self.news,
            self.clock,
            guard(RAW, "collector"),
            self.telemetry,
            untraced(self.clock),
        )
        self.composer = Composer(Identity("wazuh", "node01", "node01", "master"), self.spool.boot)
        self.source = FakeSource(self.clock, [agent(number) for number in range(1, 11)])
        self.stop = threading.Event()
        self.thread: threading.Thread | None = None

    def read(self) -> None:
        lookout = Lookout(self.source, FakeKeys().open(), self.clock, guard(SOURCE, "collector"), self.telemetry)
        plan = Plan(self.clock.monotonic(), 0.1, 3600.0)
        traces = untraced(self.clock)
        watch = Watch(self.source, lookout, self.composer, self.outbox, plan, self.clock, self.telemetry, 0.1, lambda _: None, traces)
        self.thread = threading.Thread(target=watch.run, args=(self.stop,))
        self.thread.start()

    @contextlib.asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.publisher.run())
        yield
        self.stop.set()
        if self.thread:
            await asyncio.to_thread(self.thread.join)
        self.publisher.drain()
        async with asyncio.timeout(PATIENCE_S):
            await task

    async def looked(self) -> None:
        """Until the reader has looked once more, whole."""
        seen = len(self.source.asked)
        await eventually(lambda: len(self.source.asked) > seen + 1)

    def counted(self, metric: str) -> float:
        lines = self.telemetry.text().decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"wazuh_jetstream_collector_{metric} "))

    def keep(self, seq: int, payload: bytes) -> Item:
        item = Item(self.spool.boot, seq, "delta", payload)
        self.outbox.keep(item, gap=False)
        return item


@pytest.fixture
async def rig(tmp_path: Path, bus: Connection) -> AsyncIterator[Rig]:
    made = Rig(tmp_path / "spool.db", bus)
    yield made
    made.stop.set()
    made.spool.close()


async def test_what_a_source_shows_arrives_signed_in_order_and_with_the_right_digest(rig: Rig, bus: Connection) -> None:
    await provision(bus)
    async with rig.publishing():
        rig.read()
        await eventually(lambda: "poll" in rig.source.asked)
        rig.source.put(agent(3, "disconnected", code=3))
        rig.source.remove(4)
        await eventually(lambda: len(rig.source.asked) > 200)
    receiver = Receiver()
    for snapshot in snapshots(await stored(bus)):
        receiver.take(snapshot)
    assert receiver.rows == rig.source.table
    assert receiver.proved
    assert rig.outbox.next() is None


async def test_while_nats_is_away_nothing_is_lost_and_what_is_stored_is_once_and_in_order(
    rig: Rig, bus: Connection, nats_server: NatsServer
) -> None:
    """The server is killed under traffic, changes go on, it comes back on its store: every change is there once, in order."""
    await provision(bus)
    changes = [(number % 10 + 1, number) for number in range(1, 61)]
    async with rig.publishing():
        rig.read()
        await eventually(lambda: "poll" in rig.source.asked)
        for at, (number, time) in enumerate(changes):
            rig.source.put(agent(number, "disconnected" if time % 2 else "active", disconnection_time=time))
            await rig.looked()
            if at == 20:
                await asyncio.to_thread(nats_server.kill)
            if at == 40:
                await eventually(lambda: rig.outbox._owes_full)  # a beat was replaced unsent
                await asyncio.to_thread(nats_server.start)
        await eventually(lambda: rig.outbox.depth() == 0)
        await eventually(lambda: rig.counted('snapshots_total{kind="full"}') >= 2 and rig.outbox.next() is None)
    got = snapshots(await stored(bus))
    assert [(row.id, row.disconnection_time) for s in got if s.kind == "delta" for row in s.rows] == changes
    receiver = Receiver()
    for snapshot in got:
        receiver.take(snapshot)
    assert receiver.rows == rig.source.table
    gaps = [s.gap for s in got if s.kind == "full"]
    assert len(gaps) >= 2, "the first one, and a fresh one after the outage"
    assert not any(gaps)


async def test_a_snapshot_of_several_parts_is_one_atomic_batch_and_its_repeat_is_no_second_one(rig: Rig, bus: Connection) -> None:
    await provision(bus)
    payload = b"\x00" + os.urandom(3 * wire.PART_BYTES)
    item = rig.keep(1, payload)
    async with rig.publishing():
        await eventually(lambda: rig.outbox.depth() == 0)
        rig.outbox.tidy()
        rig.spool._done = (0, 0)
        rig.outbox.keep(item, gap=False)  # as after a crash between ack and forgetting
        await eventually(lambda: rig.outbox.depth() == 0)
    messages = await stored(bus)
    parts = [wire.open_part(message.data) for message in messages]
    assert [(part.number, part.total) for part in parts if isinstance(part, wire.Part)] == [(n, 4) for n in (1, 2, 3, 4)]
    assert wire.join([part for part in parts if isinstance(part, wire.Part)]) == payload
    assert len({message.headers["Nats-Batch-Id"] for message in messages}) == 1


async def test_a_repeat_collapses_by_its_message_id(rig: Rig, bus: Connection) -> None:
    await provision(bus)
    item = rig.keep(1, b"\x00payload")
    async with rig.publishing():
        await eventually(lambda: rig.outbox.depth() == 0)
        rig.outbox.tidy()
        rig.spool._done = (0, 0)
        rig.outbox.keep(item, gap=False)
        await eventually(lambda: rig.outbox.depth() == 0)
    assert len(await stored(bus)) == 1


async def test_without_a_stream_everything_waits_and_one_line_is_logged(
    rig: Rig, bus: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    rig.keep(1, b"\x00payload")
    async with rig.publishing():
        await eventually(lambda: rig.counted("publish_retries_total") > 2)
        assert rig.outbox.depth() == 1
        await provision(bus)
        await eventually(lambda: rig.outbox.depth() == 0)
    events = [record.event for record in caplog.records if hasattr(record, "event")]
    assert events == ["publish_failed", "publish_resumed"]


class Stub:
    """A bus that answers as it is told, for what a real server does only by luck."""

    def __init__(self, *answers: Exception | None, max_payload: int = 1 << 20) -> None:
        self.answers = list(answers)
        self.max_payload = max_payload
        self.sent: list[list[Message]] = []

    async def client(self) -> "Stub":
        return self

    async def publish(self, subject: str, body: bytes, headers: Mapping[str, str], timeout: float) -> PubAck:
        return await self.publish_batch([Message(subject, body, headers)], timeout)

    async def publish_batch(self, messages: Sequence[Message], timeout: float) -> PubAck:
        self.sent.append(list(messages))
        answer = self.answers.pop(0) if self.answers else None
        if answer:
            raise answer
        return PubAck(STREAM, len(self.sent), False)


@pytest.fixture
def stubbed(tmp_path: Path) -> Iterator[Callable[[Stub], Rig]]:
    rigs: list[Rig] = []

    def make(stub: Stub) -> Rig:
        rigs.append(Rig(tmp_path / f"{len(rigs)}.db", stub))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.spool.close()


async def test_a_timeout_is_answered_with_the_same_message_ids(stubbed: Callable[[Stub], Rig]) -> None:
    stub = Stub(Timeout("no answer"), NotStored("no stream"), Timeout("no answer"))
    rig = stubbed(stub)
    rig.keep(1, b"\x00payload")
    async with rig.publishing():
        pass
    assert len({json.dumps(message.headers["Nats-Msg-Id"]) for (message,) in stub.sent}) == 1
    assert len(stub.sent) == 4


async def test_parts_fit_the_servers_max_payload(stubbed: Callable[[Stub], Rig]) -> None:
    stub = Stub(max_payload=64 << 10)
    rig = stubbed(stub)
    rig.keep(1, b"\x00" + bytes(200_000))
    async with rig.publishing():
        pass
    (messages,) = stub.sent
    assert len(messages) == 4
    assert all(len(message.body) < 60 << 10 for message in messages)


async def test_what_is_refused_for_good_is_dropped_loudly_and_a_gap_is_owed(
    stubbed: Callable[[Stub], Rig], caplog: pytest.LogCaptureFixture
) -> None:
    stub = Stub(TooLarge("a message of 9 bytes is above the limit"))
    rig = stubbed(stub)
    rig.keep(1, b"\x00one")
    rig.keep(2, b"\x00two")
    async with rig.publishing():
        pass
    assert [wire.open_part(messages[0].body).seq for messages in stub.sent] == [1, 2]  # type: ignore[union-attr]
    assert rig.outbox.gap
    assert "a full snapshot will stand for it" in caplog.text


async def test_where_the_disk_does_not_let_go_nothing_is_sent_twice(stubbed: Callable[[Stub], Rig]) -> None:
    stub = Stub()
    rig = stubbed(stub)
    rig.keep(1, b"\x00one")
    rig.keep(2, b"\x00two")
    rig.spool._connection.execute("PRAGMA query_only=1")
    async with rig.publishing():
        pass
    assert len(stub.sent) == 2
    with pytest.raises(SpoolFailed, match="cannot be written"):
        rig.outbox.tidy()


async def test_an_error_of_another_kind_ends_the_publisher(stubbed: Callable[[Stub], Rig]) -> None:
    rig = stubbed(Stub(RuntimeError("a bug")))
    rig.keep(1, b"\x00one")
    with pytest.raises(RuntimeError):
        await rig.publisher.run()
    assert rig.outbox.depth() == 1
