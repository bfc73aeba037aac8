"""The reader thread: looks, decides what to say, puts it into the outbox, rests.

The deciding is `compose.sayings` and `cadence.Plan`; here they meet the source and the outbox.

Rules
 * A look is whole where none of this boot was said, where a gap is owed, or where something was dropped unsent and nothing
   waits any more. Where a full is due the table is gathered: nobody waits for it, and all that moves would have to.
 * A gap's full is tried again at most once per poll_interval: where the disk or NATS refuses it, trying faster helps nobody.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from shared import crashpoints, logs, wire
from shared.clock import Clock
from shared.telemetry import Telemetry

from .cadence import Due, Plan
from .compose import Composer, Saying, sayings
from .lookout import Depth, Finding, Lookout
from .outbox import Outbox
from .sources import Source
from .spool import Item, SpoolFailed
from .traces import Traces

_logger = logging.getLogger("collector.watch")


@dataclass(slots=True)
class _Said:
    """What this boot has said."""

    full: bool = False
    gap_full_at: float = 0.0  # monotonic seconds: a gap's full is not tried before
    disk_complaint: str = ""


class Watch:
    """The reader's work. `told` is called after each step with what it found, on the reader's thread."""

    def __init__(
        self,
        source: Source,
        lookout: Lookout,
        composer: Composer,
        outbox: Outbox,
        plan: Plan,
        clock: Clock,
        telemetry: Telemetry,
        poll_interval: float,
        told: Callable[[Finding], None],
        traces: Traces,
    ) -> None:
        self._source, self._lookout, self._composer, self._outbox, self._plan = source, lookout, composer, outbox, plan
        self._clock, self._telemetry, self._poll_interval, self._told = clock, telemetry, poll_interval, told
        self._traces = traces
        self._said = _Said()
        self._late = 0.0
        telemetry.live("wazuh_jetstream_collector_late_seconds", lambda: self._late)
        telemetry.live("wazuh_jetstream_collector_spool_depth", outbox.depth)
        telemetry.live("wazuh_jetstream_collector_spool_bytes", outbox.size)

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set. The source is closed then."""
        try:
            while not stop.is_set():
                self.step()
                self._rest(stop)
        finally:
            self._source.close()

    def step(self) -> None:
        """Look once, and say what is to be said."""
        now = self._clock.monotonic()
        due, late = self._plan.due(now), self._plan.late(now)
        gap = self._outbox.gap and now >= self._said.gap_full_at
        at_once = gap or not self._said.full or self._outbox.owes_full
        depth: Depth = "whole" if at_once else "gather" if due.full else "moved"
        finding = self._lookout.look(depth, quiet=due.beat or depth != "moved", late=late)
        looked = self._clock.monotonic()
        said = sayings(
            whole=finding.whole is not None,
            first=not self._said.full,
            gap=gap,
            news=bool(finding.changes or finding.keys),
            full_due=due.full or at_once,
            beat_due=due.beat or finding.turned,
        )
        for saying in said:
            self._say(saying, finding, now, looked)
        self._look_after_disk(finding.look.period, tidy=due.beat)
        self._plan.said(now, Due(beat=due.beat, full=due.full and finding.whole is not None))
        self._late = late
        self._told(finding)

    def _say(self, saying: Saying, finding: Finding, now: float, looked: float) -> None:
        snapshot = self._compose(saying, finding)
        self._telemetry.count("wazuh_jetstream_collector_snapshots_total", kind=snapshot.kind)
        item = Item(snapshot.boot, snapshot.seq, snapshot.kind, wire.encode(snapshot))
        composed = self._clock.monotonic()
        if saying.gap:
            self._said.gap_full_at = now + self._poll_interval
        if saying.kept:
            crashpoints.here("collector.before_spool")
            self._keep(item, saying)
            crashpoints.here("collector.after_spool")
        else:
            self._outbox.offer(item)
        root = self._traces.made(item, now, looked, composed)
        text = f"{item.kind} {item.seq} made: {len(snapshot.rows)} rows"
        logs.log(_logger, "debug", "snapshot_made", text, kind=item.kind, boot=item.boot, seq=item.seq, trace_id=root.trace_id)

    def _compose(self, saying: Saying, finding: Finding) -> wire.Snapshot:
        if saying.kind == "beat":
            return self._composer.beat(finding.look)
        if saying.kind == "delta" or finding.whole is None:
            return self._composer.delta(finding.look, finding.changes, finding.keys)
        self._said.full = True
        return self._composer.full(finding.look, finding.whole.rows, finding.all_keys, gap=saying.gap)

    def _keep(self, item: Item, saying: Saying) -> None:
        try:
            kept = self._outbox.keep(item, gap=saying.gap)
        except SpoolFailed as error:
            self._complain(error)
            return
        self._said.disk_complaint = ""
        if not kept:
            self._telemetry.count("wazuh_jetstream_collector_spool_gaps_total")
            text = "the spool is full: what waited in it is given up, and a full snapshot takes its place; see why NATS takes nothing"
            logs.log(_logger, "error", "spool_full", text)

    def _look_after_disk(self, period: int, *, tidy: bool) -> None:
        try:
            self._outbox.remember_period(period)
            if tidy:
                self._outbox.tidy()
        except SpoolFailed as error:
            self._complain(error)

    def _complain(self, error: SpoolFailed) -> None:
        if str(error) != self._said.disk_complaint:
            logs.log(_logger, "error", "spool_failed", str(error))
        self._said.disk_complaint = str(error)

    def _rest(self, stop: threading.Event) -> None:
        longest = self._lookout.patience() if self._lookout.failing else self._poll_interval
        self._lookout.rest(self._plan.rest(self._clock.monotonic(), longest), stop)
