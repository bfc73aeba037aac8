"""What is told of the managers themselves: a restart, an absence, a return, a second collector, a wrong clock. Pure.

A manager's absence is no agent's outage (rule 3), and a restart resets thousands of rows at once (rule 4): a consumer that
knows of the manager need not ask why its agents are not heard.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from shared import models

from . import events
from .decided import Manager
from .events import ManagerEvent, ManagerKind
from .fleet import Fleet, Folded, Heard, Input, Node

_NONE: Final = Counter[int]()

Details = dict[str, int | float | str]

ONE_RESET: Final = 2
"""Seconds: remoted's start writes all its rows within one transaction, and strftime('%s') may tick once meanwhile."""

AHEAD: Final = 60_000
"""ms by which a reset may seem to be in the future before its time is taken for a mistake."""

TWIN_ANEW: Final = 600_000
"""ms without a refused snapshot after which a second collector is news again."""


def judge(fleet: Fleet, given: Input, folded: Folded) -> Iterator[tuple[Manager, tuple[ManagerEvent, ...]]]:
    """Each manager of which something is new, and the events that tell it."""
    heard = given.snapshot.node if isinstance(given, Heard) else None
    for node in fleet.nodes.values():
        manager = fleet.managers.get(node.node)
        if manager is not None and node.node != heard and _is_as_told(fleet, node, manager, given.now):
            continue
        rows = folded.touched if manager is not None else fleet.tables[node.node].rows.keys()
        resets = _resets(fleet, node, rows) if node.node == heard or manager is None else _NONE
        before = manager or Manager(node.node, reset_at=max(resets, default=0))
        if node.at(before.reset_at) > given.now + AHEAD:  # of a clock that was put right since
            before = replace(before, reset_at=0)
        told = _Telling(fleet.cluster, before)
        told.restarts(resets)
        told.reach(node)
        told.clock(_is_clock_off(fleet, node), node)
        if folded.refused == "duplicate_collector" and node.node == heard and isinstance(given, Heard):
            told.twin(given, node)
        if told.manager != manager:
            yield told.manager, tuple(told.events)


def _is_as_told(fleet: Fleet, node: Node, manager: Manager, now: int) -> bool:
    """Whether there is nothing new of a manager that was not heard just now."""
    same = node.fresh != manager.unreachable and _is_clock_off(fleet, node) == manager.clock_off
    return same and node.at(manager.reset_at) <= now + AHEAD


def _is_clock_off(fleet: Fleet, node: Node) -> bool:
    return abs(node.offset) > fleet.policy.sync_jitter


def _resets(fleet: Fleet, node: Node, numbers: Iterable[int]) -> Counter[int]:
    """When remoted reset rows of these agents (code 5), Unix s by the node's clock, and how many."""
    rows = (fleet.tables[node.node].rows.get(number) for number in numbers)
    return Counter(
        row.disconnection_time for row in rows if row is not None and row.status == "disconnected" and row.code == models.CODE_RESET
    )


class _Telling:
    """One manager and what is told of it, as it becomes so."""

    def __init__(self, cluster: str, manager: Manager) -> None:
        self.manager = manager
        self.events: list[ManagerEvent] = []
        self._cluster = cluster

    def restarts(self, resets: Counter[int]) -> None:
        for at in sorted(resets):
            if at > self.manager.reset_at + ONE_RESET:
                self._tell(
                    "manager_restarted", at, {"agents_reset": sum(n for other, n in resets.items() if at <= other <= at + ONE_RESET)}
                )
            if at > self.manager.reset_at:
                self.manager = replace(self.manager, reset_at=at)

    def reach(self, node: Node) -> None:
        if node.fresh == (not self.manager.unreachable):
            return
        self.manager = replace(self.manager, unreachable=not node.fresh)
        if node.fresh:
            self._tell("manager_back", node.seen_at // 1000, {})
        else:
            why = node.source_error if node.source_state != "ok" else "nothing is heard of its collector"
            self._tell("manager_unreachable", node.seen_at // 1000, {"source_state": node.source_state, "reason": why})

    def clock(self, off: bool, node: Node) -> None:
        if off == self.manager.clock_off:
            return
        self.manager = replace(self.manager, clock_off=off)
        if off:
            self._tell("clock_off", node.seen_at // 1000, {"behind_seconds": node.offset / 1000})

    def twin(self, given: Heard, node: Node) -> None:
        last = self.manager.twin_at
        self.manager = replace(self.manager, twin_at=given.now)
        if not last or given.now - last >= TWIN_ANEW:
            self._tell("duplicate_collector", given.now // 1000, {"boot": given.snapshot.boot, "newest_boot": node.boot})

    def _tell(self, kind: ManagerKind, timestamp: int, details: Details) -> None:
        identity = events.manager_event_id(self._cluster, self.manager.node, kind, timestamp, self.manager.last_event_id)
        self.manager = replace(self.manager, last_event_id=identity)
        self.events.append(ManagerEvent(kind, self.manager.node, timestamp, identity, details))
