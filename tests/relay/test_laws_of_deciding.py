"""Laws of deciding that hold whatever nodes say: machines and generators say anything, and the laws are looked after at each step."""

import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from relay.decided import Decision
from relay.events import Event, ManagerEvent
from relay.fleet import Fleet, Heard
from shared import models, wire
from shared.models import AgentRow, KeyEntry
from tests.relay import ledgers
from tests.relay.lab import T0, Lab, row

STATUS_KINDS = ("connected", "disconnected", "pending", "registered", "removed")


class Chains:
    """What was told of each agent and manager so far, and whether the next thing can follow it."""

    def __init__(self) -> None:
        self.status: dict[tuple[int, str], str] = {}
        self.manager: dict[int, str] = {}  # where each agent is, by its last change or move
        self.silent: set[int] = set()
        self.unreachable: set[str] = set()
        self.restarted: dict[str, int] = {}
        self.ids: set[str] = set()

    def begin(self, view: Fleet) -> None:
        """The baseline is over."""
        self.status = {(agent.id, agent.name): agent.status for agent in view.agents.values()}
        self.manager = {agent.id: agent.manager_node for agent in view.agents.values()}

    def follow(self, event: Event) -> None:
        who = (event.agent_id, event.agent_name)
        assert event.previous == self.status.get(who, "Unknown"), f"{event} does not begin where the one before ended"
        assert (event.previous != event.current) == (event.kind in STATUS_KINDS)
        self.status[who] = event.current
        self._once(event.event_id)
        if event.kind == "moved":
            assert event.left == self.manager[event.agent_id] != event.manager_node
        if event.kind in (*STATUS_KINDS, "moved"):
            self.manager[event.agent_id] = event.manager_node
        self._silence(event)

    def _silence(self, event: Event) -> None:
        if event.kind == "overdue":
            assert event.agent_id not in self.silent
            assert event.current == "Active"
            self.silent.add(event.agent_id)
        elif event.kind == "overdue_cleared":
            self.silent.remove(event.agent_id)
        elif event.kind in STATUS_KINDS:
            self.silent.discard(event.agent_id)

    def follow_manager(self, event: ManagerEvent) -> None:
        self._once(event.event_id)
        if event.kind == "manager_unreachable":
            assert event.node not in self.unreachable
            self.unreachable.add(event.node)
        elif event.kind == "manager_back":
            self.unreachable.remove(event.node)
        elif event.kind == "manager_restarted":
            assert event.timestamp > self.restarted.get(event.node, -1)
            self.restarted[event.node] = event.timestamp

    def _once(self, identity: str) -> None:
        assert identity not in self.ids
        self.ids.add(identity)

    def agree(self, view: Fleet) -> None:
        """What was told last of each agent is what the relay holds."""
        held = {(agent.id, agent.name): agent.status for agent in view.agents.values()}
        assert {who: status for who, status in self.status.items() if status != "Unknown"} == {
            who: status for who, status in held.items() if status != "Unknown"
        }


class Watched(Lab):
    """A laboratory in which the chains are looked after, and each step's decision kept."""

    def __init__(self) -> None:
        super().__init__()
        self.chains = Chains()
        self.decisions: list[Decision] = []

    def step(self, given: Heard) -> Decision:  # type: ignore[override]
        began = self.fleet.settled
        decision = super().step(given)
        self.decisions.append(decision)
        if self.fleet.settled:
            if not began:
                self.chains.begin(self.fleet)
            for event in decision.happened:
                self.chains.follow(event)
            for told in decision.of_managers:
                self.chains.follow_manager(told)
            self.chains.agree(self.fleet)
        return decision


AGES = st.sampled_from([0, 1, 2, 7, 14, 16, 25, 31, 45, 90, 400])  # seconds ago
IDS = st.integers(1, 3)
ROWS = st.fixed_dictionaries(
    {
        "number": IDS,
        "status": st.sampled_from(["active", "active", "disconnected", "pending", "never_connected"]),
        "kept": st.none() | AGES,
        "code": st.sampled_from([0, 0, 3, 3, 4, 5, 1, 2, None]),
        "left": st.just(0) | AGES,
        "node": st.sampled_from(["m", "w1", "w2", "unknown", None]),
        "name": st.sampled_from(["", "", "", "other"]),
    }
)
Said = dict[str, object]


