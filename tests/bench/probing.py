"""What a glance costs beside a probe, of the same rows in the same SQLite: the real daemon's probe was measured, its glance was not."""

import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Final

from collector import rows
from tests.bench.fleet import NODE, row
from tests.manager import schema

TRIES: Final = 15


def glance_share(path: Path, agents: int) -> float:
    """The cost of a glance as a share of a probe's."""
    schema.create(path, "4.14")
    with closing(schema.connect(path)) as database:
        columns = row(1, 0)
        text = f"INSERT INTO agent ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        database.executemany(text, (tuple(row(number, 1_795_400_000).values()) for number in range(1, agents + 1)))
        have = [name for _, name, *_ in database.execute("PRAGMA table_info(agent)")]
        table = rows.schema(have, 0, "7", NODE)
        spent: dict[str, list[float]] = {rows.glance(table): [], rows.probe(table, 0, None): []}
        for _ in range(TRIES):
            for sql, times in spent.items():
                began = time.perf_counter()
                database.execute(sql).fetchall()
                times.append(time.perf_counter() - began)
    glance, probe = (median(times) for times in spent.values())
    return glance / probe
