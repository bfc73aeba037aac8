"""`wazuh-relay verify`: reads EVENTS and what the relay signed of its chain, and says whether all of it is true and there.

Rules
 * Heads are read first and the stream's end is asked for after them: what a head tells of was in the stream by then.
 * Nothing durable is left on the server; a broken connection is taken up where it broke.
 * To follow is to do the same again every second for what is new.
"""

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from shared import cli, config, jetstream, jsapi, subjects
from shared.clock import Clock
from shared.errors import Transient
from shared.logs import printable

from . import events, provision, reading, session
from .progress import Progress
from .trust import Reading
from .verify import Fault, Place, Signed, Told, Verdict, Verifier

ROUND_S: Final = 1.0
RETRY_S: Final = 1.0
SLACK_MS: Final = 86_400_000  # a head may be signed a while after its message, and clocks differ
FULL: Final = 0.9  # share of max_bytes above which the oldest messages leave for want of room
SHOWN: Final = 20  # faults of a kind that are printed
LISTED: Final = 10_000  # faults that --json lists


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to prove. `since`: from this moment on, Unix ms; None: from the stream's beginning."""

    since: int | None = None
    follow: bool = False


async def verify(
    settings: config.Config, keys: Reading, wanted: Wanted, clock: Clock, out: TextIO, errors: TextIO, *, as_json: bool
) -> int:
    """Print what is found; 0 where everything is proved, 1 where it is not. Raises a kind of Transient, or Stop: NATS is not there."""
    report, stop = Report(out, as_json=as_json, at_once=wanted.follow), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT) if wanted.follow else ():
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with session.connected(settings, "verify") as connection:
        prefix = settings.nats.subject_prefix
        kept_since = await _kept_since(connection, prefix, wanted, clock)
        proof = Proof(connection, prefix, Verifier(keys.verifier, kept_since, keys.crypt), report, wanted.since)
        with Progress(errors, clock) as progress:
            await proof.round(progress)
        if wanted.follow:
            report.say(proof.verdict(), proof.absent)
            await _follow(proof, stop, Progress(errors, clock, shown=False))
    report.end(proof.verdict(), proof.absent)
    return 0 if proof.verdict().ok else 1


async def _follow(proof: "Proof", stop: asyncio.Event, silent: Progress) -> None:
    """Until SIGINT or SIGTERM. While NATS is away it waits."""
    while not stop.is_set():
        try:
            async with asyncio.timeout(ROUND_S):
                await stop.wait()
        except TimeoutError:
            with contextlib.suppress(Transient):  # the next round takes up where this one broke
                await proof.round(silent)


async def _kept_since(connection: jetstream.Connection, prefix: str, wanted: Wanted, clock: Clock) -> int | None:
    """From when on no message can have left EVENTS by the stream's own bounds; None where that cannot be said."""
    info = await connection.stream_info(subjects.events_stream(prefix))
    found, state = info["config"], info["state"]
    if wanted.since is not None or 0 < found.get("max_bytes", -1) * FULL < state["bytes"]:
        return None
    age = int(found.get("max_age", 0)) * 1000 // provision.SECOND
    return clock.now_ms() - age + SLACK_MS if age else 0


class Proof:
    """The three streams, read as far as they go, again and again."""

    def __init__(self, connection: jetstream.Connection, prefix: str, verifier: Verifier, report: "Report", since: int | None) -> None:
        self._connection = connection
        self._verifier = verifier
        self._report = report
        self._events = subjects.events_stream(prefix)
        self._places: dict[str, dict[str, Any]] = {
            name: {"deliver_policy": "all"} for name in (subjects.checkpoints_stream(prefix), subjects.heartbeats_stream(prefix))
        }
        self._places[self._events] = {"deliver_policy": "all"} if since is None else _from(since)
        self._ends = dict.fromkeys(self._places, 0)
        self.absent: tuple[str, ...] = ()  # streams of heads that are not there

    def verdict(self) -> Verdict:
        """What is proved by now."""
        return self._verifier.verdict()

    async def round(self, progress: Progress) -> None:
        """Read what is new, heads first, and say what is wrong."""
        absent = []
        for stream in self._places:
            try:
                end = int((await self._connection.stream_info(stream))["state"]["last_seq"])
            except jsapi.NotStored:
                if stream == self._events:
                    raise
                absent.append(stream)
                continue
            await self._read(stream, end, progress)
        self.absent = tuple(absent)
        self._report.found(self._verifier.settle())

    async def _read(self, stream: str, end: int, progress: Progress) -> None:
        if end <= self._ends[stream]:
            return
        take = self._verifier.take if stream == self._events else lambda told: self._verifier.hear(told, stream)
        progress.begin(stream, self._ends[stream], end)
        async for batch in self._new(stream, end):
            for message in batch:
                progress.at(message.stream_seq)
                told = Told(message.stream_seq, message.time_ms, message.subject, message.headers, message.data)
                if faults := take(told):
                    self._report.found(faults)
        self._ends[stream] = end
        self._places[stream] = _behind(end)

    async def _new(self, stream: str, end: int) -> AsyncIterator[list[jsapi.Delivered]]:
        """The messages up to `end` that were not read yet, as they come. Raises a kind of Transient where nothing comes at all."""
        came = True
        while True:
            try:
                came = False
                async for batch in reading.batches(self._connection, stream, end, self._places[stream]):
                    yield batch
                    self._places[stream] = _behind(batch[-1].stream_seq)
                    came = True
            except Transient:
                if not came:
                    raise
                await asyncio.sleep(RETRY_S)
            else:
                return


