"""A fleet whose scenes take seconds: for the demo and for docker-compose.yml. Periods in seconds."""

from typing import Final

from .config import NodeConfig, WorldConfig

MASTER: Final = "node01"
WORKER: Final = "worker1"
SWEEP: Final = 6.0  # 900 in a real cluster

PACE: Final = WorldConfig(
    nodes=(NodeConfig(MASTER, "master"), NodeConfig(WORKER)),
    sweep_period=SWEEP,
    notify_period=1.0,
    sync_period=2.0,
    integrity_period=1.5,
    database_delay=(0.05, 0.2),
    reconnect_delay=(0.5, 1.5),
    move_delay=(0.2, 0.6),
)
"""A fleet that keeps alive each second and is swept every six."""
