"""What a played fleet answers: commands to its world, and what truly happened in it."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import astuple
from typing import Any, Final

from tests.manager.driver import Cluster

COMMANDS: Final = (
    "start", "stop", "die", "move", "register", "remove", "refuse_version", "restart_remoted", "node_down", "node_up", "row",
)  # fmt: skip
"""Methods of the world, by their names."""


class Answers:
    """Serves connections: each line {"do": name, "with": [arguments]} is answered by {"answer": value} or {"error": sentence}."""

    def __init__(self, cluster: Cluster, agents: Sequence[int], crowd: Sequence[int]) -> None:
        world = cluster.world
        self._table: dict[str, Callable[..., Any]] = {name: getattr(world, name) for name in COMMANDS} | {
            "now": lambda: world.now,
            "agents": lambda: list(agents),
            "crowd": lambda: list(crowd),
            "nodes": lambda: list(world.nodes),
            "history": lambda: [astuple(fact) for fact in world.history],
            "applied": lambda: [_status(one) for one in cluster.applied],
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until it is closed."""
        try:
            async for line in reader:
                writer.write(json.dumps(self._answer(line), separators=(",", ":")).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):  # gone, or a line without an end
            pass
        finally:
            writer.close()

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            return {"answer": self._table[request["do"]](*request.get("with", []))}
        except (ValueError, LookupError, TypeError) as error:
            return {"error": f"{error!s} (there are: {', '.join(self._table)})" if isinstance(error, KeyError) else str(error)}


def _status(applied: tuple[float, str, tuple[int, ...], Any]) -> tuple[float, str, tuple[int, ...], dict[str, Any]]:
    """A status that became visible, without the rest of the row."""
    at, node, ids, columns = applied
    return at, node, ids, {name: columns[name] for name in ("connection_status",) if name in columns}
