"""Why the relay judged an agent as it did: who claimed what, which rule said what, what came of it.

    watch = Explain(agent=7, begin=START + 100, end=START + 200)      play(setting, watch=watch), then watch.lines

The rules are looked at from outside: an input that touches the agent is decided once more for that agent alone, which a pure
function allows, while the interpreter reports every call in the modules of the rules. Nothing here knows their names.
"""

import dataclasses
import sys
from types import CodeType, FrameType
from typing import Any, Final

from relay import claims, decide
from relay.decided import Agent, Decision
from relay.fleet import Fleet, Folded, Heard, Input, Node

_BOOKS: Final = ("relay.events", "relay.fleet", "relay.decided")
"""Modules that keep and write, and judge nothing."""

_SHORT: Final = 100


class Explain:
    """Called with every input, before its decision is taken over. `begin`, `end` in world time; `origin` is printed as 0."""

    def __init__(self, agent: int, begin: float, end: float, origin: float) -> None:
        self.lines: list[str] = []
        self._agent, self._begin, self._end, self._origin = agent, begin, end, origin
        self._last: list[str] = []

    def __call__(self, fleet: Fleet, given: Input, folded: Folded, decision: Decision) -> None:
        now = given.now / 1000
        if not self._begin <= now <= self._end or not self._is_about(fleet, given, folded, decision):
            return
        calls = self._rules(fleet, given, folded)
        told = [*self._nodes(fleet), *self._claims(fleet, calls.voices), *(f"  rule  {line}" for line in calls.lines)]
        outcome = self._outcome(fleet, decision)
        if told + outcome != self._last:
            self.lines += [f"--- {now - self._origin:.2f}  {_input(given)}{' late' if folded.late else ''}", *told, *outcome]
            self._last = told + outcome

    def _is_about(self, fleet: Fleet, given: Input, folded: Folded, decision: Decision) -> bool:
        known = fleet.agents.get(self._agent)
        due = known is not None and known.hold is not None and known.hold.until <= given.now
        judged = any(agent.id == self._agent for agent in (*decision.agents, *decision.met)) or self._agent in decision.removed
        return due or judged or self._agent in folded.touched

    # What it had before it ------------------------------------------------------------------------------------------

    def _nodes(self, fleet: Fleet) -> list[str]:
        found = []
        for node in fleet.nodes.values():
            table = fleet.tables[node.node]
            row, key = table.rows.get(self._agent), table.keys.get(self._agent)
            quiet = f", quiet since {self._clock(node, table.quiet[self._agent])}" if self._agent in table.quiet else ""
            said = "no row" if row is None else self._row(node, row)
            keyed = "no key" if key is None else f"key of {key.name}{' removed' if key.removed else ''}"
            states = [word for word, holds in (("fresh", node.fresh), ("proved", node.proved), ("whole", node.whole)) if holds]
            found.append(
                f"  row   {node.node:<9} {said}{quiet}, {keyed}; {' '.join(states) or 'unheard'}"
                f", as of {self._at(node.as_of)}, seen {self._at(node.seen_at)}, quiet at {self._at(node.quiet_through)}"
            )
        return found

    def _row(self, node: Node, row: Any) -> str:
        gone = f" since {self._clock(node, row.disconnection_time)}" if row.disconnection_time else ""
        kept = "never" if row.last_keepalive is None else self._clock(node, row.last_keepalive)
        return f"{row.status} code {row.code}{gone}, kept alive {kept}, node_name {row.node_name}, {row.name}, added {row.date_add}"

    def _claims(self, fleet: Fleet, voices: Any) -> list[str]:
        known = fleet.agents.get(self._agent)
        if known is None or voices is None:
            return [f"  known {'as nobody' if known is None else self._known(fleet, known)}"]
        again = "" if voices.again_at is None else f", one more may speak at {self._at(voices.again_at)}"
        found = [f"  known {self._known(fleet, known)}{again}"]
        for claim in voices.claims:
            words = [word for word in ("mirror", "frozen") if getattr(claim, word)]
            fresh = "fresh" if claim.node.fresh else "unheard"
            contact = self._at(claim.contact)
            found.append(
                f"  claim {claim.node.node:<9} {claim.row.status} code {claim.row.code}, contact {contact}, {' '.join([fresh, *words])}"
            )
        return found

    def _known(self, fleet: Fleet, agent: Agent) -> str:
        witness = fleet.nodes.get(agent.witness or "")
        contact = "never" if agent.contact is None or witness is None else self._clock(witness, agent.contact)
        hold = "" if agent.hold is None else f", hold {agent.hold.kind} until {self._at(agent.hold.until)}"
        return f"as {agent.status} ({agent.reason}) at {agent.manager_node}, witness {agent.witness}, contact {contact}{hold}"

    # Which rule said what -------------------------------------------------------------------------------------------

    def _rules(self, fleet: Fleet, given: Input, folded: Folded) -> "_Calls":
        alone = dataclasses.replace(folded, touched=frozenset({self._agent}))
        calls = _Calls(self._agent)
        before = sys.getprofile()
        sys.setprofile(calls)
        try:
            decide.decide(fleet, given, alone, "wazuh")
        finally:
            sys.setprofile(before)
        return calls

    def _outcome(self, fleet: Fleet, decision: Decision) -> list[str]:
        found = [f"  now   {self._known(fleet, agent)}" for agent in (*decision.agents, *decision.met) if agent.id == self._agent]
        found += [
            f"  EVENT {event.kind} {event.previous} -> {event.current} ({event.reason}) {event.manager_node}, of {event.timestamp}"
            for event in decision.happened
            if event.agent_id == self._agent
        ]
        return found + ["  now   nobody"] * (self._agent in decision.removed)

    def _at(self, milliseconds: float) -> str:
        return f"{milliseconds / 1000 - self._origin:.1f}" if milliseconds > 0 else "never"

    def _clock(self, node: Node, seconds: int) -> str:
        return self._at(seconds * 1000 + node.offset)


