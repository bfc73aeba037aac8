"""What looking costs: the real daemon, as it was measured, this machine's SQLite on the same rows, and the simulator over its socket.

Of a wazuh-db of 4.14 a probe was measured, over its socket; a glance is taken for the share of that which it is here in SQLite alone.
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
from tests.bench.fleet import NODE, row
from tests.manager import schema

TRIES: Final = 15
LOOKS: Final = 50  # over the socket: a fleet of ten seconds' rhythm writes in every second one
PATIENCE: Final = 10.0
PROBE_S: Final = (0.0004, 1_000), (0.0033, 10_000)
"""(seconds, agents) of one probe on the real daemon."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of a look at a fleet."""

    probe: float  # here
    glance: float  # here
    real_probe: float  # on the real daemon
    sql: str  # of a glance

    @property
    def real_glance(self) -> float:
        """On the real daemon, very likely."""
        return self.real_probe * self.glance / self.probe

    def budget(self, socket: Path, share: float) -> float:
        """`collector.source_budget` for a simulated daemon, where it is to be `share` of the real one's time. Blocks as `slowness`."""
        return min(0.5, share * self.slowness(socket, max(cadence.FASTEST, self.real_glance / share)))

    def slowness(self, socket: Path, between: float) -> float:
        """How many times as long as the real daemon a simulated one takes, with what it has to do meanwhile, where it is asked every
        `between` seconds: what a collector waits for a glance is what it counts of its budget. Blocks for LOOKS of them."""
        daemon, times = Wdb(socket, SystemClock(), PATIENCE), list[float]()
        with closing(daemon):
            for _ in range(LOOKS):
                began = time.perf_counter()
                daemon.select(self.sql)
                times.append(time.perf_counter() - began)
                time.sleep(between)
        return max(1.0, median(times) / self.real_glance)


def probe_seconds(agents: int) -> float:
    """What a probe of a fleet of this size costs the real daemon: a line through the two that were measured."""
    (low, few), (high, many) = PROBE_S
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
        spent: dict[str, list[float]] = {table.glance: [], rows.probe(table, 0, None): []}
        for _ in range(TRIES):
            for asked, times in spent.items():
                began = time.perf_counter()
                database.execute(asked).fetchall()
                times.append(time.perf_counter() - began)
    glance, probe = (median(times) for times in spent.values())
    return Cost(probe, glance, probe_seconds(agents), table.glance)
