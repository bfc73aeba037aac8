"""Laws of the world model: a Wazuh cluster as the reference describes it, with its distortions."""

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.world.activity import Activity, Rates
from tests.world.model import Columns, Delete, Insert, Keys, NodeConfig, Schema, Update, World, WorldConfig, Write, cluster

pytestmark = pytest.mark.unmeasured

START = 1_795_400_000.0
T = 900.0
PAIR = (NodeConfig("node01", "master", sweep_phase=800), NodeConfig("worker1", sync_phase=5, integrity_phase=1, sweep_phase=850))
BUSY = Rates(
    register=0.02, remove=0.01, start=0.1, stop=0.05, die=0.03, move=0.04, graceful_move=0.02, refuse_version=0.01,
    restart_remoted=0.004, outage=0.002, restart_authd=0.005,
)  # fmt: skip


def pair(*, purge: bool = True) -> World:
    return World(WorldConfig(nodes=PAIR, start=START, purge=purge), seed=1)


def connected_pair() -> tuple[World, int]:
    """Agent 1, known to both nodes, and 20 s of world time."""
    world = pair()
    number = world.register("web-01")
    world.advance(START + 20)
    return world, number


def row(world: World, node: str, number: int) -> Columns:
    found = world.row(node, number)
    assert found is not None
    return found


def status(world: World, node: str, number: int) -> tuple[object, object]:
    found = row(world, node, number)
    return found["connection_status"], found["status_code"]


