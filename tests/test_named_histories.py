"""The named timelines, played by the world model: what agents and managers do, and exactly what is told of it.

Rows, syncs, sweeps and client.keys are the world's (`tests/world`), collectors and their spools those of `tests/truth`.
"""

import random
from collections.abc import Callable, Mapping
from typing import Literal

import pytest

from relay.fleet import Policy
from tests.truth.collectors import Cadence, Collector, Log
from tests.truth.lines import Line, Relay
from tests.world.config import Schema, WorldConfig, cluster
from tests.world.model import World

pytestmark = pytest.mark.unmeasured

START = WorldConfig().start
BEGIN = START + 240.0  # the baseline is over, everybody keeps alive
Told = list[tuple[str, str]]

MASTER, ONE, TWO = 1, 2, 3  # the agents, by where they live: node01, worker1, worker2


class History:
    """A master and two workers with an agent each; times are seconds since the baseline."""

    def __init__(
        self, *, schema: Schema = "4.14", skews: tuple[float, ...] = (), files: tuple[str, ...] = (), coalesced: float = 0.0, seed: int = 1
    ) -> None:
        nodes = cluster(2, schema=schema, skews=skews)
        self.world = World(WorldConfig(nodes=nodes, compute_keepalives=True, coalesced=coalesced), seed)
        self.relay = Relay(self.world, Policy())
        log, rng = Log(), random.Random(seed)
        self.lines = {name: Line(self.world, self.relay, node, rng) for name, node in self.world.nodes.items()}
        self.collectors = {
            name: Collector(self.world, name, self._source(name, files), Cadence(), log, self.lines[name], rng.random())
            for name in self.world.nodes
        }
        self.world.populate(3, ("node01", "worker1", "worker2"))
        for collector in self.collectors.values():
            self.world.schedule(START + 80, collector.start)
        self.world.schedule(START + 80, self.relay.start)
        self.play(0)
        assert self.relay.fleet.settled
        assert (self.relay.told, self.relay.told_of_managers) == ([], [])

    def _source(self, name: str, files: tuple[str, ...]) -> Literal["socket", "file"]:
        return "file" if name in files else "socket"

    def at(self, seconds: float, command: Callable[..., object], *arguments: object) -> None:
        """A command of the world, of a collector or of a line is due."""
        self.world.schedule(BEGIN + seconds, command, *arguments)

    def play(self, seconds: float) -> None:
        """Let time pass until then."""
        until = BEGIN + seconds
        while (due := self.world.next_due()) is not None and due <= until:
            for write in self.world.advance(due):
                self.collectors[write.node].note(write)
        self.world.advance(until)

    def told(self, number: int) -> Told:
        return [(one.event.kind, one.event.reason) for one in self.relay.told if one.event.agent_id == number]

    def all_told(self) -> Mapping[int, Told]:
        return {number: self.told(number) for number in sorted({one.event.agent_id for one in self.relay.told})}

    def of_managers(self) -> Told:
        return [(one.event.kind, one.event.node) for one in self.relay.told_of_managers]

    def status(self, number: int) -> tuple[str, str]:
        """(status, manager)."""
        agent = self.relay.fleet.agents[number]
        return agent.status, agent.manager_node


STOPPED, SILENT, RESET = ("disconnected", "stopped"), ("disconnected", "silent"), ("disconnected", "manager_reset")
RETURNED, FIRST = ("connected", "returned"), ("connected", "first_contact")
MOVED, OVERDUE = ("moved", "moved"), ("overdue", "keepalive_overdue")
REGISTERED, REMOVED = ("registered", "registered"), ("removed", "removed")


def test_move_without_shutdown_is_told_as_a_move_and_the_old_managers_sweep_half_an_hour_later_is_not() -> None:
    history = History()
    history.at(10, history.world.move, ONE, "worker2", False)
    history.play(3600)
    assert history.all_told() == {ONE: [MOVED]}
    assert history.of_managers() == []
    assert history.status(ONE) == ("Active", "worker2")
    [told] = [one.event for one in history.relay.told]
    assert told.left == "worker1"


