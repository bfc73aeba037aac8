"""Laws of the outbox."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.outbox import Outbox
from collector.spool import Item, Spool, SpoolFailed
from shared import wire
from tests.shared.test_wire import SNAPSHOT


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool.open(tmp_path / "spool.db", 1000, 1, "node01")
    yield opened
    opened.close()


@pytest.fixture
def woken() -> list[int]:
    return []


@pytest.fixture
def outbox(spool: Spool, woken: list[int]) -> Outbox:
    return Outbox(spool, lambda: woken.append(1))


def item(seq: int, kind: str = "delta", payload: bytes = b"x") -> Item:
    return Item(1, seq, kind, payload)  # type: ignore[arg-type]


def drain(outbox: Outbox) -> list[int]:
    seqs = []
    while (one := outbox.next()) is not None:
        seqs.append(one.seq)
        outbox.sent(one)
    return seqs


def test_everything_leaves_in_the_order_in_which_it_was_made(outbox: Outbox, woken: list[int]) -> None:
    outbox.keep(item(1), gap=False)
    outbox.offer(item(2, "beat"))
    outbox.keep(item(3), gap=False)
    assert len(woken) == 3
    assert drain(outbox) == [1, 2, 3]


def test_what_is_passing_replaces_what_passed_and_a_full_is_owed_once_nothing_waits(outbox: Outbox) -> None:
    outbox.keep(item(1), gap=False)
    outbox.offer(item(2, "beat"))
    assert not outbox.owes_full
    outbox.offer(item(3, "beat"))
    assert not outbox.owes_full
    assert drain(outbox) == [1, 3]
    assert outbox.owes_full
    outbox.offer(item(4, "full"))
    assert not outbox.owes_full
    assert drain(outbox) == [4]
    assert not outbox.owes_full


def test_a_full_that_is_replaced_unsent_is_owed_again(outbox: Outbox) -> None:
    outbox.offer(item(1, "full"))
    outbox.offer(item(2, "beat"))
    assert drain(outbox) == [2]
    assert outbox.owes_full


def test_what_was_replaced_while_it_was_being_sent_does_not_take_its_successor_along(outbox: Outbox) -> None:
    outbox.offer(item(1, "beat"))
    first = outbox.next()
    assert first is not None
    outbox.offer(item(2, "beat"))
    outbox.sent(first)
    assert drain(outbox) == [2]


@pytest.mark.parametrize("kind", ["delta", "beat"])
def test_what_is_refused_for_good_leaves_and_owes_a_gap(outbox: Outbox, kind: str) -> None:
    if kind == "delta":
        outbox.keep(item(1), gap=False)
    else:
        outbox.offer(item(1, kind))
    refused = outbox.next()
    assert refused is not None
    outbox.refused(refused)
    assert outbox.next() is None
    assert outbox.gap
    outbox.keep(item(2, "full"), gap=True)
    assert not outbox.gap


def test_with_a_full_disk_a_full_passes_through_memory_and_the_gap_stays_owed(outbox: Outbox, spool: Spool) -> None:
    spool._connection.execute("PRAGMA query_only=1")
    with pytest.raises(SpoolFailed):
        outbox.keep(item(1), gap=False)
    assert outbox.next() is None
    with pytest.raises(SpoolFailed):
        outbox.keep(item(2, "full"), gap=True)
    assert outbox.gap
    assert drain(outbox) == [2]
    spool._connection.execute("PRAGMA query_only=0")


def test_depth_and_size_are_the_spools(outbox: Outbox) -> None:
    outbox.keep(item(1, payload=b"123"), gap=False)
    outbox.offer(item(2, "beat"))
    assert (outbox.depth(), outbox.size()) == (1, 3)


def taken(seq: int, at: int) -> Item:
    snapshot = dataclasses.replace(SNAPSHOT, boot=1, seq=seq, taken_at=at)
    return item(seq, payload=wire.encode(snapshot))


def test_the_age_of_what_waits_longest_is_told(outbox: Outbox) -> None:
    assert outbox.oldest_age(9_000) == 0
    for seq, at in ((1, 1_000), (2, 4_000)):
        outbox.keep(taken(seq, at), gap=False)
    assert outbox.oldest_age(9_000) == 8
    first = outbox.next()
    assert first is not None
    outbox.sent(first)
    assert outbox.oldest_age(9_000) == 5
    assert outbox.oldest_age(0) == 0  # the clock was set back
    assert drain(outbox) == [2]
    assert outbox.oldest_age(9_000) == 0


def test_a_disk_that_does_not_say_ages_nothing(outbox: Outbox, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> bytes:
        raise SpoolFailed("the disk ails")

    monkeypatch.setattr(spool, "head", refused)
    assert outbox.oldest_age(9_000) == 0
