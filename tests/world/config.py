"""What a simulated Wazuh cluster is made of, and what is remembered of it.

`WorldConfig` holds the periods of Wazuh; the defaults are those of 4.14 (section 2, 5 and 6 of the reference). A demo
shrinks them. `Fact` is one line of the agents' own history: what truly happened, whatever any database says.
"""

from dataclasses import dataclass, field
from typing import Final, Literal

Schema = Literal["4.2", "4.5", "4.14", "5.0"]
"""Tables of the `agent` kind: 4.2 has neither disconnection_time nor status_code, 4.5 no status_code, 5.0 no node_name."""

OLD: Final[tuple[Schema, ...]] = ("4.2", "4.5")
"""Before 4.13: a keepalive each 10 s, silence after 600 s, and the sync carries whole rows."""

NodeType = Literal["master", "worker"]

What = Literal[
    "registered",  # authd added the agent
    "removed",  # authd dropped its key
    "started",  # a manager accepted its startup message
    "connected",  # a manager accepted its first keepalive since
    "stopped",  # a manager received its shutdown message
    "died",  # the agent fell silent; value: the world time of its last contact
    "moved",  # the agent left its manager for `node` without a word; value: its last contact
    "lost",  # the manager let go of a living agent; value: its last contact
    "refused",  # a manager refused its version; value: its last contact where it was connected, else 0
    "sweeps",  # node: monitord looks every `value` seconds for agents as long silent
    "restarted",  # node: remoted started again and reset every row
    "down",  # node: the whole manager went away
    "up",  # node: it came back (and is restarted at once)
    "clock",  # node: its clock was set; value: seconds by which it is ahead from now on
]


@dataclass(frozen=True, slots=True)
class Fact:
    """One truth at world time `at` (Unix seconds). `agent` is 0 and `name` empty where it is about a node."""

    at: float
    agent: int
    name: str
    what: What
    node: str
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One manager. A phase of None is drawn from the seed within its period; `skew` is added to the world's time."""

    name: str
    type: NodeType = "worker"
    schema: Schema = "4.14"
    skew: float = 0.0
    sweep_phase: float | None = None
    sync_phase: float | None = None
    integrity_phase: float | None = None


@dataclass(frozen=True, slots=True)
class WorldConfig:
    """Periods in seconds. Ranges are (least, most), drawn evenly from the world's random."""

    nodes: tuple[NodeConfig, ...] = field(default=(NodeConfig("node01", "master"),))
    start: float = 1_795_400_000.0
    sweep_period: float = 900.0  # agents_disconnection_time: how old a keepalive may be, and how often monitord looks
    notify_period: float = 20.0  # the agents' notify_time
    keepalive_jitter: float = 0.0  # seconds by which plain keepalives may be late; then one in a few hundred is lost too (`jitter`)
    old_sweep_period: float = 600.0  # the same two of managers before 4.13
    old_notify_period: float = 10.0
    sync_period: float = 10.0  # worker to master, agent-info
    integrity_period: float = 9.0  # master to worker, client.keys
    keepalive_throttle: float = 60.0  # 5.0: remoted.control_keepalive_throttle
    database_delay: tuple[float, float] = (0.1, 0.9)  # client.keys changed until the row is inserted or deleted
    reconnect_delay: tuple[float, float] = (5.0, 15.0)  # an agent that lost its manager until its next startup message
    move_delay: tuple[float, float] = (0.5, 3.0)  # an agent that changes its manager, likewise
    coalesced: float = 0.5  # share of reconnections whose pending is never written (the indexed queue of remoted)
    tick: float = 0.1  # keepalives within one tick are one Update
    purge: bool = True  # <purge> of the auth block: a removed agent's line vanishes from client.keys
    compute_keepalives: bool = False  # no Updates for plain keepalives; rows say them all the same

    def __post_init__(self) -> None:
        if [node.type for node in self.nodes].count("master") != 1:
            raise ValueError(f"A cluster has one master, but these nodes were given: {[(n.name, n.type) for n in self.nodes]}.")
        if len({node.name for node in self.nodes}) != len(self.nodes):
            raise ValueError("Two nodes of the cluster have the same name.")
        if self.keepalive_jitter and not self.compute_keepalives:
            raise ValueError("Keepalives that are written one by one come on time: jitter needs compute_keepalives.")


def cluster(workers: int, *, schema: Schema = "4.14", skews: tuple[float, ...] = ()) -> tuple[NodeConfig, ...]:
    """node01, the master, and `workers` workers named worker1, worker2 …; `skews` in that order, 0 where short."""
    names = ["node01", *(f"worker{number}" for number in range(1, workers + 1))]
    filled = [*skews, *([0.0] * len(names))]
    return tuple(
        NodeConfig(name, "worker" if index else "master", schema, skew)
        for index, (name, skew) in enumerate(zip(names, filled, strict=False))
    )
