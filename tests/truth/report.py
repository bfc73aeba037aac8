"""What is printed of a run: the table, and for each wrong event a timeline that says how it came about."""

from collections.abc import Iterator, Sequence
from typing import Final

from tests.truth import notices
from tests.truth.collectors import Version
from tests.truth.judge import Said, Verdict
from tests.truth.notices import Score
from tests.truth.oracles import KINDS
from tests.truth.play import START, Result
from tests.truth.shown import Wanted

COUNTS: Final = ("expected", "found", "false", "missed", "never_shown", "superseded")
_TOLD_AS: Final = {
    "Active": "connected", "Disconnected": "disconnected", "NeverConnected": "registered", "Unknown": "removed", "Pending": "pending",
}  # fmt: skip
_BEFORE, _AFTER = 2400.0, 400.0  # seconds of a timeline around what is wrong


def delays(result: Result) -> dict[str, dict[str, float]]:
    """By kind and reason: seconds from Wazuh's writing it down to the decision (p50, p99)."""
    found: dict[str, list[float]] = {}
    for wanted, said in result.verdict.pairs:
        if wanted.word == "must":
            found.setdefault(_kind(wanted, said), []).append(max(0.0, said.at - _written(result, wanted, said)))
    for kind in KINDS:
        if values := notices.delays(result.notices.of(kind).pairs):
            found[kind] = values
    return {kind: {"p50": _quantile(values, 0.5), "p99": _quantile(values, 0.99)} for kind, values in sorted(found.items())}


def _kind(wanted: Wanted, said: Said) -> str:
    kind = wanted.expected.kind
    return f"{kind}:{said.reason}" if kind == "disconnected" and said.reason else kind


def _written(result: Result, wanted: Wanted, said: Said) -> float:
    """What the oracle knows to the instant; a sweep or a reset by the time that Wazuh wrote with it."""
    if wanted.expected.kind != "disconnected" or wanted.expected.reason == "stopped":
        return wanted.expected.at
    node = result.world.nodes.get(said.node)
    return node.world_time(said.about) if node else said.about


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 2)


def numbers(result: Result) -> dict[str, object]:
    """The last line of `--json`."""
    verdict, other = result.verdict, result.notices
    return {
        "expected": verdict.must + other.must,
        "found": _found(verdict) + other.found,
        "false": len(verdict.false) + len(other.false),
        "missed": len(verdict.missed) + len(other.missed),
        "never_shown": verdict.count("never_shown") + other.count("never_shown"),
        "superseded": verdict.count("superseded") + other.count("superseded"),
        "delay_s": delays(result),
        "kinds": {kind: dict(zip(COUNTS, counts, strict=True)) for kind, counts in kinds(result).items()},
    }


def kinds(result: Result) -> dict[str, tuple[int, ...]]:
    """COUNTS of each kind; the statuses by what became of them."""
    verdict, found = result.verdict, {}
    for kind in ("connected", "disconnected", "registered", "removed"):
        musts = sum(wanted.word == "must" and wanted.expected.kind == kind for wanted, _ in verdict.pairs)
        missed = sum(wanted.expected.kind == kind for wanted in verdict.missed)
        false = sum(_TOLD_AS[said.current] == kind for said in verdict.false)
        untold = [sum(one.word == word and one.expected.kind == kind for one in verdict.untold) for word in ("never_shown", "superseded")]
        found[kind] = (musts + missed, musts, false, missed, *untold)
    found["pending"] = (0, 0, sum(said.current == "Pending" for said in verdict.false), 0, 0, 0)
    return found | {kind: _counts_of(result.notices.of(kind)) for kind in KINDS}


def _counts_of(one: Score) -> tuple[int, ...]:
    return (one.must, one.found, len(one.false), len(one.missed), one.count("never_shown"), one.count("superseded"))


def _found(verdict: Verdict) -> int:
    return sum(wanted.word == "must" for wanted, _ in verdict.pairs)


def table(result: Result) -> Iterator[str]:
    """The whole as lines of text."""
    verdict = result.verdict
    said, possible = len(result.said), sum(wanted.word != "must" for wanted, _ in verdict.pairs)
    everything = max(1, verdict.must + len(verdict.untold))
    yield f"sources: {', '.join(f'{node} {source}' for node, source in result.sources.items())}"
    yield f"agents did: {_counts(result.played)}"
    yield f"went wrong: {_counts(result.faults.played)}"
    yield f"snapshots {result.relay.snapshots}, events {said}, of which {possible} could be told and need not be"
    yield f"{'rule':<24}{'expected':>10}{'found':>8}{'false':>8}{'missed':>8}{'never shown':>14}{'superseded':>13}"
    for name, one in {"wazuh-jetstream": verdict, **result.naive}.items():
        yield _line(name, one)
    for kind, counts in kinds(result).items():
        yield _columns(f"  {kind}", counts)
    for word in ("never_shown", "superseded"):
        yield f"{word.replace('_', ' ')}: {verdict.count(word) / everything:.2%} of what happened"
    yield f"{'delay in s':<28}{'p50':>9}{'p99':>9}"
    for kind, delay in delays(result).items():
        yield f"{kind:<28}{delay['p50']:>9.2f}{delay['p99']:>9.2f}"


