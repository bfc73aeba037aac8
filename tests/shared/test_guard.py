"""Laws of the guard: what happens to a dependency is seen once in the log, and always in a metric and on the page of health."""

import asyncio
import json
import logging

import pytest

from shared.backoff import Backoff
from shared.errors import ConfigError, Unreachable
from shared.guard import Guard, Words
from shared.health import Readiness
from shared.telemetry import Telemetry
from tests.clock import ManualClock
from tests.guards import guard

WORDS = Words("ledger", "ledger_lost", "the ledger is away", "ledger_back", "the ledger is back")
WAIT_S = 10.0


class Shown:
    """A guard and all that it shows."""

    def __init__(self) -> None:
        self.readiness, self.metrics, self.clock = Readiness("ledger"), Telemetry("relay"), ManualClock()
        backoff = Backoff(first=1.0, highest=8.0, jitter=lambda: 1.0)
        self.guard: Guard = guard(WORDS, readiness=self.readiness, metrics=self.metrics, clock=self.clock, backoff=backoff)

    @property
    def check(self) -> tuple[bool, str]:
        found = json.loads(self.readiness.json())["checks"]["ledger"]
        return found["ok"], found["detail"]

    @property
    def state(self) -> float:
        line = next(line for line in self.metrics.text().decode().splitlines() if line.startswith("wazuh_jetstream_breaker_state{"))
        return float(line.split()[-1])


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.event for record in caplog.records if hasattr(record, "event")]


def test_nothing_is_said_to_work_before_it_did() -> None:
    shown = Shown()
    assert shown.guard.delay() == 0.0
    assert shown.check == (False, "not checked yet")
    shown.guard.succeeded("on disk")
    assert (shown.check, shown.state) == ((True, "closed: on disk"), 0.0)


def test_the_state_is_a_metric_and_a_line_of_health(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    shown = Shown()
    shown.guard.failed(Unreachable("its disk is full"))
    assert (shown.check, shown.state, shown.guard.broken) == ((False, "open: its disk is full"), 2.0, True)
    assert shown.guard.patience() == 1.0
    shown.clock.advance(1.0)
    assert shown.guard.delay() == 0.0
    assert (shown.check, shown.state) == ((False, "half-open: its disk is full"), 1.0)
    shown.guard.failed(Unreachable("its disk is full"))
    shown.guard.succeeded()
    assert (shown.check, shown.state, shown.guard.broken) == ((True, "closed"), 0.0, False)
    assert events(caplog) == ["ledger_lost", "ledger_back"]


def test_trouble_of_another_kind_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    shown = Shown()
    for kind in ("silent", "silent", "missing"):
        shown.guard.failed(Unreachable("away"), kind)
    assert events(caplog) == ["ledger_lost", "ledger_lost"]


async def test_of_all_who_wait_one_tries_and_its_success_wakes_the_others() -> None:
    """A crowd does not fall upon what has just come back, and nobody waits longer than the first."""
    tried: list[str] = []
    back = asyncio.Event()
    one = guard(WORDS, backoff=Backoff(first=0.001, highest=0.001, jitter=lambda: 1.0))
    one.failed(Unreachable("away"))

    async def attempt() -> str:
        tried.append("now")
        if len(tried) == 1:
            await back.wait()
        return "done"

    crowd = [asyncio.create_task(one.insist(attempt)) for _ in range(20)]
    async with asyncio.timeout(WAIT_S):
        while not tried:
            await asyncio.sleep(0.001)
        assert tried == ["now"]
        back.set()
        assert await asyncio.gather(*crowd) == ["done"] * 20


async def test_who_waits_for_long_is_woken_where_somebody_knows_better() -> None:
    one = guard(WORDS, backoff=Backoff(first=3600.0, jitter=lambda: 1.0))
    one.failed(Unreachable("away"))
    waiting = asyncio.create_task(one.wait())
    await asyncio.sleep(0)
    one.hurry()
    await asyncio.wait_for(waiting, WAIT_S)


async def test_what_can_pass_is_tried_until_it_has_and_all_else_is_raised() -> None:
    errors: list[Exception] = [Unreachable("away"), Unreachable("away"), ConfigError("no such ledger")]

    async def attempt() -> None:
        raise errors.pop(0)

    async with asyncio.timeout(WAIT_S):
        with pytest.raises(ConfigError):
            await guard(WORDS).insist(attempt)
    assert errors == []


async def test_a_refusal_is_an_answer_and_wakes_who_waits() -> None:
    """A relay that was told that another one leads must not go on waiting for a ledger that works."""
    shown = Shown()
    shown.guard.failed(Unreachable("it is starting"))
    waiting = asyncio.create_task(shown.guard.wait())
    await asyncio.sleep(0)
    shown.clock.advance(1.0)

    async def refused() -> None:
        raise ConfigError("another one leads")

    with pytest.raises(ConfigError):
        await shown.guard.insist(refused)
    async with asyncio.timeout(WAIT_S):
        await waiting
    assert shown.state == 0.0


async def test_a_closed_breaker_lets_go_on_without_giving_way() -> None:
    """No latency in the good case: nothing else runs in between."""
    others: list[int] = []
    asyncio.get_running_loop().call_soon(others.append, 1)
    await guard(WORDS).wait()
    assert others == []