def _behind(sequence: int) -> dict[str, Any]:
    return {"deliver_policy": "by_start_sequence", "opt_start_seq": sequence + 1}


def _from(since: int) -> dict[str, Any]:
    return {"deliver_policy": "by_start_time", "opt_start_time": datetime.fromtimestamp(since / 1000, UTC).isoformat()}


# What is printed ----------------------------------------------------------------------------------------------------


class Report:
    """Tells what is found. `at_once`: each fault as it comes, as a line of its own; else as JSON all in the one document at the end."""

    def __init__(self, out: TextIO, *, as_json: bool, at_once: bool) -> None:
        self._out = out
        self._json = as_json
        self._at_once = at_once
        self._counts: Counter[str] = Counter()
        self._listed: list[Fault] = []

    def found(self, faults: list[Fault]) -> None:
        """These are wrong."""
        for fault in faults:
            self._counts[fault.kind] += 1
            if self._json and self._at_once:
                cli.print_json(asdict(fault), self._out)
            elif self._json:
                self._listed += [fault] * (len(self._listed) < LISTED)
            elif self._at_once or self._counts[fault.kind] <= SHOWN:
                self._out.write(f"{fault.kind:<13}  {printable(fault.sentence)}\n")
        if faults and self._at_once:
            self._out.flush()

    def say(self, verdict: Verdict, absent: tuple[str, ...]) -> None:
        """What is proved before what follows."""
        if not self._json:
            self._lines(verdict, absent)

    def end(self, verdict: Verdict, absent: tuple[str, ...]) -> None:
        """The verdict."""
        if not self._json:
            self._lines(verdict, absent)
            return
        listed = {} if self._at_once else {"found": [asdict(fault) for fault in self._listed]}
        cli.print_json({"verdict": "proved" if verdict.ok else "not_proved", **asdict(verdict), "absent": absent, **listed}, self._out)

    def _lines(self, verdict: Verdict, absent: tuple[str, ...]) -> None:
        more = {kind: count - SHOWN for kind, count in self._counts.items() if count > SHOWN and not self._at_once}
        self._out.writelines(f"{kind:<13}  and {count} more\n" for kind, count in more.items())
        self._out.writelines(printable(line) + "\n" for line in lines(verdict, absent))
        self._out.flush()


def lines(verdict: Verdict, absent: tuple[str, ...]) -> Iterator[str]:
    """A verdict for people."""
    if verdict.faults:
        yield f"NOT PROVED: {', '.join(f'{count} {kind}' for kind, count in sorted(verdict.faults.items()))}"
    if verdict.first is None or verdict.last is None:
        yield f"{verdict.messages} messages, none of them genuine" if verdict.messages else "the stream is empty: nothing to prove"
        return
    if verdict.ok:
        yield f"PROVED: {verdict.messages} messages, {verdict.events} events, each signed, in its order, none missing"
    yield f"  from      {_placed(verdict.first)}: {_beginning(verdict)}"
    yield f"  to        {_placed(verdict.last)}"
    yield f"  chain     {verdict.chain or 'none'}" + (
        f", the first {verdict.unchained} messages are from before it" * bool(verdict.unchained)
    )
    yield f"  complete  {_complete(verdict)}"
    yield from (f"  left out  {one}: the server refused it; see wazuh-relay quarantine list" for one in verdict.left_out)
    yield from (f"  absent    stream {name}: make it with wazuh-relay provision" for name in absent)


def _placed(place: Place) -> str:
    return f"outbox sequence {place.outbox_sequence}, {events.utc(place.at // 1000)}, {place.event_id}"


def _beginning(verdict: Verdict) -> str:
    if verdict.from_beginning:
        return "the chain's beginning"
    if verdict.before is None:
        return "what came before is not here"
    return f"what came before is not here; the last head before is {_head(verdict.before)}"


def _complete(verdict: Verdict) -> str:
    if verdict.complete is None:
        return "no signed head is of these messages: whether more came after them cannot be told"
    return f"up to {_head(verdict.complete)}"


def _head(signed: Signed) -> str:
    return f"outbox sequence {signed.head.sequence}, signed {events.utc(signed.at // 1000)} ({signed.where})"
