"""What looking costs: the real daemon, as it was measured, this machine's SQLite on the same rows, and the simulator over its socket.

Of a wazuh-db of 4.14 one question was measured, over its socket; what a collector asks now is taken for the share of that which it is
here in SQLite alone.
"""

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from collector import cadence, rows
from collector.wdb import Wdb
from shared.clock import SystemClock
from shared.models import AgentRow
from tests.bench.fleet import NODE, row
from tests.manager import schema

TRIES: Final = 15
LOOKS: Final = 50  # over the socket: a fleet of ten seconds' rhythm writes in every second one
PATIENCE: Final = 10.0
ASKED: Final = (
    "select count(*)||' '||ifnull(sum(id),0)||' '||ifnull(sum(disconnection_time*(id%1000+1)),0)||' '||ifnull(sum(date_add*(id%1000+1)),0)"
    "||' '||total_changes()||' '||ifnull(group_concat(char((case connection_status when 'active' then 40 when 'disconnected' then 50"
    " when 'pending' then 60 when 'never_connected' then 70 else 70 end)+max(0,min(ifnull(status_code,0),9))"
    f"+46*(ifnull(node_name,'unknown') is '{NODE}')),''),'') p from agent not indexed where id>0"
)
ASKED_S: Final = (0.0004, 1_000), (0.0033, 10_000)
"""(seconds, agents) of that question on the real daemon."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of a look at a fleet."""

    probe: float  # here
    asked: float  # what was measured on the real daemon, here
    real_asked: float  # and there
    sql: str  # of a probe

    @property
    def real_probe(self) -> float:
        """On the real daemon, very likely."""
        return self.real_asked * self.probe / self.asked

    def budget(self, socket: Path, share: float) -> float:
        """`collector.source_budget` for a simulated daemon, where it is to be `share` of the real one's time. Blocks as `slowness`."""
        return min(0.5, share * self.slowness(socket, max(cadence.FASTEST, self.real_probe / share)))

    def slowness(self, socket: Path, between: float) -> float:
        """How many times as long as the real daemon a simulated one takes, with what it has to do meanwhile, where it is asked every
        `between` seconds: what a collector waits for a probe is what it counts of its budget. Blocks for LOOKS of them."""
        daemon, times = Wdb(socket, SystemClock(), PATIENCE), list[float]()
        with closing(daemon):
            for _ in range(LOOKS):
                began = time.perf_counter()
                daemon.select(self.sql)
                times.append(time.perf_counter() - began)
                time.sleep(between)
        return max(1.0, median(times) / self.real_probe)


def asked_seconds(agents: int) -> float:
    """What the measured question of a fleet of this size costs the real daemon: a line through the two that were measured."""
    (low, few), (high, many) = ASKED_S
    return low + (high - low) * (agents - few) / (many - few) if agents > few else low * agents / few


def measured(path: Path, agents: int) -> Cost:
    """What this machine takes for a fleet of this size; a database is made at `path`."""
    schema.create(path, "4.14")
    with closing(schema.connect(path)) as database:
        columns = row(1, 0)
        text = f"INSERT INTO agent ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        database.execute("BEGIN")
        database.executemany(text, (tuple(row(number, 1_795_400_000).values()) for number in range(1, agents + 1)))
        database.execute("COMMIT")
        have = [name for _, name, *_ in database.execute("PRAGMA table_info(agent)")]
        table = rows.schema(have, 0, "7", NODE)
        sql = rows.probe(table, rows.mark(AgentRow(1, "", "", "active", 0, 0, 0, 0, NODE), NODE), 0, None)
        spent: dict[str, list[float]] = {sql: [], ASKED: []}
        for _ in range(TRIES):
            for question, times in spent.items():
                began = time.perf_counter()
                database.execute(question).fetchall()
                times.append(time.perf_counter() - began)
    probe, asked = (median(times) for times in spent.values())
    return Cost(probe, asked, asked_seconds(agents), sql)
