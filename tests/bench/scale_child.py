"""One fleet of the scale part, in a process of its own so that its memory can be seen: python tests/bench/scale_child.py AGENTS LEDGER_URL

Prints one JSON object: bytes an agent, milliseconds a change by round, seconds to restore.
"""

import gc
import json
import os
import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from relay import ledger
from relay.fleet import Policy
from relay.mind import restored
from tests.bench import usage
from tests.bench.publisher import Desk
from tests.bench.voices import Cluster

CHANGES = 40  # of one round
ROUNDS = 3


def main() -> None:
    agents, url = int(sys.argv[1]), sys.argv[2]
    if len(sys.argv) > 3:
        print(json.dumps(restart(url)))
    else:
        print(json.dumps(grow(agents, url)))


def grow(agents: int, url: str) -> dict[str, object]:
    """A fleet from nothing, and single changes of it."""
    cluster = Cluster(1, agents)
    book = ledger.Ledger.open(url)
    desk = Desk(book)
    for snapshot in cluster.fulls():
        desk.hear(snapshot)
    rounds = [_changes(desk, cluster, number) for number in range(ROUNDS)]
    book.close()
    return {"change_ms": rounds}


def _changes(desk: Desk, cluster: Cluster, number: int) -> float:
    spent = []
    for at in range(CHANGES):
        agent = 1 + (number * CHANGES + at) * 7919 % cluster.agents
        for snapshot in cluster.stop([agent]):
            deciding, recording, _ = desk.hear(snapshot)
            spent.append(deciding + recording)
    return 1000 * median(spent)


def restart(url: str) -> dict[str, object]:
    """What a restart reads, how long that takes, and what it holds then."""
    gc.collect()
    before = usage.memory(os.getpid()).now
    began = time.perf_counter()
    book = ledger.Ledger.open(url)
    fleet = restored(book, Policy())
    spent = time.perf_counter() - began
    return {"restore_s": spent, "mib": usage.memory(os.getpid()).now - before, "agents": len(fleet.agents)}


if __name__ == "__main__":
    main()