def _line(name: str, one: Verdict) -> str:
    return _columns(name, (one.must, _found(one), len(one.false), len(one.missed), one.count("never_shown"), one.count("superseded")))


def _columns(name: str, counts: Sequence[int]) -> str:
    return f"{name:<24}" + "".join(f"{count:>{width}}" for count, width in zip(counts, (10, 8, 8, 8, 14, 13), strict=True))


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "nothing"


# Timelines ----------------------------------------------------------------------------------------------------------


def wrong(result: Result, limit: int) -> Iterator[str]:
    """A timeline for each of the first `limit` that are false or missed."""
    found: list[tuple[float, int, str]] = [
        (said.at, said.agent_id, f"FALSE {said.previous} -> {said.current} ({said.reason}) by {said.node}, told at {said.at - START:.1f}")
        for said in result.verdict.false
    ]
    found += [
        (
            wanted.expected.at, wanted.expected.agent_id,
            _missed(wanted),
        )
        for wanted in result.verdict.missed
    ]  # fmt: skip
    found += _wrong_notices(result.notices)
    for at, number, text in sorted(found)[:limit]:
        yield ""
        yield f"agent {number}: {text}" if number else text
        yield from timeline(result, number, at - _BEFORE, at + _AFTER)


def _wrong_notices(found: Score) -> Iterator[tuple[float, int, str]]:
    for told in found.false:
        about = f"{told.kind} of {told.node} about {told.about - START:.1f}"
        yield told.at, told.subject[0], f"FALSE {about}, told at {told.at - START:.1f} ({told.subject[1]})"
    for want in found.missed:
        when = f"at {want.since - START:.1f}, to be told by {want.due - START:.1f}"
        yield want.since, want.subject[0], f"MISSED {want.kind} {want.node} {when} ({want.subject[1]}) {want.why}"


def _missed(wanted: Wanted) -> str:
    one = wanted.expected
    what = f"MISSED {one.kind} {one.reason} at {one.at - START:.1f} on {one.node}"
    return f"{what}, known to the stream at {wanted.seen - START:.1f}"


def timeline(result: Result, number: int, begin: float, end: float) -> Iterator[str]:
    """Facts, rows as each node showed them, and decisions, in order; times in seconds since the beginning."""
    lines = [*_facts(result, number), *_rows(result, number), *_decisions(result, number), *_faults(result)]
    for at, text in sorted(lines):
        if begin <= at <= end:
            yield f"  {at - START:>10.2f}  {text}"


def _facts(result: Result, number: int) -> Iterator[tuple[float, str]]:
    for fact in result.world.history:
        about_node = fact.agent == 0 and fact.what in ("restarted", "down", "up", "clock")
        if fact.agent == number or about_node:
            contact = f", last contact {fact.value - START:.1f}" if fact.value and not about_node else ""
            yield fact.at, f"fact      {fact.what} {fact.node}{contact}"


def _rows(result: Result, number: int) -> Iterator[tuple[float, str]]:
    for (node, agent), versions in result.log.rows.items():
        for version in versions if agent == number else ():
            late = version.sent.at - version.look
            yield version.look, f"row       {node:<9} {_row(result, node, version)}" + (f"  (heard {late:.1f} s later)" if late > 5 else "")


def _row(result: Result, node: str, version: Version) -> str:
    row = version.row
    if row is None:
        return "none"
    clock = result.world.nodes[node].world_time
    kept = "never" if row.last_keepalive is None else f"{clock(row.last_keepalive) - START:.1f}"
    gone = f" since {clock(row.disconnection_time) - START:.1f}" if row.disconnection_time else ""
    return f"{row.status} code {row.code}{gone}, kept alive {kept}, node_name {row.node_name}, {row.name}"


def _decisions(result: Result, number: int) -> Iterator[tuple[float, str]]:
    for said in result.said:
        if said.agent_id == number:
            yield said.at, f"EVENT     {said.previous} -> {said.current} ({said.reason}) {said.node}"
    for told in result.relay.told:
        if told.event.agent_id == number and told.event.previous == told.event.current:
            yield told.at, f"EVENT     {told.event.kind} {told.event.manager_node}"
    for of in result.relay.told_of_managers:
        yield of.at, f"manager   {of.event.kind} {of.event.node} {dict(of.event.details)}"
    for wanted in result.wanted:
        one = wanted.expected
        if one.agent_id == number:
            yield one.at, f"expected  {one.kind} {one.reason} on {one.node}: {wanted.word}"


def _faults(result: Result) -> Iterator[tuple[float, str]]:
    for node, spans in result.faults.deaf.items():
        for begin, end in spans:
            yield begin, f"deaf      {node} until {end - START:.1f}"
