"""Laws of the world model about time: clocks that are set, keepalives that are late or lost, and managers from before 4.13."""

from itertools import pairwise

import pytest

from tests.world.activity import Activity, Rates
from tests.world.model import Columns, Session, World, WorldConfig, cluster

pytestmark = pytest.mark.unmeasured

START = 1_795_400_000.0


def row(world: World, node: str, number: int) -> Columns:
    found = world.row(node, number)
    assert found is not None
    return found


def test_before_4_13_the_sync_carries_the_whole_row_with_the_workers_own_keepalive() -> None:
    world = World(WorldConfig(nodes=cluster(1, schema="4.5", skews=(0.0, 20.0)), start=START), seed=1)
    number = world.populate(1, nodes=("worker1",))[0]
    world.advance(START + 100)
    assert row(world, "node01", number)["last_keepalive"] in range(int(START + 100), int(START + 121))  # by the worker's clock
    assert "status_code" not in row(world, "worker1", number)
    old = World(WorldConfig(nodes=cluster(0, schema="4.2"), start=START), seed=1)
    assert {"status_code", "disconnection_time"}.isdisjoint(row(old, "node01", old.register()))


def test_a_clock_that_is_set_changes_what_is_written_from_then_on() -> None:
    world = World(WorldConfig(start=START, compute_keepalives=True), seed=1)
    number = world.populate(1)[0]
    world.advance(START + 100)
    before = row(world, "node01", number)["last_keepalive"]
    world.set_clock("node01", 45.0)
    assert row(world, "node01", number)["last_keepalive"] == before
    world.advance(START + 130)
    assert row(world, "node01", number)["last_keepalive"] in range(int(START + 145), int(START + 176))
    assert world.nodes["node01"].world_time(world.nodes["node01"].clock(START + 130)) == START + 130
    assert world.nodes["node01"].world_time(START + 50) == START + 50


def arrivals(world: World, number: int, seconds: int) -> list[int]:
    found: list[int] = []
    for _ in range(seconds):
        world.advance(world.now + 1)
        kept = row(world, "node01", number)["last_keepalive"]
        if not found or kept != found[-1]:
            found.append(int(kept or 0))
    return found


def test_keepalives_come_late_by_at_most_the_jitter_and_one_in_a_few_hundred_never_comes() -> None:
    world = World(WorldConfig(start=START, compute_keepalives=True, keepalive_jitter=5.0), seed=1)
    number = world.populate(1)[0]
    kept = arrivals(world, number, 20_000)
    gaps = [after - before for before, after in pairwise(kept)]
    assert min(gaps) >= 14
    assert {gap for gap in gaps if gap > 26} <= set(range(34, 67))  # one was lost, or two in a row
    assert 2 <= sum(gap > 26 for gap in gaps) <= 5
    assert len({gap for gap in gaps if gap <= 26}) > 5


def test_what_is_lost_is_told_as_it_happens() -> None:
    session = Session("node01", START, first=0, period=200, late=50, key=7)
    for due, count in session.losses(0, 200 * 5000):
        last, following = session.last(due), session.arrival(due // 200 + count)
        assert last is not None
        assert last < due
        assert session.last(due + 200 * count - 1) == last
        assert following is not None
        assert session.last(following) == following


def test_jitter_needs_computed_keepalives() -> None:
    with pytest.raises(ValueError, match="compute_keepalives"):
        WorldConfig(keepalive_jitter=1.0)


def test_thousands_of_agents_live_through_days_in_seconds() -> None:
    world = World(WorldConfig(nodes=cluster(2), start=START, compute_keepalives=True), seed=1)
    world.populate(2000)
    Activity(world, Rates(start=0.02, stop=0.01, die=0.01, move=0.01), seed=2).begin()
    world.advance(START + 2 * 86400)
    assert sum(1 for fact in world.history if fact.what == "died") > 1000
