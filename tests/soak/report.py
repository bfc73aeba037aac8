"""What is printed of a soak: the table, and for each wrong agent a timeline that says how it came about."""

from collections import Counter
from collections.abc import Iterator, Mapping

from tests.soak.play import Result
from tests.soak.raw import Version

_BEFORE, _AFTER = 40.0, 30.0  # seconds of a timeline around what is wrong
_SENTENCES = 5  # of one kind that are printed


def table(result: Result) -> Iterator[str]:
    """The whole as lines of text."""
    numbers, verdict, facts = result.numbers, result.verdict, result.stage.facts
    yield f"agents did: {_counts(result.acts)}"
    director = result.director
    yield f"went wrong: {_counts(director.counts)}; {director.skipped} skipped, {director.missed} did not come about in time"
    yield f"kill -9: {_counts(facts.kills)}"
    yield f"RAW {result.raw_messages} messages; {numbers['events']} events were told"
    yield f"had to be told: {_kinds(result, 'must')}; might be: {_kinds(result, 'may')}"
    words = {"unshown": "never_shown", "superseded": "superseded"}
    columns = {name: str(numbers[name]) for name in ("lost", "duplicates", "false", "reordered", "unverified")}
    columns |= {name: str(verdict.count(word)) for name, word in words.items()}
    yield "".join(f"{name:>12}" for name in columns)
    yield "".join(f"{value:>12}" for value in columns.values())
    yield f"in {result.seconds:.0f} s"


def _kinds(result: Result, word: str) -> str:
    """Changes of this word by kind, without what the others may say of an agent whose manager cannot be heard."""
    return _counts(Counter(one.expected.kind for one in result.wanted if one.word == word and one.expected.reason != "unheard"))


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "nothing"


def trouble(result: Result, limit: int) -> Iterator[str]:
    """Everything that is not as it should be."""
    if result.stuck:
        yield f"STUCK: {result.stuck}"
    for service in result.stage.services:
        for text in service.ended_unasked[:_SENTENCES]:
            yield f"ENDED UNASKED: {text}"
    for name in ("lost", "duplicates", "reordered", "unverified"):
        for sentence in getattr(result.laws, name)[:_SENTENCES]:
            yield f"{name.upper()}: {sentence}"
    yield from wrong(result, limit)


def wrong(result: Result, limit: int) -> Iterator[str]:
    """A timeline for each of the first `limit` that are false or lost."""
    zero = result.evidence.baseline
    found = [
        (said.at, said.agent_id, f"FALSE {said.previous} -> {said.current} ({said.reason}) by {said.node}, told at {said.at - zero:.2f}")
        for said in result.verdict.false
    ]
    for missed in result.verdict.missed:
        one = missed.expected
        text = f"LOST {one.kind} {one.reason} at {one.at - zero:.2f} on {one.node}, to be known from {missed.seen - zero:.2f} on"
        found.append((one.at, one.agent_id, text))
    for at, number, text in sorted(found)[:limit]:
        yield f"\nagent {number}: {text}"
        yield from timeline(result, number, at - _BEFORE, at + _AFTER)


def timeline(result: Result, number: int, begin: float, end: float) -> Iterator[str]:
    """Facts, rows in the databases and in RAW, events and faults, in order; times in seconds since the baseline."""
    zero = result.evidence.baseline
    lines = [*_facts(result, number), *_rows(result, number), *_stood(result, number), *_told(result, number), *_faults(result)]
    for at, text in sorted(lines):
        if begin <= at <= end:
            yield f"  {at - zero:>9.2f}  {text}"


def _facts(result: Result, number: int) -> Iterator[tuple[float, str]]:
    zero = result.evidence.baseline
    for fact in result.evidence.history:
        about_node = fact.agent == 0 and fact.what in ("restarted", "down", "up")
        if fact.agent == number or about_node:
            contact = f", last contact {fact.value - zero:.2f}" if fact.value and not about_node else ""
            yield fact.at, f"fact      {fact.what} {fact.node}{contact}"


def _rows(result: Result, number: int) -> Iterator[tuple[float, str]]:
    zero = result.evidence.baseline
    for (node, agent), versions in result.evidence.log.rows.items():
        for version in versions if agent == number else ():
            yield version.look, f"raw       {node:<9} {_row(version, zero)}, in the stream at {version.sent - zero:.2f}"


def _row(version: Version, zero: float) -> str:
    row = version.row
    if row is None:
        return "none"
    kept = "never" if row.last_keepalive is None else f"{row.last_keepalive - zero:.1f}"
    gone = f" since {row.disconnection_time - zero:.1f}" if row.disconnection_time else ""
    return f"{row.status} code {row.code}{gone}, kept alive {kept}, node_name {row.node_name}"


def _stood(result: Result, number: int) -> Iterator[tuple[float, str]]:
    zero = result.evidence.baseline
    for (node, agent), stood in result.evidence.stood.items():
        for one in stood if agent == number else ():
            yield one.begin, f"database  {node:<9} {one.status or 'no row'} until {one.end - zero:.2f}"


def _told(result: Result, number: int) -> Iterator[tuple[float, str]]:
    for said in result.laws.said:
        if said.agent_id == number:
            yield said.at, f"EVENT     {said.previous} -> {said.current} ({said.reason}) {said.node}"
    for wanted in result.wanted:
        one = wanted.expected
        if one.agent_id == number and one.reason != "unheard":
            yield one.at, f"expected  {one.kind} {one.reason} on {one.node}: {wanted.word}"


def _faults(result: Result) -> Iterator[tuple[float, str]]:
    zero = result.evidence.baseline
    for begin, end, what in result.stage.facts.happened:
        yield begin, f"fault     {what} until {end - zero:.2f}"
