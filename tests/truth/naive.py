"""What simpler rules make of the same snapshots: the newest change wins, the newest keepalive wins, the master's row is right.

They are told for free who is registered (by the master's rows), so that only their judgement of states is compared.
"""

from collections.abc import Callable, Iterable

from shared import wire
from shared.models import AgentRow
from tests.truth.collectors import AFTER_THE_WORLD
from tests.truth.judge import Said
from tests.world.model import World

WORDS = {"active": "Active", "disconnected": "Disconnected", "pending": "Pending", "never_connected": "NeverConnected"}
_AGAIN = (30.0, 90.0)  # seconds after a change at which keepalives are compared again


class Naive:
    """One rule at work: `status` says what an agent is, by the rows that were heard."""

    def __init__(self, world: World, status: Callable[["Tables", int], str | None], *, patient: bool = False) -> None:
        self.said: list[Said] = []
        self._world, self._status, self._patient = world, status, patient
        self._known: dict[int, tuple[str, str]] = {}  # id -> name, status
        self._settled = False

    def hear(self, tables: "Tables", touched: Iterable[int]) -> None:
        for number in touched:
            self._weigh(tables, number)
            for delay in _AGAIN if self._patient else ():
                self._world.push(self._world.now + delay, AFTER_THE_WORLD, self._weigh, tables, number)

    def settle(self) -> None:
        """From now on differences are events."""
        self._settled = True
        self.said.clear()

    def _weigh(self, tables: "Tables", number: int) -> None:
        row = tables.rows[self._world.master.name].get(number)
        known = self._known.get(number)
        if known is not None and (row is None or row.name != known[0]):
            self._say(number, known[0], known[1], "Unknown")
            del self._known[number]
            tables.forget(number)
            known = None
        if row is None:
            return
        if known is None:
            self._say(number, row.name, "Unknown", "NeverConnected")
            known = (row.name, "NeverConnected")
        status = self._status(tables, number) or known[1]
        if status != known[1]:
            self._say(number, row.name, known[1], status)
        self._known[number] = (row.name, status)

    def _say(self, number: int, name: str, previous: str, current: str) -> None:
        if self._settled:
            self.said.append(Said(number, name, previous, current, self._world.now))


class Tables:
    """The rows that every node's snapshots told, and the rules that look at them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rows: dict[str, dict[int, AgentRow]] = {name: {} for name in world.nodes}
        self.changed: dict[int, str] = {}
        self.rules = {
            "newest change wins": Naive(world, newest_change),
            "newest keepalive wins": Naive(world, newest_keepalive, patient=True),
            "the master's row": Naive(world, masters_row),
        }

    def hear(self, snapshot: wire.Snapshot) -> None:
        table = self.rows[snapshot.node]
        whole = snapshot.kind == "full"
        touched = []
        for row in snapshot.rows:
            before = table.get(row.id)
            table[row.id] = row
            if before is None or before.status != row.status or before.name != row.name:
                touched.append(row.id)
                if row.status != "never_connected":
                    self.changed[row.id] = row.status
        for number in table.keys() - {row.id for row in snapshot.rows} if whole else snapshot.gone:
            table.pop(number, None)
            touched.append(number)
        for rule in self.rules.values():
            rule.hear(self, touched)

    def forget(self, number: int) -> None:
        self.changed.pop(number, None)


def newest_change(tables: Tables, number: int) -> str | None:
    """The last change that arrived, from whatever node."""
    status = tables.changed.get(number)
    return None if status is None else WORDS[status]


def newest_keepalive(tables: Tables, number: int) -> str | None:
    """The row with the greatest last_keepalive, as the databases hold it now."""
    best: tuple[int, str] | None = None
    for node, table in tables.rows.items():
        heard = table.get(number)
        live = tables.world.nodes[node].rows.get(number)
        if heard is None:
            continue
        kept = heard.last_keepalive if live is None else tables.world.last_keepalive(tables.world.nodes[node], live)
        if kept is not None and (best is None or kept > best[0]):
            best = (kept, heard.status)
    return None if best is None else WORDS[best[1]]


def masters_row(tables: Tables, number: int) -> str | None:
    """What Wazuh's own API shows."""
    row = tables.rows[tables.world.master.name].get(number)
    return None if row is None else WORDS[row.status]
