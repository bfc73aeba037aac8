"""Laws of relay/doubts.py: a table that lost most of its agents at once is a broken source until it is confirmed (rule 6)."""

import pytest

from relay import doubts
from relay.byid import ById
from relay.tables import Table
from tests.relay.lab import T0, Lab, key, row, said, told_of_managers

MANY = 20


def fleet(agents: int = MANY) -> Lab:
    lab = Lab()
    lab.node("solo")
    lab.full("solo", [row(n, "active", T0) for n in range(1, agents + 1)], T0)
    assert lab.fleet.settled
    return lab


def left(*numbers: int) -> list[object]:
    return [row(n, "active", T0) for n in numbers]


def removed(lab: Lab) -> int:
    return sum(event.kind == "removed" for event in lab.events)


@pytest.mark.parametrize("keys", [None, []])
def test_a_table_that_is_suddenly_empty_removes_nobody_whatever_client_keys_says(keys: list[object] | None) -> None:
    lab = fleet()
    kept = [key(r) for r in lab.speakers["solo"].rows.values()]
    lab.full("solo", [], T0 + 10, keys=kept if keys is None else [])
    node = lab.fleet.nodes["solo"]
    assert (node.doubted, node.source_state, node.source_error) == (True, "recovering", doubts.DOUBT)
    assert (removed(lab), len(lab.fleet.tables["solo"].rows)) == (0, MANY)


def test_a_second_full_that_client_keys_agrees_with_is_believed() -> None:
    lab = fleet()
    lab.full("solo", [], T0 + 10, keys=[])
    assert removed(lab) == 0
    decision = lab.full("solo", [], T0 + 20, keys=[])
    assert len(said(decision)) == MANY
    assert not lab.fleet.nodes["solo"].doubted


def test_a_second_full_is_not_believed_while_client_keys_names_who_is_gone() -> None:
    lab = fleet()
    kept = [key(r) for r in lab.speakers["solo"].rows.values()]
    for now in range(T0 + 10, T0 + 100, 10):
        lab.full("solo", [], now, keys=kept)
    assert (removed(lab), lab.fleet.nodes["solo"].doubted) == (0, True)


def test_a_second_full_is_not_believed_while_client_keys_cannot_be_read() -> None:
    lab = fleet()
    for now in range(T0 + 10, T0 + 100, 10):
        lab.full("solo", [], now, keys=[], keys_state="denied")
    assert (removed(lab), lab.fleet.nodes["solo"].doubted) == (0, True)


def test_lines_of_client_keys_that_are_marked_as_removed_agree() -> None:
    lab = fleet()
    gone = [key(r, removed=True) for r in lab.speakers["solo"].rows.values()]
    lab.full("solo", [], T0 + 10, keys=gone)
    lab.full("solo", [], T0 + 20, keys=gone)
    assert removed(lab) == MANY


def test_a_table_that_is_filled_again_is_believed_at_once() -> None:
    lab = fleet()
    rows = list(lab.speakers["solo"].rows.values())
    lab.full("solo", [], T0 + 10, keys=[])
    lab.full("solo", rows, T0 + 20)
    assert (lab.events, lab.fleet.nodes["solo"].doubted) == ([], False)
    assert lab.fleet.nodes["solo"].proved


def test_what_is_doubted_counts_as_unread_and_its_manager_as_out_of_reach() -> None:
    lab = fleet()
    for now in range(T0 + 10, T0 + 60, 5):
        lab.full("solo", [], now, keys=[key(row(1, "active"))])
    assert told_of_managers(lab) == [("solo", "manager_unreachable")]
    assert lab.of_managers[0].details == {"source_state": "recovering", "reason": doubts.DOUBT}


@pytest.mark.parametrize(("agents", "gone", "doubted"), [(20, 10, False), (20, 11, True), (9, 9, False), (10, 10, True), (18, 9, False)])
def test_most_and_not_few_are_what_is_doubted(agents: int, gone: int, doubted: bool) -> None:
    lab = fleet(agents)
    lab.delta("solo", now=T0 + 10, gone=range(1, gone + 1), gone_keys=range(1, gone + 1))
    assert lab.fleet.nodes["solo"].doubted == doubted
    assert removed(lab) == (0 if doubted else gone)


def test_a_delta_after_one_that_was_doubted_waits_for_a_full() -> None:
    lab = fleet()
    lab.delta("solo", now=T0 + 10, gone=range(1, 16), gone_keys=range(1, 16))
    assert said(lab.delta("solo", row(20, "disconnected", T0, code=3, dt=T0 + 12), now=T0 + 12)) == []
    lab.beat("solo", T0 + 15, {16: T0})
    assert lab.fleet.tables["solo"].quiet == {}
    assert lab.fleet.nodes["solo"].doubted
    rows, keys = list(lab.speakers["solo"].rows.values()), [key(row(n, "active")) for n in range(16, 21)]
    assert len(said(lab.full("solo", rows, T0 + 20, keys=keys))) == 16
    assert removed(lab) == 15


def test_a_source_that_could_not_be_read_is_not_doubted() -> None:
    lab = fleet()
    lab.full("solo", [], T0 + 10, keys=[], source_state="locked", source_error="locked")
    assert (lab.fleet.nodes["solo"].source_state, lab.fleet.nodes["solo"].doubted) == ("locked", False)


def test_what_is_believed_is_the_snapshot_itself_and_what_is_not_has_no_rows_left() -> None:
    lab = fleet()
    speaker = lab.speakers["solo"]
    table = Table(ById(speaker.rows))
    good = speaker.snapshot("full", T0 + 10)
    assert doubts.believed(False, table, good) is good
    speaker.rows = {}
    bad = doubts.believed(False, table, speaker.snapshot("full", T0 + 20, quiet=((1, T0),)))
    assert (bad.rows, bad.gone, bad.quiet, bad.source_state, bad.kind) == ((), (), None, "recovering", "full")