class _Calls:
    """A profile function: what each rule returned while one agent was judged, in the order in which they returned."""

    def __init__(self, agent: int) -> None:
        self.lines: list[str] = []
        self.voices: Any = None  # the last that came back: who claims what
        self._agent = agent
        self._inside: CodeType | None = None  # the outermost call that is about the agent
        self._depth = 0

    def __call__(self, frame: FrameType, what: str, given: Any) -> None:
        code = frame.f_code
        module = str(frame.f_globals.get("__name__"))
        if not module.startswith("relay.") or module in _BOOKS or code.co_name.startswith(("<", "__")) or "." in code.co_qualname:
            return
        if what == "call" and self._inside is None and _about(frame) == self._agent:
            self._inside, self._depth = code, 0
        if self._inside is None:
            return
        self._depth += {"call": 1, "return": -1}.get(what, 0)
        if what == "return":
            self.voices = given if isinstance(given, claims.Voices) else self.voices
            self.lines.append(f"{'  ' * self._depth}{code.co_name}{_of(frame)} = {_brief(given)}")
            if self._depth == 0:
                self._inside = None


def _about(frame: FrameType) -> int | None:
    """The agent that a call is about: its `number`, or the id of what it was given first."""
    values = [frame.f_locals.get(name) for name in frame.f_code.co_varnames[: frame.f_code.co_argcount]]
    if "number" in frame.f_locals:
        number = frame.f_locals["number"]
        return number if isinstance(number, int) else None
    return next((value.id for value in values if isinstance(value, Agent)), None)


def _of(frame: FrameType) -> str:
    """Whose row a call is about."""
    values = [frame.f_locals.get(name) for name in frame.f_code.co_varnames[: frame.f_code.co_argcount]]
    nodes = [
        value.node.node if isinstance(value, claims.Claim) else value.node for value in values if isinstance(value, claims.Claim | Node)
    ]
    return f"({', '.join(nodes)})" if nodes else ""


def _brief(value: Any) -> str:
    """A value in a line, without what is printed elsewhere."""
    match value:
        case None | bool() | int() | str():
            return str(value)
        case claims.Claim():
            return f"claim of {value.node.node}"
        case Agent():
            return f"{value.status}, {value.hold}"
        case tuple() | list():
            return f"[{', '.join(_brief(one) for one in value)}]"[:_SHORT]
        case _ if hasattr(value, "agent") and hasattr(value, "events"):
            return f"{'nobody' if value.agent is None else _brief(value.agent)}, events {[event.kind for event in value.events]}"
        case _ if hasattr(value, "claims"):
            return _brief(value.claims)
        case _:
            return type(value).__name__


def _input(given: Input) -> str:
    if isinstance(given, Heard):
        return f"{given.snapshot.kind} of {given.snapshot.node}, boot {given.snapshot.boot} seq {given.snapshot.seq}"
    return "tick"
