"""Laws of the one thread: calls come one after the other, and what can pass by itself is waited for."""

import json
import threading
from collections.abc import AsyncIterator

import pytest

from relay.books import LEDGER, Books
from shared import health
from shared.errors import ConfigError, Unreachable
from tests.guards import guard


@pytest.fixture
async def books() -> AsyncIterator[tuple[Books, health.Readiness]]:
    readiness = health.Readiness("ledger")
    made = Books(guard(LEDGER, readiness=readiness))
    yield made, readiness
    made.close()


async def test_every_call_runs_in_the_same_other_thread(books: tuple[Books, health.Readiness]) -> None:
    threads = {await books[0].call(threading.get_ident) for _ in range(5)}
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


async def test_what_can_pass_is_tried_until_it_has(books: tuple[Books, health.Readiness]) -> None:
    tries: list[bytes] = []

    def passing(word: str) -> str:
        tries.append(books[1].json())
        if len(tries) < 3:
            raise Unreachable("the ledger is locked")
        return word

    assert await books[0].insist(passing, "done") == "done"
    assert json.loads(tries[2])["checks"]["ledger"] == {"ok": False, "detail": "half-open: the ledger is locked"}
    assert books[1].ready


async def test_what_cannot_pass_is_raised_at_once(books: tuple[Books, health.Readiness]) -> None:
    def broken() -> None:
        raise ConfigError("no ledger")

    with pytest.raises(ConfigError):
        await books[0].insist(broken)
