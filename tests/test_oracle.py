"""Laws of the oracle: it knows what must, may and must not be told, and a watcher who sees everything satisfies it."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.world.activity import Activity, Rates
from tests.world.model import NodeConfig, World, WorldConfig, cluster
from tests.world.oracle import Expected, Verdict, compare, expected

pytestmark = pytest.mark.unmeasured

START = 1_795_400_000.0
GRACE = 60.0
T = 900.0
WORDS = {"active": "Active", "disconnected": "Disconnected", "never_connected": "NeverConnected", "pending": "Pending"}


def world_of(workers: int = 1) -> World:
    """A settled fleet of four."""
    world = World(WorldConfig(nodes=cluster(workers), start=START, compute_keepalives=True), seed=1)
    world.populate(4)
    world.advance(START + 100)
    return world


def told(world: World, until: float, baseline: float = START + 50) -> list[tuple[int, str, str, str, str, bool]]:
    found = expected(world.history, until=until, grace=GRACE, baseline_at=baseline)
    return [(one.agent_id, one.kind, one.previous, one.current, one.reason, one.certain) for one in found]


def bodies(found: list[Expected]) -> list[dict[str, object]]:
    return [body(one.agent_id, one.name, one.previous, one.current, f"evt_{place}") for place, one in enumerate(found)]


def body(number: int, name: str, previous: str, current: str, event_id: str) -> dict[str, object]:
    return {
        "agent_id": f"{number:03d}", "agent_name": name, "previous_status": previous, "current_status": current, "ip_address": "10.0.0.1",
        "last_keepalive": "2026-11-23T05:00:00Z", "manager_node": "node01", "timestamp": "2026-11-23T05:00:00Z", "event_id": event_id,
        "signature": "",
    }  # fmt: skip


# ---------------------------------------------------------------------- what is told


def test_who_was_as_it_is_at_the_baseline_gives_nothing() -> None:
    assert told(world_of(), START + 5000) == []


def test_a_registration_a_first_start_and_a_removal_are_told() -> None:
    world = world_of()
    number = world.register("web-09")
    world.advance(START + 130)
    world.start(number, "worker1")
    world.advance(START + 300)
    world.remove(number)
    assert told(world, START + 400) == [
        (number, "registered", "Unknown", "NeverConnected", "", True),
        (number, "connected", "NeverConnected", "Active", "", True),
        (number, "removed", "Active", "Unknown", "", True),
    ]


def test_a_goodbye_is_told_however_short_and_so_is_the_return() -> None:
    world = world_of()
    world.stop(1)
    world.advance(START + 105)
    world.start(1, "node01")
    world.advance(START + 200)
    assert told(world, START + 200) == [
        (1, "disconnected", "Active", "Disconnected", "stopped", True),
        (1, "connected", "Disconnected", "Active", "", True),
    ]


def test_a_goodbye_that_is_undone_within_a_blink_only_may_be_told() -> None:
    world = world_of()
    world.stop(1)
    world.start(1, "node01")
    world.advance(START + 200)
    assert [entry[-1] for entry in told(world, START + 200)] == [False, False]


def test_a_move_is_nothing() -> None:
    world = world_of()
    world.move(1, "worker1", graceful=False)
    world.advance(START + 2500)
    assert told(world, world.now) == []


def test_a_restart_of_a_manager_is_nothing_for_those_that_return() -> None:
    world = world_of()
    world.restart_remoted("node01")
    world.advance(START + 2500)
    assert told(world, world.now) == []


def test_who_does_not_return_after_a_restart_is_disconnected_when_the_grace_is_over() -> None:
    world = world_of()
    world.restart_remoted("node01")
    world.die(1)
    world.advance(START + 130)
    assert {entry[-1] for entry in told(world, world.now)} == {False}
    world.advance(START + 200)
    assert told(world, world.now) == [(1, "disconnected", "Active", "Disconnected", "manager_reset", True)]


@pytest.mark.parametrize(("later", "certain"), [(T - 50, False), (1.5 * T, False), (2 * T + 5, True)])
def test_a_silent_death_must_be_told_only_after_two_sweep_periods(later: float, certain: bool) -> None:
    world = world_of()
    world.die(1)
    world.advance(START + 100 + later)
    assert told(world, world.now) == [(1, "disconnected", "Active", "Disconnected", "silent", certain)]


@pytest.mark.parametrize(("later", "count"), [(T - 100, 0), (1.5 * T, 2)])
def test_a_silent_agent_that_is_back_before_any_sweep_was_never_away(later: float, count: int) -> None:
    world = world_of()
    world.die(1)
    world.advance(START + 100 + later)
    world.start(1, "node01")
    world.advance(world.now + 100)
    assert len(told(world, world.now)) == count


def test_a_manager_that_is_away_notices_nothing_until_it_is_back() -> None:
    world = world_of()
    world.node_down("worker1")
    world.advance(START + 100 + 3 * T)
    assert all(not certain for *_, certain in told(world, world.now))
    for number in (2, 4):
        world.die(number)
    world.node_up("worker1")
    world.advance(world.now + 2 * GRACE)
    assert [(entry[0], entry[4], entry[5]) for entry in told(world, world.now)] == [(2, "manager_reset", True), (4, "manager_reset", True)]


def test_the_same_id_under_another_name_is_another_agent() -> None:
    world = world_of()
    number = world.register("aa")
    world.advance(world.now + 60)
    world.remove(number)
    world.restart_authd()
    world.advance(world.now + 60)
    assert world.register("bb") == number
    found = expected(world.history, until=world.now + 5, grace=GRACE, baseline_at=START + 50)
    assert [(one.name, one.kind) for one in found] == [("aa", "registered"), ("aa", "removed"), ("bb", "registered")]


# ---------------------------------------------------------------------- comparing


def story() -> list[Expected]:
    world = world_of()
    number = world.register("web-09")
    world.stop(1)
    world.advance(START + 150)
    world.start(1, "node01")
    world.stop(2)
    world.advance(START + 300)
    world.remove(number)
    return expected(world.history, until=START + 400, grace=GRACE, baseline_at=START + 50)


def test_exactly_what_is_expected_is_clean() -> None:
    wanted = story()
    assert compare(wanted, bodies(wanted)) == Verdict(matched=5)


@given(st.integers(0, 4))
def test_one_left_out_is_lost(place: int) -> None:
    wanted = story()
    found = bodies(wanted)
    del found[place]
    verdict = compare(wanted, found)
    assert wanted[place] in verdict.lost
    assert not verdict.clean


@given(st.integers(0, 4), st.integers(0, 5))
def test_one_told_twice_is_a_duplicate(place: int, where: int) -> None:
    wanted = story()
    found = bodies(wanted)
    found.insert(max(where, place + 1), dict(found[place]))
    verdict = compare(wanted, found)
    assert (len(verdict.duplicates), verdict.lost, verdict.false) == (1, (), ())


FALSEHOODS: list[Callable[[str], dict[str, object]]] = [
    lambda name: body(1, name, "Active", "Disconnected", "evt_x"),
    lambda name: body(3, name, "Active", "Disconnected", "evt_x"),
    lambda name: body(77, name, "Unknown", "NeverConnected", "evt_x"),
]


@pytest.mark.parametrize("falsehood", FALSEHOODS)
def test_one_that_never_happened_is_false(falsehood: Callable[[str], dict[str, object]]) -> None:
    wanted = story()
    name = next(one.name for one in wanted if one.agent_id == 1)
    verdict = compare(wanted, [*bodies(wanted), falsehood(name)])
    assert (len(verdict.false), verdict.lost) == (1, ())


def test_another_name_or_another_order_is_false_and_lost() -> None:
    wanted = story()
    named = [found | {"agent_name": "someone"} for found in bodies(wanted)]
    assert len(compare(wanted, named).false) == len(compare(wanted, named).lost) == 5
    turned = compare(wanted, bodies(wanted)[::-1])
    assert turned.false
    assert turned.lost


def test_a_body_without_a_change_is_passed_over() -> None:
    assert compare([], [body(1, "a", "Active", "Active", "evt_1")]).clean


def test_an_uncertain_outage_is_told_whole_or_not_at_all() -> None:
    world = world_of()
    world.die(1)
    world.advance(START + 100 + 1.5 * T)
    world.start(1, "node01")
    world.advance(world.now + 100)
    wanted = expected(world.history, until=world.now, grace=GRACE, baseline_at=START + 50)
    assert compare(wanted, []).clean
    assert len(compare(wanted, bodies(wanted)).unverified) == 2
    half = compare(wanted, bodies(wanted)[:1])
    assert [one.kind for one in half.lost] == ["connected"]


# ---------------------------------------------------------------------- a watcher who sees everything


class Watcher:
    """Reads each agent's row where the agent really is, twice a second, and holds resets and pendings for the grace.

    Where an agent knocks whose pending is never written, its old row on that node is no news of it."""

    def __init__(self, world: World, grace: float) -> None:
        self._world, self._grace = world, grace
        self._told: dict[tuple[int, str, int], str] = {}
        self._where: dict[tuple[int, str, int], str] = {}
        self._held: dict[tuple[int, str, int], tuple[str, float]] = {}
        self.bodies: list[dict[str, object]] = []

    def look(self) -> None:
        agents = {(agent.id, agent.name, agent.date_add): agent for agent in self._world.agents.values()}
        for who in [who for who in self._told if who not in agents]:
            self._tell(who, "Unknown")
            del self._told[who]
        for who, agent in agents.items():
            session = agent.session
            heard = self._world.nodes[agent.heard_by or self._world.master.name]
            there = heard.rows.get(agent.id)
            since = session.started if session is not None else agent.contact
            if (session is not None and session.steady) or (there is not None and (there.last_keepalive or 0) >= heard.clock(since)):
                self._where[who] = heard.name
            node = self._world.nodes[self._where.get(who) or self._world.master.name]
            row = node.rows.get(agent.id) if node.up else None
            self._judge(who, WORDS[row.connection_status] if row else "", row.status_code if row else 0)

    def _judge(self, who: tuple[int, str, int], status: str, code: int) -> None:
        if who not in self._told:
            self._tell(who, "NeverConnected")
        if not status or status == self._told[who] or status == "NeverConnected":
            self._held.pop(who, None)
        elif status == "Pending" or (status == "Disconnected" and code == 5):
            held, since = self._held.setdefault(who, (status, self._world.now))
            if held != status:
                self._held[who] = (status, self._world.now)
            elif self._world.now - since >= self._grace:
                self._tell(who, status)
        else:
            self._tell(who, status)

    def _tell(self, who: tuple[int, str, int], status: str) -> None:
        self._held.pop(who, None)
        previous = self._told.get(who, "Unknown")
        self._told[who] = status
        self.bodies.append(body(who[0], who[1], previous, status, f"evt_{len(self.bodies)}"))


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_a_watcher_who_sees_everything_satisfies_the_oracle(seed: int) -> None:
    nodes = (NodeConfig("node01", "master"), NodeConfig("worker1", skew=2.5), NodeConfig("worker2", skew=-4.0))
    config = WorldConfig(
        nodes=nodes, start=START, sweep_period=90, notify_period=5, reconnect_delay=(1, 40), compute_keepalives=True, sync_period=1e9
    )
    world = World(config, seed)
    world.populate(8)
    watcher = Watcher(world, grace=20.0)
    watcher.look()
    watcher.bodies.clear()
    rates = Rates(
        register=0.02, remove=0.01, start=0.08, stop=0.04, die=0.03, move=0.03, graceful_move=0.02, restart_remoted=0.005, outage=0.003,
    )  # fmt: skip
    Activity(world, rates, seed).begin(until=START + 500)
    while world.now < START + 900:
        world.advance(world.now + 0.5)
        watcher.look()
    wanted = expected(world.history, until=world.now - 5, grace=20.0, baseline_at=START)
    verdict = compare(wanted, watcher.bodies)
    assert (verdict.lost, verdict.false, verdict.duplicates) == ((), (), ())
    assert verdict.matched >= sum(one.certain for one in wanted) > 10
