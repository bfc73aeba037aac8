"""What the collectors told: the stream RAW, read from its beginning into the `Log` that `tests.soak.shown` asks.

A snapshot's look is its `as_of`, on this machine's clock: what a test set off (`Offsets`) is taken off again. Nothing of the
relay is used here: the wire's own decoder and the rules of a full and a delta, in twenty lines.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from shared import models, wire

TICK: Final = "_tick"
_CAUSE: Final = 3.0  # seconds within which a source that was away is missed
SEEN_AGAIN: Final = 8.0  # seconds after which a node that is heard again has told all, and its mirrors too

LATEST_LOOK: Final = 15.0  # seconds: a start of a collector on a busy machine, and a whole look

FOREVER: Final = float("inf")

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a stream; `at` is the stream's own time, Unix seconds."""

    sequence: int
    at: float
    subject: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Heard:
    """One snapshot, whole, in the order of the stream."""

    at: float
    look: float
    taken_at: float  # by the node's own clock, as the relay sees it
    readable: bool
    snapshot: wire.Snapshot


@dataclass(frozen=True, slots=True)
class Version:
    """A row as a look saw it (None: none), from `look` on until the next version; `sent`: when the stream had it. Unix seconds."""

    look: float
    row: models.AgentRow | None
    sent: float


@dataclass(slots=True)
class Log:
    """All that RAW shows."""

    rows: dict[tuple[str, int], list[Version]] = field(default_factory=dict)
    quiets: dict[str, list[tuple[float, float]]] = field(default_factory=dict)  # looks that told who is quiet, and when the stream had them


@dataclass(slots=True)
class Offsets:
    """By how much a node's clock was off, in seconds, since when."""

    since: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def put(self, node: str, at: float, seconds: float) -> None:
        self.since.setdefault(node, []).append((at, seconds))

    def at(self, node: str, moment: float) -> float:
        """The offset in force at a true Unix time."""
        return next((seconds for at, seconds in reversed(self.since.get(node, [])) if at <= moment), 0.0)

    def true(self, node: str, shown: float, after: float) -> float:
        """The earliest true time, not before `after`, at which the node's clock showed `shown`."""
        steps = {0.0, *(seconds for _, seconds in self.since.get(node, []))}
        fitting = [shown - step for step in steps if self.at(node, shown - step) == step and shown - step >= after]
        return min(fitting, default=max(after, shown))


def snapshots(messages: Iterable[Message], offsets: Offsets) -> list[Heard]:
    """What was said, snapshot by snapshot. A part whose snapshot never became whole says nothing."""
    parts: dict[str, list[wire.Part]] = {}
    last: dict[str, float] = defaultdict(float)
    found: list[Heard] = []
    for message in messages:
        part = wire.open_part(message.body)
        if isinstance(part, wire.Tick):
            continue
        held = parts.setdefault(part.node, [])
        if part.number == 1:
            held.clear()
        held.append(part)
        if len(held) == part.total:
            snapshot = wire.decode(wire.join(held))
            look = last[part.node] = offsets.true(part.node, snapshot.as_of / 1000, last[part.node] - 1.0)
            readable = snapshot.source_state == "ok"
            found.append(Heard(message.at, look, snapshot.taken_at / 1000, readable, snapshot))
    return found


def log(heard: Iterable[Heard]) -> Log:
    """Each row in each of its versions, with when it was looked at and when the stream had it."""
    made, tables = Log(), defaultdict[str, dict[int, models.AgentRow]](dict)
    for one in heard:
        s = one.snapshot
        if s.quiet is not None and one.readable:
            made.quiets.setdefault(s.node, []).append((one.look, one.at))
        if s.kind == "beat" or not one.readable:
            continue
        table = tables[s.node]
        rows = {row.id: row for row in s.rows if row.id}
        gone = table.keys() - rows.keys() if s.kind == "full" else table.keys() & set(s.gone)
        for number in gone:
            del table[number]
            made.rows.setdefault((s.node, number), []).append(Version(one.look, None, one.at))
        for number, row in rows.items():
            if table.get(number) != row:
                table[number] = row
                made.rows.setdefault((s.node, number), []).append(Version(one.look, row, one.at))
    return made


def deaf(heard: Iterable[Heard], node_stale: float, until: float, away: Mapping[str, Sequence[Span]]) -> dict[str, list[Span]]:
    """When the stream had nothing fresh of a node, or its manager was `away`, and until it surely had told all again."""
    reach: dict[str, float] = {}
    spans: dict[str, list[Span]] = {node: [(begin, end + SEEN_AGAIN) for begin, end in found] for node, found in away.items()}
    for one in heard:
        node, fresh_until = one.snapshot.node, min(one.taken_at, one.at) + node_stale
        if not one.readable or fresh_until < max(one.at, reach.get(node, 0.0)):  # what drains from a spool makes nobody fresh
            continue
        if one.at > reach.get(node, one.at):
            spans.setdefault(node, []).append((reach[node], one.at + SEEN_AGAIN))
        reach[node] = fresh_until
    for node, end in reach.items():
        if end < until:
            spans.setdefault(node, []).append((end, until))
    return spans


def by_file(heard: Iterable[Heard], causes: Mapping[str, Sequence[Span]]) -> dict[str, list[Span]]:
    """Between which looks at the socket a node was read from its file, which shows commits alone, where a cause stands for it:
    a wazuh-db that was away. The collector tries the socket again but once a minute."""
    spans: dict[str, list[Span]] = {}
    last: dict[str, float] = {}
    away: dict[str, float] = {}
    for one in heard:
        node = one.snapshot.node
        if one.snapshot.source == "socket" and one.readable:
            begin = away.pop(node, None)
            if begin is not None and any(shut - _CAUSE <= one.look and opened >= begin - _CAUSE for shut, opened in causes.get(node, ())):
                spans.setdefault(node, []).append((begin, one.look))
            last[node] = one.look
        else:
            away.setdefault(node, last.get(node, 0.0))
    for node, begin in away.items():
        spans.setdefault(node, []).append((begin, float("inf")))
    return spans


def gaps(heard: Iterable[Heard]) -> dict[str, list[Span]]:
    """Between which looks a node gave up what it had kept: the full after it says so."""
    last: dict[str, float] = {}
    spans: dict[str, list[Span]] = {}
    for one in heard:
        node = one.snapshot.node
        if one.snapshot.gap:
            spans.setdefault(node, []).append((last.get(node, 0.0), one.look))
        last[node] = one.look
    return spans


def next_look(heard: Iterable[Heard], node: str, after: float) -> float:
    """When somebody surely looked at a node again; at most LATEST_LOOK later: nothing excuses a collector that never does."""
    looks = (one.look for one in heard if one.readable and one.snapshot.node == node and one.look > after)
    return min([after + LATEST_LOOK, *looks])


def proved(heard: Iterable[Heard], node: str, after: float) -> float:
    """When an emptied table that has its rows again `after` a moment is believed at the latest: its second full stands in the stream."""
    fulls = (one.at for one in heard if one.snapshot.node == node and one.snapshot.kind == "full" and one.look >= after)
    return next(islice(fulls, 1, None), FOREVER)
