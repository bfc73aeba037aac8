"""Ledgers for tests: where a fresh one is, and a laboratory whose every step is recorded."""

from pathlib import Path

from relay import decide, fleet
from relay.decided import Decision
from relay.fleet import Fleet, Heard, Input
from relay.lease import NAMELESS, Terms
from relay.ledger import Kept, Ledger
from shared import wire
from tests.relay import lab
from tests.relay.lab import T0, Lab

POLICY = fleet.Policy()


def opened(url: str, terms: Terms = NAMELESS) -> Ledger:
    """A ledger that leads: whoever did before is gone, or of the same name."""
    ledger = Ledger.open(url, terms=terms)
    while not ledger.lease.take():  # the session of a process that was killed may take a moment to end
        pass
    return ledger


def fresh_url(directory: Path) -> str:
    """A SQLite database that nobody has used yet."""
    return f"sqlite:///{directory / 'ledger.db'}"


def kept(given: Input) -> Kept | None:
    """What the relay keeps of an input."""
    if not isinstance(given, Heard):
        return None
    said = given.snapshot
    return Kept(said.node, given.position, given.now, given.sent_at, said.kind, wire.encode(said))


class Desk(Lab):
    """A laboratory with a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger
        self.muted = False

    def step(self, given: Input) -> Decision:
        decision = judged(self.fleet, given)
        self.ledger.record(decision, self.fleet, kept(given), muted=self.muted)
        self.fleet.settle(decision)
        return decision


def judged(view: Fleet, given: Input) -> Decision:
    """The decision on an input, not settled yet."""
    return decide.decide(view, given, view.fold(given), "wazuh")


def settled(ledger: Ledger, agents: int = 2) -> Desk:
    """A desk whose fleet is past its baseline: so many active agents on one standalone node."""
    desk = Desk(ledger)
    desk.node("m")
    desk.full("m", [lab.row(number, "active", T0 - 1) for number in range(1, agents + 1)], T0)
    return desk


def stop(desk: Desk, number: int, now: int) -> Decision:
    """An agent says goodbye: one event, three messages."""
    return desk.delta("m", lab.row(number, "disconnected", now - 1, code=3, dt=now), now=now)


def flip(position: int) -> Heard:
    """The input at a position of a RAW in which three agents come and go all the time."""
    now = T0 + position
    speaker = lab.Speaker("m", "standalone", seq=position - 1)
    if position % 2:
        speaker.rows = {number: lab.row(number, "active", now) for number in (1, 2, 3)}
    else:
        speaker.rows = {number: lab.row(number, "disconnected", now - 1, code=3, dt=now) for number in (1, 2, 3)}
    speaker.keys = {number: lab.key(row) for number, row in speaker.rows.items()}
    said = speaker.snapshot("full", now) if position % 5 == 1 else speaker.snapshot("delta", now, rows=tuple(speaker.rows.values()))
    return Heard(position, now * 1000, said.taken_at, said)