def test_move_with_shutdown_is_a_stop_there_and_a_return_here() -> None:
    history = History()
    history.at(10, history.world.move, ONE, "worker2", True)
    history.play(3600)
    assert history.all_told() == {ONE: [STOPPED, RETURNED]}
    assert [one.event.manager_node for one in history.relay.told] == ["worker1", "worker2"]
    assert history.of_managers() == []


def test_move_from_a_worker_to_the_master_and_back_an_hour_later() -> None:
    history = History()
    history.at(10, history.world.move, ONE, "node01", False)
    history.at(3610, history.world.move, ONE, "worker1", False)
    history.play(7200)
    assert history.all_told() == {ONE: [MOVED, MOVED]}
    assert history.of_managers() == []


def test_master_restart_is_one_manager_event_and_no_outage() -> None:
    history = History()
    history.at(10, history.world.restart_remoted, "node01")
    history.play(3600)
    assert history.all_told() == {}
    assert history.of_managers() == [("manager_restarted", "node01")]


def test_master_restart_after_which_an_agent_does_not_return_is_one_outage_of_that_agent() -> None:
    history = History()
    history.at(10, history.world.restart_remoted, "node01")
    history.at(10.1, history.world.die, MASTER)
    history.play(3600)
    assert history.all_told() == {MASTER: [RESET]}
    assert history.of_managers() == [("manager_restarted", "node01")]


def test_worker_restart_is_one_manager_event_and_no_outage() -> None:
    history = History()
    history.at(10, history.world.restart_remoted, "worker1")
    history.play(3600)
    assert history.all_told() == {}
    assert history.of_managers() == [("manager_restarted", "worker1")]


def test_agent_on_the_master_is_told_of_by_the_masters_own_rows() -> None:
    history = History()
    history.at(10, history.world.stop, MASTER)
    history.at(100, history.world.start, MASTER, "node01")
    history.at(300, history.world.die, MASTER)
    history.play(3600)
    assert history.all_told() == {MASTER: [STOPPED, RETURNED, OVERDUE, SILENT]}
    assert history.of_managers() == []


def test_a_collector_away_for_ten_minutes_and_its_spool() -> None:
    """NATS cannot be reached from worker1 meanwhile: what happened there is told late, in order, with its own time."""
    history = History()
    history.at(10, history.lines["worker1"].cut)
    history.at(60, history.world.stop, ONE)
    history.at(200, history.world.start, ONE, "worker1")
    history.at(400, history.world.stop, ONE)
    history.at(500, history.world.start, ONE, "worker1")
    history.at(610, history.lines["worker1"].join)
    history.play(3600)
    assert history.all_told() == {ONE: [STOPPED, RETURNED, STOPPED, RETURNED]}
    assert history.of_managers() == [("manager_unreachable", "worker1"), ("manager_back", "worker1")]


def test_a_collector_stopped_for_ten_minutes_while_its_agents_live_on() -> None:
    history = History()
    history.at(10, history.collectors["worker1"].stop)
    history.at(610, history.collectors["worker1"].start)
    history.play(3600)
    assert history.all_told() == {}
    assert history.of_managers() == [("manager_unreachable", "worker1"), ("manager_back", "worker1")]


def test_id_reuse_is_the_end_of_one_agent_and_the_beginning_of_another() -> None:
    history = History()
    history.at(10, history.world.remove, TWO)  # the highest id
    history.at(20, history.world.restart_authd)
    history.at(30, history.world.register, "newcomer")
    history.at(60, history.world.start, TWO, "worker1")
    history.play(1800)
    assert history.all_told() == {TWO: [REMOVED, REGISTERED, FIRST]}
    assert [one.event.agent_name == "newcomer" for one in history.relay.told] == [False, True, True]
    assert history.of_managers() == []


def test_clocks_thirty_seconds_apart_do_not_decide_who_is_right() -> None:
    history = History(skews=(0.0, 15.0, -15.0))
    history.at(10, history.world.move, ONE, "worker2", True)
    history.at(200, history.world.move, ONE, "worker1", False)
    history.at(400, history.world.move, TWO, "worker1", False)
    history.at(600, history.world.stop, TWO)
    history.play(3600)
    assert history.all_told() == {ONE: [STOPPED, RETURNED, MOVED], TWO: [MOVED, STOPPED]}
    assert history.of_managers() == []


