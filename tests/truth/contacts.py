"""When each agent was truly in touch with which manager, from the model's own connections. No database is asked.

A *stay* is one connection: a startup message, then keepalives as `tests.world.state.Session` says, until the manager or the
agent let go. An agent is (id, name): ids are given again.
"""

from dataclasses import dataclass

from tests.world.model import World
from tests.world.state import Past, Session

FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a stay in which keepalives come at one rhythm: those after `begin`, up to `end`."""

    session: Session
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Stay:
    """Times in world seconds. `first`: when the first keepalive came, or would have; `end`: FOREVER where it lasts."""

    agent: tuple[int, str]
    node: str
    begin: float
    first: float
    end: float
    period: float
    tick: float
    parts: tuple[Part, ...]

    @property
    def accepted(self) -> bool:
        """Whether a keepalive came."""
        return self.first < self.end

    def last(self, at: float) -> float:
        """The last contact up to `at` (within the stay)."""
        found = self.begin
        for part in self.parts:
            tick = part.session.last(int(min(at, part.end) / self.tick + _EDGE)) if part.begin <= at else None
            if tick is not None and tick * self.tick > part.begin:
                found = max(found, tick * self.tick)
        return found

    def after(self, at: float) -> float:
        """The first contact after `at`; FOREVER if none came in this stay."""
        return min((_after(part, at, self.tick) for part in self.parts if part.end > at), default=FOREVER)

    def gaps(self, until: float) -> list[tuple[float, float]]:
        """(last contact before, next one after) where more than one keepalive in a row was lost."""
        found = []
        for part in self.parts:
            begin, end = (int(at / self.tick) for at in (part.begin, min(part.end, until)))
            for due, count in part.session.losses(begin, end):
                if count > 1:
                    before = self.last(due * self.tick - self.tick / 2)
                    found.append((before, self.after(before)))
        return found


_EDGE = 1e-6  # of a tick: ticks are counted in whole numbers, times are not


def _after(part: Part, at: float, tick: float) -> float:
    session = part.session
    place = max(0, int((max(at, part.begin) / tick - session.first) // session.period) - 1)
    for number in range(place, place + 6):
        arrival = session.arrival(number)
        if arrival is not None and arrival > max(at, part.begin) / tick + _EDGE:
            return arrival * tick if arrival * tick < part.end else FOREVER
    return FOREVER


def stays(world: World) -> dict[tuple[int, str], list[Stay]]:
    """Every agent's, in order of time."""
    current = [
        Past(agent.id, agent.name, agent.session, FOREVER)
        for node in world.nodes.values()
        for agent in node.members.values()
        if agent.session is not None
    ]
    found: dict[tuple[int, str], list[list[Past]]] = {}
    for past in sorted([*world.past, *current], key=lambda past: (past.session.started, past.session.first)):
        mine = found.setdefault((past.agent, past.name), [])
        if mine and (mine[-1][-1].session.node, mine[-1][-1].session.started) == (past.session.node, past.session.started):
            mine[-1].append(past)
        else:
            mine.append([past])
    return {agent: [_stay(agent, pieces, world.config.tick) for pieces in each] for agent, each in found.items()}


def _stay(agent: tuple[int, str], pieces: list[Past], tick: float) -> Stay:
    session = pieces[0].session
    begins = [session.started, *(piece.end for piece in pieces)]
    parts = tuple(Part(piece.session, begin, piece.end) for piece, begin in zip(pieces, begins, strict=False))
    return Stay(agent, session.node, session.started, session.first * tick, pieces[-1].end, session.period * tick, tick, parts)
