"""A real `wazuh-collector run` through ills of its source: what its log, its pages and WAZUH_RAW say of one must always agree."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from shared import jsapi
from shared.jetstream import Connection
from shared.wire import Snapshot
from tests.collector.fakes import Receiver
from tests.collector.process import PATIENCE_S, CollectorProcess
from tests.collector.test_publish import STREAM, connection, provision, snapshots
from tests.nats_server import NatsServer

POLL: Final = "50ms"
LOOKS: Final = 2  # failed looks of an ill after it was told

OBEY_MODES: Final = """
import ctypes, os, sys
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: root without them may read what its owner may read
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP: gone with the next exec
os.execv(sys.executable, [sys.executable, "-m", "collector", "run"])
"""


class Bus:
    """What has come into WAZUH_RAW, folded as it came."""

    def __init__(self, bus: Connection) -> None:
        self._bus, self._seen = bus, 0
        self.receiver = Receiver()
        self.newest: Snapshot | None = None
        self.fulls = 0

    async def until(self, condition: Callable[[Receiver, Snapshot], bool]) -> None:
        """Until what the stream says is so."""
        async with asyncio.timeout(PATIENCE_S):
            while self.newest is None or not condition(self.receiver, self.newest):
                await self._read()
                await asyncio.sleep(0.02)

    async def _read(self) -> None:
        last = (await self._bus.stream_info(STREAM))["state"]["last_seq"]
        answers = [await self._bus.api(f"STREAM.MSG.GET.{STREAM}", {"seq": seq}) for seq in range(self._seen + 1, last + 1)]
        self._seen = last
        for snapshot in snapshots([jsapi.stored(answer, "a message") for answer in answers]):
            self.receiver.take(snapshot)
            self.newest = snapshot
            self.fulls += snapshot.kind == "full"


class Life:
    """A running collector, and what it said of its source so far."""

    def __init__(self, collector: CollectorProcess, bus: Bus) -> None:
        self.collector, self.bus = collector, bus
        self.told: list[str] = []  # what the log must have said of the source, and nothing else

    async def suffers(self, state: str, words: str) -> None:
        """One sentence, a count for every look, not ready for that reason, and the relay is told."""
        self.told.append(state)
        errors = f'wazuh_jetstream_collector_source_errors_total{{state="{state}"}}'
        await self.says(self.told)
        before = await self.metric(errors)
        await self.until(lambda: self._more(errors, before + LOOKS))
        line = self.collector.said("source_lost")
        assert line is not None
        assert self._sources() == self.told, "told again, although nothing changed"
        is_one_sentence(line, words)
        assert await self.metric("wazuh_jetstream_collector_source_up") == 0
        status, checks = await self.ready()
        breaker, _, why = checks["source"]["detail"].partition(": ")
        assert (status, checks["source"]["ok"], breaker in ("open", "half-open")) == (503, False, True)
        assert line["message"].endswith(f": {why}")
        await self.bus.until(lambda _, newest: (newest.source_state, newest.source_error) == (state, why))

    async def recovers(self, *ids: int) -> None:
        """It says so, is ready, and exactly these agents are in the stream."""
        self.told.append("ok")
        await self.says(self.told)
        await self.sees(*ids)

    async def sees(self, *ids: int) -> None:
        """Exactly these agents are in the stream, and it is ready."""
        await self.bus.until(lambda receiver, newest: set(receiver.rows) == set(ids) and newest.source_state == "ok")
        await self.until(self._is_ready)
        assert await self.metric("wazuh_jetstream_collector_source_up") == 1
        assert self._sources() == self.told

    async def says(self, told: list[str]) -> None:
        """Until the log says this of the source."""
        with suppress(TimeoutError):  # the next line says more
            await self.collector.until(lambda: self._sources() == told)
        assert self._sources() == told

    def lines(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.collector.lines if line["event"] == event]

    async def metric(self, name: str) -> float:
        """The value of a metric; 0 where it has none of these labels yet."""
        text = (await self.collector.get("/metrics"))[1]
        return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name} ")), 0.0)

    async def ready(self) -> tuple[int, dict[str, Any]]:
        status, body = await self.collector.get("/readyz")
        return status, json.loads(body)["checks"]

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Until a page makes it so."""
        async with asyncio.timeout(PATIENCE_S):
            while not await condition():
                await asyncio.sleep(0.02)

    def _sources(self) -> list[str]:
        told = [line for line in self.collector.lines if line["event"].startswith("source_")]
        return ["ok" if line["event"] == "source_back" else line["state"] for line in told]

    async def _more(self, name: str, than: float) -> bool:
        return await self.metric(name) >= than

    async def _is_ready(self) -> bool:
        return (await self.ready())[0] == 200


def is_one_sentence(line: dict[str, Any], words: str) -> None:
    """What is wrong, in one line; after the last `;` what to do."""
    text, _, remedy = line["message"].rpartition("; ")
    assert words in text
    assert remedy
    assert line["message"].isprintable()
    assert line["level"] == "warning"


@asynccontextmanager
async def watched(home: Path, nats_server: NatsServer, **settings: str) -> AsyncIterator[Life]:
    """A collector of this home, and at its end: in order, and without a word that is not a log line."""
    bus = connection(nats_server)
    await bus.start()
    await provision(bus)
    collector = CollectorProcess(home.parent, home, nats_server.url, **{"wazuh__poll_interval": POLL, **settings})
    try:
        await collector.start(("-c", OBEY_MODES))
        yield Life(collector, Bus(bus))
        assert await collector.terminate() == 0
        assert not [line for line in collector.lines if line["event"] == "(text)" or line.get("level") == "error"]
    finally:
        await collector.kill()
        await bus.close()
