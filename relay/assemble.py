"""Puts the parts of a snapshot together again.

Pure: parts go in as they stand in the stream, a payload comes out with the last one.

Rules
 * The parts of a snapshot come in order; of one node at most one snapshot is incomplete.
 * Anything else from that node before the last part has come gives the incomplete snapshot up (`interrupted`).
 * A part whose predecessors are not here is refused: `incomplete`.
 * What waits is bounded, per node and in total: `oversized`. The next full snapshot heals what was refused.
"""

from dataclasses import dataclass
from typing import Final

from shared.errors import Quarantine
from shared.wire import Part

NODE_BYTES: Final = 64 * 1024 * 1024  # compressed: more than half a million agents
TOTAL_BYTES: Final = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A snapshot that will never be whole. `position` is the stream sequence of the last part that came."""

    position: int
    refusal: Quarantine


@dataclass(slots=True)
class _Incomplete:
    last: Part
    position: int
    data: list[bytes]
    size: int


class Assembler:
    """The incomplete snapshots of every node. Limits in bytes."""

    def __init__(self, node_bytes: int = NODE_BYTES, total_bytes: int = TOTAL_BYTES) -> None:
        self._node_bytes = node_bytes
        self._total_bytes = total_bytes
        self._waiting: dict[str, _Incomplete] = {}

    def interrupted(self, node: str, part: Part) -> Abandoned | None:
        """The incomplete snapshot of `node` that `part` gives up, if it does not go on with it. To be asked before `feed`."""
        held = self._waiting.get(node)
        if held is None or _follows(held.last, part):
            return None
        del self._waiting[node]
        last = held.last
        return Abandoned(
            held.position,
            Quarantine(
                "incomplete",
                f"snapshot {last.seq} of boot {last.boot} of node {node} refused: only {last.number} of {last.total} parts came;"
                " the next full snapshot heals it",
            ),
        )

    def feed(self, node: str, part: Part, position: int) -> bytes | None:
        """The payload of a snapshot with its last part, else None. Raises Quarantine: incomplete, oversized."""
        if part.total == 1:
            return part.data
        held = self._waiting.pop(node, None)
        if held is None:
            held = _begin(node, part)
        held.last, held.position = part, position
        held.data.append(part.data)
        held.size += len(part.data)
        if part.number == part.total:
            return b"".join(held.data)
        self._check(node, held)
        self._waiting[node] = held
        return None

    def _check(self, node: str, held: _Incomplete) -> None:
        total = held.size + sum(other.size for other in self._waiting.values())
        if held.size > self._node_bytes or total > self._total_bytes:
            raise Quarantine(
                "oversized",
                f"snapshot {held.last.seq} of node {node} refused: its parts are above {self._node_bytes} bytes,"
                f" or all that wait above {self._total_bytes}",
            )


def _follows(last: Part, part: Part) -> bool:
    return (part.boot, part.seq, part.total, part.number) == (last.boot, last.seq, last.total, last.number + 1)


def _begin(node: str, part: Part) -> _Incomplete:
    if part.number != 1:
        raise Quarantine(
            "incomplete",
            f"part {part.number} of {part.total} of snapshot {part.seq} of node {node} refused: the parts before it did not come",
        )
    return _Incomplete(part, 0, [], 0)