def test_a_to_b_to_a_within_a_minute_is_two_moves_where_it_kept_alive_there_and_no_outage() -> None:
    history = History()
    history.at(10, history.world.move, ONE, "worker2", False)
    history.at(35, history.world.move, ONE, "worker1", False)
    history.play(3600)
    assert history.all_told() == {ONE: [MOVED, MOVED]}
    assert history.of_managers() == []
    assert history.status(ONE) == ("Active", "worker1")


def test_a_to_b_to_a_within_a_minute_is_nothing_where_it_only_knocked_there() -> None:
    history = History()
    history.at(10, history.world.move, ONE, "worker2", False)
    history.at(25, history.world.move, ONE, "worker1", False)
    history.play(3600)
    assert history.all_told() == {}
    assert history.of_managers() == []
    assert history.status(ONE) == ("Active", "worker1")


def test_a_registration_seen_first_by_a_worker_is_told_when_the_master_says_so() -> None:
    """The master's collector reads a file, the worker's a socket: the agent is connected before it is registered."""
    history = History(files=("node01",))
    history.at(10, history.world.register, "newcomer")
    history.at(22, history.world.start, 4, "worker1")
    history.play(1800)
    assert history.all_told() == {4: [REGISTERED, FIRST]}
    assert history.of_managers() == []


def test_a_removal_while_a_worker_is_cut_off_is_told_and_who_stays_connected_too() -> None:
    history = History()
    history.at(10, history.world.cut, "worker1")
    history.at(30, history.world.remove, ONE)
    history.at(600, history.world.join, "worker1")
    history.play(1800)
    assert history.all_told() == {ONE: [REMOVED, ("removed_but_connected", "removed_but_connected")]}
    assert history.of_managers() == []
    assert ONE not in history.relay.fleet.agents


def test_a_file_source_next_to_a_socket_source() -> None:
    """worker1's rows are up to a minute old: what happened there is told late, and an older word is no news."""
    history = History(files=("worker1",))
    history.at(70, history.world.move, ONE, "worker2", False)  # seen there at once, here at the next commit
    history.at(300, history.world.move, TWO, "worker1", True)
    history.at(900, history.world.stop, TWO)
    history.play(3600)
    assert history.all_told() == {ONE: [MOVED], TWO: [STOPPED, RETURNED, STOPPED]}
    assert history.of_managers() == []


def test_relay_away_for_an_hour_decides_its_backlog_as_it_would_have_live() -> None:
    """What stands in RAW is decided at the stream's own times; the relay's ticks are what is missing."""

    def played(away: bool) -> list[str]:
        history = History()
        if away:
            history.at(10, setattr, history.relay, "ticking", False)
            history.at(3610, setattr, history.relay, "ticking", True)
        history.at(60, history.world.move, ONE, "worker2", False)
        history.at(600, history.world.stop, TWO)
        history.at(1200, history.world.start, TWO, "worker2")
        history.at(1800, history.world.restart_remoted, "worker2")
        history.at(2400, history.world.die, MASTER)
        history.play(5400)
        assert history.all_told() == {MASTER: [OVERDUE, SILENT], ONE: [MOVED], TWO: [STOPPED, RETURNED]}
        assert history.of_managers() == [("manager_restarted", "worker2")]
        return [one.event.event_id for one in history.relay.told]

    assert played(away=True) == played(away=False)


def test_shutdown_and_startup_coalesced_is_no_outage() -> None:
    """remoted keeps one message of each agent in its queue: an agent that is restarted quickly never shows as disconnected."""
    history = History(coalesced=1.0)
    history.at(10, history.world.start, ONE, "worker1")  # it comes back without a word: what was queued was overwritten
    history.at(100, history.world.start, MASTER, "node01")
    history.play(3600)
    assert history.all_told() == {}
    assert history.of_managers() == []