def made(said: Said, now: int, added: int) -> AgentRow:
    kept, left, number = said["kept"], said["left"], said["number"]
    assert isinstance(number, int)
    return row(
        number,
        said["status"],  # type: ignore[arg-type]
        None if kept is None else now - int(kept),  # type: ignore[call-overload]
        name=f"{said['name']}-{number}" if said["name"] else "",
        code=said["code"],  # type: ignore[arg-type]
        dt=now - int(left) if left else 0,  # type: ignore[call-overload]
        node=said["node"],  # type: ignore[arg-type]
        added=added,
    )


def keys_of(rows: Iterable[AgentRow]) -> list[KeyEntry]:
    return [KeyEntry(one.id, one.name, "any", False) for one in rows]


class Anything(RuleBasedStateMachine):
    """One to three nodes say what they like of up to three agents."""

    def __init__(self) -> None:
        super().__init__()
        self.lab = Watched()
        self.now = T0
        self.cut = 0
        self.last: dict[str, wire.Snapshot] = {}

    @initialize(
        count=st.integers(1, 3),
        skews=st.lists(st.sampled_from([-30, 0, 0, 30, 45]), min_size=3, max_size=3),
        rows=st.lists(ROWS, max_size=3),
    )
    def begin(self, count: int, skews: list[int], rows: list[Said]) -> None:
        for name, node_type, skew in zip(("m", "w1", "w2")[:count], ("master", "worker", "worker"), skews, strict=False):
            self.lab.node(name, node_type, skew=skew)  # type: ignore[arg-type]
            self.full_of(name, rows, quiet=[])

    def full_of(self, name: str, rows: list[Said], quiet: list[tuple[int, int]]) -> None:
        speaker = self.lab.speakers[name]
        speaker.rows = self.made(rows, self.now + speaker.skew)
        speaker.keys = {one.id: one for one in keys_of(speaker.rows.values())}
        self.hear(speaker.snapshot("full", self.now, quiet=self.quiet(name, quiet)))

    def made(self, rows: list[Said], now: int) -> dict[int, AgentRow]:
        """Who is registered again has another date_add than before."""
        removed = Counter(event.agent_id for event in self.lab.events if event.kind == "removed")
        return {one.id: one for one in (made(said, now, T0 - 1000 + removed[int(str(said["number"]))]) for said in rows)}

    def quiet(self, name: str, ages: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        return tuple({number: self.now + self.lab.speakers[name].skew - age for number, age in ages}.items())

    def hear(self, snapshot: wire.Snapshot) -> Decision:
        self.last[snapshot.node] = snapshot
        sent_at = (self.now + self.lab.speakers[snapshot.node].skew) * 1000
        self.lab.position += 1
        return self.lab.step(Heard(self.lab.position, self.now * 1000, sent_at, snapshot))

    def some(self, place: int) -> str:
        names = list(self.lab.speakers)
        return names[place % len(names)]

    PLACE = st.integers(0, 2)
    QUIET = st.lists(st.tuples(IDS, AGES), max_size=3)

    @rule(place=PLACE, rows=st.lists(ROWS, max_size=3), quiet=QUIET, passed=st.sampled_from([0, 1, 5]))
    def full(self, place: int, rows: list[Said], quiet: list[tuple[int, int]], passed: int) -> None:
        self.now += passed
        self.full_of(self.some(place), rows, quiet)

    @rule(
        place=PLACE, rows=st.lists(ROWS, max_size=2), gone=st.sets(IDS, max_size=1), keyless=st.booleans(),
        quiet=st.none() | QUIET, passed=st.sampled_from([0, 1, 5]), waited=st.sampled_from([0, 0, 0, 3, 40, 400]),
    )  # fmt: skip
    def delta(
        self, place: int, rows: list[Said], gone: set[int], keyless: bool, quiet: list[tuple[int, int]] | None, passed: int, waited: int
    ) -> None:
        self.now += passed
        name = self.some(place)
        speaker = self.lab.speakers[name]
        new = self.made(rows, self.now + speaker.skew - waited)
        gone -= new.keys()
        speaker.rows = {number: held for number, held in speaker.rows.items() if number not in gone} | new
        keys = [] if keyless else keys_of(new.values())
        speaker.keys = {number: held for number, held in speaker.keys.items() if number not in gone} | {one.id: one for one in keys}
        taken = (self.now + speaker.skew - waited) * 1000
        listed = None if quiet is None else self.quiet(name, quiet)
        rows_, said = tuple(new.values()), {"taken_at": taken, "as_of": taken, "quiet": listed}
        self.hear(speaker.snapshot("delta", self.now, rows=rows_, gone=tuple(gone), keys=tuple(keys), keys_gone=tuple(gone), **said))

    @rule(place=PLACE, quiet=QUIET, passed=st.sampled_from([0, 1, 5]), state=st.sampled_from(["ok", "ok", "ok", "locked"]))
    def beat(self, place: int, quiet: list[tuple[int, int]], passed: int, state: models.SourceState) -> None:
        self.now += passed
        name = self.some(place)
        error = "" if state == "ok" else "locked"
        self.hear(self.lab.speakers[name].snapshot("beat", self.now, quiet=self.quiet(name, quiet), source_state=state, source_error=error))

    @rule(quiet=QUIET, passed=st.sampled_from([5, 20, 65]))
    def all_beat(self, quiet: list[tuple[int, int]], passed: int) -> None:
        self.now += passed
        for name in self.lab.speakers:
            self.hear(self.lab.speakers[name].snapshot("beat", self.now, quiet=self.quiet(name, quiet)))

    @rule(passed=st.sampled_from([1, 10, 31, 70]))
    def tick(self, passed: int) -> None:
        self.now += passed
        self.lab.tick(self.now)

    @rule(place=PLACE)
    def starts_again(self, place: int) -> None:
        speaker = self.lab.speakers[self.some(place)]
        speaker.boot, speaker.seq = speaker.boot + 1, 0

    @rule(place=PLACE, older=st.booleans())
    @precondition(lambda self: self.last)
    def says_it_again(self, place: int, older: bool) -> None:
        """A repeat, or another collector of the same name, changes nothing of any agent."""
        known = self.last.get(self.some(place))
        if known is None:
            return
        self.lab.tick(self.now)
        before = (dict(self.lab.fleet.agents), dict(self.lab.fleet.ghosts), self.lab.fleet.nodes[known.node])
        said = replace(known, boot=known.boot - 1, rows=(), kind="full") if older else known
        self.lab.position += 1
        sent_at = (self.now + self.lab.speakers[known.node].skew) * 1000
        decision = self.lab.step(Heard(self.lab.position, self.now * 1000, sent_at, said))
        assert decision.refused is not None
        assert (decision.happened, decision.agents, decision.met, decision.removed, decision.superseded) == ((), (), (), (), 0)
        assert before == (self.lab.fleet.agents, self.lab.fleet.ghosts, self.lab.fleet.nodes[known.node])

    @rule()
    def interrupt(self) -> None:
        """Here the relay is going to be interrupted when all of it is played again."""
        self.cut = len(self.lab.log)

    def teardown(self) -> None:
        """Replaying the stream gives the same messages, also where the ledger was stored and restored on the way."""
        if len(self.lab.decisions) < len(self.lab.log):
            return  # what failed was a law before
        with tempfile.TemporaryDirectory() as directory:
            ledger = ledgers.opened(ledgers.fresh_url(Path(directory)))
            again = Fleet("lab", self.lab.fleet.policy)
            for place, (given, decided) in enumerate(zip(self.lab.log, self.lab.decisions, strict=True)):
                decision = ledgers.judged(again, given)
                assert decision == decided
                if place < self.cut:
                    ledger.record(decision, again, ledgers.kept(given))
                again.settle(decision)
                if place == self.cut - 1:
                    again = ledger.restore("lab", self.lab.fleet.policy)
            ledger.close()
        assert again == self.lab.fleet


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
