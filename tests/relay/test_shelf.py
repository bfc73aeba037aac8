"""Laws of the quarantine: what is put aside stays as it came, within its bounds, and the oldest give way."""

import contextlib
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.ledger import Ledger
from shared.errors import Unreachable
from tests.relay.ledgers import fresh_url, opened

HEADER_BYTES = len('{"A":"b"}')


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    made = opened(url)
    yield made
    made.close()


def refuse(ledger: Ledger, position: int, size: int = 100) -> None:
    ledger.quarantine(position, 0, f"wazuh.raw.n{position}", "malformed", "refused", {"A": "b"}, b"x" * (size - HEADER_BYTES))


def positions(ledger: Ledger) -> list[int]:
    return [one.position for one in reversed(ledger.shelf.kept(1000))]


def test_it_is_read_from_the_newest_back_page_by_page(ledger: Ledger) -> None:
    for position in range(1, 6):
        refuse(ledger, position)
    page = ledger.shelf.kept(2)
    assert [one.position for one in page] == [5, 4]
    assert [one.position for one in ledger.shelf.kept(2, page[-1].number)] == [3, 2]


def test_a_message_is_dropped_by_its_place_and_subject(ledger: Ledger) -> None:
    for position in (1, 2):
        refuse(ledger, position)
    assert ledger.shelf.drop(1, "wazuh.raw.n2") == 0
    assert ledger.shelf.drop(1, "wazuh.raw.n1") == 1
    assert (positions(ledger), ledger.position()) == ([2], 2)


def test_above_its_bound_the_oldest_give_way(ledger: Ledger) -> None:
    for position in range(1, 6):
        refuse(ledger, position)
    assert ledger.shelf.bound(500) == 0
    assert ledger.shelf.bound(499) == 1
    assert positions(ledger) == [2, 3, 4, 5]
    assert ledger.shelf.bound(99) == 4
    assert (positions(ledger), ledger.shelf.bound(0)) == ([], 0)


@settings(max_examples=15)
@given(st.lists(st.one_of(st.integers(HEADER_BYTES, 400), st.sampled_from(["drop", "prune", "fail"])), max_size=60), st.integers(100, 900))
def test_it_never_holds_more_than_its_bound_whatever_comes_between(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int | str], most: int
) -> None:
    """Its size is kept in mind: deleting, pruning and a transaction that was rolled back must not mislead it."""
    ledger = opened(fresh_url(tmp_path_factory.mktemp("shelf")))
    sizes: dict[int, int] = {}
    for position, step in enumerate(steps, start=1):
        if isinstance(step, int):
            refuse(ledger, position, step)
            sizes[position] = step
        elif step == "drop" and sizes:
            ledger.shelf.drop(oldest := min(sizes), f"wazuh.raw.n{oldest}")
            del sizes[oldest]
        elif step == "prune":
            ledger.prune(0, 0, 0)
        else:
            failing(ledger, position)
        ledger.shelf.bound(most)
        while sum(sizes.values()) > most:
            del sizes[min(sizes)]
    found = positions(ledger)
    ledger.close()
    assert found == list(sizes)


def failing(ledger: Ledger, position: int) -> None:
    """A transaction that puts something aside and is rolled back."""
    with contextlib.suppress(Unreachable), ledger._write() as connection:
        ledger.shelf.put(connection, position, 0, "s", "malformed", "refused", {}, b"x" * 300)
        raise Unreachable("the disk is full")


def test_an_event_that_no_stream_takes_is_kept_once_however_often_it_is_told(ledger: Ledger) -> None:
    for identity in ("a", "a", "b"):
        ledger.shelf.keep_event(9, 0, "wazuh.agent.001.status", "too_large", "refused", {"Nats-Msg-Id": identity}, b"{}")
    assert [one.headers["Nats-Msg-Id"] for one in ledger.shelf.kept(10)] == ["b", "a"]
    assert ledger.position() == 0


def test_how_much_is_kept_is_known(ledger: Ledger) -> None:
    assert ledger.shelf.held() == (0, 0)
    for position in range(1, 4):
        refuse(ledger, position, 100)
    assert ledger.shelf.held() == (3, 300)
