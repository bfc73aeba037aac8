"""Laws of putting parts together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.assemble import Assembler
from shared.errors import Quarantine
from shared.wire import Part


def part(number: int, total: int, data: bytes = b"x", *, boot: int = 1, seq: int = 1, node: str = "node01") -> Part:
    return Part(node, boot, seq, number, total, 0, data)


def refused(assembler: Assembler, given: Part) -> str:
    with pytest.raises(Quarantine) as caught:
        assembler.feed(given.node, given, 9)
    return caught.value.reason


@given(st.lists(st.binary(min_size=1), min_size=1, max_size=20))
def test_parts_in_order_give_the_payload_with_the_last(chunks: list[bytes]) -> None:
    assembler = Assembler()
    parts = [part(number, len(chunks), chunk) for number, chunk in enumerate(chunks, start=1)]
    came = [(assembler.interrupted("node01", one), assembler.feed("node01", one, one.number)) for one in parts]
    assert came == [(None, None)] * (len(chunks) - 1) + [(None, b"".join(chunks))]


def test_nodes_do_not_disturb_each_other() -> None:
    assembler = Assembler()
    for number in (1, 2, 3):
        one = assembler.feed("node01", part(number, 3, b"a"), number)
        other = assembler.feed("node02", part(number, 3, b"b", node="node02"), number)
    assert (one, other) == (b"aaa", b"bbb")


@pytest.mark.parametrize("following", [part(1, 1, seq=2), part(1, 3, seq=2), part(3, 3), part(2, 4), part(1, 1, boot=2), part(1, 3)])
def test_anything_else_from_the_node_gives_the_incomplete_one_up(following: Part) -> None:
    assembler = Assembler()
    assembler.feed("node01", part(1, 3), 7)
    abandoned = assembler.interrupted("node01", following)
    assert abandoned is not None
    assert (abandoned.position, abandoned.refusal.reason) == (7, "incomplete")
    assert "only 1 of 3 parts came" in str(abandoned.refusal)
    assert assembler.interrupted("node01", following) is None  # told once


def test_a_part_whose_predecessors_are_not_here_is_refused() -> None:
    assembler = Assembler()
    assert refused(assembler, part(2, 3)) == "incomplete"
    assert assembler.feed("node01", part(1, 2), 1) is None


def test_what_waits_is_bounded_per_node() -> None:
    assembler = Assembler(node_bytes=10, total_bytes=100)
    assert assembler.feed("node01", part(1, 9, b"0123456789"), 1) is None
    assert refused(assembler, part(2, 9, b"0")) == "oversized"
    assert refused(assembler, part(3, 9, b"0")) == "incomplete"  # nothing of it is kept


def test_what_waits_is_bounded_in_total() -> None:
    assembler = Assembler(node_bytes=10, total_bytes=15)
    assert assembler.feed("node01", part(1, 2, b"0123456789"), 1) is None
    assert refused(assembler, part(1, 2, b"0123456789", node="node02")) == "oversized"
    assert assembler.feed("node01", part(2, 2, b"0"), 2) == b"01234567890"
    assert assembler.feed("node02", part(1, 2, b"0123456789", node="node02"), 3) is None