class Replay:
    """Tables and client.keys as a node process would hold them after playing the writes."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[int, Columns]] = {}
        self.keys: dict[str, str] = {}

    def play(self, writes: list[Write]) -> None:
        for write in writes:
            table = self.tables.setdefault(write.node, {})
            match write:
                case Insert(_, _, new):
                    assert new["id"] not in table
                    table[int(new["id"] or 0)] = dict(new)
                case Update(_, _, ids, columns):
                    for number in ids:
                        table.get(number, {}).update(columns)
                case Delete(_, _, ids):
                    for number in ids:
                        del table[number]
                case Keys(node, _, text):
                    self.keys[node] = text


# ---------------------------------------------------------------------- one node


def test_a_start_is_pending_at_once_and_active_one_notify_later() -> None:
    world = World(WorldConfig(start=START), seed=1)
    number = world.register("web-01")
    fresh = row(world, "node01", number)
    shown = (fresh["connection_status"], fresh["last_keepalive"], fresh["node_name"], fresh["date_add"])
    assert shown == ("never_connected", None, "unknown", int(START))
    world.start(number, "node01")
    assert row(world, "node01", number)["last_keepalive"] == int(START)
    assert status(world, "node01", number) == ("pending", 0)
    world.advance(START + 19)
    assert status(world, "node01", number) == ("pending", 0)
    world.advance(START + 21)
    active = row(world, "node01", number)
    assert (active["connection_status"], active["node_name"], active["ip"]) == ("active", "node01", "10.0.0.1")
    assert active["last_keepalive"] == int(START + 20)


def test_a_goodbye_is_code_3_at_once_and_keeps_last_keepalive() -> None:
    world = World(WorldConfig(start=START), seed=1)
    number = world.register()
    world.start(number)
    world.advance(START + 70)
    world.stop(number)
    after = row(world, "node01", number)
    assert (after["connection_status"], after["status_code"], after["disconnection_time"]) == ("disconnected", 3, int(START + 70))
    assert after["last_keepalive"] == int(START + 60)


def test_the_first_keepalive_resets_neither_code_nor_time_and_the_second_does() -> None:
    """wdb.c:176; where the pending was coalesced away."""
    world = World(WorldConfig(start=START, coalesced=1.0, reconnect_delay=(7.0, 7.0)), seed=1)
    number = world.register()
    world.start(number)
    world.advance(START + 100)
    world.restart_remoted("node01")
    reset = row(world, "node01", number)
    assert (reset["connection_status"], reset["status_code"], reset["disconnection_time"]) == ("disconnected", 5, int(START + 100))
    world.advance(START + 126.9)
    assert status(world, "node01", number) == ("disconnected", 5)
    world.advance(START + 127.1)
    first = row(world, "node01", number)
    assert (first["connection_status"], first["status_code"], first["disconnection_time"]) == ("active", 5, int(START + 100))
    world.advance(START + 148)
    second = row(world, "node01", number)
    assert (second["connection_status"], second["status_code"], second["disconnection_time"]) == ("active", 0, 0)


@given(st.floats(100.0, 5000.0), st.floats(0.0, T), st.floats(-3000.0, 3000.0))
@settings(max_examples=40, deadline=None)
def test_a_silent_death_is_noticed_between_one_and_two_sweep_periods_later(dies: float, phase: float, skew: float) -> None:
    node = NodeConfig("node01", "master", skew=skew, sweep_phase=phase)
    world = World(WorldConfig(nodes=(node,), start=START, compute_keepalives=True), seed=1)
    number = world.populate(1)[0]
    world.advance(START + dies)
    world.die(number)
    contact = next(fact.value for fact in world.history if fact.what == "died")
    assert contact <= world.now < contact + 20
    world.advance(contact + T - 1)
    assert status(world, "node01", number) == ("active", 0)
    world.advance(contact + 2 * T + 2)
    gone = row(world, "node01", number)
    assert (gone["connection_status"], gone["status_code"]) == ("disconnected", 4)
    assert gone["last_keepalive"] == int(contact + skew)


def test_a_refused_version_changes_the_code_alone() -> None:
    world, number = connected_pair()
    world.start(number, "node01")
    world.advance(START + 100)
    world.refuse_version(number)
    assert status(world, "node01", number) == ("active", 1)
    assert row(world, "node01", number)["version"] == "Wazuh v9.9.9"


def test_5_0_writes_a_keepalive_each_minute_and_has_no_node_name() -> None:
    world = World(WorldConfig(nodes=cluster(0, schema="5.0"), start=START, notify_period=10), seed=1)
    number = world.register()
    world.start(number)
    writes = world.advance(START + 400)
    kept = [write.at - START for write in writes if isinstance(write, Update) and "last_keepalive" in write.columns]
    assert kept == [0, 10, 70, 130, 190, 250, 310, 370]
    assert {"node_name", "manager_host", "os_uname"}.isdisjoint(row(world, "node01", number))


def test_keepalives_of_one_tick_are_one_update() -> None:
    world = World(WorldConfig(start=START), seed=1)
    world.populate(2000)
    world.advance(START)
    writes = world.advance(START + 20)
    assert len(writes) <= 201
    assert sum(len(write.ids) for write in writes if isinstance(write, Update)) == 2000


# ---------------------------------------------------------------------- master and worker


def test_the_measured_table_line_by_line() -> None:
    """Section 6 of the reference: what the two rows say after each step."""
    world, number = connected_pair()

    def both() -> tuple[Columns, Columns]:
        return row(world, "worker1", number), row(world, "node01", number)

    world.start(number, "worker1")  # 20; synced at 25
    world.advance(START + 25)
    worker, master = both()
    assert (worker["connection_status"], worker["last_keepalive"]) == ("pending", int(START + 20))
    assert (master["connection_status"], master["last_keepalive"], master["node_name"]) == ("pending", None, "unknown")

    world.advance(START + 45)  # first keepalive at 40
    worker, master = both()
    same = ("connection_status", "node_name", "last_keepalive", "ip", "os_name", "version", "disconnection_time", "status_code")
    assert {name: worker[name] for name in same} == {name: master[name] for name in same}
    assert (master["node_name"], master["last_keepalive"]) == ("worker1", int(START + 40))

    world.advance(START + 105)  # a later keepalive at 100, synced 5 s later
    worker, master = both()
    assert (worker["last_keepalive"], master["last_keepalive"]) == (int(START + 100), int(START + 105))

    world.restart_remoted("worker1")
    world.advance(START + 107)
    assert status(world, "worker1", number) == ("disconnected", 5)
    assert status(world, "node01", number) == ("active", 0)

    world.advance(START + 200)
    world.restart_remoted("node01")
    assert status(world, "worker1", number) == ("active", 0)
    assert status(world, "node01", number) == ("disconnected", 5)
    world.advance(START + 226)  # the next keepalive's sync
    assert status(world, "node01", number) == ("active", 0)

    world.cut("worker1")
    world.advance(START + 800 + T + 1)  # the master's second sweep
    assert status(world, "worker1", number) == ("active", 0)
    assert status(world, "node01", number) == ("disconnected", 4)
    world.join("worker1")
    world.advance(START + 800 + T + 30)
    assert status(world, "node01", number) == ("active", 0)

    kept = row(world, "node01", number)["last_keepalive"]
    world.stop(number)
    stopped_at = int(world.now)
    world.advance(world.now + 11)
    worker, master = both()
    assert worker["disconnection_time"] == master["disconnection_time"] == stopped_at
    assert (worker["status_code"], master["status_code"], master["last_keepalive"]) == (3, 3, kept)


def test_sweeps_and_resets_of_a_worker_never_reach_the_master() -> None:
    world, number = connected_pair()
    world.start(number, "worker1")
    world.advance(START + 100)
    world.die(number)
    world.advance(START + 850)
    assert status(world, "worker1", number)[0] == "active"
    world.advance(START + 850 + T + 60)
    assert status(world, "worker1", number) == ("disconnected", 4)
    assert row(world, "worker1", number)["sync_status"] == "synced"


def test_after_a_move_the_old_worker_stays_active_until_its_sweep_and_then_has_the_newest_disconnection() -> None:
    nodes = (NodeConfig("node01", "master"), NodeConfig("worker1", sweep_phase=10), NodeConfig("worker2"))
    world = World(WorldConfig(nodes=nodes, start=START), seed=4)
    number = world.populate(1, nodes=("worker1",))[0]
    world.advance(START + 50)
    world.move(number, "worker2", graceful=False)
    world.advance(START + 900)
    assert status(world, "worker1", number) == status(world, "worker2", number) == ("active", 0)
    assert row(world, "node01", number)["node_name"] == "worker2"
    world.advance(START + 10 + 2 * T)
    assert status(world, "worker1", number) == ("disconnected", 4)
    assert row(world, "worker1", number)["disconnection_time"] == int(START + 10 + 2 * T)
    assert status(world, "worker2", number) == ("active", 0)


def test_workers_learn_of_an_agent_within_ten_seconds_without_its_date() -> None:
    world = pair()
    number = world.register("web-01")
    assert world.row("worker1", number) is None
    world.advance(START + 10)
    learnt = row(world, "worker1", number)
    assert (learnt["name"], learnt["date_add"], learnt["connection_status"]) == ("web-01", 0, "never_connected")
    assert world.keys_text("worker1") == world.keys_text("node01")


def test_an_agent_whose_key_the_worker_has_not_yet_knocks_again() -> None:
    world = pair()
    number = world.register()
    world.start(number, "worker1")
    world.advance(START + 60)
    assert status(world, "worker1", number)[0] == "active"
    assert next(fact.at for fact in world.history if fact.what == "started") > START


# ---------------------------------------------------------------------- registration


def test_a_removed_line_vanishes_and_the_last_entry_takes_its_place() -> None:
    world = pair()
    for name in ("a-1", "b-2", "c-3"):
        world.register(name)
    world.remove(1)
    assert [line.split()[:2] for line in world.keys_text("node01").splitlines()] == [["003", "c-3"], ["002", "b-2"]]
    assert world.row("node01", 1) is not None
    world.advance(START + 1)
    assert world.row("node01", 1) is None
    world.advance(START + 11)
    assert set(world.table("worker1")) == {2, 3}


def test_without_purge_the_removed_line_stays_marked_after_the_live_ones() -> None:
    world = pair(purge=False)
    world.register("web-01")
    world.register("web-02")
    world.remove(1)
    assert [line.split()[:3] for line in world.keys_text("node01").splitlines()] == [["002", "web-02", "any"], ["001", "!web-01", "any"]]
    world.restart_authd()
    assert world.register() == 3


def test_a_purged_highest_id_is_given_again_after_a_restart_and_a_worker_keeps_the_old_name() -> None:
    world = pair()
    world.register("aa")
    world.register("cc")
    world.advance(START + 20)
    world.remove(2)
    assert world.register("bb") == 3
    world.remove(3)
    world.restart_authd()
    assert world.register("dd") == 2
    world.advance(START + 40)
    assert row(world, "node01", 2)["name"] == "dd"
    assert row(world, "worker1", 2)["name"] == "cc"


def test_commands_that_a_cluster_could_not_obey_are_refused_by_a_sentence() -> None:
    world = pair()
    world.register("web-01")
    with pytest.raises(ValueError, match="web-01 is registered already"):
        world.register("web-01")
    with pytest.raises(LookupError, match="No agent 7"):
        world.stop(7)
    with pytest.raises(LookupError, match="node09"):
        world.restart_remoted("node09")
    with pytest.raises(ValueError, match="forward"):
        world.advance(START - 1)
    with pytest.raises(ValueError, match="one master"):
        WorldConfig(nodes=())
    world.node_down("node01")
    with pytest.raises(ValueError, match="master is down"):
        world.register()


# ---------------------------------------------------------------------- laws over random lives


def busy(seed: int, *, computed: bool = False, schema: Schema = "4.14") -> World:
    nodes = cluster(2, schema=schema, skews=(0.0, 3.4, -7.9))
    config = WorldConfig(
        nodes=nodes, start=START, sweep_period=90, old_sweep_period=90, notify_period=10, keepalive_throttle=20,
        compute_keepalives=computed, purge=seed % 2 == 0,
    )  # fmt: skip
    world = World(config, seed)
    world.populate(12)
    Activity(world, BUSY, seed + 1).begin()
    return world


@example(seed=3260, schema="4.14")  # a worker's stop, synced onto the row of an agent that lives on the master
@example(seed=4458, schema="5.0")  # the same, where it has kept alive there since that row was last written as a whole
@given(st.integers(0, 10**6), st.sampled_from(["4.2", "4.14", "5.0"]))
@settings(max_examples=30, deadline=None)
def test_the_writes_make_exactly_the_tables(seed: int, schema: Schema) -> None:
    world, replay, steps = busy(seed, schema=schema), Replay(), random.Random(seed)
    while world.now < START + 700:
        replay.play(world.advance(world.now + steps.uniform(0.01, 40.0)))
        for node in world.nodes:
            assert replay.tables[node] == world.table(node)
            assert replay.keys[node] == world.keys_text(node)


@example(seed=580486, schema="4.2")  # a whole row of the worker before, synced over that of the worker it is on
@given(st.integers(0, 10**6), st.sampled_from(["4.2", "4.14"]))
@settings(max_examples=20, deadline=None)
def test_computed_keepalives_say_what_written_ones_do(seed: int, schema: Schema) -> None:
    written, computed = busy(seed, schema=schema), busy(seed, computed=True, schema=schema)
    for step in range(1, 20):
        several = [world.advance(START + step * 33.7) for world in (written, computed)]
        assert len(several[1]) <= len(several[0])
        for node in written.nodes:
            assert written.table(node) == computed.table(node)
    assert written.history == computed.history


@given(st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_however_advance_is_cut_the_writes_are_the_same(seed: int) -> None:
    whole, sliced, steps = busy(seed), busy(seed), random.Random(seed)
    parts: list[Write] = []
    while sliced.now < START + 400:
        parts += sliced.advance(min(START + 400, sliced.now + steps.uniform(0.01, 20.0)))
    assert parts == whole.advance(START + 400)


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_every_table_obeys_what_wazuh_guarantees(seed: int) -> None:
    world = busy(seed, computed=True)
    while world.now < START + 700:
        world.advance(world.now + 23)
        for node in world.nodes.values():
            now = node.clock(world.now) + (0 if node.type == "worker" else 4)  # a worker's clock goes ahead, and the master copies it
            for number, columns in world.table(node.name).items():
                kept, gone = columns["last_keepalive"], int(columns["disconnection_time"] or 0)
                assert number > 0
                assert columns["connection_status"] in ("active", "pending", "disconnected", "never_connected")
                assert gone <= now
                assert gone > 0 or columns["status_code"] not in (3, 4, 5)
                if node.type == "worker":
                    assert columns["date_add"] == 0
                    assert kept is None or int(kept) <= now
                    assert (kept is None) == (columns["connection_status"] == "never_connected") or columns["status_code"]
                else:
                    assert columns["sync_status"] == "synced"
    connected = {number for node in world.nodes.values() for number in node.members}
    assert len(connected) == sum(len(node.members) for node in world.nodes.values())
