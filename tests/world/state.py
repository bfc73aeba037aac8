"""The moving parts of a world: an agent, its connection to one manager, a manager node, and lines of client.keys."""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

from . import jitter, rows
from .config import NodeType, Schema
from .rows import Row, System


@dataclass(frozen=True, slots=True)
class KeyLine:
    """One line of client.keys: `ID NAME IP KEY`; a removed one that was not purged has `!` before its name."""

    id: int
    name: str
    ip: str
    key: str = field(repr=False)
    removed: bool = False

    def text(self) -> str:
        return f"{self.id:03d} {'!' if self.removed else ''}{self.name} {self.ip} {self.key}\n"


@dataclass(slots=True)
class Session:
    """A connection. Keepalives come at tick `first`, `first + period`, …; from the third on they are computed."""

    node: str
    started: float
    first: int
    period: int
    accepted: bool = False  # the first keepalive was
    steady: bool = False  # the second was: dt and code are reset
    told: float = float("-inf")  # the last sync that carried an explicit mark of this session to the master
    late: int = 0  # ticks by which plain keepalives may be late; 0: they are on time and none is lost
    key: int = 0  # what its jitter is made from

    def last(self, tick: int) -> int | None:
        """The tick of the last keepalive up to `tick`; None where there was none."""
        if tick < self.first:
            return None
        place = (tick - self.first) // self.period
        while (at := self.arrival(place)) is None or at > tick:
            place -= 1
        return at

    def arrival(self, place: int) -> int | None:
        """The tick at which keepalive number `place` arrives; None for one that is lost. The first two are not plain: on time."""
        due = self.first + place * self.period
        if not self.late or place < 2:
            return due
        return None if jitter.is_lost(self.key, place) else due + jitter.late(self.key, place, self.late)

    def losses(self, begin: int, end: int) -> list[tuple[int, int]]:
        """(tick at which it was due, how many in a row) of the keepalives that are lost between two ticks."""
        if not self.late:
            return []
        places = range(max(2, (begin - self.first) // self.period), (end - self.first) // self.period + 1)
        return [(self.first + place * self.period, count) for place, count in jitter.losses(self.key, places)]

    def plain(self, tick: int) -> int | None:
        """As `last`, but only keepalives that are computed, not played one by one."""
        last = self.last(tick)
        return last if self.steady and last is not None and last >= self.first + 2 * self.period else None


@dataclass(frozen=True, slots=True)
class Past:
    """A piece of a connection that is over: keepalives came as `session` says, until world time `end`."""

    agent: int
    name: str
    session: Session
    end: float


@dataclass(slots=True)
class Agent:
    """An agent between one registration and its removal."""

    id: int
    name: str
    ip: str
    key: str = field(repr=False)
    system: System
    date_add: int
    node: str = ""  # the manager it is told to talk to
    alive: bool = False  # its process runs
    session: Session | None = None
    attempt: int = 0  # what was scheduled for an older attempt is void
    contact: float = 0.0  # the world time of its last contact
    heard_by: str = ""  # the manager of that contact


@dataclass(slots=True)
class Node:
    """A manager. `boot` counts its starts: monitord's counter begins anew with each."""

    name: str
    type: NodeType
    schema: Schema
    skew: float
    period: int  # ticks between two keepalive writes of one agent
    up: bool = True
    linked: bool = True  # a worker's link to the master
    boot: int = 0
    rows: dict[int, Row] = field(default_factory=dict)
    marks: dict[int, str] = field(default_factory=dict)  # sync_status, where it is not synced and not computed
    members: dict[int, Agent] = field(default_factory=dict)  # who is connected here
    slots: dict[int, dict[int, None]] = field(default_factory=dict)  # steady members by tick modulo period
    lines: tuple[KeyLine, ...] = ()
    keyring: dict[int, str] = field(default_factory=dict)  # id -> key, of the live lines
    syncs: list[float] = field(default_factory=list)  # world times of the last syncs to the master
    sweep_period: float = 900.0  # seconds
    settings: list[tuple[float, float]] = field(default_factory=list)  # (world time, skew since then): the clock as it was set

    def clock(self, at: float) -> int:
        """This node's clock at world time `at`, as Wazuh writes it."""
        return int(at + self.skew_at(at))

    def skew_at(self, at: float) -> float:
        """By how many seconds its clock was ahead at world time `at`."""
        if not self.settings or at >= self.settings[-1][0]:
            return self.skew
        place = bisect_right(self.settings, at, key=lambda setting: setting[0])
        return self.settings[max(0, place - 1)][1]

    def world_time(self, seconds: float, by: float = float("inf")) -> float:
        """The world time of what this node's clock called `seconds`; where the clock was set back, the later of two up to `by`."""
        meant = [seconds - skew for since, skew in self.settings if since <= seconds - skew <= by]
        return meant[-1] if meant else seconds - self.skew_at(0.0)

    def set_clock(self, at: float, skew: float) -> None:
        self.settings.append((at, skew))
        self.skew = skew

    def set_mark(self, number: int, requested: str) -> str:
        """Mark a worker's row for the sync, unless a stronger mark is there; the mark that stays."""
        left = rows.stronger(self.marks.pop(number, rows.SYNCED), requested)
        if left != rows.SYNCED:
            self.marks[number] = left
        return left

    def copy_keys(self, master: "Node") -> None:
        """Take over the master's client.keys."""
        self.lines, self.keyring = master.lines, dict(master.keyring)

    def keys_text(self) -> str:
        return "".join(line.text() for line in self.lines)

    def synced_since(self, at: float) -> float | None:
        """The first sync at or after `at`; None where there was none yet."""
        place = bisect_left(self.syncs, at)
        return self.syncs[place] if place < len(self.syncs) else None
