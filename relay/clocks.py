"""A node's clock, compared with the stream's. Pure; milliseconds.

Rules
 * The offset is the least difference between the stream's time and the node's own when it sent, over the last
   OFFSET_WINDOW: the least is the one with the least delay in it.
 * Where everything of a SET_WINDOW came later than that by SET_STEP, the clock was set back, after the last message that was on
   time: nothing is on its way for so long, and everything. A clock that was set forward shows at once.
 * What was recorded before a clock was set keeps the offset of then: such a record is older than the clock's new beginning.
   So it is for the last SETTINGS times that it was set: a row may be days old.
"""

from dataclasses import dataclass, replace
from typing import Final

OFFSET_WINDOW: Final = 600_000  # long enough to meet a quick delivery, short enough to follow a drift
SET_WINDOW: Final = 30_000
SETTINGS: Final = 8
SET_STEP: Final = 10_000
"""A publish gives up after 5 s; more than that is no delay."""


@dataclass(frozen=True, slots=True)
class NodeClock:
    """What is known of a node's clock. Stream times, but `set_at`."""

    offset: int  # stream time minus the node's clock
    least: int  # the least in the window that is being filled
    since: int  # when that window began
    on_time_at: int  # of the last message that was not later than SET_STEP
    late_since: int = 0  # of the first message that was, after that; 0: none was
    least_late: int = 0  # the least since then
    settings: tuple[tuple[int, int], ...] = ()  # (where it begins, by the node's clock; the offset before), the newest first

    @property
    def set_at(self) -> int:
        """Where its newest setting begins, by the node's clock; 0: it was never set."""
        return self.settings[0][0] if self.settings else 0

    def stream_time(self, recorded: int) -> int:
        """The stream time of a moment that the node recorded."""
        offset = self.offset
        for begins_at, before in self.settings:
            if recorded >= begins_at:
                break
            offset = before
        return recorded + offset

    def earliest(self, recorded: int) -> int:
        """The same, where a clock that was set back gave that moment twice: the first time."""
        offset = self.offset
        for begins_at, before in self.settings:
            if recorded >= begins_at + max(0, offset - before):
                break
            offset = before
        return recorded + offset


def first(seen: int, now: int) -> NodeClock:
    """A clock that is heard for the first time; `seen`: stream time minus its own."""
    return NodeClock(seen, seen, now, now)


def heard(known: NodeClock, seen: int, now: int) -> NodeClock:
    """A clock after one more message."""
    if seen < known.offset - SET_STEP:
        return _set(known, seen, now, begun=now)
    if seen <= known.offset + SET_STEP:
        return _slid(replace(known, on_time_at=now, late_since=0), seen, now)
    late_since = known.late_since or now
    least_late = min(known.least_late, seen) if known.late_since else seen
    if now - late_since >= SET_WINDOW:
        return _set(known, least_late, now, begun=known.on_time_at)
    return _slid(replace(known, late_since=late_since, least_late=least_late), seen, now)


def _set(known: NodeClock, offset: int, now: int, *, begun: int) -> NodeClock:
    return NodeClock(offset, offset, now, now, settings=((begun - offset, known.offset), *known.settings[: SETTINGS - 1]))


def _slid(known: NodeClock, seen: int, now: int) -> NodeClock:
    """The least of one to two windows."""
    least = min(known.least, seen)
    if now - known.since < OFFSET_WINDOW:
        return replace(known, offset=min(known.offset, seen), least=least)
    return replace(known, offset=least, least=seen, since=now)
